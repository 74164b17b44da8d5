/* SPDX-License-Identifier: MIT
 *
 * How fast requests were answered, by model and time: rates, and percentiles of what was seen. */
#include "dm_internal.h"

typedef struct {
    dm__model_read read;
    const double *edges_s;
    size_t edge_count;
    dm_performance_row *rows; /* of all models */
    /* of the model that is read now */
    dm_performance_row *buckets;
    dm__keys durations, first_tokens, inputs, outputs;
    size_t at; /* the bucket of the last row */
} performance_read;

static bool bucket_holds(const performance_read *asked, double time_s)
{
    return time_s >= asked->edges_s[asked->at] && time_s < asked->edges_s[asked->at + 1];
}

static void bucket_enter(performance_read *asked, double time_s)
{
    if (!bucket_holds(asked, time_s))
        asked->at = (size_t)dm__last_at_most(asked->edges_s, asked->edge_count - 1, time_s);
}

static void rates_add(dm_performance_row *row, const dm_request_columns *rows, size_t i,
                      const dm_timing *timing)
{
    if (isnan(timing->first_token_s))
        return;
    row->prompt_tokens += (double)rows->prompt_n[i];
    row->prompt_s += timing->first_token_s;
    if (isnan(timing->duration_s))
        return;
    row->generation_tokens += (double)rows->output_tokens[i];
    row->generation_s += timing->duration_s - timing->first_token_s;
}

static bool real_add(dm__keys *keys, size_t bucket, double value)
{
    uint64_t key = dm__key_of_real(value);
    return isnan(value) || dm__keys_add(keys, bucket, &key, 1);
}

/* Rows `from` to `to` - 1, which lie in the bucket where we are. */
static bool run_add(performance_read *asked, const dm__rows_part *part, size_t from, size_t to)
{
    dm_performance_row *row = &asked->buckets[asked->at];
    const dm_request_columns *rows = &part->rows;
    row->requests += (int64_t)(to - from);
    bool done = dm__keys_add(&asked->inputs, asked->at, (const uint64_t *)rows->input_tokens + from,
                             to - from) &&
                dm__keys_add(&asked->outputs, asked->at,
                             (const uint64_t *)rows->output_tokens + from, to - from);
    for (size_t i = from; i < to && part->timings != NULL && done; i++) {
        const dm_timing *timing = &part->timings[i];
        rates_add(row, rows, i, timing);
        done = real_add(&asked->durations, asked->at, timing->duration_s) &&
               real_add(&asked->first_tokens, asked->at, timing->first_token_s);
    }
    return done;
}

static dm_status some_add(void *argument, const dm__rows_part *part, dm_error *err)
{
    performance_read *asked = argument;
    const double *times_s = part->rows.timestamp_s;
    for (size_t from = 0, to; from < part->rows.count; from = to) {
        bucket_enter(asked, times_s[from]);
        dm_performance_row *row = &asked->buckets[asked->at];
        double first_s = times_s[from], last_s = first_s;
        for (to = from + 1; to < part->rows.count && bucket_holds(asked, times_s[to]); to++) {
            first_s = times_s[to] < first_s ? times_s[to] : first_s;
            last_s = times_s[to] > last_s ? times_s[to] : last_s;
        }
        row->first_request_s = fmin(row->first_request_s, first_s); /* passes over NaN */
        row->last_request_s = fmax(row->last_request_s, last_s);
        if (!run_add(asked, part, from, to))
            return dm__no_memory(err);
    }
    return DM_OK;
}

static dm_status requests_read(dm__conn *conn, dm__model *model, performance_read *asked,
                               dm_error *err)
{
    dm__rows_query query = {.start_s = asked->edges_s[0],
                            .end_s = asked->edges_s[asked->edge_count - 1],
                            .timings = true,
                            .each = some_add,
                            .argument = asked};
    return dm__rows_each(conn, model, &query, err);
}

static dm_status percentiles_store(performance_read *asked, dm_error *err)
{
    const struct {
        const dm__keys *keys;
        bool whole;
        dm_percentiles *first;
    } measures[] = {{&asked->durations, false, &asked->buckets->duration_s},
                    {&asked->first_tokens, false, &asked->buckets->first_token_s},
                    {&asked->inputs, true, &asked->buckets->input_tokens},
                    {&asked->outputs, true, &asked->buckets->output_tokens}};
    dm_status rc = DM_OK;
    for (size_t i = 0; i < sizeof measures / sizeof *measures && rc == DM_OK; i++)
        rc = dm__percentiles(measures[i].keys, asked->edge_count - 1, measures[i].whole,
                             measures[i].first, sizeof *asked->buckets, err);
    return rc;
}

static dm_status model_performance_read(dm__conn *conn, dm__model *model, dm__model_read *read,
                                        dm_error *err)
{
    performance_read *asked = (performance_read *)read;
    const size_t buckets = asked->edge_count - 1;
    asked->buckets = asked->rows + read->index * buckets;
    asked->at = 0;
    for (size_t b = 0; b < buckets; b++)
        asked->buckets[b] = (dm_performance_row){
            .model = read->index, .bucket = b, .first_request_s = NAN, .last_request_s = NAN};
    dm_status rc = requests_read(conn, model, asked, err);
    if (rc == DM_OK)
        rc = percentiles_store(asked, err);
    dm__keys_reset(&asked->durations);
    dm__keys_reset(&asked->first_tokens);
    dm__keys_reset(&asked->inputs);
    dm__keys_reset(&asked->outputs);
    return rc;
}

typedef struct {
    const dm_str *models;
    size_t model_count;
    const double *edges_s;
    size_t edge_count;
    dm_performance *performance;
} query_read;

static dm_status performance_of_all(dm__conn *conn, void *argument, dm_error *err)
{
    const query_read *query = argument;
    dm_performance *performance = query->performance;
    dm_performance_reset(performance);
    dm_status rc =
        dm__models_asked(conn, query->models, query->model_count, &performance->models, err);
    if (rc != DM_OK)
        return rc;
    size_t rows = performance->models.count * (query->edge_count - 1);
    performance->rows = dm__calloc(rows + 1, sizeof *performance->rows);
    if (performance->rows == NULL)
        return dm__no_memory(err);
    performance->row_count = rows;
    performance_read read = {.read = {.from = model_performance_read},
                             .edges_s = query->edges_s,
                             .edge_count = query->edge_count,
                             .rows = performance->rows};
    return dm__read_models(conn, &performance->models, &read.read, sizeof read, err);
}

void dm_performance_reset(dm_performance *performance)
{
    dm_model_names_reset(&performance->models);
    dm__free(performance->rows);
    *performance = (dm_performance){0};
}

dm_status dm_performance_get(dm_manager *m, const dm_str *models, size_t model_count,
                             const double *edges_s, size_t edge_count,
                             dm_performance *performance_out, dm_error *err)
{
    dm_performance performance = {0};
    query_read query = {models, model_count, edges_s, edge_count, &performance};
    dm_status rc = dm__edges_check(edges_s, edge_count, err);
    if (rc == DM_OK)
        rc = dm__read_rows(m, model_count != 1 || models == NULL, performance_of_all, &query, err);
    if (rc == DM_OK)
        *performance_out = performance;
    else
        dm_performance_reset(&performance);
    return rc;
}
