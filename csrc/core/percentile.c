/* SPDX-License-Identifier: MIT
 *
 * Exact percentiles: values are kept as 64-bit keys in their order (whole numbers as they are,
 * doubles of at least 0 by their bits) and grouped by bucket. Of a group, a histogram of the
 * highest bits in which its values differ tells where the ranks that are asked for lie, and only
 * the bins with these are sorted. */
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

/* ---- ranks ---- */

#define RANKS 5

static const unsigned percents[RANKS] = {50, 90, 95, 99, 100};

/* By nearest rank, from 0 on; in whole numbers, without a product that could be too large. */
static void ranks_of(size_t count, size_t ranks[RANKS])
{
    for (int r = 0; r < RANKS; r++)
        ranks[r] = count / 100 * percents[r] + (count % 100 * percents[r] + 99) / 100 - 1;
}

#define BINS   256
#define NOT_IN SIZE_MAX

/* How far to the right the highest bits are that differ; they make the number of a bin. */
static unsigned bin_shift(const uint64_t *values, size_t count)
{
    uint64_t varying = 0;
    for (size_t i = 0; i < count; i++)
        varying |= values[i] ^ values[0];
    unsigned shift = 0;
    while (varying >> shift >= BINS)
        shift++;
    return shift;
}

static size_t bin_of(uint64_t value, unsigned shift)
{
    return value >> shift & (BINS - 1);
}

typedef struct {
    size_t bin, begin, size; /* `begin` values are less */
} rank_bin;

static void bins_find(const size_t counts[BINS], const size_t ranks[RANKS], rank_bin found[RANKS])
{
    size_t begin = 0;
    for (size_t b = 0, r = 0; r < RANKS; begin += counts[b++])
        for (; r < RANKS && ranks[r] < begin + counts[b]; r++)
            found[r] = (rank_bin){b, begin, counts[b]};
}

/* The bins with the ranks go to `scratch`, one behind the other, and are sorted there. */
static void ranks_pick_large(uint64_t *values, uint64_t *scratch, size_t count,
                             const size_t ranks[RANKS], uint64_t picked[RANKS])
{
    size_t counts[BINS] = {0}, places[BINS], room = 0;
    rank_bin found[RANKS];
    const unsigned shift = bin_shift(values, count);
    for (size_t i = 0; i < count; i++)
        counts[bin_of(values[i], shift)]++;
    bins_find(counts, ranks, found);
    for (size_t b = 0; b < BINS; b++)
        places[b] = NOT_IN;
    for (int r = 0; r < RANKS; r++)
        if (places[found[r].bin] == NOT_IN) {
            places[found[r].bin] = room;
            room += found[r].size;
        }
    for (size_t i = 0; i < count; i++) {
        size_t *place = &places[bin_of(values[i], shift)];
        if (*place != NOT_IN)
            scratch[(*place)++] = values[i];
    }
    for (int r = 0; r < RANKS; r++) {
        uint64_t *sorted = scratch + places[found[r].bin] - found[r].size;
        if (r == 0 || found[r].bin != found[r - 1].bin)
            sort_keys(sorted, values, found[r].size);
        picked[r] = sorted[ranks[r] - found[r].begin];
    }
}

static void ranks_pick(uint64_t *values, uint64_t *scratch, size_t count, uint64_t picked[RANKS])
{
    size_t ranks[RANKS];
    ranks_of(count, ranks);
    if (count >= SMALL) {
        ranks_pick_large(values, scratch, count, ranks, picked);
        return;
    }
    sort_small(values, count);
    for (int r = 0; r < RANKS; r++)
        picked[r] = values[ranks[r]];
}

static dm_percentiles percentiles_of(uint64_t *values, uint64_t *scratch, size_t count, bool whole)
{
    uint64_t picked[RANKS];
    if (count == 0)
        return (dm_percentiles){0, NAN, NAN, NAN, NAN, NAN};
    ranks_pick(values, scratch, count, picked);
    return (dm_percentiles){(int64_t)count,
                            number_of(picked[0], whole),
                            number_of(picked[1], whole),
                            number_of(picked[2], whole),
                            number_of(picked[3], whole),
                            number_of(picked[4], whole)};
}

/* ---- groups ---- */

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
        *(dm_percentiles *)(void *)((char *)first_out + b * stride) =
            percentiles_of(grouped + begin, scratch, ends[b] - begin, whole);
    }
done:
    dm__free(scratch);
    dm__free(grouped);
    dm__free(ends);
    return rc;
}
