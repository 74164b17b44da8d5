/* SPDX-License-Identifier: MIT
 *
 * The one way of many rows into a table. They are read by SQLite itself, from arrays, through a
 * virtual table of ours, so that one statement inserts them all: no binding and no restart for
 * each row, and AUTOINCREMENT writes its counter once. */
#include "dm_internal.h"

#include <string.h>

typedef struct {
    sqlite3_vtab base;
    dm__conn *conn;
} feed_table;

typedef struct {
    sqlite3_vtab_cursor base;
    const dm__feed *feed; /* NULL: nothing goes in now */
    size_t at;
    int64_t next_id; /* of the next row that goes in */
} feed_cursor;

/* To the next row that goes in, from `at` on. */
static void feed_seek(feed_cursor *cursor)
{
    const dm__feed *feed = cursor->feed;
    if (feed == NULL || feed->row_ids == NULL)
        return;
    while (cursor->at < feed->rows->count && feed->row_ids[cursor->at] != cursor->next_id)
        cursor->at++;
}

static int feed_connect(sqlite3 *db, void *conn, int argc, const char *const *argv,
                        sqlite3_vtab **table_out, char **error)
{
    (void)argc, (void)argv, (void)error;
    int code = sqlite3_declare_vtab(
        db, "CREATE TABLE x(timestamp,input_tokens,output_tokens,cache_n,prompt_n)");
    if (code != SQLITE_OK)
        return code;
    (void)sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY); /* in no schema */
    feed_table *table = sqlite3_malloc((int)sizeof *table);
    if (table == NULL)
        return SQLITE_NOMEM;
    *table = (feed_table){.conn = conn};
    *table_out = &table->base;
    return SQLITE_OK;
}

static int feed_disconnect(sqlite3_vtab *table)
{
    sqlite3_free(table);
    return SQLITE_OK;
}

static int feed_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
    (void)table;
    info->estimatedCost = 1;
    return SQLITE_OK;
}

static int feed_open(sqlite3_vtab *table, sqlite3_vtab_cursor **cursor_out)
{
    feed_cursor *cursor = sqlite3_malloc((int)sizeof *cursor);
    if (cursor == NULL)
        return SQLITE_NOMEM;
    *cursor = (feed_cursor){.feed = ((feed_table *)table)->conn->feed};
    *cursor_out = &cursor->base;
    return SQLITE_OK;
}

static int feed_close(sqlite3_vtab_cursor *cursor)
{
    sqlite3_free(cursor);
    return SQLITE_OK;
}

static int feed_filter(sqlite3_vtab_cursor *cursor, int plan, const char *text, int argc,
                       sqlite3_value **argv)
{
    (void)plan, (void)text, (void)argc, (void)argv;
    feed_cursor *feeding = (feed_cursor *)cursor;
    feeding->at = 0;
    feeding->next_id = feeding->feed == NULL ? 0 : feeding->feed->first_id;
    feed_seek(feeding);
    return SQLITE_OK;
}

static int feed_next(sqlite3_vtab_cursor *base)
{
    feed_cursor *cursor = (feed_cursor *)base;
    cursor->at++;
    cursor->next_id++;
    feed_seek(cursor);
    dm__stop *stop = &((feed_table *)base->pVtab)->conn->stop;
    return cursor->next_id % DM__STOP_ROWS == 0 && dm__stop_asked(stop) ? SQLITE_INTERRUPT
                                                                        : SQLITE_OK;
}

static int feed_eof(sqlite3_vtab_cursor *base)
{
    const feed_cursor *cursor = (const feed_cursor *)base;
    return cursor->feed == NULL || cursor->at >= cursor->feed->rows->count;
}

static int feed_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
    const feed_cursor *cursor = (const feed_cursor *)base;
    const dm_request_rows *rows = cursor->feed->rows;
    const int64_t *const counts[] = {rows->input_tokens, rows->output_tokens, rows->cache_n,
                                     rows->prompt_n};
    if (column == 0)
        sqlite3_result_double(context, rows->timestamp_s[cursor->at]);
    else
        sqlite3_result_int64(context, counts[column - 1][cursor->at]);
    return SQLITE_OK;
}

static int feed_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid_out)
{
    *rowid_out = (sqlite3_int64)((feed_cursor *)cursor)->at;
    return SQLITE_OK;
}

dm_status dm__feed_install(dm__conn *conn, dm_error *err)
{
    static const sqlite3_module module = {.xConnect = feed_connect, /* without xCreate: no table
                                                                       can be made of it */
                                          .xBestIndex = feed_best_index,
                                          .xDisconnect = feed_disconnect,
                                          .xOpen = feed_open,
                                          .xClose = feed_close,
                                          .xFilter = feed_filter,
                                          .xNext = feed_next,
                                          .xEof = feed_eof,
                                          .xColumn = feed_column,
                                          .xRowid = feed_rowid};
    int code = sqlite3_create_module_v2(conn->db, "datamanager_rows", &module, conn, NULL);
    return code == SQLITE_OK ? DM_OK : dm__fail_sqlite(err, conn->db, code, "open the database");
}

dm_status dm__feed_run(dm__conn *conn, dm__model *model, const dm__feed *feed, dm_ids *ids_out,
                       dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUESTS_INSERT, &stmt, err);
    if (rc != DM_OK)
        return rc;
    conn->feed = feed;
    int code = sqlite3_step(stmt);
    conn->feed = NULL;
    if (code == SQLITE_DONE)
        *ids_out =
            (dm_ids){.first_id = sqlite3_last_insert_rowid(conn->db) - (int64_t)feed->count + 1,
                     .count = (int64_t)feed->count};
    else if (code == SQLITE_INTERRUPT)
        rc = dm__fail(err, DM_INTERRUPTED, "interrupted while writing");
    else
        rc = dm__stmt_failed(conn, stmt, code, err);
    (void)sqlite3_reset(stmt);
    rc = dm__row_ids_failed(conn, model, feed->count, rc, err);
    if (rc == DM_OK && dm__checksums_exist(conn, model->safe))
        rc = dm__checksums_add(conn, model, ids_out->first_id, err);
    return rc;
}
