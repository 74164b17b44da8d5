/* SPDX-License-Identifier: MIT
 *
 * Request rows: inserted, and read into columns. */
#include "dm_internal.h"

#include <string.h>

dm_status dm__window_check(const dm_window *window, dm_error *err)
{
    if (isnan(window->start_s))
        return dm__fail(err, DM_INVALID, "start must be a number of seconds since 1970, not nan");
    if (isnan(window->end_s))
        return dm__fail(err, DM_INVALID, "end must be a number of seconds since 1970, not nan");
    if (window->limit < 0)
        return dm__fail(err, DM_INVALID, "limit must be a whole number of at least 0, not %lld",
                        (long long)window->limit);
    return DM_OK;
}

static void request_bind(sqlite3_stmt *stmt, double timestamp_s, int64_t input_tokens,
                         int64_t output_tokens, int64_t cache_n, int64_t prompt_n)
{
    (void)sqlite3_bind_double(stmt, 1, timestamp_s);
    (void)sqlite3_bind_int64(stmt, 2, input_tokens);
    (void)sqlite3_bind_int64(stmt, 3, output_tokens);
    (void)sqlite3_bind_int64(stmt, 4, cache_n);
    (void)sqlite3_bind_int64(stmt, 5, prompt_n);
}

dm_status dm__request_insert(dm__conn *conn, dm__model *model, const dm_request *request,
                             int64_t *id_out, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST_INSERT, &stmt, err);
    if (rc != DM_OK)
        return rc;
    request_bind(stmt, request->timestamp_s, request->input_tokens, request->output_tokens,
                 request->cache_n, request->prompt_n);
    rc = dm__stmt_run(conn, stmt, err);
    if (rc == DM_OK)
        *id_out = sqlite3_last_insert_rowid(conn->db);
    (void)sqlite3_reset(stmt); /* the bindings are numbers: nothing to clear */
    return rc;
}

dm_status dm__requests_insert(dm__conn *conn, dm__model *model, const dm_request_rows *rows,
                              dm_ids *ids_out, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST_INSERT, &stmt, err);
    if (rc != DM_OK)
        return rc;
    for (size_t i = 0; i < rows->count && rc == DM_OK; i++) {
        request_bind(stmt, rows->timestamp_s[i], rows->input_tokens[i], rows->output_tokens[i],
                     rows->cache_n[i], rows->prompt_n[i]);
        int code = sqlite3_step(stmt);
        if (code != SQLITE_DONE)
            rc = dm__stmt_failed(conn, stmt, code, err);
        (void)sqlite3_reset(stmt);
        if (rc == DM_OK && i == 0)
            ids_out->first_id = sqlite3_last_insert_rowid(conn->db);
        if (i % DM__STOP_ROWS == DM__STOP_ROWS - 1 && dm__stop_asked(&conn->stop))
            rc = dm__fail(err, DM_INTERRUPTED, "interrupted while writing");
    }
    if (rc == DM_OK)
        ids_out->count = (int64_t)rows->count;
    return rc;
}

/* ---- reading ---- */

static bool columns_grow(dm_request_columns *columns, size_t *capacity)
{
    size_t wanted = *capacity == 0 ? 256 : *capacity * 2;
    void **arrays[] = {(void **)&columns->id,           (void **)&columns->timestamp_s,
                       (void **)&columns->input_tokens, (void **)&columns->output_tokens,
                       (void **)&columns->cache_n,      (void **)&columns->prompt_n};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        void *grown = dm__realloc(*arrays[i], wanted * 8);
        if (grown == NULL)
            return false;
        *arrays[i] = grown;
    }
    *capacity = wanted;
    return true;
}

/* Rows that keep the rules are recognised without a call per rule; the others go the long way,
 * which accepts whole numbers written as REAL and names what it refuses. */
static bool row_is_plain(sqlite3_stmt *stmt, double timestamp_s)
{
    if (sqlite3_column_type(stmt, 1) != SQLITE_FLOAT || !(timestamp_s >= 0) || isinf(timestamp_s))
        return false;
    for (int column = 2; column <= 5; column++)
        if (sqlite3_column_type(stmt, column) != SQLITE_INTEGER ||
            (uint64_t)sqlite3_column_int64(stmt, column) > (uint64_t)DM_TOKENS_MAX)
            return false;
    return true;
}

static dm_status row_check(const dm__model *model, sqlite3_stmt *stmt, dm_error *err)
{
    char table[DM_SAFE_NAME_SIZE + 16];
    (void)sqlite3_snprintf((int)sizeof table, table, "%s_requests", model->safe);
    dm__row row = {stmt, table, sqlite3_column_int64(stmt, 0)};
    double time_s = 0;
    int64_t count = 0;
    dm_status rc = dm__row_time(&row, 1, &time_s, err);
    for (int column = 2; column <= 5 && rc == DM_OK; column++)
        rc = dm__row_count(&row, column, &count, err);
    return rc;
}

static void row_append(dm_request_columns *columns, sqlite3_stmt *stmt, double timestamp_s)
{
    size_t at = columns->count++;
    columns->id[at] = sqlite3_column_int64(stmt, 0);
    columns->timestamp_s[at] = timestamp_s;
    columns->input_tokens[at] = sqlite3_column_int64(stmt, 2);
    columns->output_tokens[at] = sqlite3_column_int64(stmt, 3);
    columns->cache_n[at] = sqlite3_column_int64(stmt, 4);
    columns->prompt_n[at] = sqlite3_column_int64(stmt, 5);
}

static dm_status requests_read(dm__conn *conn, dm__model *model, dm__model_read *read,
                               dm_error *err)
{
    dm_request_columns *columns = read->out;
    dm_request_columns_reset(columns);
    const double start_s = read->window->start_s, end_s = read->window->end_s;
    const size_t limit = read->window->limit > 0 ? (size_t)read->window->limit : SIZE_MAX;
    size_t capacity = 0;
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUESTS, &stmt, err);
    for (uint64_t step = 1; rc == DM_OK && columns->count < limit; step++) {
        int code = sqlite3_step(stmt);
        if (code != SQLITE_ROW) {
            rc = code == SQLITE_DONE ? DM_OK : dm__stmt_failed(conn, stmt, code, err);
            break;
        }
        double timestamp_s = sqlite3_column_double(stmt, 1);
        if (!row_is_plain(stmt, timestamp_s))
            rc = row_check(model, stmt, err);
        if (rc == DM_OK && timestamp_s >= start_s && timestamp_s < end_s) {
            if (columns->count < capacity || columns_grow(columns, &capacity))
                row_append(columns, stmt, timestamp_s);
            else
                rc = dm__no_memory(err);
        }
        if (rc == DM_OK && step % DM__STOP_ROWS == 0 && dm__stop_asked(&conn->stop))
            rc = dm__fail(err, DM_INTERRUPTED, "interrupted while reading");
    }
    dm__stmt_put(stmt);
    return rc;
}

static dm_status model_requests_read(dm__conn *conn, void *argument, dm_error *err)
{
    return dm__read_model(conn, argument, err);
}

dm_status dm_requests_get(dm_manager *m, dm_str model, const dm_window *window,
                          dm_request_columns *columns_out, dm_error *err)
{
    dm_request_columns columns = {0};
    dm__model_read read = {model, requests_read, window, &columns};
    dm_status rc = dm__window_check(window, err);
    if (rc == DM_OK)
        rc = dm__read(m, true, model_requests_read, &read, err);
    if (rc == DM_OK)
        *columns_out = columns;
    else
        dm_request_columns_reset(&columns);
    return rc;
}
