/* SPDX-License-Identifier: MIT
 *
 * Mending what can be mended without losing anything: tables and rows that are missing are made
 * again, prices from the history, in one transaction; indexes are built anew from the rows, each in
 * one of its own, if they know of no others. */
#include "dm_store.h"

#include <stdio.h>

typedef char table_name[DM_SAFE_NAME_SIZE + 16];

static dm_status mended(dm__audit *audit, const char *table, const char *text)
{
    size_t before = audit->found->count;
    dm_status rc = dm__found(audit, DM_SEVERITY_WARNING, table, DM_NO_ROW, "%s", text);
    if (rc == DM_OK && audit->found->count > before)
        audit->found->findings[audit->found->count - 1].repaired = true;
    return rc;
}

static const char made_again[] = "the table was missing: made again";

/* Is something of this name in the file? */
static dm_status name_taken(dm__audit *audit, const char *table, int64_t *taken)
{
    return dm__conn_integer(audit->conn, taken, audit->err,
                            "SELECT count(*) FROM sqlite_schema WHERE name=%Q COLLATE NOCASE",
                            table);
}

static dm_status tables_mend(dm__audit *audit, dm_str name, const char *safe)
{
    static const char *const suffixes[] = {"_runtime", "_requests", "_billing", "_tier_pricing"};
    table_name tables[4];
    int64_t there[4] = {0}, billing_rows = 0;
    dm__model *model = NULL;
    dm_status rc = DM_OK;
    for (size_t i = 0; i < 4 && rc == DM_OK; i++) {
        (void)sqlite3_snprintf((int)sizeof tables[i], tables[i], "%s%s", safe, suffixes[i]);
        rc = name_taken(audit, tables[i], &there[i]);
    }
    if (rc == DM_OK && there[2] && dm__table_has_column(audit->conn, tables[2], "hourly_price"))
        rc = dm__conn_integer(audit->conn, &billing_rows, audit->err, "SELECT count(*) FROM \"%w\"",
                              tables[2]);
    if (rc != DM_OK || (there[0] && there[1] && there[3] && billing_rows > 0))
        return rc;
    rc = dm__model_tables_create(audit->conn, safe, audit->err);
    if (rc == DM_OK)
        rc = dm__model_find(audit->conn, name, &model, audit->err);
    if (rc == DM_OK && (billing_rows == 0 || !there[3])) /* all: half would pass for another's */
        rc = dm__prices_show(audit->conn, model, audit->err);
    for (size_t i = 0; i < 4 && rc == DM_OK; i++)
        if (!there[i])
            rc = mended(audit, tables[i], made_again);
    if (rc == DM_OK && there[2] && billing_rows == 0)
        rc = mended(audit, tables[2], "the row was missing: made again");
    return rc;
}

static dm_status model_mend(dm__audit *audit, const void *argument)
{
    const dm_model_name *name = argument;
    return tables_mend(audit, (dm_str){name->original_name, name->original_length},
                       name->safe_name);
}

/* ---- tables that are not those of one model ---- */

typedef struct {
    const char *table;
    /* May it not be made again: something of its name is there, or it held something? */
    dm_status (*refused)(dm__audit *audit, const char *table, int64_t *refused);
    dm_status (*create)(dm__conn *conn, dm_error *err);
    const char *done;
} shared_table;

/* Where there is a model's table, its name is lost. */
static dm_status names_lost(dm__audit *audit, const char *table, int64_t *lost)
{
    return dm__conn_integer(
        audit->conn, lost, audit->err,
        "SELECT count(*) FROM sqlite_schema WHERE name=%Q COLLATE NOCASE OR"
        " name LIKE '%%\\_requests' ESCAPE '\\' OR name LIKE '%%\\_billing' ESCAPE '\\' OR"
        " name LIKE '%%\\_tier\\_pricing' ESCAPE '\\' OR"
        " name<>'program_runtime' COLLATE NOCASE AND name LIKE '%%\\_runtime' ESCAPE '\\'",
        table);
}

static dm_status price_tiers_lost(dm__audit *audit, const char *table, int64_t *lost)
{
    bool needless = false;
    dm_status rc = dm__history_tiers_needless(audit->conn, &needless, audit->err);
    (void)table;
    *lost = !needless;
    return rc;
}

/* With a new id: what was exported with the old one is not known again. That the database was made
 * with checksums shows by the models that have them. */
static dm_status store_create(dm__conn *conn, dm_error *err)
{
    dm_status rc = dm__store_table_create(conn, err);
    return rc == DM_OK ? dm__conn_exec(
                             conn, err,
                             "INSERT INTO datamanager_store SELECT 'checksums','1' WHERE EXISTS("
                             "SELECT 1 FROM sqlite_schema WHERE type='table' AND"
                             " substr(name,-10)='_checksums' AND substr(name,1,length(name)-10) IN"
                             " (SELECT safe_name FROM model_name_mapping))")
                       : rc;
}

static const shared_table shared_tables[] = {
    {"program_runtime", name_taken, dm__program_table_create, made_again},
    {"model_name_mapping", names_lost, dm__mapping_create, made_again},
    {"datamanager_store", name_taken, store_create, made_again},
    {"datamanager_price_tiers", price_tiers_lost, dm__history_create,
     "the table was missing, and held nothing: made again"}};

static dm_status shared_table_mend(dm__audit *audit, const void *argument)
{
    const shared_table *shared = argument;
    int64_t refused = 1;
    dm_status rc = shared->refused(audit, shared->table, &refused);
    if (rc != DM_OK || refused)
        return rc;
    rc = shared->create(audit->conn, audit->err);
    return rc == DM_OK ? mended(audit, shared->table, shared->done) : rc;
}

/* ---- indexes ---- */

static dm_status lone_entry(dm__audit *audit, sqlite3_stmt *stmt, const char *table)
{
    (void)stmt;
    (void)table;
    audit->lone_entries++;
    return DM_OK;
}

/* Where a write of the table's page was lost, its index may be the last that knows of a row. An
 * index that cannot be read to its end is asked as far as it can; one that leaves out rows, or is
 * of a table without row ids, cannot be asked, and is always another program's. */
static dm_status lone_entries_look(dm__audit *audit, const char *index, const char *table)
{
    size_t before = audit->found->count;
    audit->lone_entries = 0;
    dm_status rc = dm__audit_each(audit, table, lone_entry,
                                  "SELECT 1 FROM \"%w\" AS entry INDEXED BY \"%w\" WHERE NOT"
                                  " EXISTS(SELECT 1 FROM \"%w\" AS row NOT INDEXED"
                                  " WHERE row._rowid_=entry._rowid_)",
                                  table, index, table);
    audit->found->count = before; /* what it could not read */
    if (rc != DM_OK || audit->lone_entries == 0)
        return rc;
    return dm__found(audit, DM_SEVERITY_ERROR, table, DM_NO_ROW,
                     "the index %.100s has %lld %s missing in the table: not built anew, it may"
                     " be all that is left of them",
                     index, (long long)audit->lone_entries,
                     audit->lone_entries == 1 ? "entry whose row is" : "entries whose rows are");
}

static dm_status index_look(dm__audit *audit, const char *index)
{
    static const char sql[] = "SELECT tbl_name FROM sqlite_schema WHERE type='index' AND name=?1";
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    int code = sqlite3_prepare_v2(audit->conn->db, sql, -1, &stmt, NULL);
    dm_status rc = code == SQLITE_OK ? DM_OK : dm__sql_failed(audit->conn, code, sql, audit->err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_text(stmt, 1, index, -1, SQLITE_STATIC);
        rc = dm__stmt_step(audit->conn, stmt, &row, audit->err);
    }
    const char *table = rc == DM_OK && row ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    if (rc == DM_OK && row && table == NULL)
        rc = dm__no_memory(audit->err);
    audit->lone_entries = 0;
    if (table != NULL)
        rc = lone_entries_look(audit, index, table);
    (void)sqlite3_finalize(stmt);
    return rc;
}

static dm_status index_build(dm__audit *audit, const char *index)
{
    char text[sizeof((dm_finding *)NULL)->text];
    (void)snprintf(text, sizeof text, "the index %s was damaged: built anew", index);
    dm_status rc = dm__begin_waiting(audit->conn, dm__deadline_ns(audit->m), audit->err);
    if (rc == DM_OK)
        rc = dm__conn_exec(audit->conn, audit->err, "REINDEX main.\"%w\"", index);
    if (rc == DM_OK)
        rc = dm__stmt_exec(audit->conn, DM__STMT_COMMIT, audit->err);
    dm__rollback(audit->conn);
    if (rc == DM_CORRUPT_DATA || rc == DM_DAMAGED)
        return dm__found(audit, DM_SEVERITY_ERROR, NULL, DM_NO_ROW,
                         "the index %s cannot be built anew: %.100s", index, audit->err->text);
    return rc == DM_OK ? mended(audit, NULL, text) : rc;
}

/* SQLite commits no transaction in which it has met damage, so each is looked at before its own.
 * Another process may write between the two: that leaves no entry without its row, as SQLite writes
 * and removes both together. */
static dm_status indexes_mend(dm__audit *audit)
{
    dm_status rc = DM_OK;
    for (size_t i = 0; i < audit->index_count && rc == DM_OK; i++) {
        rc = index_look(audit, audit->indexes[i].name);
        if (rc == DM_OK && audit->lone_entries == 0)
            rc = index_build(audit, audit->indexes[i].name);
    }
    return rc;
}

/* ---- one after the other ---- */

typedef dm_status (*mend_fn)(dm__audit *audit, const void *argument);

/* What stands in the way of one thing (a view of a table's name) must not keep others as they are.
 * The check afterwards tells what is missing still. */
static dm_status mend_apart(dm__audit *audit, mend_fn work, const void *argument)
{
    size_t before = audit->found->count;
    dm_status rc = dm__stmt_exec(audit->conn, DM__STMT_SAVEPOINT, audit->err);
    if (rc != DM_OK)
        return rc;
    rc = work(audit, argument);
    if (rc == DM_CORRUPT_DATA || rc == DM_DAMAGED) {
        audit->found->count = before;
        rc = dm__stmt_exec(audit->conn, DM__STMT_SAVEPOINT_ROLLBACK, audit->err);
    }
    return rc == DM_OK ? dm__stmt_exec(audit->conn, DM__STMT_SAVEPOINT_RELEASE, audit->err) : rc;
}

static dm_status shared_tables_mend(dm__audit *audit)
{
    dm_status rc = dm__conn_read_once(audit->conn, audit->err); /* what tables there are now */
    for (size_t i = 0; i < sizeof shared_tables / sizeof *shared_tables && rc == DM_OK; i++)
        rc = mend_apart(audit, shared_table_mend, &shared_tables[i]);
    return rc;
}

static dm_status tables_mend_all(dm__audit *audit)
{
    size_t before = audit->found->count;
    dm_model_names names = {0};
    dm_status rc = dm__begin_waiting(audit->conn, dm__deadline_ns(audit->m), audit->err);
    if (rc == DM_OK)
        rc = shared_tables_mend(audit);
    if (rc == DM_OK)
        rc = dm__model_names_read(audit->conn, &names, audit->err);
    if (rc == DM_CORRUPT_DATA) /* a name that is none: those before it are known */
        rc = DM_OK;
    for (size_t i = 0; i < names.count && rc == DM_OK; i++)
        rc = mend_apart(audit, model_mend, &names.models[i]);
    dm_model_names_reset(&names);
    if (rc == DM_OK)
        rc = dm__stmt_exec(audit->conn, DM__STMT_COMMIT, audit->err);
    dm__rollback(audit->conn);
    if (rc != DM_DAMAGED)
        return rc;
    audit->found->count = before; /* SQLite commits none of it; the check tells what is damaged */
    return DM_OK;
}

dm_status dm__mend_run(dm__conn *conn, void *argument, dm_error *err)
{
    dm__audit *audit = argument;
    audit->conn = conn;
    audit->err = err;
    dm__audit_begin(audit);
    audit->found->count = 0; /* only what is done; the check afterwards tells the rest */
    dm__conn_stoppable_set(conn, true);
    dm_status rc = indexes_mend(audit);
    if (rc == DM_OK)
        rc = tables_mend_all(audit);
    dm__conn_stoppable_set(conn, false);
    return rc;
}
