/* SPDX-License-Identifier: MIT
 *
 * Group commit. A durable commit costs one sync of the disk, so callers share commits. Each puts
 * its job into the queue; whoever finds no leader leads. The leader takes the queue, runs it as
 * one transaction, wakes each caller with its own result and hands the lead to the head of what
 * has queued up meanwhile:
 *
 *     caller A   lead [A      ] sync, wake           lead [A D] …
 *     caller B        queue B . . . . . lead [B C] sync, wake
 *     caller C         queue C . . . . . . . . . . . . . done
 *
 * A job that fails is undone alone. A long job goes alone, on its own thread, so that a leader is
 * never kept by another caller's million rows, and its Ctrl-C is its own thread's. */
#include "dm_store.h"

#define GROUP_MAX      1024
#define LINGER_NS      (DM__MS / 10)
#define MOVED_CHECK_NS (100 * DM__MS)
#define WAIT_SLICE_NS  (50 * DM__MS)

/* ---- the writer's connection ---- */

bool dm__store_moved(dm__store *store, bool now)
{
    if (store->in_memory || store->moved || store->writer == NULL)
        return store->moved;
    int64_t now_ns = dm__monotonic_ns();
    if (!now && now_ns < store->moved_check_ns)
        return false;
    int moved = 0;
    (void)sqlite3_file_control(store->writer->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    store->moved_check_ns = now_ns + MOVED_CHECK_NS;
    store->moved = moved != 0;
    return store->moved;
}

dm_status dm__store_moved_fail(const dm__store *store, dm_error *err)
{
    return dm__fail(err, DM_MOVED, "%s was moved, removed or replaced while open", store->path);
}

void dm__writer_close(dm__store *store, bool checkpoint)
{
    dm__conn_close(store->checkpointer, false);
    dm__conn_close(store->writer, checkpoint);
    store->checkpointer = store->writer = NULL;
    store->writer_suspect = false;
    dm__witness_forget(store);
}

/* A reader that is idle has read the schema already, which takes longest. */
static dm_status writer_connect(dm__store *store, int64_t deadline_ns, dm_error *err)
{
    dm__mutex_lock(&store->lock);
    dm__conn *conn = dm__pool_take(store);
    dm__mutex_unlock(&store->lock);
    dm_status rc = conn == NULL ? dm__store_conn_open(store, deadline_ns, &conn, err)
                                : dm__conn_query_only_set(conn, false, err);
    if (rc == DM_OK)
        store->writer = conn;
    else if (conn != NULL)
        dm__conn_close(conn, false);
    return rc;
}

/* Without any connection to the file, whoever opens it next reads the log from its beginning, and
 * would take up what a commit whose sync has failed left at its end: so the new one comes first. */
static dm_status writer_renew(dm__store *store, int64_t deadline_ns, dm_error *err)
{
    dm__conn *fresh = NULL;
    dm_status rc = dm__store_conn_open(store, deadline_ns, &fresh, err);
    if (rc != DM_OK)
        return rc;
    dm__writer_close(store, false);
    store->writer = fresh;
    return DM_OK;
}

static dm_status writer_ready(dm__store *store, dm_durability durability, const dm__job *own,
                              dm_error *err)
{
    if (store->read_only && !own->looks)
        return dm__fail(err, DM_READ_ONLY, "%s was opened for reading only", store->path);
    dm_status rc = DM_OK;
    if (store->writer == NULL)
        rc = writer_connect(store, own->deadline_ns, err);
    else if (store->writer_suspect)
        rc = writer_renew(store, own->deadline_ns, err);
    if (rc != DM_OK)
        return rc;
    /* SQLite goes on acknowledging into a file that nobody will find again. */
    if (dm__store_moved(store, false))
        return dm__store_moved_fail(store, err);
    return own->looks ? DM_OK : dm__conn_durability_set(store->writer, durability, err);
}

/* ---- jobs ---- */

static void job_finish(dm__job *job, dm_status rc, const dm_error *err)
{
    job->finished = true;
    job->rc = rc;
    if (rc != DM_OK && err != &job->err)
        job->err = *err;
}

static bool job_is_closed(const dm__job *job)
{
    return job->closed != NULL && atomic_load(job->closed);
}

static void job_close(dm__job *job)
{
    dm_status rc =
        dm__fail(&job->err, DM_CLOSED, "the data manager was closed before this call began");
    job_finish(job, rc, &job->err);
}

static void group_fail(dm__job *group, dm_status rc, const dm_error *err)
{
    for (dm__job *job = group; job != NULL; job = job->next)
        if (!job->finished)
            job_finish(job, rc, err);
}

static bool job_is_single(const dm__job *job)
{
    return job->read == NULL && job->change_count == 1 && dm__change_is_single(job->changes[0]);
}

static bool group_is_rewriting(const dm__job *group)
{
    for (const dm__job *job = group; job != NULL; job = job->next)
        for (size_t i = 0; i < job->change_count; i++)
            if (dm__change_is_rewriting(job->changes[i]))
                return true;
    return false;
}

static dm_status job_apply(dm__conn *conn, dm__job *job, bool in_transaction)
{
    dm_status rc = DM_OK;
    for (size_t i = 0; i < job->change_count && rc == DM_OK; i++) {
        rc = dm__change_apply(conn, job->changes[i], in_transaction, &job->err);
        if (rc == DM_OK && i % 256 == 255 && dm__stop_asked(&conn->stop))
            rc = dm__fail(&job->err, DM_INTERRUPTED, "interrupted");
    }
    return rc;
}

/* The only job of a transaction. That its call was interrupted means that nothing was written, so
 * it is asked for once more at the end: SQLite drops a table of any size in one breath. */
static dm_status job_apply_alone(dm__conn *conn, dm__job *job)
{
    dm_status rc = job_apply(conn, job, true);
    if (rc != DM_OK || !group_is_rewriting(job))
        return rc;
    conn->stop.next_ns = 1; /* now, and not when it is time */
    return dm__stop_asked(&conn->stop) ? dm__fail(&job->err, DM_INTERRUPTED, "interrupted") : DM_OK;
}

/* One of several jobs of a transaction. */
static dm_status job_apply_in_group(dm__conn *conn, dm__job *job)
{
    if (job_is_single(job)) { /* SQLite undoes a failed statement by itself */
        dm_status rc = job_apply(conn, job, false);
        if (rc != (dm_status)DM__NEEDS_TRANSACTION)
            return rc;
    }
    dm_status rc = dm__stmt_exec(conn, DM__STMT_SAVEPOINT, &job->err);
    if (rc != DM_OK)
        return rc;
    rc = job_apply(conn, job, true);
    if (rc == DM_OK)
        return dm__stmt_exec(conn, DM__STMT_SAVEPOINT_RELEASE, &job->err);
    if (!sqlite3_get_autocommit(conn->db) &&
        (dm__stmt_exec(conn, DM__STMT_SAVEPOINT_ROLLBACK, NULL) != DM_OK ||
         dm__stmt_exec(conn, DM__STMT_SAVEPOINT_RELEASE, NULL) != DM_OK))
        dm__rollback(conn); /* then the others run again */
    return rc;
}

/* ---- a group ---- */

/* Those whose time is up, or whose callers or handles have gone, leave before anything has begun.
 */
static bool group_sweep(dm__store *store, dm__job *group, const dm__job *own)
{
    int64_t now_ns = dm__monotonic_ns();
    bool going_on = false;
    dm__mutex_lock(&store->lock);
    for (dm__job *job = group; job != NULL; job = job->next) {
        if (!job->finished && job->cancelled)
            job_finish(job, dm__fail(&job->err, DM_INTERRUPTED, "interrupted"), &job->err);
        else if (!job->finished && job_is_closed(job))
            job_close(job);
        else if (!job->finished && now_ns >= job->deadline_ns)
            job_finish(
                job,
                dm__fail(&job->err, DM_BUSY, "%s stayed locked by another process", store->path),
                &job->err);
        going_on |= !job->finished;
    }
    going_on &= !own->finished && !store->gate_shut;
    dm__mutex_unlock(&store->lock);
    return going_on;
}

/* Begin the transaction. False: not begun; jobs that are not finished go back to the queue. */
static bool group_begin(dm__store *store, dm__job *group, dm__job *own)
{
    dm__conn *conn = store->writer;
    dm_error err;
    conn->stop.next_ns = 0;
    for (;;) {
        dm_status rc = dm__stmt_exec(conn, DM__STMT_BEGIN_IMMEDIATE, &err);
        if (rc == DM_OK)
            return true;
        if (rc != DM_BUSY) {
            group_fail(group, rc, &err);
            return false;
        }
        conn->counters.busy_retries++;
        if (!group_sweep(store, group, own))
            return false;
        if (dm__busy_wait(&conn->stop, conn->db, INT64_MAX, &err) == DM_INTERRUPTED) {
            job_finish(own, DM_INTERRUPTED, &err);
            return false;
        }
    }
}

static void group_commit(dm__conn *conn, dm__job *group)
{
    dm_error err;
    dm_status rc = dm__stmt_exec(conn, DM__STMT_COMMIT, &err);
    if (rc != DM_OK && !sqlite3_get_autocommit(conn->db))
        dm__rollback(conn);
    conn->commits += rc == DM_OK;
    group_fail(group, rc, &err); /* with DM_OK: all that have not failed are done */
}

static void group_run_transaction(dm__store *store, dm__job *group, dm__job *own)
{
    dm__conn *conn = store->writer;
again:
    if (!group_begin(store, group, own))
        return;
    for (dm__job *job = group; job != NULL; job = job->next) {
        if (job->finished)
            continue;
        bool alone = group->next == NULL;
        dm_status rc = alone ? job_apply_alone(conn, job) : job_apply_in_group(conn, job);
        if (rc == DM_OK)
            continue;
        job_finish(job, rc, &job->err);
        if (alone && !sqlite3_get_autocommit(conn->db))
            dm__rollback(conn);
        if (alone)
            return;
        /* Some errors (disk full, no memory) end the whole transaction: the others run again
         * without the one that failed. Each turn has one fewer, so this ends. */
        if (sqlite3_get_autocommit(conn->db))
            goto again;
    }
    group_commit(conn, group);
}

/* A lone statement commits by itself: measurably cheaper than three. False: run it as a group. */
static bool run_alone(dm__store *store, dm__job *job)
{
    dm__conn *conn = store->writer;
    if (job->read == NULL && !job_is_single(job))
        return false;
    conn->stop.over = job->read == NULL ? NULL : job->closed;
    dm_status rc =
        job->read ? job->read(conn, job->read_argument, &job->err) : job_apply(conn, job, false);
    conn->stop.over = NULL;
    if (rc == DM_INTERRUPTED && job->read != NULL && job_is_closed(job)) {
        job_close(job);
        return true;
    }
    if (rc == (dm_status)DM__NEEDS_TRANSACTION || (rc == DM_BUSY && job->read == NULL))
        return false;
    conn->commits += rc == DM_OK && job->read == NULL;
    job_finish(job, rc, &job->err);
    return true;
}

/* After a failed sync SQLite's view of the file may be wrong: the next turn begins with a fresh
 * connection. A transaction that could not even be undone must not stay until then. */
static void writer_suspect(dm__store *store, const dm__job *group)
{
    if (store->in_memory || store->writer == NULL)
        return;
    for (const dm__job *job = group; job != NULL; job = job->next)
        store->writer_suspect |= job->finished && dm__is_suspect(job->rc, &job->err);
    if (!sqlite3_get_autocommit(store->writer->db))
        dm__writer_close(store, false);
}

static void group_run(dm__store *store, dm__job *group, dm__job *own)
{
    dm_durability durability = DM_DURABILITY_NORMAL;
    for (dm__job *job = group; job != NULL; job = job->next)
        if (job->durability == DM_DURABILITY_FULL)
            durability = DM_DURABILITY_FULL;
    dm_error err;
    dm_status rc = writer_ready(store, durability, own, &err);
    if (rc != DM_OK) {
        group_fail(group, rc, &err);
        return;
    }
    if (group->next != NULL || !run_alone(store, group))
        group_run_transaction(store, group, own);
    dm__witness_look(store, group_is_rewriting(group));
    writer_suspect(store, group);
}

/* ---- queue and lead; all with the lock held ---- */

static void queue_append(dm__store *store, dm__job *job)
{
    job->next = NULL;
    job->state = DM__JOB_QUEUED;
    if (store->queue_tail != NULL)
        store->queue_tail->next = job;
    else
        store->queue_head = job;
    store->queue_tail = job;
    store->queued++;
    if (store->lingering != NULL && store->queued >= store->expected)
        dm__cond_signal(store->lingering);
}

static void queue_remove(dm__store *store, dm__job *job)
{
    dm__job *before = NULL;
    for (dm__job *at = store->queue_head; at != job; at = at->next)
        before = at;
    if (before != NULL)
        before->next = job->next;
    else
        store->queue_head = job->next;
    if (store->queue_tail == job)
        store->queue_tail = before;
    store->queued--;
}

static void lead_pass(dm__store *store)
{
    store->leader_serial = 0;
    store->led = store->queue_head != NULL;
    if (store->led) {
        store->queue_head->leads = true;
        dm__cond_signal(&store->queue_head->wake);
    }
}

/* Callers seen lately will come again in a moment: one sync then serves them all. A lone caller
 * never lingers, and where nothing is synced there is nothing to save. */
static void linger(dm__store *store, dm__job *own)
{
    if (own->heavy || own->durability != DM_DURABILITY_FULL || store->queued >= store->expected)
        return;
    int64_t until_ns = dm__monotonic_ns() + LINGER_NS;
    store->lingering = &own->wake;
    while (store->queued < store->expected &&
           dm__cond_wait_until(&own->wake, &store->lock, until_ns))
        ;
    store->lingering = NULL;
}

/* The head of the queue, which is the leader's own job, and what may go with it. */
static dm__job *group_take(dm__store *store)
{
    dm__job *group = store->queue_head, *last = group;
    unsigned count = 1;
    if (!group->heavy)
        while (last->next != NULL && !last->next->heavy && count < GROUP_MAX)
            last = last->next, count++;
    store->queue_head = last->next;
    if (last->next == NULL)
        store->queue_tail = NULL;
    last->next = NULL;
    store->queued -= count;
    store->leader_serial = dm__thread_serial();
    for (dm__job *job = group; job != NULL; job = job->next)
        job->state = DM__JOB_TAKEN;
    return group;
}

static void group_return(dm__store *store, dm__job *group)
{
    dm__job *head = NULL, **tail = &head, *last = NULL;
    unsigned done = 0, stored = 0;
    for (dm__job *job = group, *next; job != NULL; job = next) {
        next = job->next; /* a job that is done may be gone once the lock is released */
        if (job->finished) {
            int64_t *count = job->rc == DM_OK ? &store->operations : &store->failed_operations;
            *count += (int64_t)job->change_count;
            stored += job->rc == DM_OK && job->change_count > 0;
            job->state = DM__JOB_DONE;
            dm__cond_signal(&job->wake);
            done++;
            continue;
        }
        job->state = DM__JOB_QUEUED;
        store->queued++;
        *tail = last = job;
        tail = &job->next;
    }
    *tail = store->queue_head;
    if (last != NULL && store->queue_head == NULL)
        store->queue_tail = last;
    store->queue_head = head != NULL ? head : store->queue_head;
    store->expected = done + store->queued;
    store->commits += stored > 0;
    if (stored > store->largest_commit)
        store->largest_commit = stored;
}

static void lead(dm__store *store, dm__job *own)
{
    own->leads = false;
    linger(store, own);
    dm__job *group = group_take(store);
    if (own->inside)
        store->inside_sqlite++;
    else
        dm__sqlite_begin(store);
    dm__mutex_unlock(&store->lock);
    group_run(store, group, own);
    dm__mutex_lock(&store->lock);
    group_return(store, group);
    dm__mutex_unlock(&store->lock);
    if (!own->looks) /* the callers of this group need not wait for it */
        dm__store_checkpoint(store, false);
    writer_suspect(store, NULL);
    dm__mutex_lock(&store->lock);
    if (store->writer != NULL) {
        dm__counters_fold(&store->counters, &store->writer->counters);
        store->checkpoint_held_pages = store->writer->checkpoint_held;
    }
    dm__sqlite_end(store);
    lead_pass(store);
}

/* The caller's stop hook said stop. What has begun runs to its end; the rest is dropped. */
static void job_cancel(dm__store *store, dm__job *job)
{
    if (job->state == DM__JOB_TAKEN)
        job->cancelled = true;
    if (job->state != DM__JOB_QUEUED)
        return;
    queue_remove(store, job);
    job->state = DM__JOB_DONE;
    job_finish(job, dm__fail(&job->err, DM_INTERRUPTED, "interrupted"), &job->err);
    if (job->leads)
        lead_pass(store);
}

static void job_wait(dm__store *store, dm__job *job, dm__stop *stop)
{
    int64_t now_ns = dm__monotonic_ns(), until_ns = now_ns + WAIT_SLICE_NS;
    if (job->state == DM__JOB_QUEUED && job->deadline_ns < until_ns)
        until_ns = job->deadline_ns;
    if (dm__cond_wait_until(&job->wake, &store->lock, until_ns))
        return;
    if (job->state == DM__JOB_QUEUED && !job->leads && job_is_closed(job)) {
        queue_remove(store, job);
        job->state = DM__JOB_DONE;
        job_close(job);
        return;
    }
    if (job->state == DM__JOB_QUEUED && !job->leads && dm__monotonic_ns() >= job->deadline_ns) {
        queue_remove(store, job);
        job->state = DM__JOB_DONE;
        job_finish(job, dm__fail(&job->err, DM_BUSY, "the writers before this call took too long"),
                   &job->err);
        return;
    }
    dm__mutex_unlock(&store->lock);
    bool stopped = dm__stop_asked(stop);
    dm__mutex_lock(&store->lock);
    if (stopped)
        job_cancel(store, job);
}

dm_status dm__submit(dm__store *store, dm__job *job, dm_error *err)
{
    dm__stop stop = {0};
    dm__mutex_lock(&store->lock);
    if (store->leader_serial == dm__thread_serial()) {
        dm__mutex_unlock(&store->lock);
        return dm__fail(err, DM_MISUSE,
                        "this thread is in the midst of a restore into the same database, for "
                        "which writes have to wait");
    }
    dm__cond_init(&job->wake);
    queue_append(store, job);
    store->write_waits += store->led && !job->looks;
    if (!store->led)
        store->led = job->leads = true;
    while (job->state != DM__JOB_DONE) {
        if (job->leads)
            lead(store, job);
        else
            job_wait(store, job, &stop);
    }
    dm__mutex_unlock(&store->lock);
    dm__cond_destroy(&job->wake);
    if (job->rc != DM_OK && err != NULL)
        *err = job->err;
    return job->rc;
}
