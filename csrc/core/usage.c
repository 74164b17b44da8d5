/* SPDX-License-Identifier: MIT
 *
 * The one aggregation: requests by model and time, with what they cost. Rows mostly come in the
 * order of time, so they are dealt with in runs that lie in one cell (cells.h): sums over arrays,
 * and tokens counted by price. Nothing is multiplied until the end. */
#include "cells.h"
#include "kept.h"
#include "wide.h"

#include <string.h>

#define CHUNK_ROWS 1024 /* so many tokens of at most 2^53 add up to less than 2^64 */

/* ---- rows ---- */

static uint64_t sum_of(const int64_t *values, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (uint64_t)values[i];
    return sum;
}

static dm_request_rows rows_from(const dm_request_columns *rows, size_t from, size_t count)
{
    return (dm_request_rows){.count = count,
                             .timestamp_s = rows->timestamp_s + from,
                             .input_tokens = rows->input_tokens + from,
                             .output_tokens = rows->output_tokens + from,
                             .cache_n = rows->cache_n + from,
                             .prompt_n = rows->prompt_n + from};
}

/* At most CHUNK_ROWS rows of one cell. */
static DM__WIDE void cell_add(dm__cell *at, const dm_request_rows *rows, dm_tokens_before *before)
{
    dm__bucket_sums *bucket = at->bucket;
    const dm__cell_tariff *t = at->tariff;
    if (bucket != NULL) {
        bucket->requests += (dm_int128)rows->count;
        bucket->input_tokens += sum_of(rows->input_tokens, rows->count);
        bucket->output_tokens += sum_of(rows->output_tokens, rows->count);
        bucket->cache_n += sum_of(rows->cache_n, rows->count);
        bucket->prompt_n += sum_of(rows->prompt_n, rows->count);
    }
    bool goes_on = t->by_tiers && t->strategy == DM_STRATEGY_CUMULATIVE;
    if (goes_on || (t->by_tiers && bucket != NULL))
        dm_cost_count(t->slices, t->slice_count, t->strategy, rows, before, at->counts);
    if (before != NULL && !goes_on) /* billed otherwise, but used in this period all the same */
        dm_cost_count(NULL, 0, DM_STRATEGY_CUMULATIVE, rows, before, NULL);
}

static void bounds_add(dm__cell *at, double first_s, double last_s)
{
    if (at->bucket == NULL)
        return;
    at->bucket->first_s = first_s < at->bucket->first_s ? first_s : at->bucket->first_s;
    at->bucket->last_s = last_s > at->bucket->last_s ? last_s : at->bucket->last_s;
}

static bool cell_holds(const dm__cell *at, double time_s)
{
    return time_s >= at->from_s && time_s < at->to_s;
}

static dm__cell *cell_enter(dm__cells *usage, double time_s, dm_tokens_before *before)
{
    if (cell_holds(usage->at, time_s))
        return usage->at;
    dm__cell *at = dm__cell_of(usage, time_s);
    for (dm__cell *c = usage->at + 1; before != NULL && c <= at; c++)
        if (c->begins_period)
            *before = (dm_tokens_before){0, 0};
    return usage->at = at;
}

static void rows_add(dm__cells *usage, const dm_request_columns *rows, dm_tokens_before *before)
{
    for (size_t from = 0, to; from < rows->count; from = to) {
        double first_s = rows->timestamp_s[from], last_s = first_s;
        dm__cell *at = cell_enter(usage, first_s, before);
        for (to = from + 1; to < rows->count && to - from < CHUNK_ROWS; to++) {
            double time_s = rows->timestamp_s[to];
            if (!cell_holds(at, time_s))
                break;
            first_s = time_s < first_s ? time_s : first_s;
            last_s = time_s > last_s ? time_s : last_s;
        }
        dm_request_rows run = rows_from(rows, from, to - from);
        cell_add(at, &run, before);
        bounds_add(at, first_s, last_s);
    }
}

static dm_status some_add(void *argument, const dm__rows_part *part, dm_error *err)
{
    (void)err;
    dm__cells *usage = argument;
    const dm_request_columns *rows = &part->rows;
    dm__cell *at = cell_enter(usage, part->first_s, NULL);
    if (!cell_holds(at, part->last_s)) {
        rows_add(usage, rows, NULL);
        return DM_OK;
    }
    for (size_t from = 0; from < rows->count; from += CHUNK_ROWS) {
        size_t left = rows->count - from;
        dm_request_rows run = rows_from(rows, from, left < CHUNK_ROWS ? left : CHUNK_ROWS);
        cell_add(at, &run, NULL);
    }
    bounds_add(at, part->first_s, part->last_s);
    return DM_OK;
}

/* ---- what is kept of pruned requests ---- */

/* Rows that are to be added in the order of time, or none; and the parts among them. */
typedef struct {
    dm__cells *usage;
    const dm__model *model;
    dm_request_columns rows; /* those that are left, of an array of another */
    dm_tokens_before *before;
} ordered;

static void rows_add_until(ordered *all, double time_s)
{
    dm_request_columns *rows = &all->rows, some = *rows;
    some.count = 0;
    while (some.count < rows->count && rows->timestamp_s[some.count] < time_s)
        some.count++;
    rows_add(all->usage, &some, all->before);
    rows->count -= some.count;
    rows->timestamp_s += some.count;
    rows->input_tokens += some.count;
    rows->output_tokens += some.count;
    rows->cache_n += some.count;
    rows->prompt_n += some.count;
}

static dm_status refuse_cut(const char *what, const dm__model *model, double first_s, double last_s,
                            dm_error *err)
{
    char first[DM__TIME_SHOWN], last[DM__TIME_SHOWN];
    dm__time_show(first_s, first);
    dm__time_show(last_s, last);
    return dm__fail(err, DM_INVALID,
                    "the %s of '%.*s' from %s to %s were pruned and are kept as one sum, which no"
                    " bucket, price or billing period may part: take days in the time zone of the"
                    " prune",
                    what, (int)(model->name_length < 50 ? model->name_length : 50), model->name,
                    first, last);
}

/* Where what is kept from first_s to last_s counts: NULL where it does not. */
static dm_status kept_cell(dm__cells *usage, const dm__model *model, const char *what,
                           double first_s, double last_s, dm__cell **cell_out, dm_error *err)
{
    dm__cell *at = dm__cell_of(usage, first_s);
    *cell_out = cell_holds(at, first_s) ? at : NULL;
    bool cut = *cell_out == NULL || !cell_holds(at, last_s);
    return cut && !usage->query->counts_only ? refuse_cut(what, model, first_s, last_s, err)
                                             : DM_OK;
}

static void sums_add(dm__bucket_sums *bucket, const dm__kept_part *part)
{
    if (bucket == NULL)
        return;
    bucket->requests += part->count;
    bucket->input_tokens += part->sums[0];
    bucket->output_tokens += part->sums[1];
    bucket->cache_n += part->sums[2];
    bucket->prompt_n += part->sums[3];
}

static dm_status kept_part_add(void *argument, const dm__kept_part *part, dm_error *err)
{
    ordered *all = argument;
    dm__cell *at = NULL;
    rows_add_until(all, part->first_s);
    dm_status rc =
        kept_cell(all->usage, all->model, "requests", part->first_s, part->last_s, &at, err);
    if (rc != DM_OK || at == NULL)
        return rc;
    bounds_add(at, part->first_s, part->last_s);
    if (all->usage->query->counts_only) {
        sums_add(at->bucket, part);
        return DM_OK;
    }
    (void)cell_enter(all->usage, part->first_s, all->before);
    for (size_t from = 0; from < part->rows.count; from += CHUNK_ROWS) {
        size_t left = part->rows.count - from;
        dm_request_rows run = rows_from(&part->rows, from, left < CHUNK_ROWS ? left : CHUNK_ROWS);
        cell_add(at, &run, all->before);
    }
    return DM_OK;
}

/* ---- requests ---- */

/* All rows at once, in the order of time. */
static dm_status requests_add_in_order(dm__conn *conn, dm__model *model, dm__cells *usage,
                                       double start_s, double end_s, dm_error *err)
{
    dm_request_columns rows = {0};
    dm_tokens_before before = {0, 0};
    ordered all = {.usage = usage, .model = model, .before = &before};
    dm_status rc = dm__rows_all(conn, model, start_s, end_s, &rows, err);
    if (rc == DM_OK && !dm__request_columns_sort(&rows))
        rc = dm__no_memory(err);
    all.rows = rows;
    if (rc == DM_OK)
        rc = dm__kept_parts_each(conn, model->safe, start_s, end_s, true, kept_part_add, &all, err);
    if (rc == DM_OK)
        rows_add_until(&all, INFINITY);
    dm_request_columns_reset(&rows);
    return rc;
}

static dm_status requests_add(dm__conn *conn, dm__model *model, dm__cells *usage, dm_error *err)
{
    double start_s = usage->cells[0].from_s, end_s = usage->cells[usage->cell_count - 1].to_s;
    if (usage->cumulative)
        return requests_add_in_order(conn, model, usage, start_s, end_s, err);
    dm__rows_query query = {
        .start_s = start_s, .end_s = end_s, .each = some_add, .argument = usage};
    ordered kept = {.usage = usage, .model = model};
    dm_status rc = dm__rows_each(conn, model, &query, err);
    return rc == DM_OK ? dm__kept_parts_each(conn, model->safe, start_s, end_s,
                                             !usage->query->counts_only, kept_part_add, &kept, err)
                       : rc;
}

/* ---- runs ---- */

static dm_status seconds_add(dm__cell *at, double from_s, double to_s, dm_error *err)
{
    if (at->bucket == NULL)
        return DM_OK;
    if (dm_runtime_add(&at->bucket->seconds, from_s, to_s, 1, NULL) != DM_OK)
        at->bucket->beyond_s += to_s - from_s;
    dm__cell_tariff *t = at->tariff;
    if (t->by_tiers)
        return DM_OK;
    dm_status rc = dm_runtime_add(&at->bucket->runtime, from_s, to_s, t->hourly_price, err);
    if (rc == DM_OK && t->hourly_price != 0)
        rc = dm_runtime_add(&t->runtime, from_s, to_s, t->hourly_price, err);
    return rc == DM_OK && t->hourly_price != 0 ? dm_runtime_add(&t->seconds, from_s, to_s, 1, err)
                                               : rc;
}

static dm_status run_add(dm__cells *usage, const dm_run *run, dm_error *err)
{
    dm_status rc = DM_OK;
    double begin_s = fmax(run->start_time_s, usage->cells[0].from_s);
    dm__cell *end = usage->cells + usage->cell_count;
    for (dm__cell *at = dm__cell_of(usage, begin_s);
         at < end && at->from_s < run->end_time_s && rc == DM_OK; at++) {
        double from_s = fmax(begin_s, at->from_s), to_s = fmin(run->end_time_s, at->to_s);
        if (from_s < to_s)
            rc = seconds_add(at, from_s, to_s, err);
    }
    return rc;
}

static dm_status kept_run_add(void *argument, const dm_kept_run *kept, dm_error *err)
{
    ordered *all = argument;
    dm__cells *usage = all->usage;
    dm_run one = {0, kept->start_time_s, kept->end_time_s};
    dm__cell *at = NULL;
    if (kept->runs == 1)
        return run_add(usage, &one, err);
    if (kept->end_time_s <= usage->cells[0].from_s ||
        kept->start_time_s >= usage->cells[usage->cell_count - 1].to_s)
        return DM_OK;
    dm_status rc = kept_cell(usage, all->model, "runs", kept->start_time_s,
                             fmax(kept->start_time_s, nextafter(kept->end_time_s, 0)), &at, err);
    return rc == DM_OK && at != NULL ? seconds_add(at, 0, kept->seconds, err) : rc;
}

/* Another program's, since dm_time_check refuses it. */
static dm_status run_beyond(const dm__model *model, const dm_run *run, dm_error *err)
{
    return dm__fail(err, DM_CORRUPT_DATA,
                    "%s_runtime row %lld: end_time must be before 2^63 seconds since 1970 where "
                    "hours are billed, not %.17g",
                    model->safe, (long long)run->id, run->end_time_s);
}

static dm_status runs_add(dm__conn *conn, dm__model *model, dm__cells *usage, dm_error *err)
{
    dm_window window = {usage->query->edges_s[0],
                        usage->query->edges_s[usage->query->edge_count - 1], 0};
    dm_runs runs = {0};
    dm_status rc = dm__runs_of_model(conn, model, &window, &runs, err);
    for (size_t i = 0; i < runs.count && rc == DM_OK; i++) {
        rc = run_add(usage, &runs.runs[i], err);
        if (rc == DM_INVALID && runs.runs[i].end_time_s >= DM__RUN_TIME_END)
            rc = run_beyond(model, &runs.runs[i], err);
    }
    dm_runs_reset(&runs);
    ordered kept = {.usage = usage, .model = model};
    return rc == DM_OK ? dm__kept_runs_each(conn, model->safe, kept_run_add, &kept, err) : rc;
}

/* ---- results ---- */

static dm_status total_store(int64_t *out, const char *what, dm_int128 sum, dm_error *err)
{
    if (sum > INT64_MAX)
        return dm__fail(err, DM_INVALID, "the sum of %s is above 9223372036854775807", what);
    *out = (int64_t)sum;
    return DM_OK;
}

static dm_status row_store(dm_usage_row *row, const dm__bucket_sums *sums, dm_error *err)
{
    bool any = sums->requests > 0;
    row->requests = (int64_t)sums->requests;
    row->first_request_s = any ? sums->first_s : NAN;
    row->last_request_s = any ? sums->last_s : NAN;
    row->runtime_s = dm_runtime_seconds(&sums->seconds) + sums->beyond_s;
    row->token_cost = sums->token_cost;
    dm_status rc = total_store(&row->input_tokens, "input_tokens", sums->input_tokens, err);
    if (rc == DM_OK)
        rc = total_store(&row->output_tokens, "output_tokens", sums->output_tokens, err);
    if (rc == DM_OK)
        rc = total_store(&row->cache_n, "cache_n", sums->cache_n, err);
    if (rc == DM_OK)
        rc = total_store(&row->prompt_n, "prompt_n", sums->prompt_n, err);
    return rc == DM_OK ? dm_runtime_cost(&sums->runtime, &row->runtime_cost, err) : rc;
}

static dm_status rows_store(dm__cells *usage, dm_usage_row *rows, dm_error *err)
{
    dm_status rc = DM_OK;
    for (size_t i = 0; i < usage->cell_count && rc == DM_OK; i++) {
        dm__cell *at = &usage->cells[i];
        dm_amount cost = 0;
        if (at->bucket == NULL || !at->tariff->by_tiers)
            continue;
        rc = dm_cost_sum(at->tariff->slices, at->tariff->slice_count, at->counts, &cost, err);
        if (rc == DM_OK)
            rc = dm_amount_add(&at->bucket->token_cost, cost, 1, err);
    }
    for (size_t i = 0; i < usage->bucket_count && rc == DM_OK; i++)
        rc = row_store(&rows[i], &usage->buckets[i], err);
    return rc;
}

static void slice_tokens_add(dm_slice_tokens *sum, const dm_slice_tokens *tokens)
{
    sum->input += tokens->input;
    sum->cache_hit += tokens->cache_hit;
    sum->output += tokens->output;
}

/* What each slice of the tariff was paid for, or its hours, in all of its cells, which begin with
 * `*next`; `parts` has room. */
static dm_status tariff_parts(const dm__cells *usage, size_t tariff_at, const dm__cell **next,
                              dm_usage_part *parts, size_t *count, dm_error *err)
{
    const dm__cell_tariff *t = &usage->tariffs[tariff_at];
    const dm__cell *first = *next;
    dm_status rc = DM_OK;
    while (*next < usage->cells + usage->cell_count && (*next)->tariff == t)
        ++*next;
    for (size_t s = 0; s < t->slice_count && t->by_tiers && rc == DM_OK; s++) {
        dm_usage_part part = {.from_s = usage->tariff_from_s[tariff_at], .slice = t->slices[s]};
        for (const dm__cell *at = first; at < *next; at++)
            if (at->bucket != NULL)
                slice_tokens_add(&part.tokens, &at->counts[s]);
        if (part.tokens.input + part.tokens.cache_hit + part.tokens.output == 0)
            continue;
        rc = dm_cost_sum(&part.slice, 1, &part.tokens, &part.cost, err);
        parts[(*count)++] = part;
    }
    if (rc == DM_OK && !t->by_tiers && t->hourly_price != 0) {
        dm_usage_part part = {.from_s = usage->tariff_from_s[tariff_at],
                              .by_hour = true,
                              .hourly_price = t->hourly_price,
                              .runtime_s = dm_runtime_seconds(&t->seconds)};
        rc = dm_runtime_cost(&t->runtime, &part.cost, err);
        if (part.runtime_s > 0)
            parts[(*count)++] = part;
    }
    return rc;
}

/* Of one model, until all are together. */
typedef struct {
    dm_usage_part *parts;
    size_t count;
} model_parts;

static dm_status parts_store(const dm__cells *usage, size_t model, model_parts *out, dm_error *err)
{
    size_t slices = 0;
    for (size_t i = 0; i < usage->tariff_count; i++)
        slices += usage->tariffs[i].slice_count + 1;
    const dm__cell *next = usage->cells;
    dm__free(out->parts); /* of a first try */
    *out = (model_parts){.parts = dm__malloc((slices + 1) * sizeof *out->parts)};
    if (out->parts == NULL)
        return dm__no_memory(err);
    dm_status rc = DM_OK;
    for (size_t i = 0; i < usage->tariff_count && rc == DM_OK; i++)
        rc = tariff_parts(usage, i, &next, out->parts, &out->count, err);
    for (size_t i = 0; i < out->count; i++)
        out->parts[i].model = model;
    return rc;
}

static dm_status parts_join(const model_parts *parts, dm_usage *usage, dm_error *err)
{
    size_t count = 0;
    for (size_t i = 0; i < usage->models.count; i++)
        count += parts[i].count;
    usage->parts = dm__malloc((count + 1) * sizeof *usage->parts);
    if (usage->parts == NULL)
        return dm__no_memory(err);
    for (size_t i = 0; i < usage->models.count; i++)
        for (size_t p = 0; p < parts[i].count; p++)
            usage->parts[usage->part_count++] = parts[i].parts[p];
    return DM_OK;
}

/* ---- one model, all models ---- */

typedef struct {
    dm__model_read read;
    const dm_usage_query *query;
    dm_usage *usage;
    model_parts *parts; /* of each model */
} usage_read;

static dm_status model_usage_read(dm__conn *conn, dm__model *model, dm__model_read *read,
                                  dm_error *err)
{
    usage_read *asked = (usage_read *)read;
    dm__cells usage = {.query = asked->query, .bucket_count = asked->query->edge_count - 1};
    dm_status rc = DM_OK;
    usage.buckets = dm__calloc(usage.bucket_count, sizeof *usage.buckets);
    if (usage.buckets == NULL)
        rc = dm__no_memory(err);
    for (size_t i = 0; i < usage.bucket_count && rc == DM_OK; i++)
        usage.buckets[i].first_s = INFINITY, usage.buckets[i].last_s = -INFINITY;
    if (rc == DM_OK)
        rc = dm__cells_make(&usage, conn, model, err);
    if (rc == DM_OK)
        rc = requests_add(conn, model, &usage, err);
    if (rc == DM_OK)
        rc = runs_add(conn, model, &usage, err);
    if (rc == DM_OK)
        rc = rows_store(&usage, asked->usage->rows + read->index * usage.bucket_count, err);
    if (rc == DM_OK)
        rc = parts_store(&usage, read->index, &asked->parts[read->index], err);
    dm__cells_reset(&usage);
    return rc;
}

typedef struct {
    const dm_usage_query *query;
    dm_usage *usage;
} query_read;

static dm_status models_usage_read(dm__conn *conn, const dm_usage_query *query, dm_usage *usage,
                                   dm_error *err)
{
    const size_t models = usage->models.count;
    usage_read read = {.read = {.from = model_usage_read}, .query = query, .usage = usage};
    read.parts = dm__calloc(models + 1, sizeof *read.parts);
    if (read.parts == NULL)
        return dm__no_memory(err);
    dm_status rc = dm__read_models(conn, &usage->models, &read.read, sizeof read, err);
    if (rc == DM_OK)
        rc = parts_join(read.parts, usage, err);
    for (size_t i = 0; i < models; i++)
        dm__free(read.parts[i].parts);
    dm__free(read.parts);
    return rc;
}

static dm_status usage_of_all(dm__conn *conn, void *argument, dm_error *err)
{
    query_read *asked = argument;
    const dm_usage_query *query = asked->query;
    dm_usage *usage = asked->usage;
    const size_t buckets = query->edge_count - 1;
    dm_usage_reset(usage);
    dm_status rc = dm__models_asked(conn, query->models, query->model_count, &usage->models, err);
    if (rc != DM_OK)
        return rc;
    usage->rows = dm__calloc(usage->models.count * buckets + 1, sizeof *usage->rows);
    if (usage->rows == NULL)
        return dm__no_memory(err);
    usage->row_count = usage->models.count * buckets;
    for (size_t i = 0; i < usage->row_count; i++)
        usage->rows[i].model = i / buckets, usage->rows[i].bucket = i % buckets;
    return models_usage_read(conn, query, usage, err);
}

void dm_usage_reset(dm_usage *usage)
{
    dm_model_names_reset(&usage->models);
    dm__free(usage->rows);
    dm__free(usage->parts);
    *usage = (dm_usage){0};
}

dm_status dm_usage_get(dm_manager *m, const dm_usage_query *query, dm_usage *usage_out,
                       dm_error *err)
{
    dm_usage usage = {0};
    query_read read = {query, &usage};
    dm_status rc = dm__edges_check(query->edges_s, query->edge_count, err);
    if (rc == DM_OK)
        rc = dm__ascending_check("billing periods", query->periods_s, query->period_count, err);
    if (rc == DM_OK)
        rc = dm__read_rows(m, query->model_count != 1 || query->models == NULL, usage_of_all, &read,
                           err);
    if (rc == DM_OK)
        *usage_out = usage;
    else
        dm_usage_reset(&usage);
    return rc;
}
