/* SPDX-License-Identifier: MIT
 *
 * One store per database file and process, found by (device, inode), and the handles on it. */
#include "dm_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define POOL_DEFAULT            10
#define POOL_MAX                1000
#define BUSY_TIMEOUT_DEFAULT_MS 30000
#define CACHE_DEFAULT_BYTES     ((size_t)64 << 20)

dm__mutex dm__stores_lock = DM__MUTEX_INITIALIZER;
dm__store *dm__stores;

/* ---- inside and outside ---- */

static dm_status store_usable(const dm__store *store, dm_error *err)
{
    if (store->poisoned || store->fork_generation != dm__fork_generation())
        return dm__fail(err, DM_FORKED,
                        "%s was open when this process was forked: open it after exec, or fork "
                        "through Python's os.fork",
                        store->path);
    return DM_OK;
}

/* After a fork the calls of the parent's other threads do not exist here, and its batches are its
 * own to store: kept, what is written here would wait for an end that may never come, or what is in
 * them would be stored on both sides. With the store's lock held. */
static void handle_after_fork(dm_manager *m)
{
    if (m->fork_generation == m->store->fork_generation)
        return;
    m->fork_generation = m->store->fork_generation;
    m->inside = 0;
    (void)dm__batches_drop(m);
}

dm_status dm__enter(dm_manager *m, dm_error *err)
{
    dm_status rc = store_usable(m->store, err);
    if (rc != DM_OK)
        return rc;
    dm__mutex_lock(&m->store->lock);
    handle_after_fork(m);
    if (m->closed)
        rc = dm__fail(err, DM_CLOSED, "the data manager is closed");
    else
        m->inside++;
    dm__mutex_unlock(&m->store->lock);
    return rc;
}

dm_status dm__leave(dm_manager *m, dm_status rc, dm_error *err)
{
    rc = dm__fail_at(err, rc, "", m->store->path); /* afterwards a closed handle may be gone */
    dm__mutex_lock(&m->store->lock);
    if (--m->inside == 0 && m->closed)
        dm__cond_broadcast(&m->store->changed);
    dm__mutex_unlock(&m->store->lock);
    return rc;
}

int64_t dm__deadline_ns(const dm_manager *m)
{
    return dm__monotonic_ns() + m->busy_timeout_ns;
}

void dm__sqlite_begin(dm__store *store)
{
    while (store->gate_shut)
        dm__cond_wait(&store->changed, &store->lock);
    store->inside_sqlite++;
}

void dm__sqlite_end(dm__store *store)
{
    store->inside_sqlite--;
    dm__cond_broadcast(&store->changed);
}

/* ---- reads and writes ---- */

static dm_status read_repeating(dm__conn *conn, bool snapshot, dm__read_fn read, void *argument,
                                int64_t deadline_ns, dm_error *err)
{
    conn->stop.next_ns = 0;
    for (;;) {
        dm_status rc = snapshot ? dm__begin_snapshot(conn, err) : DM_OK;
        if (rc == DM_OK)
            rc = read(conn, argument, err);
        dm__rollback(conn);
        if (rc != DM_BUSY)
            return rc;
        conn->counters.busy_retries++;
        rc = dm__busy_wait(&conn->stop, conn->db, deadline_ns, err);
        if (rc != DM_OK)
            return rc;
    }
}

/* A database in memory has one connection: reading takes its turn among the writers. */
static dm_status read_in_memory(dm_manager *m, dm__read_fn read, void *argument, dm_error *err)
{
    dm__job job = {.deadline_ns = dm__deadline_ns(m),
                   .closed = &m->closed,
                   .heavy = true,
                   .read = read,
                   .read_argument = argument};
    return dm__submit(m->store, &job, err);
}

/* A question has seen a price that another program has set: from when that holds must not depend on
 * when it is asked. Where it cannot be stored, the answer stands, and the next question tries. */
static dm_status foreign_store(dm__conn *conn, void *deadline_ns, dm_error *err)
{
    return dm__foreign_prices_keep(conn, *(int64_t *)deadline_ns, err);
}

static bool foreign_stored(dm_manager *m)
{
    int64_t deadline_ns = dm__monotonic_ns() + DM__FOREIGN_WAIT_NS;
    dm__job job = {.deadline_ns = deadline_ns,
                   .closed = &m->closed,
                   .durability = m->durability,
                   .heavy = true,
                   .read = foreign_store,
                   .read_argument = &deadline_ns};
    return dm__submit(m->store, &job, NULL) == DM_OK;
}

static dm_status read_on_reader(dm_manager *m, bool snapshot, dm__read_fn read, void *argument,
                                bool *foreign_out, dm_error *err)
{
    int64_t deadline_ns = dm__deadline_ns(m);
    dm__conn *conn = NULL;
    dm_status rc = dm__pool_get(m->store, deadline_ns, &conn, err);
    if (rc != DM_OK)
        return rc;
    conn->foreign_price = false;
    rc = read_repeating(conn, snapshot, read, argument, deadline_ns, err);
    *foreign_out = rc == DM_OK && conn->foreign_price && !m->store->read_only;
    dm__pool_put(m->store, conn,
                 rc == DM_IO || rc == DM_DAMAGED || !sqlite3_get_autocommit(conn->db));
    return rc;
}

dm_status dm__read(dm_manager *m, bool snapshot, dm__read_fn read, void *argument, dm_error *err)
{
    dm_status rc = dm__enter(m, err);
    if (rc != DM_OK)
        return rc;
    bool foreign = false;
    if (m->store->in_memory)
        rc = read_in_memory(m, read, argument, err);
    else
        rc = read_on_reader(m, snapshot, read, argument, &foreign, err);
    if (foreign && foreign_stored(m)) /* answered again, so that all answers are the same */
        rc = read_on_reader(m, snapshot, read, argument, &foreign, err);
    return dm__leave(m, rc, err);
}

dm_status dm__read_rows(dm_manager *m, bool many, dm__read_fn read, void *argument, dm_error *err)
{
    dm__witnessed witnessed = {m->store, read, argument, many};
    return dm__read(m, false, dm__witnessed_read, &witnessed, err);
}

dm_status dm__read_aside(dm_manager *m, dm__read_fn read, void *argument, dm_error *err)
{
    dm__store *store = m->store;
    if (store->in_memory)
        return dm__read(m, true, read, argument, err);
    dm_status rc = dm__enter(m, err);
    if (rc != DM_OK)
        return rc;
    dm__conn *conn = NULL;
    int64_t deadline_ns = dm__deadline_ns(m);
    dm__mutex_lock(&store->lock);
    if (m->within)
        store->inside_sqlite++;
    else
        dm__sqlite_begin(store);
    dm__mutex_unlock(&store->lock);
    rc = dm__conn_lend(store, deadline_ns, &conn, err);
    if (rc == DM_OK)
        rc = dm__conn_query_only_set(conn, true, err);
    if (rc == DM_OK)
        rc = read_repeating(conn, true, read, argument, deadline_ns, err);
    dm__conn_give_back(store, conn);
    dm__mutex_lock(&store->lock);
    dm__sqlite_end(store);
    dm__mutex_unlock(&store->lock);
    return dm__leave(m, rc, err);
}

dm_status dm__write_alone(dm_manager *m, dm__read_fn work, void *argument, dm_error *err)
{
    dm_status rc = dm__enter(m, err);
    if (rc != DM_OK)
        return rc;
    dm__job job = {.deadline_ns = dm__deadline_ns(m),
                   .closed = &m->closed,
                   .durability = m->durability,
                   .heavy = true,
                   .read = work,
                   .read_argument = argument};
    rc = dm__submit(m->store, &job, err);
    return dm__leave(m, rc, err);
}

dm_status dm__writable(dm_manager *m, dm_error *err)
{
    return m->store->read_only
               ? dm__fail(err, DM_READ_ONLY, "%s was opened for reading only", m->store->path)
               : DM_OK;
}

static dm_status write_now(dm_manager *m, dm__change *change, dm_error *err)
{
    dm__job job = {.deadline_ns = dm__deadline_ns(m),
                   .closed = &m->closed,
                   .durability = m->durability,
                   .heavy = dm__change_is_heavy(change),
                   .changes = &change,
                   .change_count = 1};
    return dm__submit(m->store, &job, err);
}

static bool thread_has_batch(dm_manager *m)
{
    dm__mutex_lock(&m->store->lock);
    bool has = m->batches != NULL && dm__batch_of_thread(m) != NULL;
    dm__mutex_unlock(&m->store->lock);
    return has;
}

bool dm_in_batch(dm_manager *m)
{
    if (dm__enter(m, NULL) != DM_OK)
        return false;
    bool in_batch = thread_has_batch(m);
    (void)dm__leave(m, DM_OK, NULL);
    return in_batch;
}

dm_status dm__write(dm_manager *m, dm__change *change, dm_error *err)
{
    dm_status rc = dm__enter(m, err);
    if (rc != DM_OK)
        return rc;
    change->ids = (dm_ids){0};
    bool in_batch = thread_has_batch(m);
    rc = dm__writable(m, err);
    if (rc == DM_OK && in_batch)
        rc = dm__batch_append(m, change, err);
    else if (rc == DM_OK)
        rc = write_now(m, change, err);
    return dm__leave(m, rc, err);
}

/* ---- opening ---- */

static void store_free(dm__store *store)
{
    if (store == NULL)
        return;
    dm__mutex_destroy(&store->lock);
    dm__cond_destroy(&store->changed);
    dm__cache_free(store->cache);
    dm__free(store->idle);
    dm__free(store->path);
    dm__free(store);
}

static dm__store *store_new(const char *path, const dm__file_id *id, bool read_only)
{
    dm__store *store = dm__calloc(1, sizeof *store);
    if (store == NULL)
        return NULL;
    dm__mutex_init(&store->lock);
    dm__cond_init(&store->changed);
    size_t size = strlen(path) + 1;
    store->path = dm__malloc(size);
    store->cache = dm__cache_new();
    if (store->path == NULL || store->cache == NULL) {
        store_free(store);
        return NULL;
    }
    memcpy(store->path, path, size);
    store->in_memory = strcmp(path, ":memory:") == 0;
    store->device = id->device;
    store->inode = id->inode;
    store->read_only = read_only;
    store->fork_generation = dm__fork_generation();
    return store;
}

/* With the store's lock held. */
static dm_status pool_grow(dm__store *store, int pool_size, dm_error *err)
{
    if (pool_size <= store->pool_size)
        return DM_OK;
    dm__conn **idle = dm__realloc(store->idle, (size_t)pool_size * sizeof *idle);
    if (idle == NULL)
        return dm__no_memory(err);
    store->idle = idle;
    store->pool_size = pool_size;
    dm__cond_broadcast(&store->changed);
    return DM_OK;
}

/* The first connection; the first who reads or writes takes it. */
static dm_status store_connect(dm__store *store, const dm_options *options, int64_t deadline_ns,
                               dm_error *err)
{
    dm__conn *conn = NULL;
    dm_status rc = dm__store_conn_open(store, deadline_ns, &conn, err);
    if (rc != DM_OK)
        return rc;
    rc = dm__store_prepare(store, conn, options, deadline_ns, err);
    if (rc == DM_OK && store->in_memory) {
        store->writer = conn;
        return DM_OK;
    }
    if (rc == DM_OK)
        store->idle[store->idle_count++] = conn, store->reader_count++;
    else
        dm__conn_abandon(conn);
    return rc;
}

/* SQLite would write to what stands where its logs belong, or wait for it, whatever that is. What
 * cannot be looked at it cannot open either. */
static dm_status beside_check(const char *path, dm_error *err)
{
    static const char *const suffixes[] = {"-wal", "-shm", "-journal"};
    dm_status rc = DM_OK;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes && rc == DM_OK; i++) {
        dm__file_id id;
        char *name = dm__path_beside(path, suffixes[i]);
        if (name == NULL)
            return dm__no_memory(err);
        bool found = dm__link_identify(name, &id) == 0;
        if (found && !id.is_regular)
            rc = dm__fail(err, DM_CANNOT_OPEN, "%s is not a regular file", name);
        else if (found && id.links > 1)
            rc = dm__fail(err, DM_CANNOT_OPEN, "%s has %llu hard links: it is another file's too",
                          name, (unsigned long long)id.links);
        free(name);
    }
    return rc;
}

/* The path as SQLite is to see it, and what stands there. */
static dm_status file_locate(const char *path, bool read_only, char **resolved_out,
                             dm__file_id *id_out, dm_error *err)
{
    int code = dm__file_identify(path, id_out);
    if (code == ENOENT && !read_only) {
        code = dm__folders_create(path);
        if (code == 0)
            code = dm__file_create(path);
        if (code == 0 || code == EEXIST)
            code = dm__file_identify(path, id_out);
    }
    if (code != 0)
        return dm__fail_system(err, path, code);
    if (!id_out->is_regular)
        return dm__fail(err, DM_CANNOT_OPEN, "%s is not a regular file", path);
    if (id_out->links > 1)
        return dm__fail(err, DM_CANNOT_OPEN,
                        "%s has %llu hard links: each would have a log of its own", path,
                        (unsigned long long)id_out->links);
    char *resolved = dm__path_resolve(path);
    if (resolved == NULL)
        return dm__fail_system(err, path, errno);
    dm_status rc = beside_check(resolved, err);
    if (rc == DM_OK && dm__path_suffix(resolved) != NULL && dm__is_beside_open(id_out))
        rc = dm__fail(err, DM_CANNOT_OPEN, "%s is a part of a database that is open here", path);
    if (rc == DM_OK)
        *resolved_out = resolved;
    else
        free(resolved);
    return rc;
}

void dm__store_release(dm__store *store)
{
    dm__mutex_lock(&dm__stores_lock);
    bool last = --store->references == 0;
    /* One that must not be used stays, so that nobody opens its file again. */
    if (last && store_usable(store, NULL) == DM_OK) {
        for (dm__store **link = &dm__stores; *link != NULL; link = &(*link)->next)
            if (*link == store) {
                *link = store->next;
                break;
            }
        store_free(store);
    }
    dm__mutex_unlock(&dm__stores_lock);
}

static dm__store *store_find(const dm__file_id *id, bool read_only)
{
    dm__store *found = NULL;
    for (dm__store *store = dm__stores; store != NULL; store = store->next) {
        if (store->in_memory || store->device != id->device || store->inode != id->inode)
            continue;
        if (store_usable(store, NULL) != DM_OK)
            return store; /* stands for its file, however that is opened */
        if (store->read_only == read_only)
            found = store;
    }
    return found;
}

/* The store of this file with a reference more, new or known. */
static dm__store *store_find_or_add(const char *path, const dm__file_id *id, bool read_only)
{
    bool in_memory = strcmp(path, ":memory:") == 0;
    dm__mutex_lock(&dm__stores_lock);
    dm__store *store = in_memory ? NULL : store_find(id, read_only);
    if (store == NULL) {
        store = store_new(path, id, read_only);
        if (store != NULL) {
            store->next = dm__stores;
            dm__stores = store;
        }
    }
    if (store != NULL)
        store->references++;
    dm__mutex_unlock(&dm__stores_lock);
    return store;
}

/* A closed store outlives its file where a closed handle is not freed yet; the inode may by now
 * be another file's, or the file may have another name. With the store's lock held. */
static dm_status store_path_set(dm__store *store, const char *path, dm_error *err)
{
    size_t size = strlen(path) + 1;
    char *copy = dm__malloc(size);
    if (copy == NULL)
        return dm__no_memory(err);
    memcpy(copy, path, size);
    dm__free(store->path);
    store->path = copy;
    return DM_OK;
}

static size_t cache_limit(int64_t cache_bytes)
{
    return cache_bytes == 0 ? CACHE_DEFAULT_BYTES : cache_bytes < 0 ? 0 : (size_t)cache_bytes;
}

/* Until nobody is opening or closing the store. With its lock held. */
static dm_status others_await(dm__store *store, int64_t deadline_ns, dm_error *err)
{
    dm__stop stop = {0};
    while (store->state == DM__STORE_OPENING || store->state == DM__STORE_CLOSING) {
        if (dm__monotonic_ns() >= deadline_ns)
            return dm__fail(err, DM_BUSY, "%s: another thread took too long to open or close it",
                            store->path);
        if (dm__cond_wait_slice(&store->changed, &store->lock, deadline_ns, &stop))
            return dm__fail(err, DM_INTERRUPTED, "interrupted while waiting for another thread");
    }
    return DM_OK;
}

/* Become one of the open handles: connect where nobody has, wait while somebody does. */
static dm_status store_join(dm__store *store, const char *path, const dm_options *options,
                            int64_t deadline_ns, dm_error *err)
{
    dm_status rc = store_usable(store, err);
    if (rc != DM_OK)
        return rc;
    dm__mutex_lock(&store->lock);
    rc = others_await(store, deadline_ns, err);
    if (rc == DM_OK)
        rc = pool_grow(store, options->pool_size > 0 ? options->pool_size : POOL_DEFAULT, err);
    if (rc == DM_OK && store->state == DM__STORE_CLOSED)
        rc = store_path_set(store, path, err);
    if (rc == DM_OK && store->state == DM__STORE_CLOSED) {
        store->state = DM__STORE_OPENING;
        dm__sqlite_begin(store);
        dm__mutex_unlock(&store->lock);
        rc = store_connect(store, options, deadline_ns, err);
        dm__mutex_lock(&store->lock);
        dm__sqlite_end(store);
        store->moved = false;
        store->state = rc == DM_OK ? DM__STORE_OPEN : DM__STORE_CLOSED;
        dm__cond_broadcast(&store->changed);
    }
    if (rc == DM_OK) {
        store->open_handles++;
        dm__cache_limit_raise(store->cache, cache_limit(options->cache_bytes));
    }
    dm__mutex_unlock(&store->lock);
    return rc;
}

static dm_status options_check(const dm_options *options, dm_error *err)
{
    if (options->pool_size < 0 || options->pool_size > POOL_MAX)
        return dm__fail(err, DM_INVALID, "pool_size must be a whole number from 1 to %d, not %d",
                        POOL_MAX, options->pool_size);
    if (options->busy_timeout_ms < -1)
        return dm__fail(err, DM_INVALID, "busy_timeout must not be negative");
    if (options->cache_bytes < -1)
        return dm__fail(err, DM_INVALID, "cache_bytes must not be negative");
    for (size_t i = 0; i < options->model_count; i++) {
        dm_status rc = dm_model_name_check(options->models[i], err);
        if (rc != DM_OK)
            return rc;
    }
    return DM_OK;
}

static int64_t timeout_ns(int64_t busy_timeout_ms)
{
    if (busy_timeout_ms == 0)
        busy_timeout_ms = BUSY_TIMEOUT_DEFAULT_MS;
    if (busy_timeout_ms < 0)
        busy_timeout_ms = 0;
    int64_t longest_ms = (int64_t)86400 * 365 * 1000;
    return (busy_timeout_ms < longest_ms ? busy_timeout_ms : longest_ms) * DM__MS;
}

static dm_status handle_open(const char *path, const dm_options *options, dm_manager *m,
                             dm_error *err)
{
    dm__file_id id = {.links = 1, .is_regular = true};
    char *resolved = NULL;
    dm_status rc = DM_OK;
    bool in_memory = strcmp(path, ":memory:") == 0;
    if (!in_memory)
        rc = file_locate(path, options->read_only, &resolved, &id, err);
    if (rc != DM_OK)
        return rc;
    const char *full = in_memory ? path : resolved;
    m->store = store_find_or_add(full, &id, options->read_only);
    if (m->store != NULL)
        rc = dm__fail_at(err, store_join(m->store, full, options, dm__deadline_ns(m), err), "",
                         path);
    free(resolved);
    if (m->store == NULL)
        return dm__no_memory(err);
    m->fork_generation = m->store->fork_generation;
    if (rc != DM_OK)
        dm__store_release(m->store);
    return rc;
}

dm_status dm_open(const char *path, const dm_options *options, dm_manager **manager_out,
                  dm_error *err)
{
    dm_status rc = options_check(options, err);
    if (rc != DM_OK)
        return rc;
    dm_manager *m = dm__calloc(1, sizeof *m);
    if (m == NULL)
        return dm__no_memory(err);
    m->durability = options->durability;
    m->busy_timeout_ns = timeout_ns(options->busy_timeout_ms);
    rc = handle_open(path, options, m, err);
    if (rc != DM_OK) {
        dm__free(m);
        return rc;
    }
    rc = dm__options_store(m, options, err); /* where the store was open already */
    if (rc != DM_OK)
        dm_free(m);
    else
        *manager_out = m;
    return rc;
}

/* ---- closing ---- */

/* The last handle has gone. Nobody is inside, and who opens now waits for us. */
static void store_disconnect(dm__store *store)
{
    store->state = DM__STORE_CLOSING;
    dm__sqlite_begin(store);
    if (store->writer == NULL && !store->read_only)
        store->writer = dm__pool_take(store); /* to find out who comes last */
    dm__mutex_unlock(&store->lock);
    if (store->writer == NULL && !store->read_only && !store->in_memory && /* a fork closed all */
        dm__store_conn_open(store, 0, &store->writer, NULL) != DM_OK)
        store->writer = NULL; /* then the log stays, whole, for who opens the file next */
    bool moved = dm__store_moved(store, true);
    if (!moved)
        dm__store_checkpoint(store, true);
    dm__pool_close(store);
    dm__writer_close(store, !moved && !store->read_only); /* last: SQLite then removes the log */
    dm__cache_empty(store->cache);
    dm__mutex_lock(&store->lock);
    dm__sqlite_end(store);
    store->state = DM__STORE_CLOSED;
    dm__cond_broadcast(&store->changed);
}

size_t dm_close(dm_manager *m)
{
    size_t dropped = 0;
    if (m == NULL || store_usable(m->store, NULL) != DM_OK)
        return 0;
    dm__store *store = m->store;
    dm__mutex_lock(&store->lock);
    handle_after_fork(m);
    m->closed = true;
    dm__stop stop = {0};
    bool stopped = false;
    while (m->inside > 0 && !stopped)
        stopped = dm__cond_wait_slice(&store->changed, &store->lock, INT64_MAX, &stop);
    if (!stopped && !m->let_go) {
        m->let_go = true;
        dropped = dm__batches_drop(m);
        if (--store->open_handles == 0)
            store_disconnect(store);
    }
    dm__mutex_unlock(&store->lock);
    return dropped;
}

void dm_free(dm_manager *m)
{
    if (m == NULL)
        return;
    (void)dm_close(m);
    dm__store_release(m->store);
    dm__free(m);
}

/* Without the lock: the binding asks with the interpreter's lock held, and between its hooks around
 * a fork the store's is held by a thread that may be waiting for the interpreter's. */
bool dm_is_closed(dm_manager *m)
{
    return store_usable(m->store, NULL) == DM_OK && atomic_load(&m->closed);
}
