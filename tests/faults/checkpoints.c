/* SPDX-License-Identifier: MIT
 *
 * Processes that commit and processes that write the log back, as fast as they can, for DM_SECONDS.
 * Every checkpoint stays a moment where SQLite before 3.51.3 goes on with what may be the header of
 * a log that has begun again (tests/c/test_checkpoint_race.c). Every commit that was acknowledged
 * is there afterwards, and none has written back more than the log held.
 *
 * The control: plain PASSIVE checkpoints, which must lose some. */
#include "dm_store.h"
#include "processes.h"

#include "../c/check.h"
#include "../c/shim.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define EACH            2  /* processes of a kind */
#define CONTROL_SECONDS 60 /* at most: it ends with the first loss */

static char folder[64] = "/dev/shm/dm-checkpoints-XXXXXX";
static char path[80];
static dm_error err;
static double seconds = 120;

static double now_s(void)
{
    return (double)dm__monotonic_ns() * 1e-9;
}

static void pause_a_moment(void)
{
    struct timespec moment = {0, 300000};
    (void)nanosleep(&moment, NULL);
}

/* Only to be longer where the race is. */
static void stay(void)
{
    pause_a_moment();
    in_checkpoint = stay;
}

/* Only a log that is written back whole is begun again: after each fourth commit of a process the
 * checkpoints may catch up. */
static void let_catch_up(long commits)
{
    if (commits % 4 == 0)
        pause_a_moment();
}

static int complain(const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", what, err.text);
    return 3;
}

/* ---- one process: checkpoints ROLE NUMBER FOLDER ---- */

static int tell(int number, long count)
{
    char name[96];
    (void)snprintf(name, sizeof name, "%s/count-%d", folder, number);
    FILE *file = fopen(name, "w");
    return file != NULL && fprintf(file, "%ld", count) > 0 && fclose(file) == 0 ? 0 : 4;
}

static int write_ours(int number)
{
    dm_options options = {.durability = DM_DURABILITY_NORMAL};
    dm_manager *m = NULL;
    long count = 0;
    if (dm_open(path, &options, &m, &err) != DM_OK)
        return complain("open");
    for (double until_s = now_s() + seconds; now_s() < until_s; count++) {
        dm_request request = {5, number, 2, 3, 4};
        int64_t id;
        if (dm_request_add(m, DM_STR("a"), &request, NULL, &id, &err) != DM_OK)
            return complain("write");
        let_catch_up(count);
    }
    dm_free(m);
    return tell(number, count);
}

static int checkpoint_ours(int number)
{
    dm__conn *writer = NULL, *reader = NULL;
    long done = 0;
    shim_install();
    in_checkpoint = stay;
    if (dm__conn_open(path, false, 0, &writer, &err) != DM_OK ||
        dm__conn_open(path, false, 0, &reader, &err) != DM_OK)
        return complain("open");
    for (double until_s = now_s() + seconds; now_s() < until_s;) {
        dm_status rc = dm__checkpoint_run(writer, reader, &err);
        if (rc != DM_OK && rc != DM_BUSY)
            return complain("checkpoint");
        done += rc == DM_OK;
    }
    dm__conn_close(reader, false);
    dm__conn_close(writer, false);
    return tell(number, done);
}

static sqlite3 *open_plain(void)
{
    sqlite3 *db = NULL;
    (void)sqlite3_open(path, &db);
    (void)sqlite3_busy_timeout(db, 5000);
    (void)sqlite3_exec(db, "PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=NORMAL", NULL, NULL,
                       NULL);
    return db;
}

static int write_plain(int number)
{
    sqlite3 *db = open_plain();
    long count = 0;
    for (double until_s = now_s() + seconds; now_s() < until_s;) {
        count += sqlite3_exec(db, "INSERT INTO t VALUES(1)", NULL, NULL, NULL) == SQLITE_OK;
        let_catch_up(count);
    }
    (void)sqlite3_close(db);
    return tell(number, count);
}

static int checkpoint_plain(int number)
{
    long done = 0;
    shim_install();
    in_checkpoint = stay;
    sqlite3 *db = open_plain();
    for (double until_s = now_s() + seconds; now_s() < until_s;) {
        (void)sqlite3_exec(db, "SELECT 1 FROM t LIMIT 1", NULL, NULL, NULL);
        done +=
            sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) == SQLITE_OK;
    }
    (void)sqlite3_close(db);
    return tell(number, done);
}

static int be(const char *role, int number)
{
    if (strcmp(role, "write") == 0)
        return write_ours(number);
    if (strcmp(role, "checkpoint") == 0)
        return checkpoint_ours(number);
    return strcmp(role, "write plain") == 0 ? write_plain(number) : checkpoint_plain(number);
}

/* ---- all of them ---- */

static long told(int number)
{
    char name[96];
    long count = -1;
    (void)snprintf(name, sizeof name, "%s/count-%d", folder, number);
    FILE *file = fopen(name, "r");
    CHECK_INT(file != NULL && fscanf(file, "%ld", &count) == 1, true);
    if (file != NULL)
        (void)fclose(file);
    return count;
}

static long rows_of(const char *sql)
{
    sqlite3 *db = open_plain();
    sqlite3_stmt *stmt = NULL;
    (void)sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    long rows = sqlite3_step(stmt) == SQLITE_ROW ? (long)sqlite3_column_int64(stmt, 0) : -1;
    (void)sqlite3_finalize(stmt);
    (void)sqlite3_close(db);
    return rows;
}

/* How many commits were lost. */
static long run(const char *writing, const char *checkpointing, const char *count_sql)
{
    pid_t processes[2 * EACH];
    long committed = 0, done = 0;
    for (int i = 0; i < 2 * EACH; i++)
        processes[i] = process_start(i < EACH ? writing : checkpointing, i, folder);
    for (int i = 0; i < 2 * EACH; i++)
        CHECK_INT(process_wait(processes[i]), 0);
    for (int i = 0; i < 2 * EACH; i++)
        *(i < EACH ? &committed : &done) += told(i);
    long lost = committed - rows_of(count_sql);
    printf("%-12s %8ld commits, %7ld of %s: %ld lost\n", writing, committed, done, checkpointing,
           lost);
    return lost;
}

static void file_make(const char *sql)
{
    sqlite3 *db = NULL;
    CHECK_INT(sqlite3_open(path, &db), SQLITE_OK);
    CHECK_INT(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(db);
}

static void test_plain_loses(void)
{
    long lost = 0;
    if (!has_race()) {
        printf("SQLite %s has no such race: the control is not applied\n", sqlite3_libversion());
        return;
    }
    (void)setenv("DM_SECONDS", "4", 1);
    for (double until_s = now_s() + CONTROL_SECONDS; lost == 0 && now_s() < until_s;) {
        file_make("PRAGMA journal_mode=WAL; CREATE TABLE t(x)");
        lost = run("write plain", "checkpoint plain", "SELECT count(*) FROM t");
        folder_empty(folder);
    }
    CHECK_INT(lost != 0, 1);
}

int main(int argc, char **argv)
{
    const char *wanted = getenv("DM_SECONDS");
    if (wanted != NULL)
        seconds = atof(wanted);
    if (argc == 4)
        (void)snprintf(folder, sizeof folder, "%s", argv[3]);
    else if (mkdtemp(folder) == NULL)
        return 2;
    (void)snprintf(path, sizeof path, "%s/usage.db", folder);
    if (argc == 4)
        return be(argv[1], atoi(argv[2]));
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    dm_options options = {0};
    dm_manager *m = NULL;
    dm_str names[] = {DM_STR("a")};
    CHECK_OK(dm_open(path, &options, &m, &err));
    CHECK_OK(dm_model_register(m, names, 1, &err));
    dm_free(m);
    CHECK_INT(run("write", "checkpoint", "SELECT count(*) FROM model_ca978112ca1bbdca_requests"),
              0);
    folder_empty(folder);
    test_plain_loses();
    CHECK_INT(rmdir(folder), 0);
    return check_report();
}
