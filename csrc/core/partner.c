/* SPDX-License-Identifier: MIT
 *
 * One read of many models. Where the connection has a partner, which sees the same moment, and the
 * read takes long enough to be worth a thread, the models are shared out between the two. */
#include "dm_internal.h"

#include <stdatomic.h>
#include <string.h>

#define ALONE_NS (DM__MS / 2) /* a thread costs a tenth of it */
#define STOP_NS  (50 * DM__MS)

typedef struct {
    const dm_model_names *names;
    _Atomic size_t next; /* the model that nobody has begun */
    atomic_bool over;    /* begin no more, and leave what has begun */
    /* of the partner */
    dm__conn *conn;
    dm__model_read *read;
    dm_status rc;
    dm_error err;
    dm__mutex lock;
    dm__cond wake;
    bool done;
} shared_read;

/* The next model, until none is left. */
static dm_status some_read(shared_read *shared, dm__conn *conn, dm__model_read *read, dm_error *err,
                           int64_t until_ns)
{
    dm_status rc = DM_OK;
    while (rc == DM_OK && !atomic_load(&shared->over) && dm__monotonic_ns() < until_ns) {
        read->index = atomic_fetch_add(&shared->next, 1);
        if (read->index >= shared->names->count)
            break;
        const dm_model_name *model = &shared->names->models[read->index];
        read->name = (dm_str){model->original_name, model->original_length};
        rc = dm__read_model(conn, read, err);
    }
    if (rc != DM_OK)
        atomic_store(&shared->over, true);
    return rc;
}

static void partner_run(void *argument)
{
    shared_read *shared = argument;
    shared->rc = some_read(shared, shared->conn, shared->read, &shared->err, INT64_MAX);
    dm__mutex_lock(&shared->lock);
    shared->done = true;
    dm__cond_signal(&shared->wake);
    dm__mutex_unlock(&shared->lock);
}

/* Ctrl-C comes to the caller's thread only. */
static bool partner_wait(shared_read *shared, dm__stop *stop)
{
    bool stopped = false;
    dm__mutex_lock(&shared->lock);
    while (!shared->done) {
        if (dm__cond_wait_until(&shared->wake, &shared->lock, dm__monotonic_ns() + STOP_NS))
            continue;
        dm__mutex_unlock(&shared->lock);
        if (!stopped && dm__stop_asked(stop)) {
            stopped = true;
            atomic_store(&shared->over, true);
        }
        dm__mutex_lock(&shared->lock);
    }
    dm__mutex_unlock(&shared->lock);
    return stopped;
}

static dm_status both_read(shared_read *shared, dm__conn *conn, dm__model_read *read, dm_error *err)
{
    dm__thread thread;
    bool stopped = false;
    dm__mutex_init(&shared->lock);
    dm__cond_init(&shared->wake);
    conn->partner = NULL; /* it has its own models now */
    shared->conn->stop.over = &shared->over;
    bool started = dm__thread_start(&thread, partner_run, shared) == 0;
    dm_status rc = some_read(shared, conn, read, err, INT64_MAX);
    if (started) {
        stopped = partner_wait(shared, &conn->stop);
        dm__thread_join(thread);
    }
    shared->conn->stop.over = NULL;
    conn->foreign_price |= shared->conn->foreign_price;
    shared->conn->foreign_price = false;
    dm__cond_destroy(&shared->wake);
    dm__mutex_destroy(&shared->lock);
    if (rc == DM_OK && stopped)
        return dm__fail(err, DM_INTERRUPTED, "interrupted while reading");
    if (rc == DM_OK && shared->rc != DM_OK && err != NULL)
        *err = shared->err;
    return rc != DM_OK ? rc : shared->rc;
}

dm_status dm__read_models(dm__conn *conn, const dm_model_names *names, dm__model_read *read,
                          size_t size, dm_error *err)
{
    shared_read shared = {.names = names, .conn = conn->partner};
    int64_t alone_ns = conn->partner == NULL ? INT64_MAX : dm__monotonic_ns() + ALONE_NS;
    /* Before it has anything of its own. */
    shared.read = conn->partner == NULL ? NULL : dm__malloc(size);
    if (conn->partner != NULL && shared.read == NULL)
        return dm__no_memory(err);
    if (shared.read != NULL)
        memcpy(shared.read, read, size);
    dm_status rc = some_read(&shared, conn, read, err, alone_ns);
    if (rc == DM_OK && atomic_load(&shared.next) < names->count)
        rc = both_read(&shared, conn, read, err);
    if (rc == DM_OK && shared.read != NULL && read->merge != NULL)
        read->merge(read, shared.read);
    dm__free(shared.read);
    return rc;
}
