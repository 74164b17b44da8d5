/* SPDX-License-Identifier: MIT
 *
 * Any tiers and any requests: however requests are cut into parts, the tokens that pay each price
 * are the same, and so is the cost; no token is counted twice; time adds up too. */
#include "dm.h"

#include "fuzz.h"

#define ROWS  24
#define TIERS 6

static size_t tiers_make(fuzz *f, dm_price_slice *slices)
{
    dm_tier tiers[TIERS];
    dm_error err;
    size_t count = fuzz_byte(f) % (TIERS + 1);
    int64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t how = fuzz_byte(f);
        int64_t start = how & 1 ? at : fuzz_count(f, DM_TOKENS_MAX);
        int64_t end = how & 2 ? 0 : start + fuzz_count(f, 1 << 20);
        tiers[i] = (dm_tier){(int64_t)i,     start,   end,           fuzz_double(f),
                             fuzz_double(f), how & 4, fuzz_double(f)};
        at = end;
        if (how & 8) /* else hardly any would be valid */
            tiers[i].input_price_per_million = how;
        if (how & 16)
            tiers[i].output_price_per_million = how;
        if (how & 32)
            tiers[i].cache_hit_price_per_million = how;
    }
    return dm_price_slices(tiers, count, slices, &err) == DM_OK ? count : 0;
}

typedef struct {
    int64_t input[ROWS], output[ROWS], hits[ROWS];
    size_t count;
} requests;

static void requests_make(fuzz *f, requests *made)
{
    made->count = fuzz_byte(f) % (ROWS + 1);
    for (size_t i = 0; i < made->count; i++) {
        int64_t most = fuzz_byte(f) & 1 ? DM_TOKENS_MAX : 1 << 21;
        made->input[i] = fuzz_count(f, most);
        made->output[i] = fuzz_count(f, most);
        made->hits[i] = fuzz_count(f, most);
    }
}

static dm_request_rows part(const requests *made, size_t from, size_t count)
{
    return (dm_request_rows){.count = count,
                             .input_tokens = made->input + from,
                             .output_tokens = made->output + from,
                             .cache_n = made->hits + from};
}

static void count_whole_and_parts(const dm_price_slice *slices, size_t count, dm_strategy strategy,
                                  const requests *made, dm_tokens_before before)
{
    dm_slice_tokens whole[TIERS] = {0}, parts[TIERS] = {0};
    dm_tokens_before of_parts = before;
    dm_int128 counted = 0, there = 0;
    dm_request_rows all = part(made, 0, made->count);
    dm_cost_count(slices, count, strategy, &all, &before, whole);
    for (size_t i = 0; i < made->count; i++) {
        dm_request_rows one = part(made, i, 1);
        dm_cost_count(slices, count, strategy, &one, &of_parts, parts);
        there += made->input[i];
    }
    for (size_t i = 0; i < count; i++) {
        MUST(whole[i].input == parts[i].input && whole[i].output == parts[i].output);
        MUST(whole[i].cache_hit == parts[i].cache_hit);
        MUST(whole[i].input >= 0 && whole[i].output >= 0 && whole[i].cache_hit >= 0);
        counted += whole[i].input + whole[i].cache_hit;
    }
    MUST(counted <= there);
    MUST(before.input == of_parts.input && before.output == of_parts.output);
    dm_amount cost = -1, again = -1;
    dm_error err;
    dm_status rc = dm_cost_sum(slices, count, whole, &cost, &err);
    MUST(rc == dm_cost_sum(slices, count, parts, &again, &err) && cost == again);
    MUST(rc == DM_INVALID ? cost == -1 : cost >= 0);
}

/* Runtime from a to c is that from a to b and from b to c. */
static void add_times(fuzz *f)
{
    dm_runtime_sum whole = {{0}}, parts = {{0}};
    dm_amount price, cost = 0, again = 0;
    dm_error err;
    double a = 1 + (double)fuzz_count(f, 1LL << 40) / 1024;
    double b = a + (double)fuzz_count(f, 1LL << 30) / 1024;
    double c = b + (double)fuzz_count(f, 1LL << 30) / 1024;
    if (dm_price_parse("hourly", fuzz_double(f), &price, &err) != DM_OK)
        return;
    dm_status rc = dm_runtime_add(&whole, a, c, price, &err);
    if (rc != DM_OK)
        return;
    MUST(dm_runtime_add(&parts, a, b, price, &err) == DM_OK);
    MUST(dm_runtime_add(&parts, b, c, price, &err) == DM_OK);
    MUST(memcmp(&whole, &parts, sizeof whole) == 0);
    rc = dm_runtime_cost(&whole, &cost, &err);
    MUST(rc == dm_runtime_cost(&parts, &again, &err) && cost == again && cost >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    fuzz f = {bytes, size};
    dm_price_slice slices[TIERS];
    requests made;
    size_t count = tiers_make(&f, slices);
    requests_make(&f, &made);
    dm_tokens_before before = {fuzz_count(&f, DM_TOKENS_MAX), fuzz_count(&f, DM_TOKENS_MAX)};
    for (int i = 0; i < DM_STRATEGY_COUNT; i++)
        count_whole_and_parts(slices, count, (dm_strategy)i, &made, before);
    add_times(&f);
    return 0;
}
