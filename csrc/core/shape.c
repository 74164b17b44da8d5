/* SPDX-License-Identifier: MIT
 *
 * Is a table made as we make it? What is promised of rows stands on some of it: numbers that do not
 * come again on AUTOINCREMENT, exactly once on UNIQUE. The older class declared its tables with
 * other white space, and with defaults where we always give a value: neither is a difference. */
#include "dm_internal.h"

#include <ctype.h>
#include <string.h>

/* ---- columns ---- */

typedef struct {
    const char *type;
    int not_null, key, counts;
} column_shape;

static int shape_read(sqlite3 *db, const char *table, const char *name, column_shape *shape)
{
    return sqlite3_table_column_metadata(db, "main", table, name, &shape->type, NULL,
                                         &shape->not_null, &shape->key, &shape->counts);
}

static dm_status shapes_compare(dm__audit *audit, const char *table, const char *name,
                                const column_shape *wanted, const column_shape *found)
{
    dm_status rc = DM_OK;
    if (sqlite3_stricmp(found->type, wanted->type) != 0)
        rc = dm__found(audit, DM_SEVERITY_WARNING, table, DM_NO_ROW,
                       "column %s is declared as %.40s, not as %s", name,
                       found->type == NULL ? "nothing" : found->type, wanted->type);
    if (rc == DM_OK && !found->key != !wanted->key)
        rc = dm__found(audit, wanted->key ? DM_SEVERITY_ERROR : DM_SEVERITY_WARNING, table,
                       DM_NO_ROW, "column %s must %sbe the primary key", name,
                       wanted->key ? "" : "not ");
    if (rc == DM_OK && wanted->counts && !found->counts)
        rc = dm__found(audit, DM_SEVERITY_ERROR, table, DM_NO_ROW,
                       "column %s must be AUTOINCREMENT: the number of a deleted row comes again",
                       name);
    if (rc == DM_OK && wanted->not_null && !found->not_null)
        rc = dm__found(audit, DM_SEVERITY_WARNING, table, DM_NO_ROW, "column %s must be NOT NULL",
                       name);
    return rc;
}

static dm_status column_audit(dm__audit *audit, const char *table, const char *like,
                              const char *name, bool *usable)
{
    column_shape wanted = {0}, found = {0};
    int code = shape_read(audit->ours->db, like, name, &wanted);
    if (code != SQLITE_OK)
        return dm__fail_sqlite(audit->err, audit->ours->db, code, like);
    code = shape_read(audit->conn->db, table, name, &found);
    if (code == SQLITE_NOMEM)
        return dm__no_memory(audit->err);
    if (code != SQLITE_OK) {
        *usable = false;
        return dm__found(audit, DM_SEVERITY_ERROR, table, DM_NO_ROW, "there is no column %s", name);
    }
    return shapes_compare(audit, table, name, &wanted, &found);
}

static dm_status more_column(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    const char *name = (const char *)sqlite3_column_text(stmt, 1);
    column_shape ours = {0};
    if (name == NULL)
        return dm__no_memory(audit->err);
    return shape_read(audit->ours->db, audit->like, name, &ours) == SQLITE_OK
               ? DM_OK
               : dm__found(audit, DM_SEVERITY_WARNING, table, DM_NO_ROW,
                           "there is a column %.100s, which is not ours", name);
}

/* ---- what is unique ---- */

#define COLUMNS_OF "(SELECT group_concat(name) FROM (SELECT name FROM pragma_index_info(l.name)))"

static dm_status is_found(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    (void)stmt, (void)table;
    audit->seen = true;
    return DM_OK;
}

static dm_status unique_audit(dm__audit *audit, const char *table, const char *columns)
{
    audit->seen = false;
    dm_status rc = dm__audit_each(audit, table, is_found,
                                  "SELECT 1 FROM pragma_index_list(%Q) l WHERE \"unique\" AND NOT"
                                  " partial AND " COLUMNS_OF "=%Q",
                                  table, columns);
    return rc != DM_OK || audit->seen
               ? rc
               : dm__found(audit, DM_SEVERITY_ERROR, table, DM_NO_ROW,
                           "%s must be UNIQUE: there can be two of one", columns);
}

/* ---- all else ---- */

static size_t word_length(const char *at)
{
    size_t length = 0;
    while (isalnum((unsigned char)at[length]) || (at[length] != '\0' && strchr("_.'", at[length])))
        length++;
    return length;
}

static const char *spaces_skip(const char *at)
{
    while (isspace((unsigned char)*at) || *at == '"')
        at++;
    return at;
}

static bool word_is(const char *at, size_t length, const char *word)
{
    return length == strlen(word) && sqlite3_strnicmp(at, word, (int)length) == 0;
}

/* Past a DEFAULT of one word or number, past a NOT NULL: those are compared as such, or no matter.
 */
static const char *part_skip(const char *at, size_t length)
{
    const char *next = spaces_skip(at + length);
    if (word_is(at, length, "not") && word_is(next, word_length(next), "null"))
        return next + 4;
    if (!word_is(at, length, "default"))
        return at;
    next += *next == '-' || *next == '+';
    return word_length(next) > 0 ? next + word_length(next) : at;
}

/* Words and signs in lower case from the first bracket on, with one blank behind each. */
static void declaration_read(const char *sql, char text[DM__DECLARATION_SIZE])
{
    size_t size = 0;
    const char *at = sql == NULL ? NULL : strchr(sql, '(');
    while (at != NULL && *(at = spaces_skip(at)) != '\0' && size + 2 < DM__DECLARATION_SIZE) {
        size_t length = word_length(at);
        const char *behind = part_skip(at, length);
        if (behind != at) {
            at = behind;
            continue;
        }
        length += length == 0;
        for (; length > 0 && size + 2 < DM__DECLARATION_SIZE; length--)
            text[size++] = (char)tolower((unsigned char)*at++);
        text[size++] = ' ';
    }
    text[size] = '\0';
}

static dm_status declaration_keep(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    (void)table;
    (void)sqlite3_bind_value(audit->keep, 1, sqlite3_column_value(stmt, 0));
    (void)sqlite3_bind_value(audit->keep, 2, sqlite3_column_value(stmt, 1));
    int code = sqlite3_step(audit->keep);
    (void)sqlite3_reset(audit->keep);
    return code == SQLITE_DONE
               ? DM_OK
               : dm__fail_sqlite(audit->err, audit->ours->db, code, "compare the tables");
}

/* SQLite has no index of its schema, and a search for each table of many models takes long: they go
 * into one among `ours`, once. */
dm_status dm__declarations_read(dm__audit *audit)
{
    dm_status rc = dm__conn_exec(audit->ours, audit->err,
                                 "CREATE TABLE declarations(name TEXT PRIMARY KEY COLLATE NOCASE,"
                                 " sql TEXT) WITHOUT ROWID");
    if (rc != DM_OK)
        return rc;
    int code =
        sqlite3_prepare_v2(audit->ours->db, "INSERT OR IGNORE INTO declarations VALUES(?1,?2)", -1,
                           &audit->keep, NULL);
    rc = code == SQLITE_OK
             ? dm__audit_each(audit, NULL, declaration_keep, "SELECT name,sql FROM sqlite_schema")
             : dm__fail_sqlite(audit->err, audit->ours->db, code, "compare the tables");
    (void)sqlite3_finalize(audit->keep);
    audit->keep = NULL;
    return rc;
}

static dm_status declaration_find(dm__audit *audit, const char *table, bool *found)
{
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(audit->ours->db, "SELECT sql FROM declarations WHERE name=?1", -1,
                                  &stmt, NULL);
    dm_status rc = code == SQLITE_OK
                       ? DM_OK
                       : dm__fail_sqlite(audit->err, audit->ours->db, code, "compare the tables");
    if (rc == DM_OK) {
        (void)sqlite3_bind_text(stmt, 1, table, -1, SQLITE_STATIC);
        rc = dm__stmt_step(audit->ours, stmt, found, audit->err);
    }
    if (rc == DM_OK && *found)
        declaration_read((const char *)sqlite3_column_text(stmt, 0), audit->declared);
    (void)sqlite3_finalize(stmt);
    return rc;
}

static dm_status declaration_audit(dm__audit *audit, const char *table)
{
    char wanted[DM__DECLARATION_SIZE];
    sqlite3_stmt *ours = NULL;
    bool row = false;
    int code = sqlite3_prepare_v2(audit->ours->db, "SELECT sql FROM sqlite_schema WHERE name=?1",
                                  -1, &ours, NULL);
    dm_status rc = code == SQLITE_OK
                       ? DM_OK
                       : dm__fail_sqlite(audit->err, audit->ours->db, code, "compare the tables");
    if (rc == DM_OK) {
        (void)sqlite3_bind_text(ours, 1, audit->like, -1, SQLITE_STATIC);
        rc = dm__stmt_step(audit->ours, ours, &row, audit->err);
    }
    if (rc == DM_OK) {
        declaration_read((const char *)sqlite3_column_text(ours, 0), wanted);
        size_t same = 0;
        while (wanted[same] != '\0' && wanted[same] == audit->declared[same])
            same++;
        if (wanted[same] != audit->declared[same])
            rc = dm__found(audit, DM_SEVERITY_WARNING, table, DM_NO_ROW,
                           "the table is not declared as ours: %.60s", audit->declared + same);
    }
    (void)sqlite3_finalize(ours);
    return rc;
}

/* ---- a table ---- */

static dm_status columns_audit(dm__audit *audit, const char *table, bool *usable)
{
    sqlite3_stmt *ours = NULL;
    bool more = true;
    int code =
        sqlite3_prepare_v2(audit->ours->db,
                           "SELECT name,0 FROM pragma_table_info(?1) UNION ALL SELECT " COLUMNS_OF
                           ",1 FROM pragma_index_list(?1) l WHERE origin='u'",
                           -1, &ours, NULL);
    dm_status rc = code == SQLITE_OK
                       ? DM_OK
                       : dm__fail_sqlite(audit->err, audit->ours->db, code, "compare the tables");
    if (rc == DM_OK)
        (void)sqlite3_bind_text(ours, 1, audit->like, -1, SQLITE_STATIC);
    while (rc == DM_OK && (rc = dm__stmt_step(audit->ours, ours, &more, audit->err)) == DM_OK &&
           more) {
        const char *what = (const char *)sqlite3_column_text(ours, 0);
        if (what == NULL)
            rc = dm__no_memory(audit->err);
        else if (!sqlite3_column_int(ours, 1))
            rc = column_audit(audit, table, audit->like, what, usable);
        else if (*usable)
            rc = unique_audit(audit, table, what);
    }
    (void)sqlite3_finalize(ours);
    return rc;
}

dm_status dm__table_audit(dm__audit *audit, const char *table, const char *like, bool *usable)
{
    bool found = false;
    audit->like = like;
    dm_status rc = declaration_find(audit, table, &found);
    if (rc == DM_OK && !found) {
        *usable = false;
        audit->mend_models = true;
        return dm__found(audit, DM_SEVERITY_ERROR, table, DM_NO_ROW, "the table is missing");
    }
    size_t before = audit->found->count;
    if (rc == DM_OK)
        rc = columns_audit(audit, table, usable);
    if (rc == DM_OK && *usable)
        rc = dm__audit_each(audit, table, more_column, "PRAGMA main.table_xinfo(\"%w\")", table);
    if (rc == DM_OK && *usable && audit->found->count == before) /* else it is told already */
        rc = declaration_audit(audit, table);
    return rc;
}

dm_status dm__side_table_audit(dm__audit *audit, const char *table, const char *like, bool *usable)
{
    dm_status rc = dm__table_find(audit->conn, table, usable, audit->err);
    return rc == DM_OK && *usable ? dm__table_audit(audit, table, like, usable) : rc;
}
