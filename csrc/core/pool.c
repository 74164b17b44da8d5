/* SPDX-License-Identifier: MIT
 *
 * Reader connections: opened on demand, lent for one operation, waited for when all are out. */
#include "dm_store.h"

/* Wait, with the lock held, until a connection is idle or may be opened and the gate is open. */
static dm_status pool_wait(dm__store *store, int64_t deadline_ns, dm_error *err)
{
    dm__stop stop = {0};
    store->read_waits += store->idle_count == 0 && store->reader_count >= store->pool_size;
    while (store->gate_shut ||
           (store->idle_count == 0 && store->reader_count >= store->pool_size)) {
        if (dm__monotonic_ns() >= deadline_ns)
            return dm__fail(err, DM_BUSY, "all %d reader connections stayed in use",
                            store->pool_size);
        if (dm__cond_wait_slice(&store->changed, &store->lock, deadline_ns, &stop))
            return dm__fail(err, DM_INTERRUPTED, "interrupted while waiting for a connection");
    }
    return DM_OK;
}

/* By its path, which may have become another file's. */
dm_status dm__store_conn_open(dm__store *store, int64_t deadline_ns, dm__conn **conn_out,
                              dm_error *err)
{
    dm__file_id id;
    if (!store->in_memory && (dm__file_identify(store->path, &id) != 0 ||
                              id.device != store->device || id.inode != store->inode))
        return dm__store_moved_fail(store, err);
    return dm__conn_open(store->path, store->read_only, deadline_ns, conn_out, err);
}

dm_status dm__conn_lend(dm__store *store, int64_t deadline_ns, dm__conn **conn_out, dm_error *err)
{
    dm_status rc = dm__store_conn_open(store, deadline_ns, conn_out, err);
    if (rc != DM_OK)
        return rc;
    dm__mutex_lock(&store->lock);
    dm__lend(store, *conn_out);
    dm__mutex_unlock(&store->lock);
    return DM_OK;
}

void dm__conn_give_back(dm__store *store, dm__conn *conn)
{
    if (conn == NULL)
        return;
    dm__mutex_lock(&store->lock);
    dm__lend_end(store, conn);
    dm__mutex_unlock(&store->lock);
    dm__conn_close(conn, false);
}

dm_status dm__pool_get(dm__store *store, int64_t deadline_ns, dm__conn **conn_out, dm_error *err)
{
    dm__conn *conn = NULL;
    dm__mutex_lock(&store->lock);
    dm_status rc = pool_wait(store, deadline_ns, err);
    if (rc == DM_OK) {
        store->inside_sqlite++;
        if (store->idle_count > 0)
            dm__lend(store, conn = store->idle[--store->idle_count]);
        else
            store->reader_count++;
    }
    dm__mutex_unlock(&store->lock);
    if (rc != DM_OK)
        return rc;
    if (conn == NULL)
        rc = dm__conn_lend(store, deadline_ns, &conn, err);
    if (rc == DM_OK)
        rc = dm__conn_query_only_set(conn, true, err);
    if (rc == DM_OK)
        *conn_out = conn;
    else
        dm__pool_put(store, conn, true);
    return rc;
}

dm__conn *dm__pool_try(dm__store *store)
{
    dm__conn *conn = NULL;
    dm__mutex_lock(&store->lock);
    bool free =
        !store->gate_shut && (store->idle_count > 0 || store->reader_count < store->pool_size);
    dm__mutex_unlock(&store->lock);
    return free && dm__pool_get(store, 0, &conn, NULL) == DM_OK ? conn : NULL;
}

dm__conn *dm__pool_take(dm__store *store)
{
    if (store->idle_count == 0)
        return NULL;
    store->reader_count--;
    return store->idle[--store->idle_count];
}

void dm__pool_put(dm__store *store, dm__conn *conn, bool broken)
{
    dm__mutex_lock(&store->lock);
    if (conn != NULL)
        dm__lend_end(store, conn);
    if (broken) {
        dm__mutex_unlock(&store->lock);
        dm__conn_close(conn, false);
        dm__mutex_lock(&store->lock);
        store->reader_count--;
    } else {
        store->idle[store->idle_count++] = conn;
    }
    dm__sqlite_end(store);
    dm__mutex_unlock(&store->lock);
}

void dm__pool_close(dm__store *store)
{
    while (store->idle_count > 0)
        dm__conn_close(store->idle[--store->idle_count], false);
    store->reader_count = 0;
}
