/* SPDX-License-Identifier: MIT
 *
 * Batches: the writes of one thread, kept as values until the outermost batch ends, then one job.
 * No connection and no lock is held while the caller's code runs. */
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

dm_status dm__batch_append(dm__batch *batch, const dm__change *change, dm_error *err)
{
    if (batch->count == batch->capacity) {
        size_t capacity = batch->capacity * 2 + 16;
        dm__change **changes = dm__realloc(batch->changes, capacity * sizeof *changes);
        if (changes == NULL)
            return dm__no_memory(err);
        batch->changes = changes;
        batch->capacity = capacity;
    }
    dm__change *copy = dm__change_copy(change);
    if (copy == NULL)
        return dm__no_memory(err);
    batch->changes[batch->count++] = copy;
    return DM_OK;
}

static void batch_unlink(dm_manager *m, dm__batch *batch)
{
    dm__batch **link = &m->batches;
    while (*link != batch)
        link = &(*link)->next;
    *link = batch->next;
}

void dm__batches_drop(dm_manager *m)
{
    while (m->batches != NULL) {
        dm__batch *batch = m->batches;
        m->batches = batch->next;
        batch_free(batch);
    }
}

static dm_status batch_push(dm__batch *batch, dm_error *err)
{
    size_t *marks = dm__realloc(batch->marks, (batch->depth + 1) * sizeof *marks);
    if (marks == NULL)
        return dm__no_memory(err);
    batch->marks = marks;
    batch->marks[batch->depth++] = batch->count;
    return DM_OK;
}

dm_status dm_batch_begin(dm_manager *m, dm_error *err)
{
    dm_status rc = dm__enter(m, err);
    if (rc != DM_OK)
        return rc;
    dm__mutex_lock(&m->store->lock);
    dm__batch *batch = dm__batch_of_thread(m);
    bool added = batch == NULL;
    if (added && (batch = dm__calloc(1, sizeof *batch)) != NULL)
        batch->thread_serial = dm__thread_serial();
    rc = batch == NULL ? dm__no_memory(err) : batch_push(batch, err);
    if (added && rc == DM_OK) {
        batch->next = m->batches;
        m->batches = batch;
    } else if (added && batch != NULL) {
        batch_free(batch);
    }
    dm__mutex_unlock(&m->store->lock);
    dm__leave(m);
    return rc;
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

dm_status dm_batch_end(dm_manager *m, bool commit, dm_ids **ids_out, size_t *count_out,
                       dm_error *err)
{
    dm_status rc = dm__enter(m, err);
    if (rc != DM_OK)
        return rc;
    dm__mutex_lock(&m->store->lock);
    dm__batch *batch = dm__batch_of_thread(m);
    bool outermost = batch != NULL && --batch->depth == 0;
    if (outermost)
        batch_unlink(m, batch);
    dm__mutex_unlock(&m->store->lock);
    if (batch == NULL) {
        rc = dm__fail(err, DM_MISUSE,
                      "this thread has no batch open here; one from before a fork is its parent's");
    } else if (outermost && commit) {
        rc = batch_write(m, batch, ids_out, count_out, err);
    } else {
        if (!commit)
            batch_cut(batch, batch->marks[batch->depth]);
        *ids_out = NULL;
        *count_out = 0;
    }
    if (outermost)
        batch_free(batch);
    dm__leave(m);
    return rc;
}

void dm_ids_free(dm_ids *ids)
{
    dm__free(ids);
}
