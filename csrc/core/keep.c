/* SPDX-License-Identifier: MIT
 *
 * Adding to what is kept: see kept.c. Requests and runs come in the order of time; each goes to the
 * part before it as long as that is of the same bucket and tariff, has room, and nothing else lies
 * between. */
#include "kept.h"

#include <string.h>

/* Nothing that is pruned lies before the first edge: see first_s() of prune.c. If it did, it would
 * be of the first bucket. */
static double bucket_of(const dm__keeper *keeper, double time_s)
{
    ptrdiff_t at = dm__last_at_most(keeper->edges_s, keeper->edge_count, time_s);
    return keeper->edges_s[at < 0 ? 0 : at];
}

/* The first hour of a day and the day itself begin at once, so what was kept of the one before goes
 * on only up to here for the other: that hour can still be asked for. */
static double hour_end(double bucket_s)
{
    return bucket_s + 3600;
}

static bool one_tariff(const dm__keeper *keeper, double from_s, double to_s)
{
    for (size_t i = 0; i < keeper->tariffs.count; i++)
        if (keeper->tariffs.tariffs[i].from_s > from_s && keeper->tariffs.tariffs[i].from_s <= to_s)
            return false;
    return true;
}

dm_status dm__keeper_begin(dm__keeper *keeper, dm__conn *conn, dm__model *model, dm_error *err)
{
    keeper->conn = conn;
    keeper->safe = model == NULL ? DM__PROGRAM : model->safe;
    keeper->packed = dm__malloc(DM__KEPT_ROWS * DM__PACKED_ROW_MAX);
    if (keeper->packed == NULL)
        return dm__no_memory(err);
    if (model == NULL)
        return DM_OK;
    return dm__request_columns_alloc(&keeper->rows, DM__KEPT_ROWS)
               ? dm__tariffs_read(conn, model, &keeper->tariffs, err)
               : dm__no_memory(err);
}

void dm__keeper_reset(dm__keeper *keeper)
{
    dm_tariffs_reset(&keeper->tariffs);
    dm_request_columns_reset(&keeper->rows);
    dm__free(keeper->packed);
    keeper->packed = NULL;
}

/* ---- requests ---- */

/* The stored part is to go on: one that is not as it should be would spoil what joins it. */
static dm_status part_take(dm__keeper *keeper, sqlite3_stmt *stmt, dm_error *err)
{
    dm__kept_part part = {.rows = keeper->rows};
    dm_status rc = dm__kept_part_read(stmt, &part, err);
    if (rc != DM_OK)
        return rc;
    keeper->id = sqlite3_column_int64(stmt, 0);
    keeper->first_s = part.first_s;
    keeper->count = (size_t)part.count;
    keeper->size = (size_t)sqlite3_column_bytes(stmt, 8);
    memcpy(keeper->sums, part.sums, sizeof keeper->sums);
    memcpy(keeper->packed, sqlite3_column_blob(stmt, 8), keeper->size);
    return DM_OK;
}

/* The part before a request, where the request may join it; else nothing is read. */
static dm_status part_resume(dm__keeper *keeper, double time_s, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool found = false;
    dm_status rc = dm__stmt_get(keeper->conn, DM__STMT_PRUNED_PART_BEFORE, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_text(stmt, 1, keeper->safe, -1, SQLITE_STATIC);
    (void)sqlite3_bind_double(stmt, 2, time_s);
    rc = dm__stmt_step(keeper->conn, stmt, &found, err);
    size_t count = found ? (size_t)sqlite3_column_int64(stmt, 3) : 0;
    size_t size = found ? (size_t)sqlite3_column_bytes(stmt, 8) : 0;
    double first_s = found ? sqlite3_column_double(stmt, 1) : 0;
    bool in_hour = found && sqlite3_column_double(stmt, 2) < hour_end(keeper->bucket_s);
    if (in_hour && time_s >= hour_end(keeper->bucket_s))
        found = false;
    if (rc == DM_OK && found && count < DM__KEPT_ROWS && size <= count * DM__PACKED_ROW_MAX &&
        sqlite3_column_double(stmt, 2) <= time_s &&
        sqlite3_column_double(stmt, 9) == keeper->bucket_s && one_tariff(keeper, first_s, time_s) &&
        !(first_s <= keeper->stays_s && keeper->stays_s <= time_s)) {
        rc = part_take(keeper, stmt, err);
        keeper->next_s = in_hour ? hour_end(keeper->bucket_s) : INFINITY;
    }
    dm__stmt_put(stmt);
    return rc;
}

static dm_status part_begin(dm__keeper *keeper, double time_s, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool found = false;
    keeper->id = 0;
    keeper->count = keeper->size = 0;
    memset(keeper->sums, 0, sizeof keeper->sums);
    keeper->first_s = time_s;
    keeper->bucket_s = bucket_of(keeper, time_s);
    keeper->next_s = INFINITY;
    dm_status rc = part_resume(keeper, time_s, err);
    if (rc == DM_OK)
        rc = dm__stmt_get(keeper->conn, DM__STMT_PRUNED_PART_AFTER, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_text(stmt, 1, keeper->safe, -1, SQLITE_STATIC);
    (void)sqlite3_bind_double(stmt, 2, time_s);
    rc = dm__stmt_step(keeper->conn, stmt, &found, err);
    if (rc == DM_OK && found && sqlite3_column_type(stmt, 0) != SQLITE_NULL)
        keeper->next_s = fmin(keeper->next_s, sqlite3_column_double(stmt, 0));
    dm__stmt_put(stmt);
    keeper->open = rc == DM_OK;
    return rc;
}

dm_status dm__keeper_flush(dm__keeper *keeper, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    if (!keeper->open)
        return DM_OK;
    dm_status rc = dm__stmt_get(keeper->conn, DM__STMT_PRUNED_PART_PUT, &stmt, err);
    if (rc != DM_OK)
        return rc;
    if (keeper->id != 0)
        (void)sqlite3_bind_int64(stmt, 1, keeper->id);
    (void)sqlite3_bind_text(stmt, 2, keeper->safe, -1, SQLITE_STATIC);
    (void)sqlite3_bind_double(stmt, 3, keeper->bucket_s);
    (void)sqlite3_bind_double(stmt, 4, keeper->first_s);
    (void)sqlite3_bind_double(stmt, 5, keeper->last_s);
    (void)sqlite3_bind_int64(stmt, 6, (int64_t)keeper->count);
    for (int i = 0; i < 4; i++)
        (void)sqlite3_bind_int64(stmt, 7 + i, keeper->sums[i]);
    (void)sqlite3_bind_blob(stmt, 11, keeper->packed, (int)keeper->size, SQLITE_STATIC);
    rc = dm__stmt_run(keeper->conn, stmt, err);
    dm__stmt_put(stmt);
    keeper->open = false;
    return rc;
}

/* False where the request must begin another part. */
static bool part_takes(const dm__keeper *keeper, double time_s, const int64_t values[4])
{
    bool room = keeper->count < DM__KEPT_ROWS;
    for (int i = 0; i < 4; i++)
        room &= values[i] <= INT64_MAX - keeper->sums[i];
    return room && time_s < keeper->next_s && bucket_of(keeper, time_s) == keeper->bucket_s &&
           one_tariff(keeper, keeper->first_s, time_s);
}

dm_status dm__keep_request(dm__keeper *keeper, const dm_request *request, dm_error *err)
{
    const int64_t values[4] = {request->input_tokens, request->output_tokens, request->cache_n,
                               request->prompt_n};
    double time_s = request->timestamp_s;
    dm_status rc = DM_OK;
    if (keeper->open && !part_takes(keeper, time_s, values))
        rc = dm__keeper_flush(keeper, err);
    if (rc == DM_OK && !keeper->open)
        rc = part_begin(keeper, time_s, err);
    if (rc == DM_OK && !part_takes(keeper, time_s, values)) { /* that before it has no room */
        keeper->id = 0;
        keeper->count = keeper->size = 0;
        memset(keeper->sums, 0, sizeof keeper->sums);
        keeper->first_s = time_s;
    }
    if (rc != DM_OK)
        return rc;
    keeper->size += dm__request_pack(request, keeper->packed + keeper->size);
    keeper->count++;
    keeper->last_s = time_s;
    for (int i = 0; i < 4; i++)
        keeper->sums[i] += values[i];
    return DM_OK;
}

/* ---- runs ---- */

/* Whether the seconds of both are a double, to the last digit. Those of a single run are what its
 * times say, of which `seconds` may be rounded. */
static bool seconds_join(const dm_kept_run *kept, const dm_run *run, double *seconds_out)
{
    bool one = kept->runs == 1;
    dm_runtime_sum exact = {0}, rounded = {0};
    if (dm_runtime_add(&exact, one ? kept->start_time_s : 0, one ? kept->end_time_s : kept->seconds,
                       1, NULL) != DM_OK ||
        dm_runtime_add(&exact, run->start_time_s, run->end_time_s, 1, NULL) != DM_OK)
        return false;
    *seconds_out = dm_runtime_seconds(&exact);
    return dm_runtime_add(&rounded, 0, *seconds_out, 1, NULL) == DM_OK &&
           memcmp(&exact, &rounded, sizeof exact) == 0;
}

static dm_status run_put(dm__keeper *keeper, int64_t id, double bucket_s, const dm_kept_run *run,
                         dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__stmt_get(keeper->conn, DM__STMT_PRUNED_RUN_PUT, &stmt, err);
    if (rc != DM_OK)
        return rc;
    if (id != 0)
        (void)sqlite3_bind_int64(stmt, 1, id);
    (void)sqlite3_bind_text(stmt, 2, keeper->safe, -1, SQLITE_STATIC);
    (void)(isnan(bucket_s) ? sqlite3_bind_null(stmt, 3) : sqlite3_bind_double(stmt, 3, bucket_s));
    (void)sqlite3_bind_double(stmt, 4, run->start_time_s);
    (void)sqlite3_bind_double(stmt, 5, run->end_time_s);
    (void)sqlite3_bind_int64(stmt, 6, run->runs);
    (void)sqlite3_bind_double(stmt, 7, run->seconds);
    rc = dm__stmt_run(keeper->conn, stmt, err);
    dm__stmt_put(stmt);
    if (rc == DM_OK && id == 0)
        keeper->own_run = sqlite3_last_insert_rowid(keeper->conn->db);
    return rc;
}

/* Adds the run to those of its bucket, in `both`, whose id is 0 where it cannot be. */
static dm_status run_join(dm__keeper *keeper, double bucket_s, const dm_run *run, int64_t *id,
                          dm_kept_run *both, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool found = false;
    dm_kept_run kept;
    dm_status rc = dm__stmt_get(keeper->conn, DM__STMT_PRUNED_RUN_OF_BUCKET, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_text(stmt, 1, keeper->safe, -1, SQLITE_STATIC);
    (void)sqlite3_bind_double(stmt, 2, bucket_s);
    rc = dm__stmt_step(keeper->conn, stmt, &found, err);
    if (rc == DM_OK && found)
        rc = dm__kept_run_read(stmt, &kept, err);
    if (rc == DM_OK && found) {
        dm_kept_run sum = {fmin(kept.start_time_s, run->start_time_s),
                           fmax(kept.end_time_s, run->end_time_s), kept.runs + 1, 0};
        int64_t kept_id = sqlite3_column_int64(stmt, 0);
        bool over_hour = kept.end_time_s < hour_end(bucket_s) &&
                         sum.end_time_s >= hour_end(bucket_s) && kept_id != keeper->own_run;
        if (!over_hour && one_tariff(keeper, sum.start_time_s, sum.end_time_s) &&
            bucket_of(keeper, sum.end_time_s) == bucket_s &&
            seconds_join(&kept, run, &sum.seconds)) {
            *id = kept_id;
            *both = sum;
        }
    }
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__keep_run(dm__keeper *keeper, const dm_run *run, dm_error *err)
{
    double bucket_s = bucket_of(keeper, run->start_time_s);
    dm_kept_run kept = {run->start_time_s, run->end_time_s, 1, run->end_time_s - run->start_time_s};
    int64_t id = 0;
    if (run->end_time_s < run->start_time_s) /* runs_filter() of prune.c leaves it where it is */
        return dm__fail(err, DM_CORRUPT_DATA, "run %lld of %s: ends before it starts",
                        (long long)run->id, keeper->safe);
    if (bucket_of(keeper, run->end_time_s) != bucket_s ||
        !one_tariff(keeper, run->start_time_s, run->end_time_s))
        return run_put(keeper, 0, NAN, &kept, err);
    dm_status rc = run_join(keeper, bucket_s, run, &id, &kept, err);
    return rc == DM_OK ? run_put(keeper, id, bucket_s, &kept, err) : rc;
}
