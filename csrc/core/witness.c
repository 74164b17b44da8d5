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
 * A reader takes its snapshot in a turn of its own among the writers, between two looks:
 *
 *     writer      look: epoch 7 . . . . . . . . . . . . . . . look: nothing new
 *     reader                      snapshot . its partner's
 *
 * Nobody has committed between the looks: both snapshots are of one moment, and what is in memory
 * of epoch 7 is true for them. */
#include "dm_store.h"

#define TURN_WAIT_NS (20 * DM__MS)
#define LARGE_BYTES  ((int64_t)2 << 20) /* of a file that may hold a table for both cores */

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

typedef struct {
    dm__store *store;
    dm__conn *reader, *partner;
    dm__recall recall; /* the result */
    bool partner_agrees;
} snapshot_turn;

static dm_status turn_run(dm__conn *writer, void *argument, dm_error *err)
{
    snapshot_turn *turn = argument;
    dm__store *store = turn->store;
    dm_status rc = dm__conn_read_once(writer, err);
    if (rc != DM_OK)
        return rc;
    dm__witness_look(store, false);
    uint64_t epoch = atomic_load(&store->epoch);
    rc = dm__conn_read_once(turn->reader, err);
    if (rc == DM_OK && turn->partner != NULL)
        turn->partner_agrees = dm__begin_snapshot(turn->partner, NULL) == DM_OK;
    if (rc == DM_OK)
        rc = dm__conn_read_once(writer, err);
    if (rc != DM_OK)
        return rc;
    dm__witness_look(store, false);
    if (atomic_load(&store->epoch) == epoch)
        turn->recall = (dm__recall){store->cache, epoch};
    return DM_OK;
}

/* Where the writers are too busy it has to do without. DM_INTERRUPTED is the only failure. */
static dm_status turn_take(snapshot_turn *turn, dm_error *err)
{
    dm__job job = {.deadline_ns = dm__monotonic_ns() + TURN_WAIT_NS,
                   .heavy = true,
                   .inside = true,
                   .looks = true,
                   .read = turn_run,
                   .read_argument = turn};
    dm_status rc = dm__submit(turn->store, &job, err);
    if (rc == DM_INTERRUPTED)
        return rc;
    turn->partner_agrees &= turn->recall.cache != NULL;
    turn->reader->recall = turn->recall;
    if (turn->partner_agrees) {
        turn->partner->recall = turn->recall;
        turn->reader->partner = turn->partner;
    }
    return DM_OK;
}

/* Many models, or a long table of which nothing is in memory: see partner.c and ahead.c. */
static bool wants_partner(dm__store *store, bool many)
{
    dm__file_id id = {0};
    return many || (dm__cache_bytes(store->cache) == 0 &&
                    dm__file_identify(store->path, &id) == 0 && id.size > LARGE_BYTES);
}

static dm_status read_beside_writers(dm__store *store, dm__conn *conn, dm__witnessed *read,
                                     dm_error *err)
{
    snapshot_turn turn = {.store = store, .reader = conn};
    if (wants_partner(store, read->many))
        turn.partner = dm__pool_try(store);
    dm_status rc = dm__stmt_exec(conn, DM__STMT_BEGIN, err);
    if (rc == DM_OK)
        rc = turn_take(&turn, err);
    if (rc == DM_OK)
        rc = dm__conn_read_once(conn, err); /* where there was no turn */
    if (rc == DM_OK)
        rc = read->read(conn, read->argument, err);
    conn->partner = NULL;
    if (turn.partner != NULL) {
        turn.partner->recall = (dm__recall){0};
        dm__rollback(turn.partner);
        dm__pool_put(store, turn.partner,
                     rc == DM_IO || rc == DM_DAMAGED || !sqlite3_get_autocommit(turn.partner->db));
    }
    return rc;
}

dm_status dm__witnessed_read(dm__conn *conn, void *argument, dm_error *err)
{
    dm__witnessed *read = argument;
    dm__store *store = read->store;
    dm_status rc;
    if (store->in_memory) { /* this is a turn already, and nobody else can write */
        conn->recall = (dm__recall){store->cache, atomic_load(&store->epoch)};
        rc = read->read(conn, read->argument, err);
    } else {
        rc = read_beside_writers(store, conn, read, err);
    }
    conn->recall = (dm__recall){0};
    return rc;
}
