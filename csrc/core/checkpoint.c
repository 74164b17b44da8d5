/* SPDX-License-Identifier: MIT
 *
 * The one guarded checkpoint. Before SQLite 3.51.3 a checkpoint that holds only the checkpoint
 * lock can go on with a stale header after another connection has committed and reset the log; it
 * then publishes a backfill mark beyond the new log, and commits that were acknowledged vanish.
 * While the log's write lock is held nobody can commit or reset it, so we take that first, on one
 * connection, and checkpoint on another. PASSIVE, because the stronger kinds would wait for the
 * write lock that we hold.
 *
 * The lock alone, and no transaction: that would read from the log as well, and where all marks for
 * readers are taken share one that is behind the log's end; the checkpoint would wait for itself.
 */
#include "dm_store.h"

/* ---- the log's locks ---- */

/* By their numbers in the shared memory, which are a part of SQLite's file format: one of the
 * writer, and four of those who read from the log. https://sqlite.org/walformat.html#wal_locks */
enum { WRITER = 0, READERS = 4, READERS_COUNT = 4 };

/* SQLITE_BUSY: another connection has it. */
static int log_lock(dm__conn *conn, int first, int count, int what)
{
    sqlite3_file *file = NULL;
    (void)sqlite3_file_control(conn->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (file == NULL || file->pMethods == NULL || file->pMethods->iVersion < 2)
        return SQLITE_IOERR_SHMLOCK;
    return file->pMethods->xShmLock(file, first, count, what | SQLITE_SHM_EXCLUSIVE);
}

/* Another program can do without one while we have no connection. A connection that has not read
 * since it got one has no shared memory yet, and SQLite 3.34 would crash at a lock. */
static dm_status log_find(dm__conn *writer, bool *there, dm_error *err)
{
    dm_status rc = dm__conn_read_once(writer, err);
    if (rc == DM_OK)
        rc = dm__conn_has_log(writer, there, err);
    if (rc == DM_OK && !*there)
        writer->log_frames = 0;
    return rc;
}

static dm_status writers_stop(dm__conn *writer, dm_error *err)
{
    /* It has that lock already, and would lose it with ours. */
    if (sqlite3_txn_state(writer->db, "main") == SQLITE_TXN_WRITE)
        return dm__fail(err, DM_INTERNAL, "a checkpoint inside of a transaction");
    int code = log_lock(writer, WRITER, 1, SQLITE_SHM_LOCK);
    return code == SQLITE_OK ? DM_OK : dm__fail_sqlite(err, NULL, code, "checkpoint");
}

static void writers_go_on(dm__conn *writer)
{
    (void)log_lock(writer, WRITER, 1, SQLITE_SHM_UNLOCK);
}

/* As SQLite itself finds out when it begins a log again. */
static bool log_unread(dm__conn *conn)
{
    if (log_lock(conn, READERS, READERS_COUNT, SQLITE_SHM_LOCK) != SQLITE_OK)
        return false;
    (void)log_lock(conn, READERS, READERS_COUNT, SQLITE_SHM_UNLOCK);
    return true;
}

/* ---- one checkpoint ---- */

/* While writers are stopped. */
static dm_status write_back(dm__conn *writer, dm__conn *checkpointer, dm_error *err)
{
    int log = -1, done = -1;
    int code =
        sqlite3_wal_checkpoint_v2(checkpointer->db, "main", SQLITE_CHECKPOINT_PASSIVE, &log, &done);
    if (code != SQLITE_OK)
        return dm__fail_sqlite(err, checkpointer->db, code, "checkpoint");
    if (done > log)
        return dm__fail(err, DM_INTERNAL, "checkpointed %d frames of a log of %d", done, log);
    writer->log_length = log;
    writer->checkpoint_held = log - done;
    if (log >= 0 && done == log)
        writer->log_frames = 0; /* the next commit starts the log again, unless it is read */
    return DM_OK;
}

dm_status dm__checkpoint_run(dm__conn *writer, dm__conn *checkpointer, dm_error *err)
{
    bool there = false;
    /* A connection that has never read checkpoints nothing and says so with an OK. */
    dm_status rc = dm__conn_read_once(checkpointer, err);
    if (rc == DM_OK)
        rc = log_find(writer, &there, err);
    if (rc == DM_OK && there)
        rc = writers_stop(writer, err);
    if (rc != DM_OK || !there)
        return rc;
    rc = write_back(writer, checkpointer, err);
    writers_go_on(writer);
    return rc;
}

/* ---- a log that is always read ---- */

/* It is begun again only when nobody reads from it. Where there is always somebody, if only each
 * for a moment, it would grow without end: a reader that comes while not all is written back reads
 * from the log, too. So from a length on writers are stopped until all is written back, and those
 * have gone who read from the log; who comes meanwhile reads from the file. */
#define LOG_LONG         5120 /* frames, 20 MB of the usual pages */
#define READERS_AWAIT_NS (1500 * DM__MS)

static bool may_await(dm__store *store, int64_t until_ns)
{
    dm__mutex_lock(&store->lock);
    bool shut = store->gate_shut;
    dm__mutex_unlock(&store->lock);
    return !shut && dm__monotonic_ns() < until_ns;
}

/* While writers are stopped. DM_BUSY: another program writes the log back. */
static dm_status readers_gone(dm__store *store, int64_t until_ns, bool *gone)
{
    dm__conn *writer = store->writer, *checkpointer = store->checkpointer;
    dm_status rc;
    while ((rc = write_back(writer, checkpointer, NULL)) == DM_OK) {
        *gone = writer->checkpoint_held == 0 && log_unread(checkpointer);
        if (*gone || !may_await(store, until_ns))
            break;
        dm__sleep_ns(DM__MS);
    }
    return rc;
}

static bool readers_await(dm__store *store)
{
    dm__conn *writer = store->writer;
    int64_t until_ns = dm__monotonic_ns() + READERS_AWAIT_NS;
    bool gone = false;
    dm_status rc;
    do {
        rc = writers_stop(writer, NULL);
        if (rc == DM_OK) {
            rc = readers_gone(store, until_ns, &gone);
            writers_go_on(writer);
        }
        writer->counters.busy_retries += rc == DM_BUSY;
    } while (rc == DM_BUSY && may_await(store, until_ns) &&
             dm__busy_wait(&writer->stop, writer->db, until_ns, NULL) == DM_OK);
    return gone;
}

static void long_log_shorten(dm__store *store)
{
    int length = store->writer->log_length;
    if (length < LOG_LONG)
        store->log_bearable = LOG_LONG;
    else if (length >= store->log_bearable && !readers_await(store))
        store->log_bearable = length + length / 4; /* not at once again: it costs writers time */
}

void dm__store_checkpoint(dm__store *store, bool now)
{
    if (store->in_memory || store->read_only || store->writer == NULL || store->moved)
        return;
    if (store->writer->log_frames < (now ? 1 : DM__CHECKPOINT_FRAMES))
        return;
    if (store->checkpointer == NULL &&
        dm__store_conn_open(store, 0, &store->checkpointer, NULL) != DM_OK)
        return;
    /* With a reader in the way only a part is written back: ask again after as many frames. */
    int frames = store->writer->log_frames;
    dm_status rc = dm__checkpoint_run(store->writer, store->checkpointer, NULL);
    store->writer->counters.checkpoints += rc == DM_OK;
    store->writer->counters.checkpoints_skipped += rc != DM_OK;
    if (rc != DM_OK)
        return; /* busy: another time; an error shows again at the next commit, to a caller */
    if (store->writer->log_frames == frames)
        store->writer->log_frames = 0;
    if (!now)
        long_log_shorten(store);
}
