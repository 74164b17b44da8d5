/* SPDX-License-Identifier: MIT
 *
 * Request rows that were read, kept in memory in columns, so that asking again takes what is new.
 *
 * A model's rows are cut by id into chunks; the last one may still grow. A chunk's bounds always
 * stay, so that a question about an hour passes over all the others; its rows may have to go for
 * those of another. What is kept holds for one epoch: see witness.c.
 *
 *     ids      1 ........ 4100 | 4101 ....... 8200 | 8201 .. 8300
 *     times    09:00 ... 10:12 | 10:12 ..... 11:30 | 11:30 . 11:32
 *     rows     (had to go)     | kept              | kept
 */
#include "dm_internal.h"
#include "wide.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_BUCKETS 256u
#define ROW_BYTES     (sizeof(double) + 5 * sizeof(uint32_t))

/* Never changes once it is made, but for the timings, which come once. */
struct dm__block {
    atomic_uint references;
    uint32_t count;
    int64_t first_id;
    _Atomic(dm_timing *) timings; /* of each row, or `untimed`; NULL: not looked for yet */
    double *timestamp_s;
    uint32_t *id, *input_tokens, *output_tokens, *cache_n, *prompt_n; /* id: from first_id on */
};

typedef struct cached_model {
    struct cached_model *next; /* in its bucket */
    char safe[DM_SAFE_NAME_SIZE];
    dm__chunk *chunks;
    size_t count, capacity;
    size_t oldest_kept; /* no chunk before it has rows */
    size_t bytes;       /* of the rows */
    uint64_t used;      /* the cache's clock when last looked at */
} cached_model;

struct dm__cache {
    dm__mutex lock;
    uint64_t epoch, clock;
    size_t limit, bytes;
    cached_model *models[MODEL_BUCKETS];
};

static dm_timing untimed[1]; /* stands for the timings of rows that have none */

/* ---- blocks ---- */

/* False where a number is too large. */
static bool block_copy(dm__block *block, const dm_request_columns *rows)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < rows->count; i++) {
        int64_t id = (int64_t)((uint64_t)rows->id[i] - (uint64_t)block->first_id);
        bits |= (uint64_t)(id | rows->input_tokens[i] | rows->output_tokens[i] | rows->cache_n[i] |
                           rows->prompt_n[i]);
        block->timestamp_s[i] = rows->timestamp_s[i];
        block->id[i] = (uint32_t)id;
        block->input_tokens[i] = (uint32_t)rows->input_tokens[i];
        block->output_tokens[i] = (uint32_t)rows->output_tokens[i];
        block->cache_n[i] = (uint32_t)rows->cache_n[i];
        block->prompt_n[i] = (uint32_t)rows->prompt_n[i];
    }
    return bits <= UINT32_MAX;
}

/* NULL without memory, or where a number is too large for it: then its rows are read each time. */
static dm__block *block_new(const dm_request_columns *rows)
{
    const size_t count = rows->count;
    dm__block *block = dm__malloc(sizeof *block + count * ROW_BYTES);
    if (block == NULL)
        return NULL;
    double *times = (double *)(block + 1);
    uint32_t *numbers = (uint32_t *)(times + count);
    *block = (dm__block){.count = (uint32_t)count,
                         .first_id = rows->id[0],
                         .timestamp_s = times,
                         .id = numbers,
                         .input_tokens = numbers + count,
                         .output_tokens = numbers + 2 * count,
                         .cache_n = numbers + 3 * count,
                         .prompt_n = numbers + 4 * count};
    atomic_init(&block->references, 1);
    atomic_init(&block->timings, NULL);
    if (block_copy(block, rows))
        return block;
    dm__free(block);
    return NULL;
}

static void block_release(dm__block *block)
{
    if (block == NULL || atomic_fetch_sub(&block->references, 1) > 1)
        return;
    if (atomic_load(&block->timings) != untimed)
        dm__free(atomic_load(&block->timings));
    dm__free(block);
}

static size_t block_bytes(const dm__block *block)
{
    const dm_timing *timings = atomic_load(&block->timings);
    size_t row = ROW_BYTES + (timings == NULL || timings == untimed ? 0 : sizeof *timings);
    return sizeof *block + block->count * row;
}

static DM__WIDE void columns_widen(const dm__block *block, dm_request_columns *rows)
{
    const size_t count = block->count;
    for (size_t i = 0; i < count; i++)
        rows->input_tokens[i] = block->input_tokens[i];
    for (size_t i = 0; i < count; i++)
        rows->output_tokens[i] = block->output_tokens[i];
    for (size_t i = 0; i < count; i++)
        rows->cache_n[i] = block->cache_n[i];
    for (size_t i = 0; i < count; i++)
        rows->prompt_n[i] = block->prompt_n[i];
}

void dm__block_read(const dm__block *block, dm_request_columns *rows)
{
    rows->count = block->count;
    memcpy(rows->timestamp_s, block->timestamp_s, rows->count * sizeof *rows->timestamp_s);
    columns_widen(block, rows);
}

void dm__block_read_ids(const dm__block *block, int64_t *ids)
{
    for (size_t i = 0; i < block->count; i++)
        ids[i] = block->first_id + block->id[i];
}

const dm_timing *dm__block_timings(const dm__block *block, bool *known)
{
    const dm_timing *timings = atomic_load(&block->timings);
    *known = timings != NULL;
    return timings == untimed ? NULL : timings;
}

/* ---- what there is ---- */

dm__cache *dm__cache_new(void)
{
    dm__cache *cache = dm__calloc(1, sizeof *cache);
    if (cache != NULL)
        dm__mutex_init(&cache->lock);
    return cache;
}

static void model_clear(cached_model *model)
{
    for (size_t i = 0; i < model->count; i++)
        block_release(model->chunks[i].block);
    dm__free(model->chunks);
    dm__free(model);
}

static void cache_clear(dm__cache *cache)
{
    for (size_t b = 0; b < MODEL_BUCKETS; b++)
        for (cached_model *model = cache->models[b], *next; model != NULL; model = next) {
            next = model->next;
            model_clear(model);
        }
    memset(cache->models, 0, sizeof cache->models);
    cache->bytes = 0;
}

void dm__cache_free(dm__cache *cache)
{
    if (cache == NULL)
        return;
    cache_clear(cache);
    dm__mutex_destroy(&cache->lock);
    dm__free(cache);
}

void dm__cache_empty(dm__cache *cache)
{
    dm__mutex_lock(&cache->lock);
    cache_clear(cache);
    dm__mutex_unlock(&cache->lock);
}

void dm__cache_limit_raise(dm__cache *cache, size_t limit)
{
    dm__mutex_lock(&cache->lock);
    if (cache->limit < limit)
        cache->limit = limit;
    dm__mutex_unlock(&cache->lock);
}

size_t dm__cache_bytes(dm__cache *cache)
{
    dm__mutex_lock(&cache->lock);
    size_t bytes = cache->bytes;
    dm__mutex_unlock(&cache->lock);
    return bytes;
}

static cached_model **bucket_of(dm__cache *cache, const char *safe)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *safe != '\0'; safe++)
        hash = (hash ^ (unsigned char)*safe) * 16777619u;
    return &cache->models[hash % MODEL_BUCKETS];
}

static cached_model *model_find(dm__cache *cache, const char *safe)
{
    cached_model *model = *bucket_of(cache, safe);
    while (model != NULL && strcmp(model->safe, safe) != 0)
        model = model->next;
    if (model != NULL)
        model->used = ++cache->clock;
    return model;
}

static cached_model *model_add(dm__cache *cache, const char *safe)
{
    cached_model **bucket = bucket_of(cache, safe), *model = dm__calloc(1, sizeof *model);
    if (model == NULL)
        return NULL;
    memcpy(model->safe, safe, strlen(safe) + 1);
    model->used = ++cache->clock;
    model->next = *bucket;
    return *bucket = model;
}

/* Whether what is here is of this epoch, or can be from now on. With the lock held. */
static bool epoch_enter(dm__cache *cache, uint64_t epoch)
{
    if (epoch > cache->epoch) {
        cache_clear(cache);
        cache->epoch = epoch;
    }
    return epoch == cache->epoch;
}

/* ---- room ---- */

static void chunk_forget(dm__cache *cache, cached_model *model, dm__chunk *chunk)
{
    size_t bytes = block_bytes(chunk->block);
    cache->bytes -= bytes;
    model->bytes -= bytes;
    block_release(chunk->block);
    chunk->block = NULL;
}

static cached_model *least_used(dm__cache *cache)
{
    cached_model *least = NULL;
    for (size_t b = 0; b < MODEL_BUCKETS; b++)
        for (cached_model *model = cache->models[b]; model != NULL; model = model->next)
            if (model->bytes > 0 && (least == NULL || model->used < least->used))
                least = model;
    return least;
}

static bool oldest_forget(dm__cache *cache, cached_model *model, size_t end)
{
    while (model->oldest_kept < end && model->chunks[model->oldest_kept].block == NULL)
        model->oldest_kept++;
    if (model->oldest_kept >= end)
        return false;
    chunk_forget(cache, model, &model->chunks[model->oldest_kept]);
    return true;
}

/* Other models go before this one, older rows before newer ones, and none of this model for rows
 * that are older: a question about more than there is room for would turn everything over. */
static bool room_make(dm__cache *cache, cached_model *model, size_t at, size_t bytes)
{
    while (cache->bytes + bytes > cache->limit) {
        cached_model *least = least_used(cache);
        if (least == NULL || !oldest_forget(cache, least, least == model ? at : least->count))
            return false;
    }
    return true;
}

static void block_keep(dm__cache *cache, cached_model *model, size_t at, dm__block *block)
{
    size_t bytes = block_bytes(block);
    if (!room_make(cache, model, at, bytes))
        return;
    atomic_fetch_add(&block->references, 1);
    model->chunks[at].block = block;
    cache->bytes += bytes;
    model->bytes += bytes;
    if (at < model->oldest_kept)
        model->oldest_kept = at;
}

/* ---- chunks in ---- */

static dm__chunk chunk_of(const dm_request_columns *rows, int64_t after_id)
{
    dm__chunk chunk = {.after_id = after_id,
                       .last_id = rows->id[rows->count - 1],
                       .count = (uint32_t)rows->count,
                       .first_s = INFINITY,
                       .last_s = -INFINITY};
    for (size_t i = 0; i < rows->count; i++) {
        double time_s = rows->timestamp_s[i];
        chunk.first_s = time_s < chunk.first_s ? time_s : chunk.first_s;
        chunk.last_s = time_s > chunk.last_s ? time_s : chunk.last_s;
    }
    return chunk;
}

static bool chunks_grow(cached_model *model)
{
    size_t capacity = model->capacity == 0 ? 4 : 2 * model->capacity;
    dm__chunk *chunks = dm__realloc(model->chunks, capacity * sizeof *chunks);
    if (chunks == NULL)
        return false;
    model->chunks = chunks;
    model->capacity = capacity;
    return true;
}

/* Puts the chunk's bounds to their place, where that is still true. */
static bool chunk_place(dm__cache *cache, cached_model *model, size_t at, const dm__chunk *chunk)
{
    int64_t before = at == 0 ? INT64_MIN : at > model->count ? 0 : model->chunks[at - 1].last_id;
    if (at > model->count || before != chunk->after_id)
        return false;
    if (at == model->count) {
        if (at == model->capacity && !chunks_grow(model))
            return false;
        model->chunks[model->count++] = *chunk;
        return true;
    }
    dm__chunk *known = &model->chunks[at];
    if (known->last_id == chunk->last_id)
        return known->block == NULL;
    if (at + 1 < model->count || known->last_id > chunk->last_id)
        return false; /* somebody else has read further */
    if (known->block != NULL)
        chunk_forget(cache, model, known);
    *known = *chunk;
    return true;
}

void dm__cache_put(const dm__recall *recall, const char *safe, size_t at, int64_t after_id,
                   const dm_request_columns *rows)
{
    dm__cache *cache = recall->cache;
    dm__chunk chunk = chunk_of(rows, after_id);
    dm__block *block = block_new(rows);
    dm__mutex_lock(&cache->lock);
    if (epoch_enter(cache, recall->epoch)) {
        cached_model *model = model_find(cache, safe);
        if (model == NULL)
            model = model_add(cache, safe);
        if (model != NULL && chunk_place(cache, model, at, &chunk) && block != NULL)
            block_keep(cache, model, at, block);
    }
    dm__mutex_unlock(&cache->lock);
    block_release(block);
}

void dm__cache_timings_put(const dm__recall *recall, const char *safe, size_t at, dm__block *block,
                           const dm_timing *timings)
{
    dm__cache *cache = recall->cache;
    size_t bytes = timings == NULL ? 0 : block->count * sizeof *timings;
    dm_timing *copy = timings == NULL ? untimed : dm__malloc(bytes);
    if (copy == NULL)
        return;
    if (timings != NULL)
        memcpy(copy, timings, bytes);
    dm__mutex_lock(&cache->lock);
    cached_model *model = epoch_enter(cache, recall->epoch) ? model_find(cache, safe) : NULL;
    if (model != NULL && at < model->count && model->chunks[at].block == block &&
        atomic_load(&block->timings) == NULL && room_make(cache, model, at, bytes)) {
        atomic_store(&block->timings, copy);
        cache->bytes += bytes;
        model->bytes += bytes;
        copy = untimed;
    }
    dm__mutex_unlock(&cache->lock);
    if (copy != untimed)
        dm__free(copy);
}

/* ---- chunks out ---- */

/* How many chunks hold what a snapshot with this last id sees: never more than it. */
static size_t chunks_seen(const cached_model *model, int64_t last_id)
{
    size_t count = model->count;
    while (count > 0 && model->chunks[count - 1].last_id > last_id)
        count--;
    return count;
}

bool dm__cache_view(const dm__recall *recall, const char *safe, int64_t last_id, dm__view *view)
{
    dm__cache *cache = recall->cache;
    *view = (dm__view){0};
    dm__mutex_lock(&cache->lock);
    cached_model *model = epoch_enter(cache, recall->epoch) ? model_find(cache, safe) : NULL;
    size_t count = model == NULL ? 0 : chunks_seen(model, last_id);
    bool done = true;
    if (count > 0) {
        view->chunks = dm__malloc(count * sizeof *view->chunks);
        done = view->chunks != NULL;
    }
    if (view->chunks != NULL) {
        view->count = count;
        memcpy(view->chunks, model->chunks, count * sizeof *view->chunks);
        for (size_t i = 0; i < count; i++)
            if (view->chunks[i].block != NULL)
                atomic_fetch_add(&view->chunks[i].block->references, 1);
    }
    dm__mutex_unlock(&cache->lock);
    return done;
}

void dm__view_reset(dm__view *view)
{
    for (size_t i = 0; i < view->count; i++)
        block_release(view->chunks[i].block);
    dm__free(view->chunks);
    *view = (dm__view){0};
}
