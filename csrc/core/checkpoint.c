/* SPDX-License-Identifier: MIT
 *
 * The one guarded checkpoint. From 3.7.0 to 3.51.2 a checkpoint that holds only the checkpoint
 * lock can go on with a stale header after another connection has committed and reset the log; it
 * then publishes a backfill mark beyond the new log, and commits that were acknowledged vanish.
 * While the log's write lock is held nobody can commit or reset it, so we take that first, on one
 * connection, and checkpoint on another. PASSIVE, because the stronger kinds would wait for the
 * write lock that we hold. */
#include "dm_store.h"

dm_status dm__checkpoint_run(dm__conn *writer, dm__conn *checkpointer, dm_error *err)
{
    /* A connection that has never read checkpoints nothing and says so with an OK. */
    dm_status rc = dm__conn_read_once(checkpointer, err);
    if (rc == DM_OK)
        rc = dm__stmt_exec(writer, DM__STMT_BEGIN_IMMEDIATE, err);
    if (rc != DM_OK)
        return rc;
    int log = -1, done = -1;
    int code =
        sqlite3_wal_checkpoint_v2(checkpointer->db, "main", SQLITE_CHECKPOINT_PASSIVE, &log, &done);
    if (code != SQLITE_OK)
        rc = dm__fail_sqlite(err, checkpointer->db, code, "checkpoint");
    else if (done > log)
        rc = dm__fail(err, DM_INTERNAL, "checkpointed %d frames of a log of %d", done, log);
    else if (log >= 0 && done == log)
        writer->log_frames = 0; /* the next commit starts the log again */
    writer->checkpoint_held = log - done;
    dm_status ended = dm__stmt_exec(writer, DM__STMT_ROLLBACK, rc == DM_OK ? err : NULL);
    return rc == DM_OK ? ended : rc;
}

void dm__store_checkpoint(dm__store *store, bool now)
{
    if (store->in_memory || store->read_only || store->writer == NULL || store->moved)
        return;
    if (store->writer->log_frames < (now ? 1 : DM__CHECKPOINT_FRAMES))
        return;
    if (store->checkpointer == NULL &&
        dm__conn_open(store->path, false, 0, &store->checkpointer, NULL) != DM_OK)
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
}
