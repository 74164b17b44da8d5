/* SPDX-License-Identifier: MIT
 *
 * Exact percentiles by sorting: values are kept as 64-bit keys in their order (whole numbers as
 * they are, doubles of at least 0 by their bits), grouped by bucket, and each group is sorted by
 * radix. */
#include "dm_internal.h"

#include <string.h>

#define SMALL 64 /* below this, insertion is faster than eight histograms */

static bool values_reserve(dm__keys *keys, size_t wanted)
{
    if (wanted <= keys->capacity)
        return true;
    size_t capacity = wanted > 2 * keys->capacity ? wanted : 2 * keys->capacity;
    uint64_t *values = dm__realloc(keys->values, capacity * sizeof *values);
    if (values == NULL)
        return false;
    keys->values = values;
    keys->capacity = capacity;
    return true;
}

static bool run_reserve(dm__keys *keys)
{
    if (keys->run_count < keys->run_capacity)
        return true;
    size_t capacity = keys->run_capacity == 0 ? 16 : 2 * keys->run_capacity;
    dm__key_run *runs = dm__realloc(keys->runs, capacity * sizeof *runs);
    if (runs == NULL)
        return false;
    keys->runs = runs;
    keys->run_capacity = capacity;
    return true;
}

bool dm__keys_add(dm__keys *keys, size_t bucket, const uint64_t *values, size_t count)
{
    if (!values_reserve(keys, keys->count + count) || !run_reserve(keys))
        return false;
    memcpy(keys->values + keys->count, values, count * sizeof *values);
    if (keys->run_count > 0 && keys->runs[keys->run_count - 1].bucket == bucket)
        keys->runs[keys->run_count - 1].count += count;
    else
        keys->runs[keys->run_count++] = (dm__key_run){bucket, keys->count, count};
    keys->count += count;
    return true;
}

void dm__keys_reset(dm__keys *keys)
{
    dm__free(keys->values);
    dm__free(keys->runs);
    *keys = (dm__keys){0};
}

static void sort_small(uint64_t *values, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        uint64_t value = values[i];
        size_t at = i;
        for (; at > 0 && values[at - 1] > value; at--)
            values[at] = values[at - 1];
        values[at] = value;
    }
}

/* Least significant byte first; bytes that are the same everywhere take no pass. */
static void sort_keys(uint64_t *values, uint64_t *scratch, size_t count)
{
    if (count < SMALL) {
        sort_small(values, count);
        return;
    }
    uint64_t varying = 0;
    for (size_t i = 0; i < count; i++)
        varying |= values[i] ^ values[0];
    uint64_t *from = values, *to = scratch;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if ((varying >> shift & 0xff) == 0)
            continue;
        size_t places[257] = {0};
        for (size_t i = 0; i < count; i++)
            places[(from[i] >> shift & 0xff) + 1]++;
        for (size_t i = 1; i < 256; i++)
            places[i] += places[i - 1];
        for (size_t i = 0; i < count; i++)
            to[places[from[i] >> shift & 0xff]++] = from[i];
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != values)
        memcpy(values, from, count * sizeof *values);
}

static double number_of(uint64_t key, bool whole)
{
    double number;
    if (whole)
        return (double)key;
    memcpy(&number, &key, sizeof number);
    return number;
}

uint64_t dm__key_of_real(double value)
{
    uint64_t key;
    value += 0.0; /* -0 becomes 0 */
    memcpy(&key, &value, sizeof key);
    return key;
}

static double at_rank(const uint64_t *sorted, size_t count, unsigned percent, bool whole)
{
    size_t rank = (size_t)(((dm_int128)count * percent + 99) / 100);
    return number_of(sorted[rank - 1], whole);
}

static dm_percentiles percentiles_of(const uint64_t *sorted, size_t count, bool whole)
{
    if (count == 0)
        return (dm_percentiles){0, NAN, NAN, NAN, NAN, NAN};
    return (dm_percentiles){(int64_t)count,
                            at_rank(sorted, count, 50, whole),
                            at_rank(sorted, count, 90, whole),
                            at_rank(sorted, count, 95, whole),
                            at_rank(sorted, count, 99, whole),
                            at_rank(sorted, count, 100, whole)};
}

/* The values by bucket; `ends` becomes the end of each. */
static void values_group(const dm__keys *keys, size_t bucket_count, uint64_t *grouped, size_t *ends)
{
    for (size_t r = 0; r < keys->run_count; r++)
        ends[keys->runs[r].bucket + 1] += keys->runs[r].count;
    for (size_t b = 1; b <= bucket_count; b++)
        ends[b] += ends[b - 1];
    for (size_t r = 0; r < keys->run_count; r++) {
        const dm__key_run *run = &keys->runs[r];
        memcpy(grouped + ends[run->bucket], keys->values + run->begin, run->count * 8);
        ends[run->bucket] += run->count;
    }
}

dm_status dm__percentiles(const dm__keys *keys, size_t bucket_count, bool whole,
                          dm_percentiles *first_out, size_t stride, dm_error *err)
{
    dm_status rc = DM_OK;
    size_t *ends = dm__calloc(bucket_count + 1, sizeof *ends);
    uint64_t *grouped = dm__malloc((keys->count + 1) * sizeof *grouped);
    uint64_t *scratch = dm__malloc((keys->count + 1) * sizeof *scratch);
    if (ends == NULL || grouped == NULL || scratch == NULL) {
        rc = dm__no_memory(err);
        goto done;
    }
    values_group(keys, bucket_count, grouped, ends);
    for (size_t b = 0, begin = 0; b < bucket_count; begin = ends[b], b++) {
        sort_keys(grouped + begin, scratch, ends[b] - begin);
        *(dm_percentiles *)(void *)((char *)first_out + b * stride) =
            percentiles_of(grouped + begin, ends[b] - begin, whole);
    }
done:
    dm__free(scratch);
    dm__free(grouped);
    dm__free(ends);
    return rc;
}
