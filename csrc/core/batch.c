/* SPDX-License-Identifier: MIT
 *
 * Batches: the writes of one thread, kept as values until the outermost batch ends, then one job.
 * No connection and no lock is held while the caller's code runs.
 *
 * Who ends a level names it. Another thread may do so, or a coroutine that shares the thread: then
 * nobody can tell any more whose writes are whose, and the batch goes as a whole. Its other levels
 * stay until each has ended, and refuse what is written inside: stored at once it would be there
 * twice when the caller, whom the end tells of an error, tries again. All of this is done under the
 * store's lock, as it may be another thread's batch. */
#include "dm_store.h"

#include <string.h>

dm__batch *dm__batch_of_thread(dm_manager *m)
{
    uint64_t self = dm__thread_serial();
    for (dm__batch *batch = m->batches; batch != NULL; batch = batch->next)
        if (batch->thread_serial == self)
            return batch;
    return NULL;
}

static void batch_cut(dm__batch *batch, size_t count)
{
    while (batch->count > count)
        dm__free(batch->changes[--batch->count]);
}

static void batch_free(dm__batch *batch)
{
    batch_cut(batch, 0);
    dm__free(batch->changes);
    dm__free(batch->marks);
    dm__free(batch);
}

static dm_status dropped_check(const dm__batch *batch, dm_error *err)
{
    return batch->dropped
               ? dm__fail(err, DM_MISUSE,
                          "the batch open here was dropped, as a level of it was ended out of "
                          "order or by another thread: nothing is written until the others "
                          "have ended")
               : DM_OK;
}

static dm_status batch_add(dm__batch *batch, dm__change *change, dm_error *err)
{
    dm_status rc = dropped_check(batch, err);
    if (rc != DM_OK)
        return rc;
    if (batch->count == batch->capacity) {
        size_t capacity = batch->capacity * 2 + 16;
        dm__change **changes = dm__realloc(batch->changes, capacity * sizeof *changes);
        if (changes == NULL)
            return dm__no_memory(err);
        batch->changes = changes;
        batch->capacity = capacity;
    }
    batch->changes[batch->count++] = change;
    return DM_OK;
}

dm_status dm__batch_append(dm_manager *m, const dm__change *change, dm_error *err)
{
    dm__change *copy = dm__change_copy(change); /* may be long: without the lock */
    if (copy == NULL)
        return dm__no_memory(err);
    dm__mutex_lock(&m->store->lock);
    dm__batch *batch = dm__batch_of_thread(m);
    dm_status rc = batch != NULL ? batch_add(batch, copy, err)
                                 : dm__fail(err, DM_MISUSE,
                                            "another thread has just ended the "
                                            "batch of this write");
    dm__mutex_unlock(&m->store->lock);
    if (rc != DM_OK)
        dm__free(copy);
    return rc;
}

static void batch_unlink(dm_manager *m, dm__batch *batch)
{
    dm__batch **link = &m->batches;
    while (*link != batch)
        link = &(*link)->next;
    *link = batch->next;
}

size_t dm__batches_drop(dm_manager *m)
{
    size_t dropped = 0;
    while (m->batches != NULL) {
        dm__batch *batch = m->batches;
        m->batches = batch->next;
        dropped += batch->count;
        batch_free(batch);
    }
    return dropped;
}

static dm_status batch_push(dm__batch *batch, uint64_t level, dm_error *err)
{
    dm_status rc = dropped_check(batch, err);
    if (rc != DM_OK)
        return rc;
    dm__batch_mark *marks = dm__realloc(batch->marks, (batch->depth + 1) * sizeof *marks);
    if (marks == NULL)
        return dm__no_memory(err);
    batch->marks = marks;
    batch->marks[batch->depth++] = (dm__batch_mark){level, batch->count};
    return DM_OK;
}

dm_status dm_batch_begin(dm_manager *m, uint64_t *level_out, dm_error *err)
{
    dm_status rc = dm__enter(m, err);
    if (rc != DM_OK)
        return rc;
    dm__mutex_lock(&m->store->lock);
    dm__batch *batch = dm__batch_of_thread(m);
    bool added = batch == NULL;
    if (added && (batch = dm__calloc(1, sizeof *batch)) != NULL)
        batch->thread_serial = dm__thread_serial();
    rc = batch == NULL ? dm__no_memory(err) : batch_push(batch, m->batch_levels + 1, err);
    if (rc == DM_OK)
        *level_out = ++m->batch_levels;
    if (added && rc == DM_OK) {
        batch->next = m->batches;
        m->batches = batch;
    } else if (added && batch != NULL) {
        batch_free(batch);
    }
    dm__mutex_unlock(&m->store->lock);
    return dm__leave(m, rc, err);
}

/* Whose ids are one by one. */
static size_t numbered_rows(const dm__change *change)
{
    return change->kind == DM__CHANGE_REQUESTS_ADD && change->as.rows.row_ids != NULL
               ? change->as.rows.columns.count
               : 0;
}

static dm_status batch_write(dm_manager *m, dm__batch *batch, dm_ids **ids_out, size_t *count_out,
                             dm_error *err)
{
    if (batch->count == 0) {
        *ids_out = NULL;
        *count_out = 0;
        return DM_OK;
    }
    size_t rows = 0;
    for (size_t i = 0; i < batch->count; i++)
        rows += numbered_rows(batch->changes[i]);
    dm_ids *ids = dm__malloc(batch->count * sizeof *ids + rows * sizeof(int64_t));
    if (ids == NULL)
        return dm__no_memory(err);
    dm__job job = {.deadline_ns = dm__deadline_ns(m),
                   .closed = &m->closed,
                   .durability = m->durability,
                   .heavy = true,
                   .changes = batch->changes,
                   .change_count = batch->count};
    dm_status rc = dm__submit(m->store, &job, err);
    if (rc != DM_OK) {
        dm__free(ids);
        return rc;
    }
    int64_t *row_ids = (int64_t *)(void *)(ids + batch->count);
    for (size_t i = 0; i < batch->count; i++) {
        ids[i] = batch->changes[i]->ids;
        rows = numbered_rows(batch->changes[i]);
        if (ids[i].row_ids != NULL) {
            ids[i].row_ids = memcpy(row_ids, ids[i].row_ids, rows * sizeof *row_ids);
            ids[i].count = (int64_t)rows;
        }
        row_ids += rows;
    }
    *ids_out = ids;
    *count_out = batch->count;
    return DM_OK;
}

/* Whoever's it is; NULL where it was ended or dropped. */
static dm__batch *batch_of_level(dm_manager *m, uint64_t level)
{
    for (dm__batch *batch = m->batches; batch != NULL; batch = batch->next)
        for (unsigned i = 0; i < batch->depth; i++)
            if (batch->marks[i].level == level)
                return batch;
    return NULL;
}

/* Of a dropped batch; the last takes it along. */
static void level_forget(dm_manager *m, dm__batch *batch, uint64_t level)
{
    unsigned left = 0;
    for (unsigned i = 0; i < batch->depth; i++)
        if (batch->marks[i].level != level)
            batch->marks[left++] = batch->marks[i];
    batch->depth = left;
    if (left == 0) {
        batch_unlink(m, batch);
        batch_free(batch);
    }
}

/* End the level. An outermost one leaves its batch to the caller, who is then the only one to have
 * it. With the store's lock held. */
static dm_status level_end(dm_manager *m, uint64_t level, bool commit, dm__batch **ended_out,
                           dm_error *err)
{
    dm__batch *batch = batch_of_level(m, level);
    bool dropped = batch != NULL && batch->dropped;
    if (dropped)
        level_forget(m, batch, level);
    if (batch == NULL || dropped)
        return dm__fail(err, DM_MISUSE,
                        "no batch open here: what was begun has been ended or dropped already, or "
                        "is from before a fork, and the parent's");
    bool own = batch->thread_serial == dm__thread_serial();
    if (!own || batch->marks[batch->depth - 1].level != level) {
        dm_status rc = dm__fail(
            err, DM_MISUSE,
            own ? "a batch was ended before one that was begun inside it: all of it was dropped, "
                  "writes: %zu (it must not span an await or a yield)"
                : "a batch was ended by another thread than the one that began it, and to which it "
                  "belongs: all of it was dropped, writes: %zu",
            batch->count);
        batch_cut(batch, 0);
        batch->dropped = true;
        level_forget(m, batch, level);
        return rc;
    }
    batch->depth--;
    if (!commit)
        batch_cut(batch, batch->marks[batch->depth].count);
    if (batch->depth == 0) {
        batch_unlink(m, batch);
        *ended_out = batch;
    }
    return DM_OK;
}

dm_status dm_batch_end(dm_manager *m, uint64_t level, bool commit, dm_ids **ids_out,
                       size_t *count_out, dm_error *err)
{
    dm__batch *ended = NULL;
    dm_status rc = dm__enter(m, err);
    if (rc != DM_OK)
        return rc;
    dm__mutex_lock(&m->store->lock);
    rc = level_end(m, level, commit, &ended, err);
    dm__mutex_unlock(&m->store->lock);
    if (rc == DM_OK && ended != NULL && commit) {
        rc = batch_write(m, ended, ids_out, count_out, err);
    } else if (rc == DM_OK) {
        *ids_out = NULL;
        *count_out = 0;
    }
    if (ended != NULL)
        batch_free(ended);
    return dm__leave(m, rc, err);
}

void dm_ids_free(dm_ids *ids)
{
    dm__free(ids);
}
