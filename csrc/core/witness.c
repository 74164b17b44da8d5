/* SPDX-License-Identifier: MIT
 *
 * Whether rows in memory are still those of the file.
 *
 * Rows are only ever appended, unless a model is deleted or renamed, which is ours to know, or
 * another process writes, which is not: it may run any SQL. So what is in memory belongs to an
 * epoch, and a new one begins when either may have happened. SQLite tells: the data version of a
 * connection goes up by one with each commit of its own, and with whatever others have committed
 * since it last looked. All commits of this process are the writer's, and are counted; a version
 * that is ahead of them has a stranger's in it.
 *
 * A reader asks after its snapshot has begun, in a turn of its own among the writers:
 *
 *     reader      epoch 7 . snapshot . . . . . . . . . . . . still 7: memory is true for it
 *     writer                             its turn: look
 *
 * Whatever its snapshot sees was committed before that look. */
#include "dm_store.h"

#define TURN_WAIT_NS (20 * DM__MS)

static void epoch_begin(dm__store *store)
{
    atomic_fetch_add(&store->epoch, 1);
}

void dm__witness_look(dm__store *store, bool rewritten)
{
    dm__conn *writer = store->writer;
    unsigned version = 0;
    (void)sqlite3_file_control(writer->db, "main", SQLITE_FCNTL_DATA_VERSION, &version);
    if (rewritten || !store->version_known || version - store->version != writer->commits)
        epoch_begin(store);
    store->version = version;
    store->version_known = true;
    writer->commits = 0;
}

void dm__witness_forget(dm__store *store)
{
    store->version_known = false;
    epoch_begin(store);
}

static dm_status look(dm__conn *conn, void *argument, dm_error *err)
{
    (void)argument;
    return dm__conn_read_once(conn, err);
}

/* DM_INTERRUPTED is the only failure; where the writers are too busy the answer is no. */
static dm_status epoch_holds(dm__store *store, uint64_t epoch, bool *holds, dm_error *err)
{
    dm__job job = {.deadline_ns = dm__monotonic_ns() + TURN_WAIT_NS,
                   .heavy = true,
                   .inside = true,
                   .looks = true,
                   .read = look};
    dm_status rc = dm__submit(store, &job, err);
    *holds = rc == DM_OK && atomic_load(&store->epoch) == epoch;
    return rc == DM_INTERRUPTED ? rc : DM_OK;
}

/* A stranger's commit of a while ago begins a new epoch only now: then once more. */
static dm_status snapshot_begin(dm__store *store, dm__conn *conn, dm_error *err)
{
    bool holds = false;
    dm_status rc = DM_OK;
    for (int attempt = 0; attempt < 2 && rc == DM_OK && !holds; attempt++) {
        uint64_t epoch = atomic_load(&store->epoch);
        if (attempt > 0)
            rc = dm__stmt_exec(conn, DM__STMT_ROLLBACK, err);
        if (rc == DM_OK && attempt > 0)
            rc = dm__stmt_exec(conn, DM__STMT_BEGIN, err);
        if (rc == DM_OK)
            rc = dm__conn_read_once(conn, err);
        if (rc == DM_OK)
            rc = epoch_holds(store, epoch, &holds, err);
        if (holds)
            conn->recall = (dm__recall){store->cache, epoch};
    }
    return rc;
}

dm_status dm__witnessed_read(dm__conn *conn, void *argument, dm_error *err)
{
    dm__witnessed *read = argument;
    dm__store *store = read->store;
    dm_status rc = DM_OK;
    if (store->in_memory) /* this is a turn already, and nobody else can write */
        conn->recall = (dm__recall){store->cache, atomic_load(&store->epoch)};
    else
        rc = snapshot_begin(store, conn, err);
    if (rc == DM_OK)
        rc = read->read(conn, read->argument, err);
    conn->recall = (dm__recall){0};
    return rc;
}
