/* SPDX-License-Identifier: MIT
 *
 * Exactly once: {safe}_request_ids(row_id, request_id), a table beside the manual's that is made
 * with a model's first request that has an id. It is looked up in the transaction that inserts, and
 * writers take turns, so two that bring the same id at once cannot both find it new. An id stays
 * when its row is deleted: rows get each number once, and what was pruned must not come back. */
#include "dm_internal.h"

dm_status dm__request_ids_create(dm__conn *conn, const char *safe, dm_error *err)
{
    return dm__conn_exec(conn, err,
                         "CREATE TABLE IF NOT EXISTS \"%w_request_ids\" (\n"
                         "    row_id INTEGER PRIMARY KEY,\n"
                         "    request_id TEXT NOT NULL UNIQUE\n)",
                         safe);
}

static void bind_id(sqlite3_stmt *stmt, int at, dm_str id)
{
    (void)sqlite3_bind_text(stmt, at, id.bytes, (int)id.length, SQLITE_STATIC);
}

/* The id that the model's next row will have. */
static dm_status next_id_read(dm__conn *conn, dm__model *model, int64_t *next_id_out, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST_NEXT, &stmt, err);
    if (rc == DM_OK)
        rc = dm__stmt_step(conn, stmt, &row, err);
    if (rc == DM_OK)
        *next_id_out = sqlite3_column_int64(stmt, 0);
    dm__stmt_put(stmt);
    if (rc == DM_OK && *next_id_out == INT64_MAX)
        rc = dm__fail_sqlite(err, conn->db, SQLITE_FULL, "number another request");
    *next_id_out += rc == DM_OK;
    return rc;
}

/* `next_id` of next_id_read: an id of a row that is yet to come is left from requests that another
 * program has dropped with their table. */
static dm_status id_find(dm__conn *conn, dm__model *model, dm_str request_id, int64_t next_id,
                         int64_t *row_id_out, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    int64_t row_id = 0;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST_ID_FIND, &stmt, err);
    if (rc == DM_OK) {
        bind_id(stmt, 1, request_id);
        rc = dm__stmt_step(conn, stmt, &row, err);
    }
    if (rc == DM_OK && row)
        row_id = sqlite3_column_int64(stmt, 0);
    dm__stmt_put(stmt);
    *row_id_out = row_id < next_id ? row_id : 0;
    return rc == (dm_status)DM__STALE ? DM_OK : rc; /* no table: no id is known */
}

dm_status dm__request_id_find(dm__conn *conn, dm__model *model, dm_str request_id,
                              int64_t *row_id_out, dm_error *err)
{
    int64_t next_id = INT64_MAX;
    dm_status rc = id_find(conn, model, request_id, next_id, row_id_out, err);
    if (rc != DM_OK || *row_id_out == 0)
        return rc;
    rc = next_id_read(conn, model, &next_id, err);
    if (*row_id_out >= next_id)
        *row_id_out = 0;
    return rc;
}

static dm_status insert_get(dm__conn *conn, dm__model *model, sqlite3_stmt **stmt_out,
                            dm_error *err)
{
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST_ID_INSERT, stmt_out, err);
    if (rc != (dm_status)DM__STALE)
        return rc;
    rc = dm__request_ids_create(conn, model->safe, err);
    return rc == DM_OK ? dm__model_stmt_get(conn, model, DM__STMT_REQUEST_ID_INSERT, stmt_out, err)
                       : rc;
}

dm_status dm__request_id_insert(dm__conn *conn, dm__model *model, int64_t row_id, dm_str request_id,
                                dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = insert_get(conn, model, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_int64(stmt, 1, row_id);
        bind_id(stmt, 2, request_id);
        rc = dm__stmt_run(conn, stmt, err);
    }
    dm__stmt_put(stmt);
    return rc;
}

/* ---- many ---- */

/* The ids go in ahead of their rows, so that one that comes twice is found the second time. */
static dm_status rows_number(dm__conn *conn, dm__model *model, size_t count,
                             const dm_str *request_ids, int64_t *row_ids, int64_t *next_id,
                             dm_error *err)
{
    dm_status rc = DM_OK;
    for (size_t i = 0; i < count && rc == DM_OK; i++) {
        bool has_id = request_ids[i].bytes != NULL;
        row_ids[i] = 0;
        if (has_id)
            rc = id_find(conn, model, request_ids[i], *next_id, &row_ids[i], err);
        if (rc == DM_OK && row_ids[i] == 0) {
            row_ids[i] = (*next_id)++;
            if (has_id)
                rc = dm__request_id_insert(conn, model, row_ids[i], request_ids[i], err);
        }
        if (rc == DM_OK && i % DM__STOP_ROWS == 0 && dm__stop_asked(&conn->stop))
            rc = dm__fail(err, DM_INTERRUPTED, "interrupted while writing");
    }
    return rc;
}

dm_status dm__requests_insert_once(dm__conn *conn, dm__model *model, const dm_request_rows *rows,
                                   const dm_str *request_ids, int64_t *row_ids, dm_ids *ids_out,
                                   dm_error *err)
{
    int64_t first_id = 0;
    dm_status rc = next_id_read(conn, model, &first_id, err);
    int64_t next_id = first_id;
    if (rc == DM_OK)
        rc = rows_number(conn, model, rows->count, request_ids, row_ids, &next_id, err);
    if (rc != DM_OK)
        return rc;
    dm__feed feed = {rows, row_ids, first_id, (size_t)(next_id - first_id)};
    dm_ids ids = {.first_id = first_id};
    if (feed.count > 0)
        rc = dm__feed_run(conn, model, &feed, &ids, err);
    if (rc == DM_OK && ids.first_id != first_id)
        rc = dm__fail(err, DM_INTERNAL, "rows were numbered from %lld, not from %lld",
                      (long long)ids.first_id, (long long)first_id);
    if (rc == DM_OK)
        *ids_out = (dm_ids){.first_id = first_id, .count = ids.count, .row_ids = row_ids};
    return rc;
}
