/* SPDX-License-Identifier: MIT
 *
 * Request rows as columns. Every element has 8 bytes, whatever it means, so what moves them need
 * not know. */
#include "dm_internal.h"

#include <stdlib.h>
#include <string.h>

#define COLUMN_COUNT 6
#define COLUMN_ARRAYS(columns)                                                                     \
    {                                                                                              \
        (void **)&(columns)->id, (void **)&(columns)->timestamp_s,                                 \
            (void **)&(columns)->input_tokens, (void **)&(columns)->output_tokens,                 \
            (void **)&(columns)->cache_n, (void **)&(columns)->prompt_n                            \
    }

void dm_request_columns_reset(dm_request_columns *columns)
{
    if (columns == NULL)
        return;
    void **arrays[] = COLUMN_ARRAYS(columns);
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        dm__free(*arrays[i]);
    *columns = (dm_request_columns){0};
}

bool dm__request_columns_alloc(dm_request_columns *columns, size_t count)
{
    void **arrays[] = COLUMN_ARRAYS(columns);
    bool all = true;
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        all &= (*arrays[i] = dm__malloc(count * 8)) != NULL;
    return all;
}

static bool columns_resize(dm_request_columns *columns, size_t *capacity, size_t wanted)
{
    void **arrays[] = COLUMN_ARRAYS(columns);
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        void *grown = dm__realloc(*arrays[i], wanted * 8);
        if (grown == NULL)
            return false;
        *arrays[i] = grown;
    }
    *capacity = wanted;
    return true;
}

dm_status dm__request_columns_grow(dm__scan *scan)
{
    size_t wanted = scan->capacity == 0 ? 256 : scan->capacity * 2;
    return columns_resize(&scan->rows, &scan->capacity, wanted) ? DM_OK : DM_NO_MEMORY;
}

bool dm__request_columns_append(dm_request_columns *columns, size_t *capacity,
                                const dm_request_columns *rows)
{
    size_t wanted = columns->count + rows->count;
    if (wanted > *capacity &&
        !columns_resize(columns, capacity, wanted > 2 * *capacity ? wanted : 2 * *capacity))
        return false;
    dm_request_columns source = *rows;
    void **from[] = COLUMN_ARRAYS(&source), **to[] = COLUMN_ARRAYS(columns);
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        memcpy((uint64_t *)*to[i] + columns->count, *from[i], rows->count * 8);
    columns->count = wanted;
    return true;
}

void dm__request_columns_reverse(dm_request_columns *columns)
{
    void **arrays[] = COLUMN_ARRAYS(columns);
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        uint64_t *array = *arrays[i];
        for (size_t low = 0, high = columns->count; low + 1 < high; low++) {
            uint64_t value = array[low];
            array[low] = array[--high];
            array[high] = value;
        }
    }
}

/* ---- by time ---- */

typedef struct {
    double time_s;
    int64_t id;
    size_t at;
} sort_key;

static int compare_keys(const void *a, const void *b)
{
    const sort_key *x = a, *y = b;
    if (x->time_s != y->time_s)
        return x->time_s < y->time_s ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static bool sorted_by_time(const dm_request_columns *columns)
{
    for (size_t i = 1; i < columns->count; i++)
        if (columns->timestamp_s[i] < columns->timestamp_s[i - 1])
            return false;
    return true;
}

bool dm__request_columns_sort(dm_request_columns *columns)
{
    if (sorted_by_time(columns)) /* they come by id, so equal times are in order too */
        return true;
    sort_key *keys = dm__malloc(columns->count * sizeof *keys);
    uint64_t *moved = dm__malloc(columns->count * sizeof *moved);
    bool done = keys != NULL && moved != NULL;
    for (size_t i = 0; done && i < columns->count; i++)
        keys[i] = (sort_key){columns->timestamp_s[i], columns->id[i], i};
    if (done)
        qsort(keys, columns->count, sizeof *keys, compare_keys);
    void **arrays[] = COLUMN_ARRAYS(columns);
    for (size_t c = 0; done && c < COLUMN_COUNT; c++) {
        uint64_t *array = *arrays[c];
        for (size_t i = 0; i < columns->count; i++)
            moved[i] = array[keys[i].at];
        memcpy(array, moved, columns->count * sizeof *moved);
    }
    dm__free(moved);
    dm__free(keys);
    return done;
}
