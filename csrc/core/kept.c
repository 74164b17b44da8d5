/* SPDX-License-Identifier: MIT
 *
 * What is kept of requests and runs that were pruned, in two tables beside the manual's. They are
 * made by the first prune; without them nothing was kept.
 *
 * A part is requests of one model that follow each other in time, of one bucket and one tariff: the
 * sums of their numbers, which anybody can read, and the numbers themselves, packed, in the order
 * in which the requests count. So any prices, tiers and strategies can be asked for later; only
 * when each of them came is gone.
 *
 *     time       |  bucket        |  bucket        |  bucket        |
 *     parts         [first  last]   [f  l] [f    l]       [f l]
 *                                        a price changed
 *
 * A question can be answered where no edge of it lies inside a part. All that counts in an order
 * does so by the first request: a part and its requests as a whole before a part that begins later,
 * and before requests that are still rows from its beginning on.
 *
 * A run that crosses an edge is kept as it is. Those that lie within a bucket become one: the
 * seconds of all of them, and from when to when they were. */
#include "kept.h"

#include <string.h>

static const char kept_sql[] = "CREATE TABLE IF NOT EXISTS datamanager_usage_sums (\n"
                               "    id INTEGER PRIMARY KEY,\n"
                               "    safe_name TEXT NOT NULL,\n"
                               "    bucket_start REAL NOT NULL,\n"
                               "    first_request REAL NOT NULL,\n"
                               "    last_request REAL NOT NULL,\n"
                               "    requests INTEGER NOT NULL,\n"
                               "    input_tokens INTEGER NOT NULL,\n"
                               "    output_tokens INTEGER NOT NULL,\n"
                               "    cache_n INTEGER NOT NULL,\n"
                               "    prompt_n INTEGER NOT NULL,\n"
                               "    packed BLOB NOT NULL,\n" /* packed.c says how */
                               "    UNIQUE (safe_name, first_request, id)\n);"
                               "CREATE TABLE IF NOT EXISTS datamanager_uptime_sums (\n"
                               "    id INTEGER PRIMARY KEY,\n"
                               "    safe_name TEXT NOT NULL,\n" /* 'program': of the program */
                               "    bucket_start REAL,\n"       /* NULL: a run as it was */
                               "    start_time REAL NOT NULL,\n"
                               "    end_time REAL NOT NULL,\n"
                               "    runs INTEGER NOT NULL,\n"
                               "    seconds REAL NOT NULL,\n"
                               "    UNIQUE (safe_name, bucket_start, id)\n)";

dm_status dm__kept_create(dm__conn *conn, dm_error *err)
{
    return dm__conn_exec(conn, err, "%s", kept_sql);
}

const char *const dm__kept_tables[2] = {"datamanager_usage_sums", "datamanager_uptime_sums"};

dm_status dm__kept_find(dm__conn *conn, bool *there_out, dm_error *err)
{
    return dm__pair_find(conn, dm__kept_tables, there_out, err);
}

dm_status dm__kept_forget(dm__conn *conn, const char *safe, dm_error *err)
{
    return dm__tables_forget(conn, dm__kept_tables, safe, err);
}

dm_status dm__kept_move(dm__conn *conn, const char *from, const char *to, dm_error *err)
{
    bool there = false;
    dm_status rc = dm__kept_find(conn, &there, err);
    return rc != DM_OK || !there
               ? rc
               : dm__conn_exec(conn, err,
                               "UPDATE datamanager_usage_sums SET safe_name=%Q WHERE"
                               " safe_name=%Q; UPDATE datamanager_uptime_sums SET safe_name=%Q"
                               " WHERE safe_name=%Q",
                               to, from, to, from);
}

/* ---- one row ---- */

static dm_status not_its_sums(const dm__row *row, dm_error *err)
{
    return dm__fail(err, DM_CORRUPT_DATA, "%s row %lld: packed is not what the sums are of",
                    row->table, (long long)row->row_id);
}

/* In 64 bits without a sign, where what does not fit does no harm. */
static bool sums_agree(const dm_request_columns *rows, const int64_t sums[4])
{
    uint64_t found[4] = {0};
    for (size_t i = 0; i < rows->count; i++) {
        found[0] += (uint64_t)rows->input_tokens[i];
        found[1] += (uint64_t)rows->output_tokens[i];
        found[2] += (uint64_t)rows->cache_n[i];
        found[3] += (uint64_t)rows->prompt_n[i];
    }
    bool agree = true;
    for (int i = 0; i < 4; i++)
        agree &= found[i] == (uint64_t)sums[i];
    return agree;
}

static bool rows_unpack(sqlite3_stmt *stmt, dm__kept_part *part)
{
    const uint8_t *packed = sqlite3_column_blob(stmt, 8);
    size_t size = (size_t)sqlite3_column_bytes(stmt, 8);
    return part->count <= DM__KEPT_ROWS && packed != NULL &&
           dm__requests_unpack(packed, size, (size_t)part->count, &part->rows) &&
           sums_agree(&part->rows, part->sums);
}

dm_status dm__kept_part_read(sqlite3_stmt *stmt, dm__kept_part *part, dm_error *err)
{
    dm__row row = {stmt, "datamanager_usage_sums", sqlite3_column_int64(stmt, 0)};
    dm_status rc = dm__row_time(&row, 1, &part->first_s, err);
    if (rc == DM_OK)
        rc = dm__row_time(&row, 2, &part->last_s, err);
    if (rc == DM_OK)
        rc = dm__row_count(&row, 3, &part->count, err);
    bool good = true;
    for (int i = 0; i < 4 && rc == DM_OK; i++) {
        rc = dm__row_integer(&row, 4 + i, &part->sums[i], err);
        good &= part->sums[i] >= 0;
    }
    if (rc != DM_OK)
        return rc;
    good &= part->last_s >= part->first_s && part->count > 0;
    return good && (part->rows.input_tokens == NULL || rows_unpack(stmt, part))
               ? DM_OK
               : not_its_sums(&row, err);
}

dm_status dm__kept_run_read(sqlite3_stmt *stmt, dm_kept_run *run, dm_error *err)
{
    dm__row row = {stmt, "datamanager_uptime_sums", sqlite3_column_int64(stmt, 0)};
    dm_status rc = dm__row_time(&row, 1, &run->start_time_s, err);
    if (rc == DM_OK)
        rc = dm__row_time(&row, 2, &run->end_time_s, err);
    if (rc == DM_OK)
        rc = dm__row_count(&row, 3, &run->runs, err);
    if (rc == DM_OK)
        rc = dm__row_time(&row, 4, &run->seconds, err);
    if (rc == DM_OK && (run->end_time_s < run->start_time_s || run->runs == 0))
        rc = dm__fail(err, DM_CORRUPT_DATA, "%s row %lld: no runs are like that", row.table,
                      (long long)row.row_id);
    return rc;
}

/* ---- all of a model ---- */

/* The statement, of a table that others may drop at any time: NULL where it is not there. */
static dm_status kept_stmt(dm__conn *conn, dm__stmt_id id, const char *safe, sqlite3_stmt **stmt,
                           dm_error *err)
{
    bool there = false;
    *stmt = NULL;
    dm_status rc = dm__kept_find(conn, &there, err);
    if (rc != DM_OK || !there)
        return rc;
    rc = dm__stmt_get(conn, id, stmt, err);
    if (rc == DM_OK)
        (void)sqlite3_bind_text(*stmt, 1, safe, -1, SQLITE_STATIC);
    return rc;
}

dm_status dm__kept_parts_each(dm__conn *conn, const char *safe, double start_s, double end_s,
                              bool rows, dm__kept_part_fn each, void *argument, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool more = true;
    dm__kept_part part = {0};
    dm__stmt_id id = rows ? DM__STMT_PRUNED_REQUESTS : DM__STMT_PRUNED_REQUEST_SUMS;
    dm_status rc = kept_stmt(conn, id, safe, &stmt, err);
    if (rc != DM_OK || stmt == NULL)
        return rc;
    (void)sqlite3_bind_double(stmt, 2, start_s);
    (void)sqlite3_bind_double(stmt, 3, end_s);
    rc = dm__stmt_step(conn, stmt, &more, err);
    if (rc == DM_OK && more && rows && !dm__request_columns_alloc(&part.rows, DM__KEPT_ROWS))
        rc = dm__no_memory(err);
    while (rc == DM_OK && more) {
        rc = dm__kept_part_read(stmt, &part, err);
        if (rc == DM_OK)
            rc = each(argument, &part, err);
        if (rc == DM_OK && dm__stop_asked(&conn->stop))
            rc = dm__fail(err, DM_INTERRUPTED, "interrupted while reading");
        if (rc == DM_OK)
            rc = dm__stmt_step(conn, stmt, &more, err);
    }
    dm__stmt_put(stmt);
    dm_request_columns_reset(&part.rows);
    return rc;
}

dm_status dm__kept_runs_each(dm__conn *conn, const char *safe, dm__kept_run_fn each, void *argument,
                             dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool more = true;
    dm_kept_run run;
    dm_status rc = kept_stmt(conn, DM__STMT_PRUNED_RUNS, safe, &stmt, err);
    if (rc != DM_OK || stmt == NULL)
        return rc;
    while (rc == DM_OK && (rc = dm__stmt_step(conn, stmt, &more, err)) == DM_OK && more) {
        rc = dm__kept_run_read(stmt, &run, err);
        if (rc == DM_OK)
            rc = each(argument, &run, err);
    }
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__kept_span(dm__conn *conn, const char *safe, double bounds_s[2], dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    dm_status rc = kept_stmt(conn, DM__STMT_PRUNED_SPAN, safe, &stmt, err);
    if (rc == DM_OK && stmt != NULL)
        rc = dm__stmt_step(conn, stmt, &row, err);
    if (rc == DM_OK && row && sqlite3_column_type(stmt, 0) != SQLITE_NULL) {
        bounds_s[0] = fmin(bounds_s[0], sqlite3_column_double(stmt, 0)); /* passes over NaN */
        bounds_s[1] = fmax(bounds_s[1], sqlite3_column_double(stmt, 1));
    }
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__kept_used_since(dm__conn *conn, const char *safe, double time_s, bool *used_out,
                              dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    *used_out = false;
    dm_status rc = kept_stmt(conn, DM__STMT_PRUNED_USED_SINCE, safe, &stmt, err);
    if (rc == DM_OK && stmt != NULL) {
        (void)sqlite3_bind_double(stmt, 2, time_s);
        rc = dm__stmt_step(conn, stmt, &row, err);
    }
    if (rc == DM_OK && row)
        *used_out = sqlite3_column_int(stmt, 0) != 0;
    dm__stmt_put(stmt);
    return rc;
}

static int name_shown(const dm__model *model)
{
    return (int)(model->name_length < 32 ? model->name_length : 32);
}

dm_status dm__kept_price_admit(dm__conn *conn, const dm__model *model, double from_s,
                               const dm__model *kept, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool parted = false;
    if (isinf(from_s))
        return DM_OK;
    dm_status rc = kept_stmt(conn, DM__STMT_PRUNED_PARTED, kept->safe, &stmt, err);
    if (rc == DM_OK && stmt != NULL) {
        (void)sqlite3_bind_double(stmt, 2, from_s);
        rc = dm__stmt_step(conn, stmt, &parted, err);
    }
    if (rc == DM_OK && parted) {
        char from[DM__TIME_SHOWN], first[DM__TIME_SHOWN], last[DM__TIME_SHOWN];
        dm__time_show(from_s, from);
        dm__time_show(sqlite3_column_double(stmt, 1), first);
        dm__time_show(sqlite3_column_double(stmt, 2), last);
        rc = dm__fail(err, DM_INVALID,
                      "a price of '%.*s' from %s on would part the %s of '%.*s' from %s to %s,"
                      " which were pruned and are kept as one sum",
                      name_shown(model), model->name, from,
                      (const char *)sqlite3_column_text(stmt, 0), name_shown(kept), kept->name,
                      first, last);
    }
    dm__stmt_put(stmt);
    return rc;
}

/* ---- runs, for whoever asks ---- */

typedef struct {
    dm__model_read read;
    size_t capacity;
} runs_read;

void dm_kept_runs_reset(dm_kept_runs *runs)
{
    if (runs == NULL)
        return;
    dm__free(runs->runs);
    *runs = (dm_kept_runs){0};
}

static dm_status run_take(void *argument, const dm_kept_run *run, dm_error *err)
{
    runs_read *read = argument;
    dm_kept_runs *runs = read->read.out;
    if (!dm__array_grow(&runs->runs, &read->capacity, runs->count, sizeof *run))
        return dm__no_memory(err);
    runs->runs[runs->count++] = *run;
    return DM_OK;
}

static dm_status runs_take(dm__conn *conn, const char *safe, runs_read *read, dm_error *err)
{
    dm_kept_runs_reset(read->read.out);
    read->capacity = 0;
    dm_status rc = dm__conn_read_once(conn, err); /* whether the table exists shows now */
    return rc == DM_OK ? dm__kept_runs_each(conn, safe, run_take, read, err) : rc;
}

static dm_status model_runs_take(dm__conn *conn, dm__model *model, dm__model_read *read,
                                 dm_error *err)
{
    return runs_take(conn, model->safe, (runs_read *)read, err);
}

static dm_status program_runs_take(dm__conn *conn, void *read, dm_error *err)
{
    return runs_take(conn, DM__PROGRAM, read, err);
}

dm_status dm_kept_runs_get(dm_manager *m, const dm_str *model, dm_kept_runs *runs_out,
                           dm_error *err)
{
    dm_kept_runs runs = {0};
    runs_read read = {.read = {.from = model_runs_take, .out = &runs}};
    if (model != NULL)
        read.read.name = *model;
    dm_status rc =
        dm__read(m, true, model == NULL ? program_runs_take : dm__model_read_run, &read, err);
    if (rc == DM_OK)
        *runs_out = runs;
    else
        dm_kept_runs_reset(&runs);
    return rc;
}
