/* SPDX-License-Identifier: MIT
 *
 * Request rows: inserted, and read into columns. */
#include "dm_internal.h"

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

/* An insert that commits by itself, and how often it had been prepared again before. */
typedef struct {
    sqlite3_stmt *stmt;
    int prepared;
} lone_insert;

/* A commit hook: true where the tables are others than those by which the row needs no checksum.
 * Its checksum would be a transaction of its own, which may fail after the row is stored. */
static int tables_changed(void *insert)
{
    const lone_insert *lone = insert;
    return sqlite3_stmt_status(lone->stmt, SQLITE_STMTSTATUS_REPREPARE, 0) != lone->prepared;
}

static dm_status lone_run(dm__conn *conn, sqlite3_stmt *stmt, int prepared, dm_error *err)
{
    lone_insert lone = {stmt, prepared};
    (void)sqlite3_commit_hook(conn->db, tables_changed, &lone);
    dm_status rc = dm__stmt_run(conn, stmt, err);
    (void)sqlite3_commit_hook(conn->db, NULL, NULL);
    return rc != DM_OK && sqlite3_extended_errcode(conn->db) == SQLITE_CONSTRAINT_COMMITHOOK
               ? (dm_status)DM__NEEDS_TRANSACTION
               : rc;
}

dm_status dm__request_insert(dm__conn *conn, dm__model *model, const dm_request *request,
                             bool in_transaction, int64_t *id_out, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST_INSERT, &stmt, err);
    if (rc != DM_OK)
        return rc;
    dm__checksums_look(conn, model, stmt);
    if (!in_transaction && model->has_checksums)
        return (dm_status)DM__NEEDS_TRANSACTION;
    (void)sqlite3_bind_double(stmt, 1, request->timestamp_s);
    (void)sqlite3_bind_int64(stmt, 2, request->input_tokens);
    (void)sqlite3_bind_int64(stmt, 3, request->output_tokens);
    (void)sqlite3_bind_int64(stmt, 4, request->cache_n);
    (void)sqlite3_bind_int64(stmt, 5, request->prompt_n);
    rc = in_transaction ? dm__stmt_run(conn, stmt, err)
                        : lone_run(conn, stmt, model->insert_prepared, err);
    int64_t id = sqlite3_last_insert_rowid(conn->db);
    (void)sqlite3_reset(stmt); /* the bindings are numbers: nothing to clear */
    if (rc != DM_OK)
        return dm__row_ids_failed(conn, model, 1, rc, err);
    dm__checksums_look(conn, model, stmt);
    if (model->has_checksums)
        rc = dm__checksums_add(conn, model, id, err);
    if (rc == DM_OK)
        *id_out = id;
    else if (!in_transaction) /* one of a group, without a savepoint: the others run again */
        dm__rollback(conn);
    return rc;
}

dm_status dm__request_read(dm__conn *conn, dm__model *model, int64_t row_id, bool *found,
                           dm_request *request, dm_error *err)
{
    char table[DM_SAFE_NAME_SIZE + 16];
    (void)sqlite3_snprintf((int)sizeof table, table, "%s_requests", model->safe);
    int64_t *const counts[] = {&request->input_tokens, &request->output_tokens, &request->cache_n,
                               &request->prompt_n};
    dm__row row = {NULL, table, row_id};
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST, &row.stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_int64(row.stmt, 1, row_id);
        rc = dm__stmt_step(conn, row.stmt, found, err);
    }
    if (rc == DM_OK && *found)
        rc = dm__row_time(&row, 1, &request->timestamp_s, err);
    for (int i = 0; i < 4 && *found && rc == DM_OK; i++)
        rc = dm__row_count(&row, i + 2, counts[i], err);
    dm__stmt_put(row.stmt);
    return rc;
}

dm_status dm__requests_insert(dm__conn *conn, dm__model *model, const dm_request_rows *rows,
                              dm_ids *ids_out, dm_error *err)
{
    dm__feed feed = {.rows = rows, .count = rows->count};
    return feed.count == 0 ? DM_OK : dm__feed_run(conn, model, &feed, ids_out, err);
}

/* ---- reading ---- */

/* Going backwards costs a third more, but with a limit it ends early. */
static dm_status newest_read(dm__conn *conn, dm__model *model, const dm_window *window,
                             dm_request_columns *columns, dm_error *err)
{
    dm__scan scan = {.newest_first = true,
                     .start_s = window->start_s,
                     .end_s = window->end_s,
                     .limit = (size_t)window->limit,
                     .full = dm__request_columns_grow};
    dm_status rc = dm__scan_run(conn, model, &scan, err);
    *columns = scan.rows;
    return rc;
}

static dm_status requests_read(dm__conn *conn, dm__model *model, dm__model_read *read,
                               dm_error *err)
{
    const dm_window *window = read->window;
    dm_request_columns *columns = read->out;
    dm_request_columns_reset(columns);
    if (window->limit > 0)
        return newest_read(conn, model, window, columns, err);
    dm_status rc = dm__rows_all(conn, model, window->start_s, window->end_s, columns, err);
    if (rc == DM_OK)
        dm__request_columns_reverse(columns);
    return rc;
}

dm_status dm_requests_get(dm_manager *m, dm_str model, const dm_window *window,
                          dm_request_columns *columns_out, dm_error *err)
{
    dm_request_columns columns = {0};
    dm__model_read read = {.name = model, .from = requests_read, .window = window, .out = &columns};
    dm_status rc = dm__window_check(window, err);
    if (rc == DM_OK && window->limit > 0) /* from the table, whatever is in memory */
        rc = dm__read(m, true, dm__model_read_run, &read, err);
    else if (rc == DM_OK)
        rc = dm__read_rows(m, false, dm__model_read_run, &read, err);
    if (rc == DM_OK)
        *columns_out = columns;
    else
        dm_request_columns_reset(&columns);
    return rc;
}
