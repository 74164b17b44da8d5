/* SPDX-License-Identifier: MIT
 *
 * The race of SQLite 3.7.0 to 3.51.2 between a checkpoint and a commit that resets the log, made
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

#include <stdlib.h>
#include <unistd.h>

/* ---- a VFS that calls us at two moments ---- */

typedef struct {
    sqlite3_file base;
    sqlite3_file *real; /* behind this struct, in the same allocation */
} shim_file;

static sqlite3_vfs *real_vfs;
static void (*after_read)(void);    /* when a connection gives a read lock back */
static void (*in_checkpoint)(void); /* between a checkpoint's header and its work */

static void call_once(void (**hook)(void))
{
    void (*call)(void) = *hook;
    *hook = NULL;
    if (call != NULL)
        call();
}

#define REAL(file) (((shim_file *)(file))->real)

static int shim_close(sqlite3_file *f)
{
    return REAL(f)->pMethods->xClose(REAL(f));
}
static int shim_read(sqlite3_file *f, void *to, int size, sqlite3_int64 at)
{
    return REAL(f)->pMethods->xRead(REAL(f), to, size, at);
}
static int shim_write(sqlite3_file *f, const void *from, int size, sqlite3_int64 at)
{
    return REAL(f)->pMethods->xWrite(REAL(f), from, size, at);
}
static int shim_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return REAL(f)->pMethods->xTruncate(REAL(f), size);
}
static int shim_sync(sqlite3_file *f, int flags)
{
    return REAL(f)->pMethods->xSync(REAL(f), flags);
}
static int shim_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return REAL(f)->pMethods->xFileSize(REAL(f), size);
}
static int shim_lock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xLock(REAL(f), level);
}
static int shim_unlock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xUnlock(REAL(f), level);
}
static int shim_reserved(sqlite3_file *f, int *reserved)
{
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), reserved);
}
static int shim_control(sqlite3_file *f, int op, void *argument)
{
    return REAL(f)->pMethods->xFileControl(REAL(f), op, argument);
}
static int shim_sector(sqlite3_file *f)
{
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}
static int shim_device(sqlite3_file *f)
{
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}
static int shim_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **at)
{
    return REAL(f)->pMethods->xShmMap(REAL(f), page, size, extend, at);
}
static int shim_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    int code = REAL(f)->pMethods->xShmLock(REAL(f), offset, n, flags);
    if (flags == (SQLITE_SHM_UNLOCK | SQLITE_SHM_SHARED))
        call_once(&after_read);
    return code;
}
static void shim_shm_barrier(sqlite3_file *f)
{
    REAL(f)->pMethods->xShmBarrier(REAL(f));
}
static int shim_shm_unmap(sqlite3_file *f, int remove)
{
    return REAL(f)->pMethods->xShmUnmap(REAL(f), remove);
}
static int shim_fetch(sqlite3_file *f, sqlite3_int64 at, int size, void **page)
{
    (void)f, (void)at, (void)size;
    *page = NULL;
    return SQLITE_OK;
}
static int shim_unfetch(sqlite3_file *f, sqlite3_int64 at, void *page)
{
    (void)f, (void)at;
    if (page == NULL)
        call_once(&in_checkpoint);
    return SQLITE_OK;
}

static const sqlite3_io_methods shim_methods = {
    3,           shim_close,   shim_read,     shim_write,       shim_truncate,  shim_sync,
    shim_size,   shim_lock,    shim_unlock,   shim_reserved,    shim_control,   shim_sector,
    shim_device, shim_shm_map, shim_shm_lock, shim_shm_barrier, shim_shm_unmap, shim_fetch,
    shim_unfetch};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    shim_file *shim = (shim_file *)file;
    shim->real = (sqlite3_file *)(shim + 1);
    int code = real_vfs->xOpen(real_vfs, name, shim->real, flags, out);
    shim->base.pMethods = shim->real->pMethods == NULL ? NULL : &shim_methods;
    return code;
}

static void shim_install(void)
{
    static sqlite3_vfs shim;
    real_vfs = sqlite3_vfs_find(NULL);
    shim = *real_vfs;
    shim.zName = "shim";
    shim.szOsFile = (int)sizeof(shim_file) + real_vfs->szOsFile;
    shim.xOpen = shim_open;
    shim.pNext = NULL;
    (void)sqlite3_vfs_register(&shim, 1);
}

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
    if (sqlite3_libversion_number() < 3051003)
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

int main(void)
{
    if (mkdtemp(folder) == NULL)
        return 2;
    (void)snprintf(path, sizeof path, "%s/a.db", folder);
    shim_install();
    test_plain_checkpoint_loses();
    test_ours_keeps();
    (void)unlink(path);
    (void)rmdir(folder);
    return check_report();
}
