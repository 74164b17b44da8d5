/* SPDX-License-Identifier: MIT
 *
 * SQLite's own check of its file. It refuses the whole of a file of which one index or rule names a
 * function or a collation that only another program has. What that stands on is that program's:
 * then each table is checked by itself, and what cannot be is told as such. */
#include "dm_internal.h"

/* Rows of one check. `any`: there was one, of whatever kind. */
static dm_status lines_tell(dm__conn *conn, const char *sql, const char *table, bool *any,
                            dm__verdict_fn tell, void *argument, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = true;
    int code = sqlite3_prepare_v2(conn->db, sql, -1, &stmt, NULL);
    dm_status rc = code == SQLITE_OK ? DM_OK : dm__sql_failed(conn, code, sql, err);
    while (rc == DM_OK && (rc = dm__stmt_step(conn, stmt, &row, err)) == DM_OK && row) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);
        *any = true;
        if (text == NULL)
            rc = dm__no_memory(err);
        else if (sqlite3_stricmp(text, "ok") != 0)
            rc = tell(argument, DM__VERDICT_DAMAGED, table, text, err);
    }
    (void)sqlite3_finalize(stmt);
    return rc;
}

/* Where the mapping cannot be read, any table may be. */
static dm_status is_ours(dm__conn *conn, const char *table, bool *ours, dm_error *err)
{
    int64_t found = 1;
    dm_status rc = dm__conn_integer(
        conn, &found, err,
        "SELECT %Q LIKE 'sqlite\\_%%' ESCAPE '\\' OR %Q LIKE 'datamanager\\_%%' ESCAPE '\\' OR"
        " lower(%Q) IN ('model_name_mapping','program_runtime') OR"
        " EXISTS(SELECT 1 FROM model_name_mapping WHERE lower(%Q) IN"
        " (lower(safe_name)||'_requests',lower(safe_name)||'_runtime',"
        "lower(safe_name)||'_billing',lower(safe_name)||'_tier_pricing',"
        "lower(safe_name)||'_timings',lower(safe_name)||'_request_ids',"
        "lower(safe_name)||'_checksums'))",
        table, table, table, table);
    *ours = found != 0;
    return rc == DM_CORRUPT_DATA || rc == DM_DAMAGED ? DM_OK : rc;
}

static dm_status table_tell(dm__conn *conn, bool quick, const char *table, dm__verdict_fn tell,
                            void *argument, dm_error *err)
{
    bool any = false, ours = true;
    dm_error reason = {0}; /* `err` may be NULL */
    char *sql =
        sqlite3_mprintf("PRAGMA %s(\"%w\")", quick ? "quick_check" : "integrity_check", table);
    if (sql == NULL)
        return dm__no_memory(err);
    dm_status rc = lines_tell(conn, sql, table, &any, tell, argument, &reason);
    sqlite3_free(sql);
    if (rc == DM_DAMAGED && !any)
        return tell(argument, DM__VERDICT_DAMAGED, table, reason.text, err);
    if (rc != DM_CORRUPT_DATA || any) {
        if (err != NULL && rc != DM_OK)
            *err = reason;
        return rc;
    }
    rc = is_ours(conn, table, &ours, err);
    return rc == DM_OK
               ? tell(argument, ours ? DM__VERDICT_UNCHECKED : DM__VERDICT_UNCHECKED_FOREIGN, table,
                      reason.text, err)
               : rc;
}

static dm_status tables_tell(dm__conn *conn, bool quick, dm__verdict_fn tell, void *argument,
                             dm_error *err)
{
    static const char names[] = "SELECT 'sqlite_schema' UNION ALL"
                                " SELECT name FROM sqlite_schema WHERE type='table'";
    sqlite3_stmt *stmt = NULL;
    bool row = true;
    int code = sqlite3_prepare_v2(conn->db, names, -1, &stmt, NULL);
    dm_status rc = code == SQLITE_OK ? DM_OK : dm__sql_failed(conn, code, names, err);
    while (rc == DM_OK && (rc = dm__stmt_step(conn, stmt, &row, err)) == DM_OK && row) {
        const char *table = (const char *)sqlite3_column_text(stmt, 0);
        rc = table == NULL ? dm__no_memory(err)
                           : table_tell(conn, quick, table, tell, argument, err);
    }
    (void)sqlite3_finalize(stmt);
    return rc;
}

dm_status dm__file_verify(dm__conn *conn, bool quick, int limit, dm__verdict_fn tell,
                          void *argument, dm_error *err)
{
    bool any = false;
    char sql[64];
    (void)sqlite3_snprintf((int)sizeof sql, sql, "PRAGMA %s(%d)",
                           quick ? "quick_check" : "integrity_check", limit);
    /* The program of the check grows with the number of tables. */
    (void)sqlite3_limit(conn->db, SQLITE_LIMIT_VDBE_OP, INT32_MAX);
    dm_status rc = lines_tell(conn, sql, NULL, &any, tell, argument, err);
    return rc == DM_CORRUPT_DATA && !any ? tables_tell(conn, quick, tell, argument, err) : rc;
}

/* ---- yes or no ---- */

static dm_status verdict_fail(void *argument, dm__verdict verdict, const char *table,
                              const char *text, dm_error *err)
{
    (void)argument;
    if (verdict == DM__VERDICT_DAMAGED)
        return dm__fail(err, DM_DAMAGED, "the file is damaged: %.200s", text);
    return verdict == DM__VERDICT_UNCHECKED
               ? dm__fail(err, DM_CORRUPT_DATA, "%.60s cannot be checked: %.150s", table, text)
               : DM_OK;
}

dm_status dm__integrity_verify(dm__conn *conn, bool quick, dm_error *err)
{
    dm__conn_stoppable_set(conn, true);
    dm_status rc = dm__file_verify(conn, quick, 1, verdict_fail, NULL, err);
    dm__conn_stoppable_set(conn, false);
    return rc;
}
