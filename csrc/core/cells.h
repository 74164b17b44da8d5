/* SPDX-License-Identifier: MIT
 *
 * What is added up of one model. The edges of the buckets and the moments at which a tariff or a
 * billing period begins cut time into cells; within a cell everything is the same for all requests.
 *
 *     buckets    |     0     |     1     |     2     |
 *     tariffs    |    A          |     B             |
 *     cells      |  0        | 1 |   2   |     3     |
 */
#ifndef DM_CELLS_H
#define DM_CELLS_H

#include "dm_internal.h"

typedef struct {
    dm_int128 requests, input_tokens, output_tokens, cache_n, prompt_n;
    double first_s, last_s;
    dm_runtime_sum seconds, runtime;
    double beyond_s; /* seconds that no clock reaches, and no sum */
    dm_amount token_cost;
} dm__bucket_sums;

typedef struct {
    bool by_tiers;
    dm_strategy strategy;
    dm_amount hourly_price;
    dm_price_slice *slices; /* may be those of the tariff before it */
    size_t slice_count;
    dm_runtime_sum seconds, runtime; /* that were billed by the hour, in all buckets */
} dm__cell_tariff;

typedef struct {
    double from_s, to_s;
    dm__bucket_sums *bucket;
    dm__cell_tariff *tariff;
    bool begins_period;
    dm_slice_tokens *counts; /* one for each slice of the tariff */
} dm__cell;

typedef struct {
    const dm_usage_query *query;
    dm__bucket_sums *buckets;
    size_t bucket_count;
    dm__cell_tariff *tariffs;
    double *tariff_from_s;
    size_t tariff_count;
    dm__cell *cells;
    size_t cell_count;
    dm__cell *at; /* where the last row was */
    dm_slice_tokens *counts;
    bool cumulative; /* then rows count in the order of time, from the period's beginning */
} dm__cells;

/* Of a `usage` that has its query and its buckets; to be reset also after a failure. */
dm_status dm__cells_make(dm__cells *usage, dm__conn *conn, dm__model *model,
                         dm_error *err) DM_CHECKED;
void dm__cells_reset(dm__cells *usage);
/* The cell of a moment; there always is one for what the scan lets through. */
dm__cell *dm__cell_of(dm__cells *usage, double time_s);

#endif
