/* SPDX-License-Identifier: MIT
 *
 * datamanager_eras(safe_name, last_row, era): by what word the rows of a model are exported (see
 * request_ids.c), where numbers of rows alone would not tell them apart. A model that was deleted
 * and begins anew has row 1 again; and so have a file and its copy, when both go on, a row that is
 * the next of both. So each model begins an era, and each copy begins one for all of them:
 *
 *     rows 1 … 1000  era 7d5c0c9be1b4f0a2      of before the copy was made: known to both
 *     all others     era 04b1d20f3c8e9a67      of this file alone
 *
 * Models of before there were eras, and those that the older class makes, go by the id of the file,
 * which a copy changes as well. A file that was copied by other programs begins none. */
#include "dm_internal.h"

#define LATEST "9223372036854775807" /* the last row of the era that goes on */
#define WORD   "lower(hex(randomblob(8)))"

dm_status dm__eras_create(dm__conn *conn, dm_error *err)
{
    return dm__conn_exec(conn, err,
                         "CREATE TABLE IF NOT EXISTS datamanager_eras (\n"
                         "    safe_name TEXT NOT NULL,\n"
                         "    last_row INTEGER NOT NULL,\n"
                         "    era TEXT NOT NULL,\n"
                         "    PRIMARY KEY(safe_name, last_row)\n) WITHOUT ROWID");
}

static bool has_eras(dm__conn *conn)
{
    return dm__table_has_column(conn, "datamanager_eras", "era");
}

dm_status dm__eras_forget(dm__conn *conn, const char *safe, dm_error *err)
{
    return has_eras(conn)
               ? dm__conn_exec(conn, err, "DELETE FROM datamanager_eras WHERE safe_name=%Q", safe)
               : DM_OK;
}

dm_status dm__era_begin(dm__conn *conn, const char *safe, dm_error *err)
{
    dm_status rc = dm__eras_create(conn, err);
    return rc == DM_OK
               ? dm__conn_exec(conn, err,
                               "DELETE FROM datamanager_eras WHERE safe_name=%Q;"
                               "INSERT INTO datamanager_eras VALUES(%Q," LATEST "," WORD ")",
                               safe, safe)
               : rc;
}

dm_status dm__eras_move(dm__conn *conn, const char *from, const char *to, dm_error *err)
{
    dm_status rc = dm__eras_forget(conn, to, err);
    return rc == DM_OK && has_eras(conn)
               ? dm__conn_exec(conn, err,
                               "UPDATE datamanager_eras SET safe_name=%Q WHERE safe_name=%Q", to,
                               from)
               : rc;
}

dm_status dm__era_find(dm__conn *conn, const char *safe, int64_t row_id, dm__era *era_out,
                       dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    *era_out = (dm__era){.last_row = INT64_MAX};
    if (!has_eras(conn))
        return dm__store_value_read(conn, "id", era_out->word, err);
    dm_status rc = dm__stmt_get(conn, DM__STMT_ERA, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_text(stmt, 1, safe, -1, SQLITE_STATIC);
        (void)sqlite3_bind_int64(stmt, 2, row_id);
        rc = dm__stmt_step(conn, stmt, &row, err);
    }
    if (rc == DM_OK && row) {
        dm__word_copy(stmt, 0, era_out->word);
        era_out->last_row = sqlite3_column_int64(stmt, 1);
    }
    dm__stmt_put(stmt);
    return rc != DM_OK || row ? rc : dm__store_value_read(conn, "id", era_out->word, err);
}

/* An era without rows ends with it: nothing was exported of it. */
static dm_status renew(dm__conn *conn, dm_error *err)
{
    dm_status rc = dm__eras_create(conn, err);
    return rc == DM_OK
               ? dm__conn_exec(
                     conn, err,
                     "INSERT OR IGNORE INTO datamanager_eras SELECT safe_name," LATEST ",value FROM"
                     " model_name_mapping,datamanager_store WHERE name='id';"
                     "INSERT OR IGNORE INTO datamanager_eras SELECT safe_name,seq,era FROM"
                     " datamanager_eras JOIN sqlite_sequence ON"
                     " name=safe_name||'_requests' COLLATE NOCASE WHERE last_row=" LATEST
                     " AND seq BETWEEN 1 AND " LATEST "-1;"
                     "UPDATE datamanager_eras SET era=" WORD " WHERE last_row=" LATEST ";"
                     "UPDATE datamanager_store SET value=" WORD " WHERE name='id'")
               : rc;
}

dm_status dm__eras_renew(dm__conn *conn, int64_t deadline_ns, dm_error *err)
{
    dm_status rc = dm__begin_waiting(conn, deadline_ns, err);
    if (rc == DM_OK)
        rc = renew(conn, err);
    if (rc == DM_OK)
        rc = dm__stmt_exec(conn, DM__STMT_COMMIT, err);
    if (rc != DM_OK)
        dm__rollback(conn);
    /* Where these tables are not what they should be, rows go on by the words that there were. */
    return rc == DM_CORRUPT_DATA ? DM_OK : rc;
}
