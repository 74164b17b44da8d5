/* SPDX-License-Identifier: MIT
 *
 * The rules of a model: its tables are there and ours, its values are those that would be accepted,
 * its tiers neither overlap nor leave gaps. */
#include "kept.h"

#include <stdlib.h>
#include <string.h>

typedef char table_name[DM_SAFE_NAME_SIZE + 16];

/* ---- values ---- */

/* Rows that SQL suspects; the reading functions judge, and say it in the words of reads. */
static dm_status row_finding(dm__audit *audit, dm_status rc, const char *table, int64_t row_id)
{
    return dm__found_error(audit, rc, table, row_id);
}

/* Of another program, as dm_time_check refuses it. It is read as it is. */
static dm_status late_finding(dm__audit *audit, const char *table, int64_t row_id,
                              const char *column, double time_s)
{
    if (time_s < DM_TIME_END_S)
        return DM_OK;
    return dm__found(audit, DM_SEVERITY_WARNING, table, row_id,
                     "%s %.17g is not before the year 10000: it may be milliseconds", column,
                     time_s);
}

static dm_status run_audit_row(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    double start_s = 0, end_s = 0;
    dm__row row = {stmt, table, sqlite3_column_int64(stmt, 0)};
    dm_status rc = dm__row_time(&row, 1, &start_s, audit->err);
    if (rc == DM_OK)
        rc = dm__row_time(&row, 2, &end_s, audit->err);
    if (rc == DM_OK && end_s < start_s)
        rc = dm__fail(audit->err, DM_CORRUPT_DATA,
                      "%s row %lld: end_time %.6f is before start_time %.6f", table,
                      (long long)row.row_id, end_s, start_s);
    if (rc == DM_OK && end_s >= DM__RUN_TIME_END) /* whatever the model is billed by now */
        rc = dm__fail(audit->err, DM_CORRUPT_DATA,
                      "%s row %lld: end_time must be before 2^63 seconds since 1970, not %.17g",
                      table, (long long)row.row_id, end_s);
    return rc == DM_OK ? late_finding(audit, table, row.row_id, "end_time", end_s)
                       : row_finding(audit, rc, table, row.row_id);
}

/* clang-format off */
#define IS_DATED(column) DM__IS_TIME(column) " AND " column "<253402300800" /* DM_TIME_END_S */
#define IS_COUNT(column)                                                                           \
    "typeof(" column ")='integer' AND " column " BETWEEN 0 AND 9007199254740992"
#define IS_RUN                                                                                     \
    IS_DATED("start_time") " AND " IS_DATED("end_time") " AND end_time>=start_time"
#define IS_REQUEST                                                                                 \
    IS_DATED("timestamp") " AND " IS_COUNT("input_tokens") " AND " IS_COUNT("output_tokens")       \
    " AND " IS_COUNT("cache_n") " AND " IS_COUNT("prompt_n")
/* clang-format on */

dm_status dm__runs_audit(dm__audit *audit, const char *table)
{
    return dm__audit_each(audit, table, run_audit_row,
                          "SELECT id,start_time,end_time FROM \"%w\" WHERE NOT (" IS_RUN
                          ") LIMIT %d",
                          table, DM__FINDINGS_PER_TABLE);
}

static dm_status request_audit_row(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    double time_s = 0;
    int64_t count = 0;
    dm__row row = {stmt, table, sqlite3_column_int64(stmt, 0)};
    dm_status rc = dm__row_time(&row, 1, &time_s, audit->err);
    for (int column = 2; column < 6 && rc == DM_OK; column++)
        rc = dm__row_count(&row, column, &count, audit->err);
    return rc == DM_OK ? late_finding(audit, table, row.row_id, "timestamp", time_s)
                       : row_finding(audit, rc, table, row.row_id);
}

static dm_status requests_audit(dm__audit *audit, const char *table)
{
    return dm__audit_each(audit, table, request_audit_row,
                          "SELECT id,timestamp,input_tokens,output_tokens,cache_n,prompt_n"
                          " FROM \"%w\" NOT INDEXED WHERE NOT (" IS_REQUEST ") LIMIT %d",
                          table, DM__FINDINGS_PER_TABLE);
}

/* The timings' table is made when there is a first one: that it is missing is no fault. */
static dm_status timing_audit_row(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    dm__row row = {stmt, table, sqlite3_column_int64(stmt, 0)};
    dm_status rc = DM_OK;
    double value_s = 0;
    for (int column = 1; column < 3 && rc == DM_OK; column++)
        if (sqlite3_column_type(stmt, column) != SQLITE_NULL)
            rc = dm__row_time(&row, column, &value_s, audit->err);
    if (rc == DM_OK && sqlite3_column_int(stmt, 3))
        return dm__found(audit, DM_SEVERITY_WARNING, table, row.row_id,
                         "the request that was timed is missing");
    return row_finding(audit, rc, table, row.row_id);
}

static dm_status timings_audit(dm__audit *audit, const char *requests, const char *table)
{
    return dm__audit_each(
        audit, table, timing_audit_row,
        "SELECT request_id,duration,first_token,r.id IS NULL FROM \"%w\" LEFT"
        " JOIN \"%w\" r ON r.id=request_id WHERE r.id IS NULL OR NOT ("
        "(duration IS NULL OR " DM__IS_TIME("duration") ") AND "
                                                        "(first_token IS NULL OR " DM__IS_TIME(
                                                            "first_token") ")) LIMIT %d",
        table, requests, DM__FINDINGS_PER_TABLE);
}

/* An id whose request is gone is no fault: see request_ids.c. */
static dm_status request_id_audit_row(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    int64_t row_id = sqlite3_column_int64(stmt, 0);
    if (sqlite3_column_type(stmt, 1) != SQLITE_TEXT)
        return dm__found(audit, DM_SEVERITY_ERROR, table, row_id, "request_id must be text");
    dm_str id = {(const char *)sqlite3_column_text(stmt, 1), (size_t)sqlite3_column_bytes(stmt, 1)};
    return row_finding(audit, dm_request_id_check(id, audit->err), table, row_id);
}

static dm_status request_ids_audit(dm__audit *audit, const char *table)
{
    return dm__audit_each(audit, table, request_id_audit_row,
                          "SELECT row_id,request_id FROM \"%w\" WHERE typeof(request_id)<>'text' OR"
                          " length(CAST(request_id AS BLOB)) NOT BETWEEN 1 AND %d OR "
                          "instr(request_id,char(0)) LIMIT %d",
                          table, DM_REQUEST_ID_MAX, DM__FINDINGS_PER_TABLE);
}

/* ---- checksums ---- */

static dm_status checksum_audit_row(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    int64_t row_id = sqlite3_column_int64(stmt, 0);
    if (sqlite3_column_int(stmt, 1))
        return dm__found(audit, DM_SEVERITY_WARNING, table, row_id,
                         "the row has no checksum: another program wrote it");
    return dm__found(audit, DM_SEVERITY_ERROR, table, row_id,
                     "the row is not what was stored: its checksum differs");
}

static dm_status lone_checksum_audit_row(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    return dm__found(audit, DM_SEVERITY_WARNING, table, sqlite3_column_int64(stmt, 0),
                     "the request of this checksum is missing");
}

static dm_status no_checksums_audit(dm__audit *audit, const char *table)
{
    bool there = false, wanted = false;
    dm_status rc = dm__table_find(audit->conn, table, &there, audit->err);
    if (rc == DM_OK && !there)
        rc = dm__checksums_wanted(audit->conn, &wanted, audit->err);
    return rc == DM_OK && wanted ? dm__found(audit, DM_SEVERITY_WARNING, table, DM_NO_ROW,
                                             "the table is missing: nothing can be compared")
                                 : rc;
}

static dm_status checksums_audit(dm__audit *audit, const char *requests, const char *table)
{
    dm_status rc = dm__audit_each(
        audit, requests, checksum_audit_row,
        "SELECT id,checksum IS NULL FROM \"%w\" NOT INDEXED LEFT JOIN \"%w\" ON request_id=id"
        " WHERE checksum IS NULL OR checksum IS NOT"
        " datamanager_checksum(timestamp,input_tokens,output_tokens,cache_n,prompt_n) LIMIT %d",
        requests, table, DM__FINDINGS_PER_TABLE);
    return rc == DM_OK ? dm__audit_each(audit, table, lone_checksum_audit_row,
                                        "SELECT request_id FROM \"%w\" WHERE request_id NOT IN"
                                        " (SELECT id FROM \"%w\") ORDER BY 1 LIMIT %d",
                                        table, requests, DM__FINDINGS_PER_TABLE)
                       : rc;
}

/* ---- prices ---- */

static int by_start(const void *a, const void *b)
{
    const dm_tier *x = a, *y = b;
    return (x->start_tokens > y->start_tokens) - (x->start_tokens < y->start_tokens);
}

static dm_status gaps_audit(dm__audit *audit, const char *table, int64_t row_id,
                            const dm_tier *tiers, size_t count)
{
    dm_tier *sorted = dm__array_copy(tiers, count, sizeof *tiers);
    int64_t reached = 0;
    dm_status rc = DM_OK;
    if (sorted == NULL)
        return dm__no_memory(audit->err);
    qsort(sorted, count, sizeof *sorted, by_start);
    for (size_t i = 0; i < count && rc == DM_OK; i++) {
        if (sorted[i].start_tokens > reached)
            rc = dm__found(audit, DM_SEVERITY_WARNING, table, row_id,
                           "no tier covers the tokens from %lld to %lld: they cost nothing",
                           (long long)reached + 1, (long long)sorted[i].start_tokens);
        int64_t end = sorted[i].end_tokens > 0 ? sorted[i].end_tokens : INT64_MAX;
        reached = end > reached ? end : reached;
    }
    dm__free(sorted);
    return rc;
}

/* `row_id` of a change; of a model's own table, DM_NO_ROW: each tier is its own row. The gaps of
 * what holds now are those of that table, and told once. */
static dm_status tiers_audit(dm__audit *audit, const char *table, int64_t row_id,
                             const dm_tier *tiers, size_t count, bool gaps)
{
    bool sound = true;
    dm_status rc = DM_OK;
    for (size_t i = 0; i < count && rc == DM_OK; i++) {
        rc = dm_tier_check(&tiers[i], audit->err);
        if (rc == DM_OK)
            rc = dm__tier_admit(tiers, i, &tiers[i], DM_TIER_ADD, audit->err);
        sound &= rc == DM_OK;
        rc = dm__found_error(audit, rc, table, row_id == DM_NO_ROW ? tiers[i].tier_index : row_id);
    }
    return rc == DM_OK && sound && gaps ? gaps_audit(audit, table, row_id, tiers, count) : rc;
}

static dm_status hourly_audit(dm__audit *audit, const char *table, int64_t row_id, double price)
{
    return dm__found_error(audit, dm__price_check("hourly_price", price, audit->err), table,
                           row_id);
}

/* Changes that begin inside what is kept of pruned time, of which no question can be answered. */
typedef struct {
    dm__audit *audit;
    const dm__model *model;
    const dm__history *history;
    const dm__price_change *told; /* the last of them */
} starts;

/* Is there one after first_s and not after last_s? */
static dm_status start_look(starts *all, double first_s, double last_s)
{
    const dm__history *history = all->history;
    size_t low = 0, high = history->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (history->changes[middle].from_s <= last_s)
            low = middle + 1;
        else
            high = middle;
    }
    const dm__price_change *change = low == 0 ? NULL : &history->changes[low - 1];
    if (change == NULL || change->from_s <= first_s || change == all->told)
        return DM_OK;
    all->told = change;
    return dm__found_error(all->audit,
                           dm__kept_price_admit(all->audit->conn, all->model, change->from_s,
                                                all->model, all->audit->err),
                           "datamanager_price_changes", change->id);
}

static dm_status part_start_look(void *argument, const dm__kept_part *part, dm_error *err)
{
    (void)err; /* is that of the audit */
    return start_look(argument, part->first_s, part->last_s);
}

static dm_status run_start_look(void *argument, const dm_kept_run *run, dm_error *err)
{
    (void)err;
    return run->runs == 1 /* kept as it was, and may be parted */
               ? DM_OK
               : start_look(argument, run->start_time_s, nextafter(run->end_time_s, 0));
}

static dm_status starts_audit(dm__audit *audit, const dm__model *model, const dm__history *history)
{
    starts all = {audit, model, history, NULL};
    dm_status rc = dm__kept_parts_each(audit->conn, model->safe, -INFINITY, INFINITY, false,
                                       part_start_look, &all, audit->err);
    if (rc == DM_OK)
        rc = dm__kept_runs_each(audit->conn, model->safe, run_start_look, &all, audit->err);
    return rc == DM_CORRUPT_DATA ? DM_OK
                                 : rc; /* of sums that are not sound the sums' audit tells */
}

static dm_status history_audit(dm__audit *audit, dm__model *model)
{
    dm__history history = {0};
    bool there = false;
    dm_status rc = dm__history_find(audit->conn, &there, audit->err);
    if (rc == DM_CORRUPT_DATA)
        return DM_OK; /* it is told once, not for each model */
    if (rc == DM_OK)
        rc = dm__history_read(audit->conn, model, &history, audit->err);
    dm__tariff now = dm__history_at(&history, dm_now_s());
    for (size_t i = 0; history.stored && i < history.count && rc == DM_OK; i++)
        rc = tiers_audit(audit, "datamanager_price_tiers", history.changes[i].id,
                         history.changes[i].tiers, history.changes[i].tier_count,
                         history.changes[i].tiers != now.tiers);
    for (size_t i = 0; history.stored && i < history.count && rc == DM_OK; i++)
        rc = hourly_audit(audit, "datamanager_price_changes", history.changes[i].id,
                          history.changes[i].hourly_price);
    if (rc == DM_OK)
        rc = starts_audit(audit, model, &history);
    dm__history_reset(&history);
    return dm__found_error(audit, rc, "datamanager_price_changes", DM_NO_ROW);
}

static dm_status billing_rows(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    int64_t count = sqlite3_column_int64(stmt, 0);
    if (count == 1)
        return DM_OK;
    audit->mend_models |= count == 0;
    return count == 0
               ? dm__found(audit, DM_SEVERITY_WARNING, table, DM_NO_ROW, "the row is missing")
               : dm__found(audit, DM_SEVERITY_WARNING, table, DM_NO_ROW,
                           "there are %lld rows: the first counts", (long long)count);
}

static dm_status prices_audit(dm__audit *audit, dm__model *model, const char *billing_table,
                              const char *tier_table)
{
    dm_billing billing = {0};
    dm_status rc = dm__audit_each(audit, billing_table, billing_rows, "SELECT count(*) FROM \"%w\"",
                                  billing_table);
    if (rc != DM_OK)
        return rc;
    rc = dm__billing_read(audit->conn, model, &billing, audit->err);
    if (rc == DM_OK)
        rc = tiers_audit(audit, tier_table, DM_NO_ROW, billing.tiers, billing.tier_count, true);
    else
        rc = dm__found_error(audit, rc, tier_table, DM_NO_ROW);
    if (rc == DM_OK)
        rc = hourly_audit(audit, billing_table, DM_NO_ROW, billing.hourly_price);
    dm_billing_reset(&billing);
    return rc == DM_OK ? history_audit(audit, model) : rc;
}

/* ---- a model ---- */

/* The tables that a model has beside the manual's, some of them only when they are needed. */
static dm_status side_tables_audit(dm__audit *audit, const char *safe, const char *requests)
{
    static const char *const suffixes[] = {"_timings", "_request_ids", "_checksums"};
    table_name tables[3], like;
    bool usable[3] = {false, false, false};
    dm_status rc = DM_OK;
    for (size_t i = 0; i < 3 && rc == DM_OK; i++) {
        (void)sqlite3_snprintf((int)sizeof like, tables[i], "%s%s", safe, suffixes[i]);
        (void)sqlite3_snprintf((int)sizeof like, like, "%s%s", DM__MODEL_SAFE, suffixes[i]);
        rc = dm__side_table_audit(audit, tables[i], like, &usable[i]);
    }
    if (rc != DM_OK || audit->quick)
        return rc;
    if (requests != NULL && usable[0])
        rc = timings_audit(audit, requests, tables[0]);
    if (rc == DM_OK && usable[1])
        rc = request_ids_audit(audit, tables[1]);
    if (rc == DM_OK && requests != NULL)
        rc = usable[2] ? checksums_audit(audit, requests, tables[2])
                       : no_checksums_audit(audit, tables[2]);
    return rc;
}

dm_status dm__model_audit(dm__audit *audit, dm_str name, const char *safe)
{
    static const char *const suffixes[] = {"_runtime", "_requests", "_billing", "_tier_pricing"};
    table_name tables[4], like;
    bool usable[4] = {true, true, true, true};
    dm__model *model = NULL;
    dm_status rc = DM_OK;
    for (size_t i = 0; i < 4 && rc == DM_OK; i++) {
        (void)sqlite3_snprintf((int)sizeof like, tables[i], "%s%s", safe, suffixes[i]);
        (void)sqlite3_snprintf((int)sizeof like, like, "%s%s", DM__MODEL_SAFE, suffixes[i]);
        rc = dm__table_audit(audit, tables[i], like, &usable[i]);
    }
    if (rc == DM_OK && !audit->quick && usable[0])
        rc = dm__runs_audit(audit, tables[0]);
    if (rc == DM_OK && !audit->quick && usable[1])
        rc = requests_audit(audit, tables[1]);
    if (rc == DM_OK)
        rc = side_tables_audit(audit, safe, usable[1] ? tables[1] : NULL);
    if (rc == DM_OK && !audit->quick && usable[1])
        rc = dm__row_ids_audit(audit, safe, DM__FINDINGS_PER_TABLE);
    if (rc != DM_OK || !usable[2] || !usable[3])
        return rc;
    model = dm__conn_model_find(audit->conn, name);
    if (model == NULL)
        rc = dm__conn_model_remember(audit->conn, name, safe, &model, audit->err);
    if (rc == DM_OK)
        rc = prices_audit(audit, model, tables[2], tables[3]);
    dm__conn_model_forget(audit->conn, model);
    return rc;
}
