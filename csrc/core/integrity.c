/* SPDX-License-Identifier: MIT
 *
 * Is all as it should be? */
#include "dm_internal.h"

/* The program of the check grows with the number of tables. */
static void limit_lift(dm__conn *conn)
{
    (void)sqlite3_limit(conn->db, SQLITE_LIMIT_VDBE_OP, INT32_MAX);
}

dm_status dm__integrity_verify(dm__conn *conn, bool quick, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    limit_lift(conn);
    dm__conn_stoppable_set(conn, true);
    int code = sqlite3_prepare_v2(
        conn->db, quick ? "PRAGMA quick_check(1)" : "PRAGMA integrity_check(1)", -1, &stmt, NULL);
    dm_status rc = code == SQLITE_OK ? dm__stmt_step(conn, stmt, &row, err)
                                     : dm__fail_sqlite(err, conn->db, code, "check the file");
    const char *text = rc == DM_OK && row ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    if (rc == DM_OK && (text == NULL || sqlite3_stricmp(text, "ok") != 0))
        rc = dm__fail(err, DM_DAMAGED, "the file is damaged: %.200s", text == NULL ? "" : text);
    (void)sqlite3_finalize(stmt);
    dm__conn_stoppable_set(conn, false);
    return rc;
}
