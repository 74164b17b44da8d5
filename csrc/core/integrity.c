/* SPDX-License-Identifier: MIT
 *
 * Is all as it should be? First what SQLite can tell of its file, then our own rules: the mapping
 * and the tables it names, tables that nothing names; rules.c has those of one model. What is found
 * is a row of the answer and never an error of the call, so that one fault does not hide others. */
#include "dm_store.h"
#include "kept.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FILE_FINDINGS 1000
#define FINDINGS      10000 /* errors, and as many warnings */

/* ---- findings ---- */

void dm_findings_reset(dm_findings *findings)
{
    if (findings == NULL)
        return;
    dm__free(findings->findings);
    *findings = (dm_findings){0};
}

void dm__audit_begin(dm__audit *audit)
{
    for (int severity = 0; severity < 2; severity++) {
        audit->told[severity] = 0;
        (void)snprintf(audit->full[severity], sizeof audit->full[severity], "\001"); /* no table */
    }
}

/* A file may be made of faults. What is wrong with a table, or with how many, is clear before that;
 * errors do not go for the sake of warnings. */
static bool findings_left(dm__audit *audit, dm_severity severity, const char *table)
{
    const dm_findings *found = audit->found;
    size_t count = 0, most = table[0] == '\0' ? FILE_FINDINGS : DM__FINDINGS_PER_TABLE;
    if (audit->told[severity] >= FINDINGS || strcmp(audit->full[severity], table) == 0)
        return false;
    for (size_t i = found->count; i > audit->kept && count < most; i--)
        count += found->findings[i - 1].severity == severity &&
                 strcmp(found->findings[i - 1].table, table) == 0;
    if (count == most) /* more of it is likely to follow */
        (void)snprintf(audit->full[severity], sizeof audit->full[severity], "%s", table);
    return count < most;
}

dm_status dm__found(dm__audit *audit, dm_severity severity, const char *table, int64_t row_id,
                    const char *format, ...)
{
    dm_findings *found = audit->found;
    if (!findings_left(audit, severity, table == NULL ? "" : table))
        return DM_OK;
    if (!dm__array_grow(&found->findings, &audit->capacity, found->count, sizeof(dm_finding)))
        return dm__no_memory(audit->err);
    dm_finding *finding = &found->findings[found->count++];
    *finding = (dm_finding){.severity = severity, .row_id = row_id};
    (void)snprintf(finding->table, sizeof finding->table, "%s", table == NULL ? "" : table);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(finding->text, sizeof finding->text, format, arguments);
    va_end(arguments);
    dm__make_utf8(finding->text, sizeof finding->text);
    if (++audit->told[severity] == FINDINGS)
        *finding = (dm_finding){
            .severity = severity, .row_id = DM_NO_ROW, .text = "and more, which are not listed"};
    return DM_OK;
}

dm_status dm__found_error(dm__audit *audit, dm_status rc, const char *table, int64_t row_id)
{
    if (rc != DM_CORRUPT_DATA && rc != DM_DAMAGED && rc != DM_INVALID && rc != DM_TIER_EXISTS)
        return rc;
    char text[sizeof audit->err->text];
    memcpy(text, audit->err->text, sizeof text);
    return dm__found(audit, DM_SEVERITY_ERROR, table, row_id, "%s", text);
}

dm_status dm__audit_each(dm__audit *audit, const char *table, dm__audit_row_fn each,
                         const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *sql = sqlite3_vmprintf(format, arguments);
    va_end(arguments);
    if (sql == NULL)
        return dm__no_memory(audit->err);
    sqlite3_stmt *stmt = NULL;
    bool row = true;
    int code = sqlite3_prepare_v2(audit->conn->db, sql, -1, &stmt, NULL);
    dm_status rc = code == SQLITE_OK ? DM_OK : dm__sql_failed(audit->conn, code, sql, audit->err);
    while (rc == DM_OK && (rc = dm__stmt_step(audit->conn, stmt, &row, audit->err)) == DM_OK && row)
        rc = each(audit, stmt, table);
    (void)sqlite3_finalize(stmt);
    sqlite3_free(sql);
    return dm__found_error(audit, rc, table, DM_NO_ROW);
}

/* ---- the file ---- */

/* What may be built anew. SQLite says it so: "row 3 missing from index i". */
static dm_status damaged_index_note(dm__audit *audit, const char *text)
{
    dm__index_name index;
    const char *name = strstr(text, " index ");
    if (name == NULL || strlen(name += strlen(" index ")) >= sizeof index.name)
        return DM_OK;
    (void)snprintf(index.name, sizeof index.name, "%s", name);
    for (size_t i = 0; i < audit->index_count; i++)
        if (strcmp(audit->indexes[i].name, name) == 0)
            return DM_OK;
    if (!dm__array_grow(&audit->indexes, &audit->index_capacity, audit->index_count, sizeof index))
        return dm__no_memory(audit->err);
    audit->indexes[audit->index_count++] = index;
    return DM_OK;
}

static dm_status file_finding(void *argument, dm__verdict verdict, const char *table,
                              const char *text, dm_error *err)
{
    dm__audit *audit = argument;
    (void)err; /* is that of the audit */
    if (verdict != DM__VERDICT_DAMAGED)
        return dm__found(audit,
                         verdict == DM__VERDICT_UNCHECKED ? DM_SEVERITY_ERROR : DM_SEVERITY_WARNING,
                         table, DM_NO_ROW, "the table cannot be checked: %.200s", text);
    dm_status rc = damaged_index_note(audit, text);
    return rc != DM_OK ? rc : dm__found(audit, DM_SEVERITY_ERROR, table, DM_NO_ROW, "%.240s", text);
}

static dm_status file_audit(dm__audit *audit)
{
    dm_status rc =
        dm__file_verify(audit->conn, audit->quick, FILE_FINDINGS, file_finding, audit, audit->err);
    return dm__found_error(audit, rc, NULL, DM_NO_ROW);
}

static dm_status object_finding(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    (void)table;
    return dm__found(audit, DM_SEVERITY_WARNING, (const char *)sqlite3_column_text(stmt, 2),
                     DM_NO_ROW, "there is a %s %.100s, which is not ours: it never runs here",
                     (const char *)sqlite3_column_text(stmt, 0),
                     (const char *)sqlite3_column_text(stmt, 1));
}

/* ---- the mapping ---- */

static dm_status mapping_audit_row(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    int64_t id = sqlite3_column_int64(stmt, 0);
    dm_str name = {(const char *)sqlite3_column_text(stmt, 1),
                   (size_t)sqlite3_column_bytes(stmt, 1)};
    const char *safe = (const char *)sqlite3_column_text(stmt, 2);
    if (sqlite3_column_type(stmt, 1) != SQLITE_TEXT)
        return dm__found(audit, DM_SEVERITY_ERROR, table, id, "original_name must be text");
    if (!dm__safe_name_ok(safe, (size_t)sqlite3_column_bytes(stmt, 2)))
        return dm__found(audit, DM_SEVERITY_ERROR, table, id,
                         "safe_name must be at most %d letters, digits and _, not %.60s",
                         DM_SAFE_NAME_SIZE - 1, safe == NULL ? "NULL" : safe);
    dm_status rc = dm_model_name_check(name, audit->err);
    return rc == DM_OK ? dm__model_audit(audit, name, safe) : dm__found_error(audit, rc, table, id);
}

static dm_status twice_finding(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    return dm__found(audit, DM_SEVERITY_ERROR, table, sqlite3_column_int64(stmt, 1),
                     "the %s is that of row %lld, too: %s", audit->like,
                     (long long)sqlite3_column_int64(stmt, 0),
                     strcmp(audit->like, "safe_name") == 0 ? "what is in its tables counts twice"
                                                           : "only one of them is used");
}

/* SQLite keeps both unique, but a table is the same in any case; and others may have switched that
 * off. Not by the indexes, which may be what is wrong. */
static dm_status mapping_twice_audit(dm__audit *audit)
{
    static const char *const columns[][2] = {{"original_name", "BINARY"}, {"safe_name", "NOCASE"}};
    dm_status rc = DM_OK;
    for (int i = 0; i < 2 && rc == DM_OK; i++) {
        audit->like = columns[i][0];
        rc = dm__audit_each(audit, "model_name_mapping", twice_finding,
                            "SELECT min(id),max(id) FROM model_name_mapping NOT INDEXED"
                            " GROUP BY %s COLLATE %s HAVING count(*)>1 ORDER BY 2 LIMIT %d",
                            columns[i][0], columns[i][1], DM__FINDINGS_PER_TABLE);
    }
    return rc;
}

/* ---- what nothing names ---- */

static dm_status unnamed_finding(dm__audit *audit, sqlite3_stmt *stmt, const char *column)
{
    const char *table = (const char *)sqlite3_column_text(stmt, 0);
    if (!dm__table_has_column(audit->conn, table, column))
        return DM_OK;
    return dm__found(audit, DM_SEVERITY_WARNING, table, DM_NO_ROW,
                     "the table belongs to no model of model_name_mapping");
}

static dm_status unnamed_audit(dm__audit *audit)
{
    static const char *const tables[][2] = {
        {"_requests", "prompt_n"},        {"_runtime", "start_time"},
        {"_billing", "use_tier_pricing"}, {"_tier_pricing", "start_tokens"},
        {"_timings", "first_token"},      {"_request_ids", "row_id"},
        {"_checksums", "checksum"}};
    dm_status rc = DM_OK;
    for (size_t i = 0; i < sizeof tables / sizeof *tables && rc == DM_OK; i++)
        rc = dm__audit_each(audit, tables[i][1], unnamed_finding,
                            "SELECT name FROM sqlite_schema WHERE type='table' AND"
                            " substr(name,-%d)=%Q AND name<>'program_runtime' AND"
                            " substr(name,1,length(name)-%d) NOT IN"
                            " (SELECT safe_name FROM model_name_mapping) ORDER BY 1",
                            (int)strlen(tables[i][0]), tables[i][0], (int)strlen(tables[i][0]));
    return rc;
}

static dm_status history_finding(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    return dm__found(audit, DM_SEVERITY_WARNING, table, sqlite3_column_int64(stmt, 1),
                     "%.30s has prices, but %s", (const char *)sqlite3_column_text(stmt, 0),
                     sqlite3_column_int(stmt, 2) ? "the change that they belong to is missing"
                                                 : "is no model of model_name_mapping");
}

/* Two tables that are made together: neither needs to be there, but then neither. */
static dm_status pair_audit(dm__audit *audit, const char *const tables[2], const char *lost,
                            bool usable[2])
{
    bool there[2] = {false, false};
    dm_status rc = DM_OK;
    for (int i = 0; i < 2 && rc == DM_OK; i++)
        rc = dm__table_find(audit->conn, tables[i], &there[i], audit->err);
    for (int i = 0; i < 2 && rc == DM_OK; i++) {
        usable[i] = there[i];
        if (there[i])
            rc = dm__table_audit(audit, tables[i], tables[i], &usable[i]);
        else if (there[1 - i])
            rc = dm__found(audit, DM_SEVERITY_ERROR, tables[i], DM_NO_ROW,
                           "the table is missing, though %s is there: %s", tables[1 - i], lost);
    }
    return rc;
}

#define LOST "what it held is lost"

static dm_status history_audit(dm__audit *audit)
{
    bool usable[2], needless = false;
    dm_status rc = dm__history_tiers_needless(audit->conn, &needless, audit->err);
    if (rc == DM_OK)
        rc = pair_audit(audit, dm__history_tables, needless ? "it held nothing" : LOST, usable);
    audit->mend_tables |= needless;
    if (rc == DM_OK && usable[0])
        rc = dm__audit_each(audit, "datamanager_price_changes", history_finding,
                            "SELECT safe_name,change_id,0 FROM datamanager_price_changes WHERE"
                            " safe_name NOT IN (SELECT safe_name FROM model_name_mapping) LIMIT %d",
                            DM__FINDINGS_PER_TABLE);
    if (rc == DM_OK && usable[0] && usable[1])
        rc = dm__audit_each(audit, "datamanager_price_tiers", history_finding,
                            "SELECT DISTINCT safe_name,change_id,1 FROM datamanager_price_tiers t"
                            " WHERE NOT EXISTS(SELECT 1 FROM datamanager_price_changes c WHERE"
                            " c.safe_name=t.safe_name AND c.change_id=t.change_id) LIMIT %d",
                            DM__FINDINGS_PER_TABLE);
    return rc;
}

/* ---- what is kept of what was pruned ---- */

static dm_status sums_unnamed(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    return dm__found(audit, DM_SEVERITY_WARNING, table, sqlite3_column_int64(stmt, 0),
                     "%.30s has sums, but is no model of model_name_mapping",
                     (const char *)sqlite3_column_text(stmt, 1));
}

/* No question could part what lies before its bucket. */
static dm_status bucket_audit(dm__audit *audit, sqlite3_stmt *stmt, int column, const char *table,
                              const char *first, double first_s)
{
    dm__row row = {stmt, table, sqlite3_column_int64(stmt, 0)};
    double bucket_s = 0;
    if (sqlite3_column_type(stmt, column) == SQLITE_NULL) /* of one run: the others refuse it */
        return DM_OK;
    dm_status rc = dm__row_time(&row, column, &bucket_s, audit->err);
    if (rc == DM_OK && first_s < bucket_s)
        rc = dm__fail(audit->err, DM_CORRUPT_DATA,
                      "%s row %lld: %s %.15g must not be before bucket_start %.15g", table,
                      (long long)row.row_id, first, first_s, bucket_s);
    return rc;
}

static dm_status part_audit_row(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    dm__kept_part part = {0};
    dm_status rc = dm__request_columns_alloc(&part.rows, DM__KEPT_ROWS)
                       ? dm__kept_part_read(stmt, &part, audit->err)
                       : dm__no_memory(audit->err);
    if (rc == DM_OK)
        rc = bucket_audit(audit, stmt, 9, table, "first_request", part.first_s);
    dm_request_columns_reset(&part.rows);
    return dm__found_error(audit, rc, table, sqlite3_column_int64(stmt, 0));
}

static dm_status kept_run_audit_row(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    dm_kept_run run;
    dm_status rc = dm__kept_run_read(stmt, &run, audit->err);
    if (rc == DM_OK)
        rc = bucket_audit(audit, stmt, 5, table, "start_time", run.start_time_s);
    return dm__found_error(audit, rc, table, sqlite3_column_int64(stmt, 0));
}

static dm_status sums_audit(dm__audit *audit)
{
    static const char *const columns[] = {DM__KEPT_PART_COLUMNS ",bucket_start",
                                          DM__KEPT_RUN_COLUMNS ",bucket_start"};
    static const dm__audit_row_fn each[] = {part_audit_row, kept_run_audit_row};
    bool usable[2];
    dm_status rc = pair_audit(audit, dm__kept_tables, LOST, usable);
    for (int i = 0; i < 2 && rc == DM_OK; i++) {
        const char *table = dm__kept_tables[i];
        if (usable[i])
            rc = dm__audit_each(audit, table, sums_unnamed,
                                "SELECT id,safe_name FROM %s WHERE safe_name<>%Q AND safe_name NOT"
                                " IN (SELECT safe_name FROM model_name_mapping) LIMIT %d",
                                table, DM__PROGRAM, DM__FINDINGS_PER_TABLE);
        if (rc == DM_OK && usable[i] && !audit->quick)
            rc = dm__audit_each(audit, table, each[i], "SELECT %s FROM %s ORDER BY id", columns[i],
                                table);
    }
    return rc;
}

/* ---- everything ---- */

/* Our tables as this version makes them, to compare with. */
static dm_status model_conn_open(dm__audit *audit)
{
    static dm_status (*const side_tables[])(dm__conn *, const char *, dm_error *) = {
        dm__model_tables_create, dm__timings_create, dm__request_ids_create, dm__checksums_create};
    dm_status rc = dm__conn_open(":memory:", false, 0, &audit->ours, audit->err);
    if (rc == DM_OK)
        rc = dm__schema_prepare(audit->ours, audit->err);
    for (size_t i = 0; i < 4 && rc == DM_OK; i++)
        rc = side_tables[i](audit->ours, DM__MODEL_SAFE, audit->err);
    if (rc == DM_OK)
        rc = dm__history_create(audit->ours, audit->err);
    if (rc == DM_OK)
        rc = dm__eras_create(audit->ours, audit->err);
    return rc == DM_OK ? dm__kept_create(audit->ours, audit->err) : rc;
}

static dm_status rules_audit(dm__audit *audit)
{
    bool usable = true;
    dm_status rc = model_conn_open(audit);
    if (rc == DM_OK)
        rc = dm__declarations_read(audit);
    if (rc == DM_OK)
        rc = dm__audit_each(audit, NULL, object_finding,
                            "SELECT type,name,tbl_name FROM sqlite_schema WHERE"
                            " type IN ('trigger','view') ORDER BY name");
    if (rc == DM_OK)
        rc = dm__table_audit(audit, "program_runtime", "program_runtime", &usable);
    if (rc == DM_OK && !audit->quick && usable)
        rc = dm__runs_audit(audit, "program_runtime");
    if (rc == DM_OK)
        rc = dm__table_audit(audit, "datamanager_store", "datamanager_store", &usable);
    if (rc == DM_OK)
        rc = dm__side_table_audit(audit, "datamanager_eras", "datamanager_eras", &usable);
    usable = true;
    if (rc == DM_OK)
        rc = dm__table_audit(audit, "model_name_mapping", "model_name_mapping", &usable);
    if (rc == DM_OK && usable)
        rc = dm__audit_each(audit, "model_name_mapping", mapping_audit_row,
                            "SELECT id,original_name,safe_name FROM model_name_mapping ORDER BY 1");
    if (rc == DM_OK && usable)
        rc = mapping_twice_audit(audit);
    if (rc == DM_OK && usable)
        rc = unnamed_audit(audit);
    if (rc == DM_OK && usable)
        rc = history_audit(audit);
    if (rc == DM_OK && usable)
        rc = sums_audit(audit);
    dm__conn_close(audit->ours, false);
    audit->ours = NULL;
    return rc;
}

static dm_status audit_run(dm__conn *conn, void *argument, dm_error *err)
{
    dm__audit *audit = argument;
    audit->conn = conn;
    audit->err = err;
    audit->found->count = audit->kept; /* begun anew */
    dm__audit_begin(audit);
    audit->mend_models = audit->mend_tables = false;
    audit->index_count = 0;
    dm__conn_stoppable_set(conn, true);
    dm_status rc = file_audit(audit);
    if (rc == DM_OK)
        rc = rules_audit(audit);
    dm__conn_stoppable_set(conn, false);
    return rc;
}

static dm_status check_and_mend(dm_manager *m, dm__audit *audit, bool repair, dm_error *err)
{
    dm_error own;
    if (err == NULL)
        err = &own; /* findings are made of it */
    dm_status rc = dm__read_aside(m, audit_run, audit, err);
    if (rc != DM_OK || !repair ||
        !(audit->index_count > 0 || audit->mend_models || audit->mend_tables))
        return rc;
    rc = dm__write_alone(m, dm__mend_run, audit, err);
    audit->kept = audit->found->count; /* what was done, and after it what is still to be told */
    return rc == DM_OK ? dm__read_aside(m, audit_run, audit, err) : rc;
}

dm_status dm_check(dm_manager *m, bool quick, bool repair, dm_findings *findings_out, dm_error *err)
{
    dm_findings found = {0};
    dm__audit audit = {.m = m, .found = &found, .quick = quick};
    dm_status rc = repair ? dm__writable(m, err) : DM_OK;
    if (rc == DM_OK)
        rc = check_and_mend(m, &audit, repair, err);
    dm__free(audit.indexes);
    if (rc == DM_OK)
        *findings_out = found;
    else
        dm_findings_reset(&found);
    return rc;
}
