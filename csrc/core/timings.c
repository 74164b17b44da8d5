/* SPDX-License-Identifier: MIT
 *
 * How long requests took: {safe}_timings(request_id, duration, first_token), a table beside the
 * manual's that is made with a model's first timing. */
#include "dm_internal.h"

dm_status dm__timings_create(dm__conn *conn, const char *safe, dm_error *err)
{
    return dm__conn_exec(conn, err,
                         "CREATE TABLE IF NOT EXISTS \"%w_timings\" (\n"
                         "    request_id INTEGER PRIMARY KEY,\n"
                         "    duration REAL,\n"
                         "    first_token REAL\n)",
                         safe);
}

static void bind_known(sqlite3_stmt *stmt, int at, double value)
{
    (void)(isnan(value) ? sqlite3_bind_null(stmt, at) : sqlite3_bind_double(stmt, at, value));
}

bool dm__timing_known(const dm_timing *timing)
{
    return !isnan(timing->duration_s) || !isnan(timing->first_token_s);
}

dm_timing dm__timing_of_row(const dm_request_rows *rows, size_t i)
{
    return (dm_timing){rows->duration_s == NULL ? NAN : rows->duration_s[i],
                       rows->first_token_s == NULL ? NAN : rows->first_token_s[i]};
}

dm_status dm__timing_insert(dm__conn *conn, dm__model *model, int64_t request_id,
                            const dm_timing *timing, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc =
        dm__side_stmt_get(conn, model, DM__STMT_TIMING_INSERT, dm__timings_create, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_int64(stmt, 1, request_id);
        bind_known(stmt, 2, timing->duration_s);
        bind_known(stmt, 3, timing->first_token_s);
        rc = dm__side_stmt_run(conn, model, dm__timings_create, stmt, err);
    }
    dm__stmt_put(stmt);
    return rc;
}

/* ---- reading: a second cursor, beside that over the requests ---- */

dm_status dm__timings_open(dm__conn *conn, dm__model *model, int64_t first_id, dm__timings *timings,
                           dm_error *err)
{
    *timings = (dm__timings){.conn = conn, .id = INT64_MIN};
    (void)sqlite3_snprintf((int)sizeof timings->table, timings->table, "%s_timings", model->safe);
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_TIMINGS, &timings->stmt, err);
    if (rc == DM_OK)
        (void)sqlite3_bind_int64(timings->stmt, 1, first_id);
    return rc == (dm_status)DM__STALE ? DM_OK : rc; /* no table: nothing was timed */
}

static dm_status known_read(const dm__row *row, int column, double *out, dm_error *err)
{
    *out = NAN;
    return sqlite3_column_type(row->stmt, column) == SQLITE_NULL
               ? DM_OK
               : dm__row_time(row, column, out, err);
}

static dm_status timing_next(dm__timings *timings, dm_error *err)
{
    bool row = false;
    dm_status rc = dm__stmt_step(timings->conn, timings->stmt, &row, err);
    if (rc != DM_OK || !row) {
        timings->id = INT64_MAX;
        return rc;
    }
    timings->id = sqlite3_column_int64(timings->stmt, 0);
    dm__row at = {timings->stmt, timings->table, timings->id};
    rc = known_read(&at, 1, &timings->timing.duration_s, err);
    return rc == DM_OK ? known_read(&at, 2, &timings->timing.first_token_s, err) : rc;
}

dm_status dm__timings_find(dm__timings *timings, int64_t request_id, dm_timing *timing_out,
                           dm_error *err)
{
    dm_status rc = DM_OK;
    while (rc == DM_OK && timings->stmt != NULL && timings->id < request_id)
        rc = timing_next(timings, err);
    *timing_out =
        timings->stmt != NULL && timings->id == request_id ? timings->timing : DM_TIMING_UNKNOWN;
    return rc;
}

void dm__timings_close(dm__timings *timings)
{
    dm__stmt_put(timings->stmt);
    timings->stmt = NULL;
}
