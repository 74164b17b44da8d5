/* SPDX-License-Identifier: MIT
 *
 * What file is this, and making it ours. */
#include "dm_internal.h"

#include <string.h>

static const char mapping_sql[] = "CREATE TABLE IF NOT EXISTS model_name_mapping (\n"
                                  "    id INTEGER PRIMARY KEY AUTOINCREMENT,\n"
                                  "    original_name TEXT UNIQUE NOT NULL,\n"
                                  "    safe_name TEXT UNIQUE NOT NULL,\n"
                                  "    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP\n)";

static const char program_sql[] = "CREATE TABLE IF NOT EXISTS program_runtime (\n"
                                  "    id INTEGER PRIMARY KEY AUTOINCREMENT,\n"
                                  "    start_time REAL NOT NULL,\n"
                                  "    end_time REAL NOT NULL\n)";

/* What tells this database from others, to which its rows may go: see request_ids.c. */
static const char store_sql[] =
    "CREATE TABLE IF NOT EXISTS datamanager_store (\n"
    "    name TEXT PRIMARY KEY NOT NULL,\n"
    "    value\n) WITHOUT ROWID;"
    "INSERT OR IGNORE INTO datamanager_store VALUES('id',lower(hex(randomblob(8))))";

dm_status dm__store_table_create(dm__conn *conn, dm_error *err)
{
    return dm__conn_exec(conn, err, "%s", store_sql);
}

dm_status dm__program_table_create(dm__conn *conn, dm_error *err)
{
    return dm__conn_exec(conn, err, "%s", program_sql);
}

dm_status dm__mapping_create(dm__conn *conn, dm_error *err)
{
    return dm__conn_exec(conn, err, "%s", mapping_sql);
}

void dm__word_copy(sqlite3_stmt *stmt, int column, char word[DM__STORE_VALUE_SIZE])
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    bool is_word = text != NULL && dm__safe_name_ok(text, strlen(text));
    (void)sqlite3_snprintf(DM__STORE_VALUE_SIZE, word, "%s", is_word ? text : "");
}

dm_status dm__store_value_read(dm__conn *conn, const char *name, char value[DM__STORE_VALUE_SIZE],
                               dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    value[0] = '\0';
    if (!dm__table_has_column(conn, "datamanager_store", "value"))
        return DM_OK;
    dm_status rc = dm__stmt_get(conn, DM__STMT_STORE_VALUE, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
        rc = dm__stmt_step(conn, stmt, &row, err);
    }
    if (rc == DM_OK && row)
        dm__word_copy(stmt, 0, value);
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__conn_integer(dm__conn *conn, int64_t *out, dm_error *err, const char *format, ...)
{
    sqlite3_stmt *stmt = NULL;
    va_list arguments;
    va_start(arguments, format);
    char *sql = sqlite3_vmprintf(format, arguments);
    va_end(arguments);
    if (sql == NULL)
        return dm__no_memory(err);
    int code = sqlite3_prepare_v2(conn->db, sql, -1, &stmt, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(stmt);
    dm_status rc = DM_OK;
    if (code == SQLITE_ROW)
        *out = sqlite3_column_int64(stmt, 0);
    else
        rc = dm__sql_failed(conn, code == SQLITE_DONE ? SQLITE_ERROR : code, sql, err);
    (void)sqlite3_finalize(stmt);
    sqlite3_free(sql);
    return rc;
}

bool dm__table_has_column(dm__conn *conn, const char *table, const char *column)
{
    return sqlite3_table_column_metadata(conn->db, "main", table, column, NULL, NULL, NULL, NULL,
                                         NULL) == SQLITE_OK;
}

dm_status dm__table_find(dm__conn *conn, const char *table, bool *there_out, dm_error *err)
{
    int code =
        sqlite3_table_column_metadata(conn->db, "main", table, NULL, NULL, NULL, NULL, NULL, NULL);
    if (code != SQLITE_OK && code != SQLITE_ERROR)
        return dm__fail_sqlite(err, conn->db, code, table);
    *there_out = code == SQLITE_OK;
    return DM_OK;
}

dm_status dm__pair_find(dm__conn *conn, const char *const tables[2], bool *there_out, dm_error *err)
{
    bool there[2] = {false, false};
    dm_status rc = dm__table_find(conn, tables[0], &there[0], err);
    if (rc == DM_OK)
        rc = dm__table_find(conn, tables[1], &there[1], err);
    if (rc == DM_OK && there[0] != there[1])
        rc = dm__fail(err, DM_CORRUPT_DATA, "%s is missing, though %s is there", tables[there[0]],
                      tables[there[1]]);
    if (rc == DM_OK)
        *there_out = there[0];
    return rc;
}

dm_status dm__tables_forget(dm__conn *conn, const char *const tables[2], const char *safe,
                            dm_error *err)
{
    dm_status rc = DM_OK;
    for (int i = 0; i < 2 && rc == DM_OK; i++) {
        bool there = false;
        rc = dm__table_find(conn, tables[i], &there, err);
        if (rc == DM_OK && there)
            rc = dm__conn_exec(conn, err, "DELETE FROM \"%w\" WHERE safe_name=%Q", tables[i], safe);
    }
    return rc;
}

static bool table_has(dm__conn *conn, const char *table, const char *const *columns)
{
    for (; *columns != NULL; columns++)
        if (!dm__table_has_column(conn, table, *columns))
            return false;
    return true;
}

#define OBJECTS                                                                                    \
    "SELECT count(*) AS objects FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%%' ESCAPE '\\'"

/* Where the first page has lost what it says of tables, their pages are still in use: all but the
 * free ones, one for each of SQLite's own tables, and with auto_vacuum at most one in 96 by which
 * SQLite moves the others. Ours has sqlite_sequence for ever, but for a VACUUM, which leaves two.
 * One question, as another process may be making the tables. */
static dm_status empty_verify(dm__conn *conn, dm_error *err)
{
    int64_t lost = 0;
    dm_status rc = dm__conn_integer(
        conn, &lost, err,
        "SELECT objects=0 AND (page_count-freelist_count > 2+tables+(auto_vacuum>0)*page_count/96"
        " OR user_version=%d AND tables=0 AND page_count>2)"
        " FROM (" OBJECTS "), (SELECT count(*) AS tables FROM sqlite_schema),"
        " pragma_page_count, pragma_freelist_count, pragma_auto_vacuum, pragma_user_version",
        DM__SCHEMA_VERSION);
    if (rc == DM_OK && lost)
        rc = dm__fail(err, DM_DAMAGED, "the database file is damaged: it has pages, but no tables");
    return rc;
}

dm_status dm__schema_probe(dm__conn *conn, dm__file_kind *kind_out, dm_error *err)
{
    static const char *const mapping_columns[] = {"id", "original_name", "safe_name", NULL};
    static const char *const run_columns[] = {"id", "start_time", "end_time", NULL};
    int64_t objects = 0, version = 0, older = 0;
    dm_status rc = dm__conn_integer(conn, &objects, err, OBJECTS);
    if (rc == DM_OK)
        rc = dm__conn_integer(conn, &version, err, "PRAGMA user_version");
    if (rc != DM_OK)
        return rc;
    if (objects == 0) {
        *kind_out = DM__FILE_EMPTY;
        return empty_verify(conn, err);
    }
    bool mapping = table_has(conn, "model_name_mapping", mapping_columns);
    bool program = table_has(conn, "program_runtime", run_columns);
    if (!mapping && !(program && objects == 1))
        return dm__fail(err, DM_FOREIGN,
                        "the database belongs to another program: it has tables, but not ours");
    if (version > DM__SCHEMA_VERSION)
        return dm__fail(err, DM_NEWER,
                        "the database was written by a newer version: its format is %lld, the "
                        "newest known here is %d",
                        (long long)version, DM__SCHEMA_VERSION);
    /* The class that we replace may have come back to a file that was ours already. */
    if (mapping)
        rc = dm__conn_integer(
            conn, &older, err,
            "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE type='table' AND"
            " (name LIKE '%%\\_hourly\\_price' ESCAPE '\\' AND substr(name,1,length(name)-13) IN"
            "  (SELECT safe_name FROM model_name_mapping) OR"
            "  name LIKE '%%\\_billing\\_method' ESCAPE '\\' AND substr(name,1,length(name)-15) IN"
            "  (SELECT safe_name FROM model_name_mapping)))");
    if (rc == DM_OK)
        *kind_out = mapping && program && version == DM__SCHEMA_VERSION && !older ? DM__FILE_OURS
                                                                                  : DM__FILE_OLDER;
    return rc;
}

dm_status dm__schema_prepare(dm__conn *conn, dm_error *err)
{
    dm__file_kind kind;
    dm_status rc = dm__schema_probe(conn, &kind, err); /* another process may have been faster */
    if (rc != DM_OK || kind == DM__FILE_OURS)
        return rc;
    rc = dm__mapping_create(conn, err);
    if (rc == DM_OK)
        rc = dm__program_table_create(conn, err);
    if (rc == DM_OK)
        rc = dm__store_table_create(conn, err);
    if (rc == DM_OK && kind == DM__FILE_OLDER)
        rc = dm__schema_adopt(conn, err);
    if (rc == DM_OK)
        rc = dm__conn_exec(conn, err, "PRAGMA user_version=%d", DM__SCHEMA_VERSION);
    return rc;
}
