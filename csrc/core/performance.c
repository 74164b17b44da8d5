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

static size_t bucket_of(performance_read *asked, double time_s)
{
    const double *edges_s = asked->edges_s;
    if (!(time_s >= edges_s[asked->at] && time_s < edges_s[asked->at + 1]))
        asked->at = (size_t)dm__last_at_most(edges_s, asked->edge_count - 1, time_s);
    return asked->at;
}

static bool keys_add(performance_read *asked, size_t bucket, const dm_request_columns *rows,
                     size_t i, const dm_timing *timing)
{
    return dm__keys_add(&asked->inputs, bucket, (uint64_t)rows->input_tokens[i]) &&
           dm__keys_add(&asked->outputs, bucket, (uint64_t)rows->output_tokens[i]) &&
           (isnan(timing->duration_s) ||
            dm__keys_add(&asked->durations, bucket, dm__key_of_real(timing->duration_s))) &&
           (isnan(timing->first_token_s) ||
            dm__keys_add(&asked->first_tokens, bucket, dm__key_of_real(timing->first_token_s)));
}

static void rates_add(dm_performance_row *row, const dm_request_columns *rows, size_t i,
                      const dm_timing *timing)
{
    row->requests++;
    row->first_request_s = fmin(row->first_request_s, rows->timestamp_s[i]); /* passes over NaN */
    row->last_request_s = fmax(row->last_request_s, rows->timestamp_s[i]);
    if (isnan(timing->first_token_s))
        return;
    row->prompt_tokens += (double)rows->prompt_n[i];
    row->prompt_s += timing->first_token_s;
    if (isnan(timing->duration_s))
        return;
    row->generation_tokens += (double)rows->output_tokens[i];
    row->generation_s += timing->duration_s - timing->first_token_s;
}

static dm_status some_add(void *argument, dm_request_columns *rows, const dm_timing *timings,
                          dm_error *err)
{
    performance_read *asked = argument;
    const dm_timing unknown = DM_TIMING_UNKNOWN;
    for (size_t i = 0; i < rows->count; i++) {
        const dm_timing *timing = timings == NULL ? &unknown : &timings[i];
        size_t bucket = bucket_of(asked, rows->timestamp_s[i]);
        rates_add(&asked->buckets[bucket], rows, i, timing);
        if (!keys_add(asked, bucket, rows, i, timing))
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
    return dm__read_models(conn, &performance->models, &read.read, err);
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
        rc = dm__read_rows(m, performance_of_all, &query, err);
    if (rc == DM_OK)
        *performance_out = performance;
    else
        dm_performance_reset(&performance);
    return rc;
}
