/* SPDX-License-Identifier: MIT
 *
 * The one guarded checkpoint. From 3.7.0 to 3.51.2 a checkpoint that holds only the checkpoint
 * lock can go on with a stale header after another connection has committed and reset the log; it
 * then publishes a backfill mark beyond the new log, and commits that were acknowledged vanish.
 * While the log's write lock is held nobody can commit or reset it, so we take that first, on one
 * connection, and checkpoint on another. PASSIVE, because the stronger kinds would wait for the
 * write lock that we hold. */
#include "dm_store.h"

/* In a transaction of another connection, which holds the write lock. */
static dm_status write_back(dm__conn *checkpointer, int *log, int *done, dm_error *err)
{
    *log = *done = -1;
    int code =
        sqlite3_wal_checkpoint_v2(checkpointer->db, "main", SQLITE_CHECKPOINT_PASSIVE, log, done);
    if (code != SQLITE_OK)
        return dm__fail_sqlite(err, checkpointer->db, code, "checkpoint");
    if (*done > *log)
        return dm__fail(err, DM_INTERNAL, "checkpointed %d frames of a log of %d", *done, *log);
    return DM_OK;
}

dm_status dm__checkpoint_run(dm__conn *writer, dm__conn *checkpointer, dm_error *err)
{
    int log, done;
    /* A connection that has never read checkpoints nothing and says so with an OK. */
    dm_status rc = dm__conn_read_once(checkpointer, err);
    if (rc == DM_OK)
        rc = dm__stmt_exec(writer, DM__STMT_BEGIN_IMMEDIATE, err);
    if (rc != DM_OK)
        return rc;
    rc = write_back(checkpointer, &log, &done, err);
    if (rc == DM_OK && log >= 0 && done == log)
        writer->log_frames = 0; /* the next commit starts the log again, unless it is read */
    writer->checkpoint_held = log - done;
    writer->log_length = log;
    dm_status ended = dm__stmt_exec(writer, DM__STMT_ROLLBACK, rc == DM_OK ? err : NULL);
    return rc == DM_OK ? ended : rc;
}

/* ---- a log that is always read ---- */

/* It is begun again only when nobody reads from it. Where there is always somebody, if only each
 * for a moment, it would grow without end: a reader that comes while not all is written back reads
 * from the log, too. So from a length on the write lock is held until all is written back, and
 * those have gone who read from the log; who comes meanwhile reads from the file. */
#define LOG_LONG         5120 /* frames, 20 MB of the usual pages */
#define READERS_AWAIT_NS (1500 * DM__MS)

/* By the locks of the shared memory, which are a part of SQLite's file format: 4 to 7 are those of
 * readers of the log. SQLite itself takes them when it begins a log again. */
static bool log_unread(dm__conn *conn)
{
    enum { FIRST = 4, COUNT = 4 };
    sqlite3_file *file = NULL;
    (void)sqlite3_file_control(conn->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (file == NULL || file->pMethods == NULL || file->pMethods->iVersion < 2)
        return true;
    int (*lock)(sqlite3_file *, int, int, int) = file->pMethods->xShmLock;
    if (lock(file, FIRST, COUNT, SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE) != SQLITE_OK)
        return false;
    (void)lock(file, FIRST, COUNT, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE);
    return true;
}

static bool may_await(dm__store *store, int64_t until_ns)
{
    dm__mutex_lock(&store->lock);
    bool shut = store->gate_shut;
    dm__mutex_unlock(&store->lock);
    return !shut && dm__monotonic_ns() < until_ns;
}

/* With the write lock held. The transaction that holds it reads from the log as well, unless it
 * began when all of the log, which had `*written` frames, was written back. */
static bool readers_gone(dm__store *store, int *written, int64_t until_ns)
{
    int log, done;
    do {
        if (write_back(store->checkpointer, &log, &done, NULL) != DM_OK)
            return false;
        if (done == log && log != *written) {
            *written = log;
            return false;
        }
        if (done == log && log_unread(store->checkpointer))
            return true;
        dm__sleep_ns(DM__MS);
    } while (may_await(store, until_ns));
    return false;
}

static bool readers_await(dm__store *store)
{
    int64_t until_ns = dm__monotonic_ns() + READERS_AWAIT_NS;
    int written = -1;
    bool gone = false;
    while (!gone && may_await(store, until_ns)) {
        if (dm__begin_waiting(store->writer, until_ns, NULL) != DM_OK)
            break;
        gone = readers_gone(store, &written, until_ns);
        dm__rollback(store->writer);
    }
    return gone;
}

static void long_log_shorten(dm__store *store)
{
    int length = store->writer->log_length;
    if (length < LOG_LONG)
        store->log_bearable = LOG_LONG;
    else if (length >= store->log_bearable && !readers_await(store))
        store->log_bearable = length * 2; /* a long reader: it would only cost the writers time */
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
