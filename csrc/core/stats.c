/* SPDX-License-Identifier: MIT
 *
 * What a store has done in this process. Each connection counts for itself; what it has counted is
 * added up when it comes back, under the lock that is held then anyway. */
#include "dm_store.h"

void dm__counters_fold(dm__counters *sum, dm__counters *counters)
{
    sum->busy_retries += counters->busy_retries;
    sum->statement_hits += counters->statement_hits;
    sum->statement_misses += counters->statement_misses;
    sum->checkpoints += counters->checkpoints;
    sum->checkpoints_skipped += counters->checkpoints_skipped;
    *counters = (dm__counters){0};
}

void dm__lend(dm__store *store, dm__conn *conn)
{
    conn->lent_ns = dm__monotonic_ns();
    conn->lent_to = dm__thread_number();
    conn->next_lent = store->lent;
    store->lent = conn;
}

void dm__lend_end(dm__store *store, dm__conn *conn)
{
    dm__conn **link = &store->lent;
    while (*link != NULL && *link != conn)
        link = &(*link)->next_lent;
    if (*link != NULL)
        *link = conn->next_lent;
    dm__counters_fold(&store->counters, &conn->counters);
}

/* With the lock held. */
static void store_stats(const dm__store *store, dm_stats *stats)
{
    *stats = (dm_stats){
        .commits = store->commits,
        .operations = store->operations,
        .failed_operations = store->failed_operations,
        .largest_commit = store->largest_commit,
        .write_waits = store->write_waits,
        .read_waits = store->read_waits,
        .busy_retries = store->counters.busy_retries,
        .checkpoints = store->counters.checkpoints,
        .checkpoints_skipped = store->counters.checkpoints_skipped,
        .checkpoint_held_pages = store->checkpoint_held_pages,
        .statement_hits = store->counters.statement_hits,
        .statement_misses = store->counters.statement_misses,
        .handles = store->open_handles,
        .pool_size = store->pool_size,
        .connections = store->reader_count,
        .oldest_read_s = 0,
        .cached_bytes = (int64_t)dm__cache_bytes(store->cache),
        .cache_drops = (int64_t)atomic_load(&store->epoch),
    };
    int64_t now_ns = dm__monotonic_ns();
    for (const dm__conn *conn = store->lent; conn != NULL; conn = conn->next_lent) {
        double age_s = (double)(now_ns - conn->lent_ns) * 1e-9;
        stats->reading++;
        if (age_s >= stats->oldest_read_s) {
            stats->oldest_read_s = age_s;
            stats->oldest_read_thread = conn->lent_to;
        }
    }
}

dm_status dm_stats_get(dm_manager *m, dm_stats *stats_out, dm_error *err)
{
    dm_status rc = dm__enter(m, err);
    if (rc != DM_OK)
        return rc;
    dm__mutex_lock(&m->store->lock);
    store_stats(m->store, stats_out);
    dm__mutex_unlock(&m->store->lock);
    return dm__leave(m, DM_OK, err);
}
