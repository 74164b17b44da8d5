/* SPDX-License-Identifier: MIT
 *
 * fork. SQLite keeps a process-wide list of the locks that it holds; a child inherits the list but
 * not the locks, so even a new connection there would believe that it holds what it does not. So
 * no connection may be open across a fork: the gate shuts, what runs in SQLite finishes, every
 * connection is closed, and both sides open again when they next need one. All locks of the core
 * are held across the fork, so that the child finds them in a known state. */
#include "dm_store.h"

static bool is_usable(const dm__store *store)
{
    return !store->poisoned && store->fork_generation == dm__fork_generation();
}

static void gates_shut(void)
{
    for (dm__store *store = dm__stores; store != NULL; store = store->next) {
        dm__mutex_lock(&store->lock);
        store->gate_shut = true;
        dm__mutex_unlock(&store->lock);
    }
}

/* Take every store's lock; where one is found in which somebody is inside SQLite, none, and return
 * that one. With the lock of the table, which keeps the list as it is. */
static dm__store *locks_take(bool whatever)
{
    gates_shut(); /* also of those that are new */
    for (dm__store *store = dm__stores; store != NULL; store = store->next) {
        dm__mutex_lock(&store->lock);
        if (whatever || !is_usable(store) || store->inside_sqlite == 0)
            continue;
        dm__mutex_unlock(&store->lock);
        for (dm__store *taken = dm__stores; taken != store; taken = taken->next)
            dm__mutex_unlock(&taken->lock);
        return store;
    }
    return NULL;
}

/* Until nobody is inside, or for so long. Without the lock of the table: who is inside may need
 * it, to put a file in its place. */
static bool quiet_await(dm__store *store, int64_t until_ns)
{
    bool in_time = true;
    store->references++;
    dm__mutex_unlock(&dm__stores_lock);
    dm__mutex_lock(&store->lock);
    while (in_time && store->inside_sqlite > 0) {
        store->gate_shut = true; /* the fork of another thread may have opened it */
        in_time = dm__cond_wait_until(&store->changed, &store->lock, until_ns);
    }
    dm__mutex_unlock(&store->lock);
    dm__store_release(store);
    dm__mutex_lock(&dm__stores_lock);
    return in_time;
}

void dm_fork_before(int64_t quiet_ms)
{
    int64_t until_ns = dm__monotonic_ns() + quiet_ms * DM__MS;
    bool in_time = true;
    dm__mutex_lock(&dm__stores_lock);
    for (dm__store *busy; (busy = locks_take(!in_time)) != NULL;)
        in_time = quiet_await(busy, until_ns);
    for (dm__store *store = dm__stores; store != NULL; store = store->next)
        /* Memory holds no locks, and closing would lose it. */
        if (is_usable(store) && store->inside_sqlite == 0 && !store->in_memory) {
            dm__pool_close(store);
            dm__writer_close(store, false);
        }
}

void dm_fork_parent(void)
{
    for (dm__store *store = dm__stores; store != NULL; store = store->next) {
        store->gate_shut = false;
        dm__cond_broadcast(&store->changed);
        dm__mutex_unlock(&store->lock);
    }
    dm__mutex_unlock(&dm__stores_lock);
}

/* The other threads do not exist here: their calls, jobs and batches are gone. */
static void store_reset(dm__store *store)
{
    /* One more than before, if this was the announced fork of a store that was usable. */
    if (store->inside_sqlite > 0 || store->fork_generation + 1 != dm__fork_generation())
        store->poisoned = true;
    store->fork_generation = dm__fork_generation();
    store->gate_shut = false;
    store->inside_sqlite = 0;
    store->queue_head = store->queue_tail = NULL;
    store->queued = store->expected = 0;
    store->lingering = NULL;
    store->lent = NULL;
    store->led = false;
    store->leader_serial = 0;
    if (store->state != DM__STORE_OPEN) /* who was opening or closing it is not here either */
        store->state = DM__STORE_CLOSED;
    dm__cond_init(&store->changed); /* those who waited on it are not here */
    dm__mutex_unlock(&store->lock);
}

void dm_fork_child(void)
{
    for (dm__store *store = dm__stores; store != NULL; store = store->next)
        store_reset(store);
    dm__mutex_unlock(&dm__stores_lock);
}
