/* SPDX-License-Identifier: MIT
 *
 * From when to when there is anything at all. What is impossible says nothing here: who reads it
 * names it, and a prune goes on with the rest. */
#include "kept.h"

typedef struct {
    dm__model_read read;
    const dm_str *models;
    size_t model_count;
    double bounds_s[2];
} span_read;

static dm_status times_widen(dm__scan *scan)
{
    double *bounds_s = scan->argument;
    for (size_t i = 0; i < scan->rows.count; i++) {
        bounds_s[0] = fmin(bounds_s[0], scan->rows.timestamp_s[i]); /* passes over NaN */
        bounds_s[1] = fmax(bounds_s[1], scan->rows.timestamp_s[i]);
    }
    scan->rows.count = 0;
    return DM_OK;
}

static dm_status possible_times_span(dm__conn *conn, dm__model *model, double bounds_s[2],
                                     dm_error *err)
{
    dm__scan scan = {.after_id = INT64_MIN,
                     .end_id = INT64_MAX,
                     .start_s = -INFINITY,
                     .end_s = INFINITY,
                     .limit = SIZE_MAX,
                     .capacity = DM__CHUNK_ROWS,
                     .full = times_widen,
                     .argument = bounds_s,
                     .times_only = true};
    dm_status rc = dm__request_columns_alloc(&scan.rows, DM__CHUNK_ROWS)
                       ? dm__scan_run(conn, model, &scan, err)
                       : dm__no_memory(err);
    if (rc == DM_OK)
        rc = times_widen(&scan);
    dm_request_columns_reset(&scan.rows);
    return rc;
}

static dm_status model_span_read(dm__conn *conn, dm__model *model, dm__model_read *read,
                                 dm_error *err)
{
    span_read *span = (span_read *)read;
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_RUN_SPAN, &stmt, err);
    if (rc == DM_OK)
        rc = dm__stmt_step(conn, stmt, &row, err);
    for (int i = 0; rc == DM_OK && row && i < 2; i++) {
        if (sqlite3_column_type(stmt, i) != SQLITE_FLOAT &&
            sqlite3_column_type(stmt, i) != SQLITE_INTEGER)
            continue; /* no rows; or something that is no time, which reading it will name */
        double time_s = sqlite3_column_double(stmt, i);
        span->bounds_s[0] = fmin(span->bounds_s[0], time_s); /* passes over NaN */
        span->bounds_s[1] = fmax(span->bounds_s[1], time_s);
    }
    dm__stmt_put(stmt);
    if (rc == DM_OK)
        rc = dm__kept_span(conn, model->safe, span->bounds_s, err);
    if (rc != DM_OK)
        return rc;
    rc = dm__rows_span(conn, model, span->bounds_s, err);
    return rc == DM_CORRUPT_DATA ? possible_times_span(conn, model, span->bounds_s, err) : rc;
}

static void spans_merge(dm__model_read *read, const dm__model_read *other)
{
    double *bounds_s = ((span_read *)read)->bounds_s;
    const double *others_s = ((const span_read *)other)->bounds_s;
    bounds_s[0] = fmin(bounds_s[0], others_s[0]);
    bounds_s[1] = fmax(bounds_s[1], others_s[1]);
}

static dm_status span_of_all(dm__conn *conn, void *argument, dm_error *err)
{
    span_read *span = argument;
    dm_model_names names = {0};
    dm_status rc = dm__models_asked(conn, span->models, span->model_count, &names, err);
    span->bounds_s[0] = span->bounds_s[1] = NAN;
    span->read.from = model_span_read;
    span->read.merge = spans_merge;
    if (rc == DM_OK)
        rc = dm__read_models(conn, &names, &span->read, sizeof *span, err);
    dm_model_names_reset(&names);
    return rc;
}

dm_status dm_time_span_get(dm_manager *m, const dm_str *models, size_t model_count,
                           double *first_s_out, double *last_s_out, dm_error *err)
{
    span_read span = {.models = models, .model_count = model_count};
    dm_status rc = dm__read_rows(m, model_count != 1 || models == NULL, span_of_all, &span, err);
    if (rc != DM_OK)
        return rc;
    *first_s_out = span.bounds_s[0];
    *last_s_out = span.bounds_s[1];
    return DM_OK;
}
