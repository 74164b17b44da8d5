/* SPDX-License-Identifier: MIT
 *
 * What tokens cost. Pure: no SQLite, no clock, no allocation.
 *
 * Tokens are counted first, by slice and by the price that they pay, and multiplied once at the
 * end: the cost of a million requests is integer additions and a handful of products.
 *
 *     slices       |---- 1 ----|  gap  |---- 2 ----|---- 3 ----| . . . as 3
 *     graduated    a request's tokens 1, 2, 3 ... fall into them from the left, input and output
 *                  apart; in a gap they cost nothing
 *     cumulative   the same, going on where the period's last request ended
 *     volume       the number of input tokens is one point; its slice takes the whole request
 */
#include "dm.h"
#include "wide.h"

#include <stdio.h>
#include <string.h>

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t greatest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- slices ---- */

/* By insertion over shrinking gaps: qsort may allocate, and tiers mostly come in order. */
static void slices_sort(dm_price_slice *slices, size_t count)
{
    size_t gap = 1;
    while (gap < count / 3)
        gap = 3 * gap + 1;
    for (; gap > 0; gap /= 3)
        for (size_t i = gap; i < count; i++) {
            dm_price_slice slice = slices[i];
            size_t at = i;
            for (; at >= gap && slices[at - gap].start_tokens > slice.start_tokens; at -= gap)
                slices[at] = slices[at - gap];
            slices[at] = slice;
        }
}

static dm_status slice_parse(const dm_tier *tier, dm_price_slice *out, dm_error *err)
{
    *out = (dm_price_slice){.tier_index = tier->tier_index,
                            .start_tokens = tier->start_tokens,
                            .end_tokens = tier->end_tokens > 0 ? tier->end_tokens : INT64_MAX,
                            .support_cache = tier->support_cache};
    dm_status rc = dm_tier_check(tier, err);
    if (rc == DM_OK)
        rc = dm_price_parse("input_price_per_million", tier->input_price_per_million,
                            &out->input_price, err);
    if (rc == DM_OK)
        rc = dm_price_parse("output_price_per_million", tier->output_price_per_million,
                            &out->output_price, err);
    if (rc == DM_OK)
        rc = dm_price_parse("cache_hit_price_per_million", tier->cache_hit_price_per_million,
                            &out->cache_hit_price, err);
    return rc;
}

static long long end_shown(const dm_price_slice *slice)
{
    return slice->end_tokens == INT64_MAX ? 0 : (long long)slice->end_tokens;
}

static dm_status refuse_overlap(const dm_price_slice *low, const dm_price_slice *high,
                                dm_error *err)
{
    if (err == NULL)
        return DM_INVALID;
    *err = (dm_error){.code = DM_INVALID};
    (void)snprintf(err->text, sizeof err->text,
                   "tier %lld (%lld to %lld tokens) overlaps tier %lld (%lld to %lld tokens)",
                   (long long)high->tier_index, (long long)high->start_tokens, end_shown(high),
                   (long long)low->tier_index, (long long)low->start_tokens, end_shown(low));
    return DM_INVALID;
}

dm_status dm_price_slices(const dm_tier *tiers, size_t count, dm_price_slice *slices_out,
                          dm_error *err)
{
    for (size_t i = 0; i < count; i++) {
        dm_status rc = slice_parse(&tiers[i], &slices_out[i], err);
        if (rc != DM_OK)
            return rc;
    }
    slices_sort(slices_out, count);
    for (size_t i = 1; i < count; i++)
        if (slices_out[i].start_tokens < slices_out[i - 1].end_tokens)
            return refuse_overlap(&slices_out[i - 1], &slices_out[i], err);
    return DM_OK;
}

/* ---- counting ---- */

typedef struct {
    const dm_price_slice *slices;
    size_t count;
} tariff;

/* Tokens above the last slice count as its own. */
static int64_t end_of(tariff t, size_t i)
{
    return i + 1 < t.count ? t.slices[i].end_tokens : INT64_MAX;
}

/* Some rows at a time. Most blocks lie within one slice, and are a plain sum. The others are
 * counted slice by slice, without a branch in a row: where requests of all sizes mix, the branches
 * that the processor guesses wrong take longer than all the rest. The sum of a block has room in 64
 * bits. */
#define BLOCK_ROWS 256

typedef struct {
    size_t rows;
    const int64_t *tokens;
    bool goes_on;            /* a row counts from where the one before it ended, not from 0 */
    int64_t lowest, highest; /* the block's tokens are all above lowest, and not above highest */
    int64_t sum;
    int64_t from[BLOCK_ROWS]; /* a row has the tokens from + 1 .. to: see block_spread */
    int64_t to[BLOCK_ROWS];
    int64_t hits[BLOCK_ROWS]; /* cache hits that have found no slice yet */
} block;

/* Moves `position` past the block; NULL where each request counts from 0. One that is too high to
 * go on from stays where it is, above the bounds of every slice: there all tokens are alike. */
static void block_begin(block *b, const int64_t *tokens, int64_t *position)
{
    int64_t sum = 0, most = 0;
    for (size_t row = 0; row < b->rows; row++) {
        sum += tokens[row];
        most = greatest(most, tokens[row]);
    }
    b->tokens = tokens;
    b->goes_on = position != NULL;
    b->lowest = b->goes_on ? least(*position, INT64_MAX - sum) : 0;
    b->highest = b->goes_on ? b->lowest + sum : most;
    b->sum = sum;
    if (position != NULL)
        *position = b->highest;
}

static void block_spread(block *b)
{
    int64_t at = b->lowest;
    for (size_t row = 0; row < b->rows; row++) {
        b->from[row] = at;
        b->to[row] = at + b->tokens[row];
        at = b->goes_on ? b->to[row] : at;
    }
}

/* The slice that the block lies within; t.count where it lies in none or in several. */
static size_t block_home(const block *b, tariff t)
{
    size_t i = 0;
    while (i < t.count && (b->lowest < t.slices[i].start_tokens || b->highest > end_of(t, i)))
        i++;
    return i;
}

static int64_t tokens_between(const block *b, size_t row, int64_t start, int64_t end)
{
    return greatest(0, least(b->to[row], end) - greatest(b->from[row], start));
}

static int64_t block_tokens(const block *b, int64_t start, int64_t end)
{
    int64_t sum = 0;
    for (size_t row = 0; row < b->rows; row++)
        sum += tokens_between(b, row, start, end);
    return sum;
}

static int64_t block_take_hits(block *b, int64_t start, int64_t end)
{
    int64_t sum = 0;
    for (size_t row = 0; row < b->rows; row++) {
        int64_t hits = least(b->hits[row], tokens_between(b, row, start, end));
        b->hits[row] -= hits;
        sum += hits;
    }
    return sum;
}

static int64_t least_sum(const int64_t *a, const int64_t *b, size_t count)
{
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += least(a[i], b[i]);
    return sum;
}

static void count_input(block *b, tariff t, const int64_t *hits, dm_slice_tokens *counts)
{
    size_t home = block_home(b, t);
    if (home < t.count) {
        int64_t hit = t.slices[home].support_cache ? least_sum(hits, b->tokens, b->rows) : 0;
        counts[home].input += b->sum - hit;
        counts[home].cache_hit += hit;
        return;
    }
    block_spread(b);
    (void)memcpy(b->hits, hits, b->rows * sizeof *hits);
    for (size_t i = 0; i < t.count && t.slices[i].start_tokens < b->highest; i++) {
        int64_t start = t.slices[i].start_tokens, end = end_of(t, i);
        int64_t hit = t.slices[i].support_cache ? block_take_hits(b, start, end) : 0;
        counts[i].input += block_tokens(b, start, end) - hit;
        counts[i].cache_hit += hit;
    }
}

static void count_output(block *b, tariff t, dm_slice_tokens *counts)
{
    size_t home = block_home(b, t);
    if (home < t.count) {
        counts[home].output += b->sum;
        return;
    }
    block_spread(b);
    for (size_t i = 0; i < t.count && t.slices[i].start_tokens < b->highest; i++)
        counts[i].output += block_tokens(b, t.slices[i].start_tokens, end_of(t, i));
}

static void count_volume(tariff t, const dm_request_rows *rows, size_t row, dm_slice_tokens *counts)
{
    int64_t input = rows->input_tokens[row];
    size_t i = 0;
    while (i < t.count && input > end_of(t, i))
        i++;
    if (i == t.count || (input > 0 && input <= t.slices[i].start_tokens))
        return; /* a gap, or no slices */
    int64_t hits = t.slices[i].support_cache ? least(rows->cache_n[row], input) : 0;
    counts[i].input += input - hits;
    counts[i].cache_hit += hits;
    counts[i].output += rows->output_tokens[row];
}

static DM__WIDE void count_by_slices(tariff t, const dm_request_rows *rows,
                                     dm_tokens_before *before, dm_slice_tokens *counts)
{
    block b;
    for (size_t row = 0; row < rows->count; row += b.rows) {
        b.rows = rows->count - row < BLOCK_ROWS ? rows->count - row : BLOCK_ROWS;
        block_begin(&b, rows->input_tokens + row, before == NULL ? NULL : &before->input);
        count_input(&b, t, rows->cache_n + row, counts);
        block_begin(&b, rows->output_tokens + row, before == NULL ? NULL : &before->output);
        count_output(&b, t, counts);
    }
}

void dm_cost_count(const dm_price_slice *slices, size_t slice_count, dm_strategy strategy,
                   const dm_request_rows *rows, dm_tokens_before *before, dm_slice_tokens *counts)
{
    tariff t = {slices, slice_count};
    if (strategy != DM_STRATEGY_VOLUME)
        count_by_slices(t, rows, strategy == DM_STRATEGY_CUMULATIVE ? before : NULL, counts);
    for (size_t row = 0; row < rows->count && strategy == DM_STRATEGY_VOLUME; row++)
        count_volume(t, rows, row, counts);
}

dm_status dm_cost_sum(const dm_price_slice *slices, size_t slice_count,
                      const dm_slice_tokens *counts, dm_amount *cost_out, dm_error *err)
{
    dm_amount sum = 0;
    dm_status rc = DM_OK;
    for (size_t i = 0; i < slice_count && rc == DM_OK; i++) {
        rc = dm_amount_add(&sum, slices[i].input_price, counts[i].input, err);
        if (rc == DM_OK)
            rc = dm_amount_add(&sum, slices[i].cache_hit_price, counts[i].cache_hit, err);
        if (rc == DM_OK)
            rc = dm_amount_add(&sum, slices[i].output_price, counts[i].output, err);
    }
    if (rc == DM_OK)
        *cost_out = sum;
    return rc;
}
