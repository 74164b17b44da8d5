/* SPDX-License-Identifier: MIT
 *
 * From when to when there is anything at all. */
#include "kept.h"

typedef struct {
    dm__model_read read;
    const dm_str *models;
    size_t model_count;
    double bounds_s[2];
} span_read;

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
    return rc == DM_OK ? dm__rows_span(conn, model, span->bounds_s, err) : rc;
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
