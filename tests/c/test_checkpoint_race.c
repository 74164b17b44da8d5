/* SPDX-License-Identifier: MIT
 *
 * The race of SQLite before 3.51.3 between a checkpoint and a commit that resets the log, made
 * certain. A checkpoint reads the log's header and, where that has changed, calls xUnfetch of the
 * database file before it goes on; a VFS around the real one uses just that moment:
 *
 *     checkpointer   header read |        | goes on with the header that it read
 *     another                    | commit |   (the log begins again, shorter)
 *
 * The checkpointer then says that more frames are written back than the new log has, and what is
 * committed next goes into frames that nobody will write back: lost with a plain PASSIVE
 * checkpoint. With ours the intruder is refused, and nothing is lost. */
#include "dm_store.h"

#include "check.h"
#include "shim.h"

#include <stdlib.h>
#include <unistd.h>

/* ---- the scene: W and A are the store's two connections, B is anybody else's ---- */

static char folder[] = "/tmp/dm-race-XXXXXX";
static char path[64];
static dm_error err;
static sqlite3 *b;
static int intruder_code; /* what the commit inside the window returned */

static int run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static sqlite3 *open_plain(void)
{
    sqlite3 *db = NULL;
    CHECK_INT(sqlite3_open(path, &db), SQLITE_OK);
    CHECK_INT(run(db, "PRAGMA wal_autocheckpoint=0; PRAGMA journal_mode=WAL"), SQLITE_OK);
    return db;
}

static int64_t count_rows(const char *what)
{
    sqlite3 *db = open_plain();
    sqlite3_stmt *stmt = NULL;
    (void)sqlite3_prepare_v2(db, "SELECT count(*) FROM t WHERE x=?1", -1, &stmt, NULL);
    (void)sqlite3_bind_text(stmt, 1, what, -1, SQLITE_STATIC);
    int64_t count = sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : -1;
    (void)sqlite3_finalize(stmt);
    (void)sqlite3_close(db);
    return count;
}

static void write_back(void)
{
    int log = 0, done = -1;
    CHECK_INT(sqlite3_wal_checkpoint_v2(b, NULL, SQLITE_CHECKPOINT_PASSIVE, &log, &done),
              SQLITE_OK);
    CHECK_INT(done, log);
}

static void intrude(void)
{
    intruder_code = run(b, "INSERT INTO t VALUES('intruder')");
}

static void commit_another(void)
{
    CHECK_INT(run(b, "INSERT INTO t VALUES('another')"), SQLITE_OK);
    write_back();
}

/* A log of many frames, of which all are written back: the next commit begins it again. */
static void fill(void)
{
    for (int i = 0; i < 20; i++)
        CHECK_INT(run(b, "INSERT INTO t VALUES(hex(randomblob(3000)))"), SQLITE_OK);
    write_back();
}

static void begin(void)
{
    b = open_plain();
    CHECK_INT(run(b, "DROP TABLE IF EXISTS t; CREATE TABLE t(x)"), SQLITE_OK);
    intruder_code = -1;
}

static void test_plain_checkpoint_loses(void)
{
    begin();
    sqlite3 *a = open_plain();
    CHECK_INT(run(a, "SELECT count(*) FROM t"), SQLITE_OK);
    fill();
    in_checkpoint = intrude;
    int log = -1, done = -1;
    CHECK_INT(sqlite3_wal_checkpoint_v2(a, NULL, SQLITE_CHECKPOINT_PASSIVE, &log, &done),
              SQLITE_OK);
    CHECK_INT(intruder_code, SQLITE_OK);
    CHECK_INT(run(b, "INSERT INTO t VALUES('victim')"), SQLITE_OK); /* acknowledged */
    (void)sqlite3_close(a);
    (void)sqlite3_close(b);
    if (has_race())
        CHECK_INT(count_rows("victim"), 0);
    else
        printf("SQLite %s has no such race: the control is not applied\n", sqlite3_libversion());
}

static void test_ours_keeps(void)
{
    begin();
    dm__conn *w = NULL, *a = NULL;
    CHECK_OK(dm__conn_open(path, false, 0, &w, &err));
    CHECK_OK(dm__conn_open(path, false, 0, &a, &err));
    CHECK_OK(dm__conn_exec(w, &err, "SELECT 1 FROM t"));
    CHECK_OK(dm__conn_exec(a, &err, "SELECT 1 FROM t"));
    fill();
    after_read = commit_another; /* so that the header has changed once more */
    in_checkpoint = intrude;
    CHECK_OK(dm__checkpoint_run(w, a, &err));
    CHECK_INT(intruder_code, SQLITE_BUSY);
    CHECK_INT(run(b, "INSERT INTO t VALUES('victim')"), SQLITE_OK);
    dm__conn_close(a, false);
    dm__conn_close(w, true);
    (void)sqlite3_close(b);
    CHECK_INT(count_rows("victim"), 1);
    CHECK_INT(count_rows("another"), 1);
}

/* ---- what the guard itself must not hold ---- */

static sqlite3 *readers[4]; /* as many as the log has marks for */

static void commit_one(void)
{
    CHECK_INT(run(b, "INSERT INTO t VALUES(1)"), SQLITE_OK);
}

static void readers_end(void)
{
    for (int i = 0; i < 4; i++)
        CHECK_INT(run(readers[i], "COMMIT"), SQLITE_OK);
}

/* Who begins where all marks are taken shares one of them, and holds what it holds. */
static void test_ours_holds_no_mark(void)
{
    begin();
    dm__conn *w = NULL, *a = NULL;
    CHECK_OK(dm__conn_open(path, false, 0, &w, &err));
    CHECK_OK(dm__conn_open(path, false, 0, &a, &err));
    for (int i = 0; i < 4; i++) {
        readers[i] = open_plain();
        CHECK_INT(run(readers[i], "BEGIN; SELECT count(*) FROM t"), SQLITE_OK);
        commit_one();
    }
    after_read = commit_one; /* so that the header has changed, and the next hook is called */
    in_checkpoint = readers_end;
    CHECK_OK(dm__checkpoint_run(w, a, &err));
    CHECK_INT(w->checkpoint_held, 0);
    for (int i = 0; i < 4; i++)
        (void)sqlite3_close(readers[i]);
    dm__conn_close(a, false);
    dm__conn_close(w, false);
    (void)sqlite3_close(b);
}

static void test_ours_leaves_a_transaction_its_lock(void)
{
    begin();
    dm__conn *w = NULL, *a = NULL;
    CHECK_OK(dm__conn_open(path, false, 0, &w, &err));
    CHECK_OK(dm__conn_open(path, false, 0, &a, &err));
    CHECK_OK(dm__conn_exec(w, &err, "BEGIN IMMEDIATE"));
    CHECK_INT(dm__checkpoint_run(w, a, &err), DM_INTERNAL);
    CHECK_INT(run(b, "BEGIN IMMEDIATE"), SQLITE_BUSY);
    CHECK_OK(dm__conn_exec(w, &err, "ROLLBACK"));
    CHECK_OK(dm__checkpoint_run(w, a, &err));
    CHECK_INT(run(b, "BEGIN IMMEDIATE; ROLLBACK"), SQLITE_OK);
    dm__conn_close(a, false);
    dm__conn_close(w, false);
    (void)sqlite3_close(b);
}

/* Another program can change that while no connection is open. */
static void test_a_file_without_a_log(void)
{
    dm__conn *w = NULL, *a = NULL;
    b = open_plain();
    CHECK_INT(run(b, "PRAGMA journal_mode=DELETE"), SQLITE_OK);
    CHECK_OK(dm__conn_open(path, false, 0, &w, &err));
    CHECK_OK(dm__conn_open(path, false, 0, &a, &err));
    w->log_frames = DM__CHECKPOINT_FRAMES;
    CHECK_OK(dm__checkpoint_run(w, a, &err));
    CHECK_INT(w->log_frames, 0);
    dm__conn_close(a, false);
    dm__conn_close(w, false);
    (void)sqlite3_close(b);
}

/* Given by a connection that has known the file before, and has not read since. */
static void test_a_log_that_has_just_come(void)
{
    dm__conn *w = NULL, *a = NULL;
    b = open_plain();
    CHECK_INT(run(b, "PRAGMA journal_mode=DELETE"), SQLITE_OK);
    CHECK_INT(sqlite3_close(b), SQLITE_OK);
    CHECK_OK(dm__conn_open(path, false, 0, &w, &err));
    CHECK_OK(dm__conn_open(path, false, 0, &a, &err));
    CHECK_OK(dm__conn_exec(w, &err, "SELECT 1 FROM t; PRAGMA journal_mode=WAL"));
    CHECK_OK(dm__checkpoint_run(w, a, &err));
    dm__conn_close(a, false);
    dm__conn_close(w, true);
}

int main(void)
{
    if (mkdtemp(folder) == NULL)
        return 2;
    (void)snprintf(path, sizeof path, "%s/a.db", folder);
    shim_install();
    test_plain_checkpoint_loses();
    test_ours_keeps();
    test_ours_holds_no_mark();
    test_ours_leaves_a_transaction_its_lock();
    test_a_file_without_a_log();
    test_a_log_that_has_just_come();
    (void)unlink(path);
    (void)rmdir(folder);
    return check_report();
}
