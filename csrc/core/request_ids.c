/* SPDX-License-Identifier: MIT
 *
 * Exactly once: {safe}_request_ids(row_id, request_id), a table beside the manual's that is made
 * with a model's first request that has an id. It is looked up in the transaction that inserts, and
 * writers take turns, so two that bring the same id at once cannot both find it new. An id stays
 * when its row is deleted: rows get each number once, and what was pruned must not come back.
 *
 * A row without an id of its own is exported with one that stands for it:
 *
 *     dm:7d5c0c9be1b4f0a2:1042:9f86d081884c7d65
 *        its era           row  what is in it
 *
 * Elsewhere that is an id like any other. Here, where the row is of that era (eras.c), it is found
 * again without a table, also when it has gone since: it is that row, unless the row holds
 * something else (another program has copied the file, and both went on) or has an id of its own
 * (then it came from elsewhere). */
#include "kept.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

dm_status dm__row_id_last(dm__conn *conn, dm__model *model, int64_t *last_id_out, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST_NEXT, &stmt, err);
    if (rc == DM_OK)
        rc = dm__stmt_step(conn, stmt, &row, err);
    if (rc == DM_OK)
        *last_id_out = sqlite3_column_int64(stmt, 0);
    dm__stmt_put(stmt);
    return rc;
}

static dm_status used_up(const dm__model *model, dm_error *err)
{
    return dm__fail(err, DM_CORRUPT_DATA,
                    "%s_requests: the numbers of rows are used up: another program has set the last"
                    " to 2^63-1 in sqlite_sequence, or in a row",
                    model->safe);
}

dm_status dm__row_ids_failed(dm__conn *conn, dm__model *model, size_t count, dm_status rc,
                             dm_error *err)
{
    int64_t last_id = 0;
    if (rc != DM_DISK_FULL || dm__row_id_last(conn, model, &last_id, NULL) != DM_OK ||
        last_id <= INT64_MAX - (int64_t)count)
        return rc;
    return used_up(model, err);
}

/* The id that the model's next row will have. */
static dm_status next_id_read(dm__conn *conn, dm__model *model, int64_t *next_id_out, dm_error *err)
{
    dm_status rc = dm__row_id_last(conn, model, next_id_out, err);
    if (rc == DM_OK && *next_id_out == INT64_MAX)
        rc = used_up(model, err);
    *next_id_out += rc == DM_OK;
    return rc;
}

dm_status dm__row_ids_reserve(dm__conn *conn, const char *safe, int64_t last_id, dm_error *err)
{
    return last_id <= 0
               ? DM_OK
               : dm__conn_exec(conn, err,
                               "INSERT INTO sqlite_sequence(name,seq) SELECT '%q_requests',0 WHERE"
                               " NOT EXISTS(SELECT 1 FROM sqlite_sequence WHERE"
                               " name='%q_requests' COLLATE NOCASE);"
                               "UPDATE sqlite_sequence SET seq=%lld WHERE"
                               " name='%q_requests' COLLATE NOCASE AND seq<%lld",
                               safe, safe, (long long)last_id, safe, (long long)last_id);
}

const dm__row_table dm__row_tables[DM__ROW_TABLES] = {
    {"_request_ids", "row_id"}, {"_timings", "request_id"}, {"_checksums", "request_id"}};

/* The greatest number of a row in `column`; 0 where there is no such table. */
static dm_status noted_last(dm__conn *conn, const char *table, const char *column, int64_t *last,
                            dm_error *err)
{
    *last = 0;
    if (!dm__table_has_column(conn, table, column))
        return DM_OK;
    return dm__conn_integer(conn, last, err, "SELECT coalesce(max(%s),0) FROM \"%w\"", column,
                            table);
}

/* At least as many rows were as were pruned. An exported id of one of them must not look as if its
 * row were yet to come. */
static dm_status pruned_count(dm__conn *conn, const char *safe, int64_t *count, dm_error *err)
{
    bool there = false;
    *count = 0;
    dm_status rc = dm__table_find(conn, dm__kept_tables[0], &there, err);
    if (rc != DM_OK || !there)
        return rc;
    return dm__conn_integer(conn, count, err,
                            "SELECT coalesce(sum(min(requests,%d)),0) FROM datamanager_usage_sums"
                            " WHERE safe_name=%Q",
                            DM__KEPT_ROWS, safe);
}

dm_status dm__row_ids_go_on(dm__conn *conn, const char *safe, dm_error *err)
{
    int64_t last_id = 0, last = 0;
    dm_status rc = pruned_count(conn, safe, &last_id, err);
    for (size_t i = 0; i < DM__ROW_TABLES && rc == DM_OK; i++) {
        char table[DM_SAFE_NAME_SIZE + 16];
        (void)sqlite3_snprintf((int)sizeof table, table, "%s%s", safe, dm__row_tables[i].suffix);
        rc = noted_last(conn, table, dm__row_tables[i].row_id, &last, err);
        last_id = last > last_id ? last : last_id;
    }
    return rc == DM_OK ? dm__row_ids_reserve(conn, safe, last_id, err) : rc;
}

/* ---- ids that stand for rows ---- */

static void exported_id(const char *era, int64_t row_id, const dm_request *request,
                        char text[DM__EXPORTED_ID_SIZE])
{
    char content[128];
    uint8_t digest[32];
    uint64_t time_bits = 0, hash = 0;
    memcpy(&time_bits, &request->timestamp_s, sizeof time_bits);
    int length = snprintf(content, sizeof content,
                          "%016" PRIx64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64, time_bits,
                          request->input_tokens, request->output_tokens, request->cache_n,
                          request->prompt_n);
    dm__sha256(content, (size_t)length, digest);
    for (int i = 0; i < 8; i++)
        hash = hash << 8 | digest[i];
    (void)snprintf(text, DM__EXPORTED_ID_SIZE, "dm:%s:%" PRId64 ":%016" PRIx64, era, row_id, hash);
}

static bool may_be_exported(dm_str id)
{
    return id.length > 3 && id.length < DM__EXPORTED_ID_SIZE && memcmp(id.bytes, "dm:", 3) == 0;
}

/* The row of an id that may be an exported one, whosever; 0: none. `text` gets the id. */
static int64_t exported_row(dm_str id, char text[DM__EXPORTED_ID_SIZE])
{
    memcpy(text, id.bytes, id.length);
    text[id.length] = '\0';
    const char *colon = strchr(text + 3, ':');
    int64_t row_id = colon == NULL ? 0 : strtoll(colon + 1, NULL, 10);
    return row_id > 0 ? row_id : 0;
}

static bool is_of_era(const char *text, const dm__era *era)
{
    size_t length = strlen(era->word);
    return length > 0 && strncmp(text + 3, era->word, length) == 0 && text[3 + length] == ':';
}

static dm_status row_has_id(dm__conn *conn, dm__model *model, int64_t row_id, bool *has,
                            dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    *has = false;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST_ID_OF_ROW, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_int64(stmt, 1, row_id);
        rc = dm__stmt_step(conn, stmt, has, err);
    }
    dm__stmt_put(stmt);
    return rc == (dm_status)DM__STALE ? DM_OK : rc;
}

/* The row of before `next_id` that the id stands for; 0: none. It may have been deleted since. */
static dm_status own_row_find(dm__conn *conn, dm__model *model, dm_str request_id, int64_t next_id,
                              int64_t *row_id_out, dm_error *err)
{
    char text[DM__EXPORTED_ID_SIZE], here[DM__EXPORTED_ID_SIZE];
    bool found = false, has_id = false;
    dm_request request = {0};
    dm__era era;
    *row_id_out = 0;
    int64_t row_id = may_be_exported(request_id) ? exported_row(request_id, text) : 0;
    if (row_id == 0 || row_id >= next_id)
        return DM_OK;
    dm_status rc = dm__era_find(conn, model->safe, row_id, &era, err);
    if (rc != DM_OK || !is_of_era(text, &era))
        return rc;
    rc = row_has_id(conn, model, row_id, &has_id, err);
    if (rc == DM_OK && !has_id)
        rc = dm__request_read(conn, model, row_id, &found, &request, err);
    if (rc != DM_OK || has_id)
        return rc;
    exported_id(era.word, row_id, &request, here);
    *row_id_out = !found || strcmp(text, here) == 0 ? row_id : 0;
    return DM_OK;
}

/* ---- one ---- */

/* The row that is noted with the id; 0: none. */
static dm_status noted_row_find(dm__conn *conn, dm__model *model, dm_str request_id,
                                int64_t *row_id_out, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    *row_id_out = 0;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST_ID_FIND, &stmt, err);
    if (rc == DM_OK) {
        bind_id(stmt, 1, request_id);
        rc = dm__stmt_step(conn, stmt, &row, err);
    }
    if (rc == DM_OK && row)
        *row_id_out = sqlite3_column_int64(stmt, 0);
    dm__stmt_put(stmt);
    return rc == (dm_status)DM__STALE ? DM_OK : rc; /* no table: no id is known */
}

dm_status dm__request_id_find(dm__conn *conn, dm__model *model, dm_str request_id,
                              int64_t *row_id_out, dm_error *err)
{
    int64_t row_id = 0, next_id = 0;
    dm_status rc = noted_row_find(conn, model, request_id, &row_id, err);
    if (rc == DM_OK && (row_id != 0 || may_be_exported(request_id)))
        rc = next_id_read(conn, model, &next_id, err);
    /* A row that is yet to come is one of requests that others have dropped with their table. */
    if (rc == DM_OK && (row_id == 0 || row_id >= next_id))
        rc = own_row_find(conn, model, request_id, next_id, &row_id, err);
    if (rc == DM_OK)
        *row_id_out = row_id;
    return rc;
}

dm_status dm__request_id_insert(dm__conn *conn, dm__model *model, int64_t row_id, dm_str request_id,
                                dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__side_stmt_get(conn, model, DM__STMT_REQUEST_ID_INSERT,
                                     dm__request_ids_create, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_int64(stmt, 1, row_id);
        bind_id(stmt, 2, request_id);
        rc = dm__side_stmt_run(conn, model, dm__request_ids_create, stmt, err);
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
    const int64_t first_id = *next_id;
    dm_status rc = DM_OK;
    for (size_t i = 0; i < count && rc == DM_OK; i++) {
        bool has_id = request_ids[i].bytes != NULL;
        row_ids[i] = 0;
        if (has_id)
            rc = noted_row_find(conn, model, request_ids[i], &row_ids[i], err);
        if (has_id && rc == DM_OK && (row_ids[i] == 0 || row_ids[i] >= *next_id))
            rc = own_row_find(conn, model, request_ids[i], first_id, &row_ids[i], err);
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

/* ---- reading: a second cursor, beside that over the requests ---- */

dm_status dm__request_ids_open(dm__conn *conn, dm__model *model, dm__request_ids *ids,
                               dm_error *err)
{
    *ids = (dm__request_ids){
        .conn = conn, .safe = model->safe, .era.last_row = INT64_MIN, .row_id = INT64_MIN};
    (void)sqlite3_snprintf((int)sizeof ids->table, ids->table, "%s_request_ids", model->safe);
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST_IDS, &ids->stmt, err);
    return rc == (dm_status)DM__STALE ? DM_OK : rc; /* no table: no row has one */
}

static dm_status ids_next(dm__request_ids *ids, dm_error *err)
{
    bool row = false;
    dm_status rc = dm__stmt_step(ids->conn, ids->stmt, &row, err);
    if (rc == DM_OK)
        ids->row_id = row ? sqlite3_column_int64(ids->stmt, 0) : INT64_MAX;
    return rc;
}

static dm_status noted_id_read(dm__request_ids *ids, dm_str *id_out, dm_error *err)
{
    dm_error found;
    bool is_text = sqlite3_column_type(ids->stmt, 1) == SQLITE_TEXT;
    *id_out = (dm_str){(const char *)sqlite3_column_text(ids->stmt, 1),
                       (size_t)sqlite3_column_bytes(ids->stmt, 1)};
    if (is_text && id_out->bytes == NULL)
        return dm__no_memory(err);
    if (!is_text)
        return dm__fail(err, DM_CORRUPT_DATA, "%s row %lld: request_id must be text", ids->table,
                        (long long)ids->row_id);
    return dm_request_id_check(*id_out, &found) == DM_OK
               ? DM_OK
               : dm__fail(err, DM_CORRUPT_DATA, "%s row %lld: %.150s", ids->table,
                          (long long)ids->row_id, found.text);
}

dm_status dm__request_ids_find(dm__request_ids *ids, int64_t row_id, const dm_request *request,
                               dm_str *id_out, dm_error *err)
{
    dm_status rc = DM_OK;
    while (rc == DM_OK && ids->stmt != NULL && ids->row_id < row_id)
        rc = ids_next(ids, err);
    if (rc == DM_OK && ids->row_id == row_id)
        return noted_id_read(ids, id_out, err);
    if (rc == DM_OK && row_id > ids->era.last_row)
        rc = dm__era_find(ids->conn, ids->safe, row_id, &ids->era, err);
    exported_id(ids->era.word, row_id, request, ids->text);
    *id_out = (dm_str){ids->text, strlen(ids->text)};
    return rc;
}

void dm__request_ids_close(dm__request_ids *ids)
{
    dm__stmt_put(ids->stmt);
    ids->stmt = NULL;
}

/* ---- is all as it should be? ---- */

static dm_status ahead_finding(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    return dm__found(audit, DM_SEVERITY_ERROR, table, sqlite3_column_int64(stmt, 0),
                     "the row of this id is yet to come: to repeat its request adds it again");
}

static dm_status used_up_finding(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    (void)stmt;
    return dm__found(audit, DM_SEVERITY_ERROR, table, 0,
                     "the numbers of rows are used up: no request can be added");
}

dm_status dm__row_ids_audit(dm__audit *audit, const char *safe, int most)
{
    char table[DM_SAFE_NAME_SIZE + 16];
    (void)sqlite3_snprintf((int)sizeof table, table, "%s_requests", safe);
    dm_status rc = dm__audit_each(
        audit, table, used_up_finding,
        "SELECT 1 FROM sqlite_sequence WHERE name='%q' COLLATE NOCASE AND seq=%lld UNION"
        " SELECT 1 FROM \"%w\" WHERE id=%lld",
        table, (long long)INT64_MAX, table, (long long)INT64_MAX);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_snprintf((int)sizeof table, table, "%s_request_ids", safe);
    if (!dm__table_has_column(audit->conn, table, "row_id"))
        return DM_OK;
    return dm__audit_each(
        audit, table, ahead_finding,
        "SELECT row_id FROM \"%w\" WHERE row_id>max(coalesce((SELECT max(seq) FROM"
        " sqlite_sequence WHERE name='%q_requests' COLLATE NOCASE),0),coalesce(("
        "SELECT max(id) FROM \"%w_requests\"),0)) ORDER BY 1 LIMIT %d",
        table, safe, safe, most);
}
