/* SPDX-License-Identifier: MIT
 *
 * Money without a database: tables of worked cases. */
#include "dm.h"

#include "check.h"

#include <math.h>

static dm_error err;

static const char *text_of(dm_amount amount)
{
    static char text[DM_AMOUNT_TEXT_SIZE];
    dm_amount_to_text(amount, text);
    return text;
}

#define CHECK_AMOUNT(seen, wanted) CHECK_TEXT(text_of(seen), wanted)

/* ---- prices and amounts ---- */

static void test_prices(void)
{
    static const struct {
        double price;
        const char *wanted; /* what one token costs, where a million cost the price */
    } cases[] = {
        {0.0, "0"},
        {-0.0, "0"},
        {0.1, "0.0000001"},
        {1.0 / 3, "0.000000333333333333"},
        {2.0 / 3, "0.000000666666666667"},
        {0.30000000000000004, "0.0000003"},
        {1e-12, "0.000000000000000001"},
        {1.5e-12, "0.000000000000000002"},
        {2.5e-12, "0.000000000000000002"},
        {5e-13, "0"}, /* a tie: to the even one */
        {5.000000000000001e-13, "0.000000000000000001"},
        {1e-13, "0"},
        {9.9e-19, "0"},
        {5e-324, "0"},
        {2.2250738585072014e-308, "0"},
        {1e15, "1000000000"},
        {1e23, "100000000000000000"}, /* as written: the double is 8388608 less */
        {9007199254740993.0, "9007199254.740992"},
        {1e26, "100000000000000000000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dm_amount price = -1;
        CHECK_OK(dm_price_parse("price", cases[i].price, &price, &err));
        CHECK_AMOUNT(price, cases[i].wanted);
    }
    static const double bad[] = {-1.0, -5e-324, 1.1e26, 1e300, INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        dm_amount price = 77;
        CHECK_STATUS(dm_price_parse("hourly_price", bad[i], &price, &err), DM_INVALID);
        CHECK_STATUS(dm_price_parse("hourly_price", bad[i], &price, NULL), DM_INVALID);
        CHECK_INT(price, 77);
        CHECK_INT(strncmp(err.text, "hourly_price must be", 20), 0);
    }
}

static void test_amounts(void)
{
    const dm_amount largest = (dm_amount)((((dm_int128)1 << 126) - 1) * 2 + 1);
    const dm_amount one = 1000000000000000000;
    CHECK_AMOUNT(0, "0");
    CHECK_AMOUNT(1, "0.000000000000000001");
    CHECK_AMOUNT(-1, "-0.000000000000000001");
    CHECK_AMOUNT(one, "1");
    CHECK_AMOUNT(-12 * one, "-12");
    CHECK_AMOUNT(100 * one + one / 10, "100.1");
    CHECK_AMOUNT(largest, "170141183460469231731.687303715884105727");
    CHECK_AMOUNT(-largest - 1, "-170141183460469231731.687303715884105728");
    CHECK_INT(dm_amount_to_double(one / 10) == 0.1, 1);
    CHECK_INT(dm_amount_to_double(-one / 10 * 3) == -0.3, 1);
    CHECK_INT(dm_amount_to_double(largest) == 170141183460469231731.687303715884105727, 1);
    CHECK_INT(dm_amount_to_double(-largest - 1) == -170141183460469231731.687303715884105728, 1);
    /* Halfway between two doubles: to the even one, and not when one 1e-18 is above the half. */
    CHECK_INT(dm_amount_to_double(one * 9007199254740992 / 2) == 4503599627370496.0, 1);
    CHECK_INT(dm_amount_to_double(one * 9007199254740993) == 9007199254740992.0, 1);
    CHECK_INT(dm_amount_to_double(one * 9007199254740993 + 1) == 9007199254740994.0, 1);
    CHECK_INT(dm_price_to_double(400000000000) == 0.4, 1);

    dm_amount sum = 5;
    CHECK_OK(dm_amount_add(&sum, 3, 4, &err));
    CHECK_OK(dm_amount_add(&sum, largest, 0, &err));
    CHECK_OK(dm_amount_add(&sum, 0, largest, &err));
    CHECK_INT(sum, 17);
    CHECK_OK(dm_amount_add(&sum, 1, largest - 18, &err));
    CHECK_STATUS(dm_amount_add(&sum, 2, 1, &err), DM_INVALID);
    CHECK_STATUS(dm_amount_add(&sum, 1, 2, &err), DM_INVALID);
    CHECK_STATUS(dm_amount_add(&sum, largest, largest, NULL), DM_INVALID);
    CHECK_TEXT(err.text, "a cost must be at most 1.7e20 currency units; this one is above");
    CHECK_OK(dm_amount_add(&sum, 1, 1, &err));
    CHECK_AMOUNT(sum - largest, "0");
}

/* ---- slices ---- */

static void test_slices(void)
{
    dm_price_slice slices[100];
    const dm_tier unsorted[] = {
        {7, 100, -1, 3, 4, true, 1}, {3, 10, 100, 1, 2, false, 0}, {5, 0, 10, 1e-12, 0, true, 0.5}};
    CHECK_OK(dm_price_slices(unsorted, 3, slices, &err));
    CHECK_INT(slices[0].tier_index, 5);
    CHECK_INT(slices[1].tier_index, 3);
    CHECK_INT(slices[2].tier_index, 7);
    CHECK_INT(slices[0].end_tokens, 10);
    CHECK_INT(slices[2].end_tokens == INT64_MAX, 1);
    CHECK_INT(slices[0].input_price, 1);
    CHECK_INT(slices[0].cache_hit_price, 500000000000);
    CHECK_OK(dm_price_slices(NULL, 0, slices, &err));

    dm_tier many[100];
    for (int64_t i = 0; i < 100; i++)
        many[i * 37 % 100] = (dm_tier){i, i, i + 1, 1, 1, false, 0};
    CHECK_OK(dm_price_slices(many, 100, slices, &err));
    for (int64_t i = 0; i < 100; i++)
        CHECK_INT(slices[i].tier_index, i);

    const dm_tier overlap[] = {{2, 9, 0, 1, 1, false, 0}, {1, 0, 10, 1, 1, false, 0}};
    CHECK_STATUS(dm_price_slices(overlap, 2, slices, &err), DM_INVALID);
    CHECK_TEXT(err.text, "tier 2 (9 to 0 tokens) overlaps tier 1 (0 to 10 tokens)");
    const dm_tier unbounded[] = {{1, 0, 0, 1, 1, false, 0}, {2, 50, 60, 1, 1, false, 0}};
    CHECK_STATUS(dm_price_slices(unbounded, 2, slices, NULL), DM_INVALID);
    const dm_tier twins[] = {{1, 5, 9, 1, 1, false, 0}, {2, 5, 9, 1, 1, false, 0}};
    CHECK_STATUS(dm_price_slices(twins, 2, slices, &err), DM_INVALID);
    const dm_tier empty = {1, 10, 10, 1, 1, false, 0};
    CHECK_STATUS(dm_price_slices(&empty, 1, slices, &err), DM_INVALID);
    const dm_tier dear = {1, 0, 10, 1, 1, false, 1e27};
    CHECK_STATUS(dm_price_slices(&dear, 1, slices, &err), DM_INVALID);
    CHECK_TEXT(err.text, "cache_hit_price_per_million must be a price from 0 to 1e26, not 1e+27");
}

/* ---- what requests cost ---- */

#define G   DM_STRATEGY_GRADUATED
#define V   DM_STRATEGY_VOLUME
#define C   DM_STRATEGY_CUMULATIVE
#define TOP DM_TOKENS_MAX

static const dm_tier design[] = {{2, 32768, 131072, 4, 16, true, 0.8},
                                 {1, 0, 32768, 2, 8, true, 0.4}};
static const dm_tier no_cache_low[] = {
    {1, 0, 10, 1, 10, false, 0.5}, {2, 10, 20, 2, 20, true, 0.25}, {3, 20, 0, 3, 30, true, 0.75}};
static const dm_tier no_cache_middle[] = {
    {1, 0, 10, 1, 10, true, 0.5}, {2, 10, 20, 2, 20, false, 0.25}, {3, 20, 0, 3, 30, true, 0.75}};
static const dm_tier gaps[] = {{1, 5, 10, 1, 10, true, 0.5}, {2, 20, 30, 2, 20, true, 0.25}};
static const dm_tier single[] = {{1, 0, 0, 3, 5, false, 0}};
static const dm_tier bounded[] = {{1, 0, 10, 3, 5, false, 0}};
static const dm_tier free_first[] = {{1, 0, 10, 0, 0, false, 0}, {2, 10, 0, 2, 4, false, 0}};
static const dm_tier tiny[] = {{1, 0, 0, 1e-12, 5e-13, true, 5e-324}};
static const dm_tier dear[] = {{1, 0, 0, 1e26, 0, false, 0}};

static const struct {
    const dm_tier *tiers;
    size_t count;
    dm_strategy strategy;
    int64_t input, hits, output, input_before, output_before;
    const char *wanted;
} costs[] = {
    /* the design's */
    {design, 2, G, 40000, 10000, 1000, 0, 0, "0.086464"},
    {design, 2, V, 40000, 10000, 1000, 0, 0, "0.144"},
    {design, 2, C, 40000, 10000, 1000, 20000, 500, "0.126464"},
    {design, 2, G, 40000, 10000, 1000, 20000, 500, "0.086464"}, /* what was before plays no part */
    {design, 2, V, 40000, 10000, 1000, 20000, 500, "0.144"},
    /* each edge of each tier */
    {design, 2, G, 0, 0, 0, 0, 0, "0"},
    {design, 2, G, 1, 0, 1, 0, 0, "0.00001"},
    {design, 2, G, 32767, 0, 0, 0, 0, "0.065534"},
    {design, 2, G, 32768, 0, 0, 0, 0, "0.065536"},
    {design, 2, G, 32769, 0, 0, 0, 0, "0.06554"},
    {design, 2, G, 131071, 0, 0, 0, 0, "0.458748"},
    {design, 2, G, 131072, 0, 0, 0, 0, "0.458752"},
    {design, 2, G, 131073, 0, 0, 0, 0, "0.458756"}, /* above the last: the last's price */
    {design, 2, G, 0, 0, 32768, 0, 0, "0.262144"},
    {design, 2, G, 0, 0, 32769, 0, 0, "0.26216"},
    {design, 2, G, 0, 0, 131073, 0, 0, "1.835024"},
    {design, 2, G, TOP, 0, 0, 0, 0, "36028797018.898432"},
    {design, 2, V, 32768, 0, 1, 0, 0, "0.065544"},
    {design, 2, V, 32769, 0, 1, 0, 0, "0.131092"},
    {design, 2, V, 131072, 0, 1, 0, 0, "0.524304"},
    {design, 2, V, 131073, 0, 1, 0, 0, "0.524308"},
    {design, 2, V, 0, 0, 1000000, 0, 0, "8"},
    {design, 2, C, 1, 0, 1, 32767, 32767, "0.00001"},
    {design, 2, C, 1, 0, 1, 32768, 32768, "0.00002"},
    {design, 2, C, 2, 0, 2, 32767, 32767, "0.00003"},
    {design, 2, C, 2, 0, 2, 131071, 131072, "0.00004"},
    {design, 2, C, 1, 0, 1, TOP, TOP, "0.00002"},
    {design, 2, C, TOP, TOP, TOP, INT64_MAX, INT64_MAX - 5, "151320947479.6486656"},
    {design, 2, C, 0, 5, 0, 1000000, 0, "0"},
    /* cache hits: the lowest slices first, never more than the input */
    {design, 2, G, 100, 500, 0, 0, 0, "0.00004"},
    {design, 2, G, 40000, 40000, 0, 0, 0, "0.0188928"},
    {design, 2, G, 40000, 32769, 0, 0, 0, "0.042032"},
    {design, 2, G, 0, 500, 10, 0, 0, "0.00008"},
    {design, 2, V, 40000, 50000, 0, 0, 0, "0.032"},
    {design, 2, V, 0, 500, 1, 0, 0, "0.000008"},
    {design, 2, C, 40000, 20000, 0, 20000, 0, "0.0908928"},
    {no_cache_low, 3, G, 15, 4, 0, 0, 0, "0.000013"},
    {no_cache_low, 3, G, 15, 8, 0, 0, 0, "0.00001125"}, /* 5 hits find room, 3 pay as input */
    {no_cache_low, 3, G, 25, 12, 0, 0, 0, "0.000023"},
    {no_cache_low, 3, G, 8, 8, 0, 0, 0, "0.000008"},
    {no_cache_low, 3, V, 8, 8, 1, 0, 0, "0.000018"},
    {no_cache_low, 3, V, 18, 8, 1, 0, 0, "0.000042"},
    {no_cache_low, 3, C, 10, 10, 0, 5, 0, "0.00000625"},
    {no_cache_middle, 3, G, 25, 8, 0, 0, 0, "0.000041"},
    {no_cache_middle, 3, G, 25, 12, 0, 0, 0, "0.0000355"},
    {no_cache_middle, 3, G, 25, 25, 0, 0, 0, "0.00002875"},
    {no_cache_middle, 3, V, 15, 15, 1, 0, 0, "0.00005"},
    {no_cache_middle, 3, C, 10, 10, 0, 15, 0, "0.00001375"},
    /* gaps cost nothing; under volume not even the output */
    {gaps, 2, G, 5, 0, 5, 0, 0, "0"},
    {gaps, 2, G, 6, 0, 6, 0, 0, "0.000011"},
    {gaps, 2, G, 20, 0, 20, 0, 0, "0.000055"},
    {gaps, 2, G, 21, 0, 21, 0, 0, "0.000077"},
    {gaps, 2, G, 31, 0, 31, 0, 0, "0.000297"},
    {gaps, 2, G, 25, 7, 0, 0, 0, "0.000009"}, /* 5 * 0.5 + 2 * 0.25 + 3 * 2 */
    {gaps, 2, V, 5, 5, 9, 0, 0, "0"},
    {gaps, 2, V, 6, 0, 9, 0, 0, "0.000096"},
    {gaps, 2, V, 10, 0, 9, 0, 0, "0.0001"},
    {gaps, 2, V, 11, 0, 9, 0, 0, "0"},
    {gaps, 2, V, 20, 0, 9, 0, 0, "0"},
    {gaps, 2, V, 21, 0, 9, 0, 0, "0.000222"},
    {gaps, 2, V, 31, 0, 9, 0, 0, "0.000242"},
    {gaps, 2, V, 0, 0, 9, 0, 0, "0.00009"},
    {gaps, 2, C, 5, 5, 1, 10, 12, "0"},
    {gaps, 2, C, 20, 0, 20, 8, 8, "0.000198"},
    {gaps, 2, C, 20, 4, 0, 8, 0, "0.0000135"},
    /* few tiers, none, free ones */
    {design, 0, G, 1000, 10, 1000, 0, 0, "0"},
    {design, 0, V, 1000, 10, 1000, 0, 0, "0"},
    {design, 0, C, 1000, 10, 1000, 0, 0, "0"},
    {single, 1, G, TOP, TOP, TOP, 0, 0, "72057594037.927936"},
    {single, 1, V, TOP, 0, TOP, 0, 0, "72057594037.927936"},
    {single, 1, C, 7, 7, 7, TOP, TOP, "0.000056"},
    {bounded, 1, G, 25, 0, 25, 0, 0, "0.0002"},
    {bounded, 1, V, 25, 0, 25, 0, 0, "0.0002"},
    {free_first, 2, G, 10, 10, 10, 0, 0, "0"},
    {free_first, 2, G, 11, 11, 11, 0, 0, "0.000006"},
    {free_first, 2, V, 10, 0, 99, 0, 0, "0"},
    {free_first, 2, V, 11, 0, 1, 0, 0, "0.000026"},
    {free_first, 2, C, 10, 0, 10, 5, 10, "0.00005"},
    /* the smallest prices */
    {tiny, 1, G, 3, 1, 1000, 0, 0, "0.000000000000000002"},
    {tiny, 1, G, TOP, 0, TOP, 0, 0, "0.009007199254740992"},
    /* the largest */
    {dear, 1, G, 1, 0, 0, 0, 0, "100000000000000000000"},
};

static void test_costs(void)
{
    for (size_t i = 0; i < sizeof costs / sizeof *costs; i++) {
        dm_request_rows rows = {.count = 1,
                                .input_tokens = &costs[i].input,
                                .output_tokens = &costs[i].output,
                                .cache_n = &costs[i].hits};
        dm_tokens_before before = {costs[i].input_before, costs[i].output_before};
        dm_price_slice slices[3];
        dm_slice_tokens counts[3] = {{0, 0, 0}};
        dm_amount cost = -1;
        CHECK_OK(dm_price_slices(costs[i].tiers, costs[i].count, slices, &err));
        dm_cost_count(slices, costs[i].count, costs[i].strategy, &rows, &before, counts);
        CHECK_OK(dm_cost_sum(slices, costs[i].count, counts, &cost, &err));
        if (strcmp(text_of(cost), costs[i].wanted) != 0)
            printf("case %zu:\n", i);
        CHECK_AMOUNT(cost, costs[i].wanted);
        bool moves = costs[i].strategy == C && costs[i].input_before < INT64_MAX;
        CHECK_INT(before.input - costs[i].input_before, moves ? costs[i].input : 0);
    }
}

/* Many rows are the sum of each, wherever a block of them begins and ends. */
static void rows_check(const dm_price_slice *slices, dm_strategy strategy,
                       const dm_request_rows *rows)
{
    dm_tokens_before before = {3, 9}, before_each = before;
    dm_slice_tokens counts[3] = {{0, 0, 0}}, counts_each[3] = {{0, 0, 0}};
    dm_cost_count(slices, 3, strategy, rows, &before, counts);
    for (size_t i = 0; i < rows->count; i++) {
        dm_request_rows row = {.count = 1,
                               .input_tokens = rows->input_tokens + i,
                               .output_tokens = rows->output_tokens + i,
                               .cache_n = rows->cache_n + i};
        dm_cost_count(slices, 3, strategy, &row, &before_each, counts_each);
    }
    CHECK_INT(memcmp(counts, counts_each, sizeof counts), 0);
    CHECK_INT(before.input, before_each.input);
    CHECK_INT(before.output, before_each.output);
}

enum { ROWS = 1500 };

static void test_rows(void)
{
    static int64_t input[ROWS], output[ROWS], hits[ROWS];
    dm_request_rows rows = {
        .count = ROWS, .input_tokens = input, .output_tokens = output, .cache_n = hits};
    dm_price_slice slices[3];
    const int64_t sizes[] = {4, 12, 40}; /* within the first slice; over its edge; over all */
    uint64_t state = 1;
    for (size_t size = 0; size < 3; size++) {
        for (size_t i = 0; i < ROWS; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            input[i] = (int64_t)(state >> 33) % sizes[size];
            output[i] = (int64_t)(state >> 40) % sizes[size];
            hits[i] = (int64_t)(state >> 47) % sizes[size];
        }
        for (int strategy = 0; strategy < DM_STRATEGY_COUNT; strategy++) {
            CHECK_OK(dm_price_slices(no_cache_low, 3, slices, &err));
            rows_check(slices, (dm_strategy)strategy, &rows);
            CHECK_OK(dm_price_slices(no_cache_middle, 3, slices, &err));
            rows_check(slices, (dm_strategy)strategy, &rows);
        }
    }
}

/* More tokens than 64 bits hold, and more money than 128. */
static void test_large(void)
{
    static int64_t most[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        most[i] = TOP;
    dm_request_rows rows = {
        .count = ROWS, .input_tokens = most, .output_tokens = most, .cache_n = most};
    for (int strategy = 0; strategy < DM_STRATEGY_COUNT; strategy++) {
        dm_price_slice slices[2];
        dm_slice_tokens counts[2] = {{0, 0, 0}};
        dm_tokens_before before = {0, 0};
        dm_amount cost = -1;
        CHECK_OK(dm_price_slices(single, 1, slices, &err));
        dm_cost_count(slices, 1, (dm_strategy)strategy, &rows, &before, counts);
        CHECK_OK(dm_cost_sum(slices, 1, counts, &cost, &err));
        CHECK_AMOUNT(cost, "108086391056891.904"); /* 1500 * 2^53 * 8 / 10^6 */
    }
    dm_price_slice slice[1];
    dm_slice_tokens counts = {1, 0, 0};
    dm_amount cost = 77;
    CHECK_OK(dm_price_slices(dear, 1, slice, &err));
    CHECK_OK(dm_cost_sum(slice, 1, &counts, &cost, &err));
    counts.input = 2;
    cost = 77;
    CHECK_STATUS(dm_cost_sum(slice, 1, &counts, &cost, &err), DM_INVALID);
    CHECK_INT(cost, 77);
}

/* ---- runtime ---- */

typedef struct {
    double from_s, to_s, hourly_price;
} hours;

static dm_status hours_add(dm_runtime_sum *sum, const hours *h)
{
    dm_amount price = 0;
    CHECK_OK(dm_price_parse("hourly_price", h->hourly_price, &price, &err));
    return dm_runtime_add(sum, h->from_s, h->to_s, price, &err);
}

static void test_runtime(void)
{
    static const struct {
        hours parts[3];
        const char *wanted;
    } cases[] = {
        {{{0, 0, 5}}, "0"},
        {{{1.7e9, 1.7e9 + 3600, 0.3}}, "0.3"},
        {{{100, 3700, 0.3}, {5000, 8600, 0.7}}, "1"},
        /* a 1e-12 an hour: halves go to the even one, once, at the end */
        {{{0, 1800, 1e-12}}, "0"},
        {{{0, 5400, 1e-12}}, "0.000000000002"},
        {{{0, 9000, 1e-12}}, "0.000000000002"},
        {{{0, 1800 + 0x1p-42, 1e-12}}, "0.000000000001"},
        {{{0, 1800 - 0x1p-42, 1e-12}}, "0"},
        {{{0, 5400 - 0x1p-40, 1e-12}}, "0.000000000001"},
        {{{0, 1800, 1e-12}, {0, 0x1p-64, 1e-12}}, "0.000000000001"},
        {{{0, 1200, 1e-12}, {0, 600, 1e-12}}, "0"},
        {{{0, 1200, 1e-12}, {0, 601, 1e-12}}, "0.000000000001"},
        {{{0, 900, 1e-12}, {0, 900, 1e-12}, {7, 7 + 0x1p-50, 1e-12}}, "0.000000000001"},
        {{{0, 1, 1}}, "0.000277777778"},
        {{{0, 1, 1}, {1, 2, 1}, {2, 3, 1}}, "0.000833333333"},
        /* the rest by fractions.Fraction: */
        /* a night across midnight */
        {{{1700000000.25, 1700030000.75, 0.5}}, "4.166736111111"},
        /* the price changes twice */
        {{{1700000000.3333333, 1700001000.1, 0.1},
          {1700001000.1, 1700002000.2, 0.3333333333333333},
          {1700002000.2, 1700003000.3, 2.5}},
         "0.814887036984"},
        /* the smallest step of the clock of today */
        {{{1700000000.0, 1700000000.0000002, 1e26}}, "6622738308376736.111111111111"},
        /* long and dear */
        {{{0, 9.2e18, 1e4}}, "25555555555555555555.555555555556"},
        /* the first instants of 1970, where 2^-64 s is the smallest step */
        {{{0.00024414062500000005, 0.00048828125, 3.6e25}}, "2441406249999999457.898913757248"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dm_runtime_sum sum = {{0}};
        dm_amount cost = -1;
        for (size_t part = 0; part < 3; part++)
            CHECK_OK(hours_add(&sum, &cases[i].parts[part]));
        CHECK_OK(dm_runtime_cost(&sum, &cost, &err));
        CHECK_AMOUNT(cost, cases[i].wanted);
    }
}

static void test_runtime_refuses(void)
{
    static const hours bad[] = {{-1, 5, 1},     {5, 4, 1},         {NAN, 5, 1},
                                {5, NAN, 1},    {-INFINITY, 5, 1}, {5, INFINITY, 1},
                                {0, 0x1p63, 1}, {-0x1p-60, 1, 1}};
    dm_runtime_sum sum = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_STATUS(hours_add(&sum, &bad[i]), DM_INVALID);
    const dm_runtime_sum untouched = {{1, 2, 3, 4}};
    CHECK_INT(memcmp(&sum, &untouched, sizeof sum), 0);

    /* above what an amount holds, and then above what a sum of seconds and prices holds */
    const hours most = {0, 9.2e18, 1e26};
    dm_runtime_sum large = {{0}}, before;
    dm_amount cost = 77;
    CHECK_OK(hours_add(&large, &most));
    CHECK_STATUS(dm_runtime_cost(&large, &cost, &err), DM_INVALID);
    const dm_runtime_sum high = {{0, 0, 0, 3600}};
    CHECK_STATUS(dm_runtime_cost(&high, &cost, &err), DM_INVALID);
    int added = 1;
    do
        before = large;
    while (hours_add(&large, &most) == DM_OK && added++ < 100);
    CHECK_INT(added, 6); /* 2^256 / (9.2e18 * 2^64 * 1e38) */
    CHECK_INT(memcmp(&large, &before, sizeof large), 0);
    CHECK_STATUS(dm_runtime_cost(&large, &cost, &err), DM_INVALID);
    CHECK_INT(cost, 77);
}

int main(void)
{
    test_prices();
    test_amounts();
    test_slices();
    test_costs();
    test_rows();
    test_large();
    test_runtime();
    test_runtime_refuses();
    return check_report();
}
