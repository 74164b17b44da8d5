/* SPDX-License-Identifier: MIT
 *
 * Exact percentiles by sorting: values are kept as 64-bit keys in their order (whole numbers as
 * they are, doubles of at least 0 by their bits), grouped by bucket, and each group is sorted by
 * radix. */
#include "dm_internal.h"

#include <string.h>

#define SMALL 64 /* below this, insertion is faster than eight histograms */

bool dm__keys_add(dm__keys *keys, size_t bucket, uint64_t key)
{
    if (keys->count == keys->capacity) {
        size_t wanted = keys->capacity == 0 ? 1024 : keys->capacity * 2;
        uint64_t *values = dm__realloc(keys->values, wanted * sizeof *values);
        if (values == NULL)
            return false;
        keys->values = values;
        uint32_t *buckets = dm__realloc(keys->buckets, wanted * sizeof *buckets);
        if (buckets == NULL)
            return false;
        keys->buckets = buckets;
        keys->capacity = wanted;
    }
    keys->values[keys->count] = key;
    keys->buckets[keys->count++] = (uint32_t)bucket;
    return true;
}

void dm__keys_reset(dm__keys *keys)
{
    dm__free(keys->values);
    dm__free(keys->buckets);
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
    size_t histograms[8][256] = {0};
    for (size_t i = 0; i < count; i++)
        for (unsigned byte = 0; byte < 8; byte++)
            histograms[byte][values[i] >> (8 * byte) & 0xff]++;
    uint64_t *from = values, *to = scratch;
    for (unsigned byte = 0; byte < 8; byte++) {
        size_t *histogram = histograms[byte], sum = 0;
        if (histogram[values[0] >> (8 * byte) & 0xff] == count)
            continue;
        for (size_t i = 0; i < 256; i++) {
            size_t here = histogram[i];
            histogram[i] = sum;
            sum += here;
        }
        for (size_t i = 0; i < count; i++)
            to[histogram[from[i] >> (8 * byte) & 0xff]++] = from[i];
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
    for (size_t i = 0; i < keys->count; i++)
        ends[keys->buckets[i] + 1]++;
    for (size_t b = 1; b <= bucket_count; b++)
        ends[b] += ends[b - 1];
    for (size_t i = 0; i < keys->count; i++)
        grouped[ends[keys->buckets[i]]++] = keys->values[i];
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
