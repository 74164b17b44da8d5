/* SPDX-License-Identifier: MIT
 *
 * Names and their tables. */
#include "kept.h"

#include <string.h>

/* ---- the tables of a model, as the manual gives them ---- */

static const char model_tables_sql[] =
    "CREATE TABLE IF NOT EXISTS \"%w_runtime\" (\n"
    "    id INTEGER PRIMARY KEY AUTOINCREMENT,\n"
    "    start_time REAL NOT NULL,\n"
    "    end_time REAL NOT NULL\n);"
    "CREATE TABLE IF NOT EXISTS \"%w_requests\" (\n"
    "    id INTEGER PRIMARY KEY AUTOINCREMENT,\n"
    "    timestamp REAL NOT NULL,\n"
    "    input_tokens INTEGER NOT NULL,\n"
    "    output_tokens INTEGER NOT NULL,\n"
    "    cache_n INTEGER NOT NULL,\n"
    "    prompt_n INTEGER NOT NULL\n);"
    "CREATE TABLE IF NOT EXISTS \"%w_billing\" (\n"
    "    use_tier_pricing BOOLEAN NOT NULL,\n"
    "    hourly_price REAL\n);"
    "CREATE TABLE IF NOT EXISTS \"%w_tier_pricing\" (\n"
    "    tier_index INTEGER PRIMARY KEY,\n"
    "    start_tokens INTEGER NOT NULL,\n"
    "    end_tokens INTEGER NOT NULL,\n"
    "    input_price_per_million REAL NOT NULL,\n"
    "    output_price_per_million REAL NOT NULL,\n"
    "    support_cache BOOLEAN NOT NULL,\n"
    "    cache_hit_price_per_million REAL\n);"
    "INSERT INTO \"%w_billing\"(use_tier_pricing,hourly_price)"
    " SELECT 1,0.0 WHERE NOT EXISTS(SELECT 1 FROM \"%w_billing\")";

static bool has_requests(dm__conn *conn, const char *safe)
{
    char requests[DM_SAFE_NAME_SIZE + 16];
    (void)sqlite3_snprintf((int)sizeof requests, requests, "%s_requests", safe);
    return dm__table_has_column(conn, requests, "id");
}

dm_status dm__side_tables_drop(dm__conn *conn, const char *safe, dm_error *err)
{
    dm_status rc = dm__conn_exec(conn, err,
                                 "DROP TABLE IF EXISTS \"%w_timings\";"
                                 "DROP TABLE IF EXISTS \"%w_request_ids\";"
                                 "DROP TABLE IF EXISTS \"%w_checksums\"",
                                 safe, safe, safe);
    return rc == DM_OK ? dm__kept_forget(conn, safe, err) : rc;
}

dm_status dm__model_tables_create(dm__conn *conn, const char *safe, dm_error *err)
{
    bool is_new = !has_requests(conn, safe), wanted = false;
    dm_status rc = dm__conn_exec(conn, err, model_tables_sql, safe, safe, safe, safe, safe, safe);
    if (rc == DM_OK && is_new)
        rc = dm__checksums_wanted(conn, &wanted, err);
    if (rc == DM_OK && wanted)
        rc = dm__checksums_create(conn, safe, err);
    return rc == DM_OK && is_new ? dm__row_ids_go_on(conn, safe, err) : rc;
}

static const struct {
    const char *suffix, *columns[8];
} model_tables[] = {
    {"_runtime", {"id", "start_time", "end_time"}},
    {"_requests", {"id", "timestamp", "input_tokens", "output_tokens", "cache_n", "prompt_n"}},
    {"_billing", {"use_tier_pricing", "hourly_price"}},
    {"_tier_pricing",
     {"tier_index", "start_tokens", "end_tokens", "input_price_per_million",
      "output_price_per_million", "support_cache", "cache_hit_price_per_million"}},
};

/* What is called our table must be one, with our columns: SQLite answers "no" for a view. */
static dm_status tables_verify(dm__conn *conn, const char *safe, dm_error *err)
{
    for (size_t t = 0; t < sizeof model_tables / sizeof *model_tables; t++) {
        char table[DM_SAFE_NAME_SIZE + 16];
        (void)sqlite3_snprintf((int)sizeof table, table, "%s%s", safe, model_tables[t].suffix);
        for (size_t c = 0; c < 8 && model_tables[t].columns[c] != NULL; c++)
            if (!dm__table_has_column(conn, table, model_tables[t].columns[c]))
                return dm__fail(err, DM_CORRUPT_DATA,
                                "%s is missing, is no table or has no column %s", table,
                                model_tables[t].columns[c]);
    }
    return DM_OK;
}

bool dm__safe_name_ok(const char *safe, size_t length)
{
    if (safe == NULL || length == 0 || length >= DM_SAFE_NAME_SIZE)
        return false;
    for (size_t i = 0; i < length; i++)
        if (!((safe[i] >= 'a' && safe[i] <= 'z') || (safe[i] >= 'A' && safe[i] <= 'Z') ||
              (safe[i] >= '0' && safe[i] <= '9') || safe[i] == '_'))
            return false;
    return true;
}

/* ---- from a name to its tables ---- */

/* Ask the mapping; `*found_out` false where it does not know the name. */
static dm_status mapping_find(dm__conn *conn, dm_str name, char safe[DM_SAFE_NAME_SIZE],
                              bool *found_out, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__stmt_get(conn, DM__STMT_MODEL_FIND, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_text(stmt, 1, name.bytes, (int)name.length, SQLITE_STATIC);
    rc = dm__stmt_step(conn, stmt, found_out, err);
    if (rc == DM_OK && *found_out) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);
        size_t length = (size_t)sqlite3_column_bytes(stmt, 0);
        if (!dm__safe_name_ok(text, length))
            rc = dm__fail(err, DM_CORRUPT_DATA, "model_name_mapping: %.*s has no valid safe_name",
                          (int)(name.length < 100 ? name.length : 100), name.bytes);
        else
            memcpy(safe, text, length + 1);
    }
    dm__stmt_put(stmt);
    return rc;
}

/* What stands before a NUL may well be known. */
static dm_status unknown(dm_str name, dm_error *err)
{
    size_t shown = name.length < 200 ? name.length : 200;
    const char *nul = memchr(name.bytes, '\0', shown);
    return dm__fail(err, DM_MODEL_NOT_FOUND, "model '%.*s%s' is not known",
                    (int)(nul == NULL ? shown : (size_t)(nul - name.bytes)), name.bytes,
                    nul == NULL ? "" : "\\0...");
}

dm_status dm__model_find(dm__conn *conn, dm_str name, dm__model **model_out, dm_error *err)
{
    dm__model *known = dm__conn_model_find(conn, name);
    if (known != NULL) {
        *model_out = known;
        return DM_OK;
    }
    char safe[DM_SAFE_NAME_SIZE];
    bool found = false;
    dm_status rc = mapping_find(conn, name, safe, &found, err);
    if (rc == DM_OK && !found)
        rc = unknown(name, err);
    if (rc == DM_OK)
        rc = tables_verify(conn, safe, err);
    return rc == DM_OK ? dm__conn_model_remember(conn, name, safe, model_out, err) : rc;
}

static dm_status mapping_insert(dm__conn *conn, dm_str name, const char *safe, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__stmt_get(conn, DM__STMT_MODEL_INSERT, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_text(stmt, 1, name.bytes, (int)name.length, SQLITE_STATIC);
    (void)sqlite3_bind_text(stmt, 2, safe, -1, SQLITE_STATIC);
    rc = dm__stmt_run(conn, stmt, err);
    dm__stmt_put(stmt);
    return rc;
}

/* The older class deletes its own four tables and the name, and means all of the model: requests of
 * that name begin again with row 1, and must not find the timings and ids of rows that are gone,
 * nor sums of requests that are no longer theirs. Where the name is still known, a table got lost,
 * and what stands beside it is all that is left of its requests. */
static dm_status model_begin(dm__conn *conn, dm_str name, char safe[DM_SAFE_NAME_SIZE],
                             dm_error *err)
{
    dm_safe_name(name, safe);
    bool goes_on = has_requests(conn, safe);
    dm_status rc = goes_on ? DM_OK : dm__side_tables_drop(conn, safe, err);
    if (rc == DM_OK && !goes_on)
        rc = dm__era_begin(conn, safe, err);
    return rc == DM_OK ? mapping_insert(conn, name, safe, err) : rc;
}

static bool has_prices(dm__conn *conn, const char *safe)
{
    char table[DM_SAFE_NAME_SIZE + 16];
    (void)sqlite3_snprintf((int)sizeof table, table, "%s_billing", safe);
    bool billing = dm__table_has_column(conn, table, "hourly_price");
    (void)sqlite3_snprintf((int)sizeof table, table, "%s_tier_pricing", safe);
    return billing && dm__table_has_column(conn, table, "tier_index");
}

dm_status dm__model_find_or_register(dm__conn *conn, dm_str name, bool in_transaction,
                                     dm__model **model_out, dm_error *err)
{
    dm_status rc = dm__model_find(conn, name, model_out, err);
    if (rc != DM_MODEL_NOT_FOUND && rc != DM_CORRUPT_DATA)
        return rc;
    if (!in_transaction)
        return (dm_status)DM__NEEDS_TRANSACTION;
    char safe[DM_SAFE_NAME_SIZE];
    bool found = false;
    rc = mapping_find(conn, name, safe, &found, err);
    if (rc == DM_OK && !found)
        rc = model_begin(conn, name, safe, err);
    bool lost = rc == DM_OK && found && !has_prices(conn, safe);
    if (rc == DM_OK) /* also where another program lost some of them */
        rc = dm__model_tables_create(conn, safe, err);
    if (rc == DM_OK)
        rc = tables_verify(conn, safe, err);
    if (rc == DM_OK)
        rc = dm__conn_model_remember(conn, name, safe, model_out, err);
    if (rc == DM_OK && lost) /* or what a table begins with would pass for new prices */
        rc = dm__prices_show(conn, *model_out, err);
    return rc;
}

/* Deleted by another process, or registered in a transaction that was undone. After a read. */
static void model_forget_if_gone(dm__conn *conn, dm_str name)
{
    dm__model *model = dm__conn_model_find(conn, name);
    if (model != NULL && !has_requests(conn, model->safe))
        dm__conn_model_forget(conn, model);
}

dm_status dm__models_known(dm__conn *conn, const dm_str *names, size_t count, bool *known_out,
                           dm_error *err)
{
    dm_status rc = DM_OK;
    for (size_t i = 0; i < count && rc == DM_OK; i++) {
        dm__model *model = NULL;
        model_forget_if_gone(conn, names[i]);
        rc = dm__model_find(conn, names[i], &model, err);
    }
    *known_out = rc == DM_OK;
    return rc == DM_MODEL_NOT_FOUND || rc == DM_CORRUPT_DATA ? DM_OK : rc;
}

dm_status dm__models_register(dm__conn *conn, const dm_str *names, size_t count, dm_error *err)
{
    dm_status rc = dm__conn_read_once(conn, err);
    for (size_t i = 0; i < count && rc == DM_OK; i++) {
        dm__model *model = NULL;
        model_forget_if_gone(conn, names[i]);
        rc = dm__model_find_or_register(conn, names[i], true, &model, err);
    }
    return rc;
}

dm_status dm__model_drop(dm__conn *conn, dm_str name, dm_error *err)
{
    char safe[DM_SAFE_NAME_SIZE];
    bool found = false;
    dm_status rc = mapping_find(conn, name, safe, &found, err);
    if (rc == DM_OK && !found)
        return unknown(name, err);
    /* Its prepared statements would hold the tables. */
    dm__conn_model_forget(conn, dm__conn_model_find(conn, name));
    if (rc == DM_OK)
        rc = dm__conn_exec(conn, err,
                           "DROP TABLE IF EXISTS \"%w_runtime\";"
                           "DROP TABLE IF EXISTS \"%w_requests\";"
                           "DROP TABLE IF EXISTS \"%w_billing\";"
                           "DROP TABLE IF EXISTS \"%w_tier_pricing\"",
                           safe, safe, safe, safe);
    if (rc == DM_OK)
        rc = dm__side_tables_drop(conn, safe, err);
    if (rc == DM_OK)
        rc = dm__history_forget(conn, safe, err);
    if (rc == DM_OK)
        rc = dm__eras_forget(conn, safe, err);
    sqlite3_stmt *stmt = NULL;
    if (rc == DM_OK)
        rc = dm__stmt_get(conn, DM__STMT_MODEL_DELETE, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_text(stmt, 1, name.bytes, (int)name.length, SQLITE_STATIC);
        rc = dm__stmt_run(conn, stmt, err);
    }
    dm__stmt_put(stmt);
    return rc;
}

/* ---- reads by model: look the name up, and once more where its tables have gone ---- */

dm_status dm__read_model(dm__conn *conn, dm__model_read *read, dm_error *err)
{
    dm_status rc = DM_OK;
    for (int attempt = 0; attempt < 2; attempt++) {
        dm__model *model = NULL;
        rc = dm__model_find(conn, read->name, &model, err);
        if (rc == DM_OK)
            rc = read->from(conn, model, read, err);
        if (rc != (dm_status)DM__STALE)
            return rc;
        dm__conn_model_forget(conn, dm__conn_model_find(conn, read->name));
    }
    return dm__fail(err, DM_CORRUPT_DATA, "a table of model '%.100s' is missing", read->name.bytes);
}

dm_status dm__model_read_run(dm__conn *conn, void *read, dm_error *err)
{
    return dm__read_model(conn, read, err);
}

/* ---- lists of names ---- */

static dm_status name_append(dm_model_names *names, size_t *capacity, dm_str name, dm_error *err)
{
    if (!dm__array_grow(&names->models, capacity, names->count, sizeof *names->models))
        return dm__no_memory(err);
    char *copy = dm__malloc(name.length + 1);
    if (copy == NULL)
        return dm__no_memory(err);
    memcpy(copy, name.bytes, name.length);
    copy[name.length] = '\0';
    names->models[names->count++] =
        (dm_model_name){.original_name = copy, .original_length = name.length};
    return DM_OK;
}

static dm_status names_copy(const dm_str *models, size_t count, dm_model_names *names,
                            dm_error *err)
{
    size_t capacity = 0;
    dm_status rc = DM_OK;
    for (size_t i = 0; i < count && rc == DM_OK; i++)
        rc = name_append(names, &capacity, models[i], err);
    return rc;
}

static dm_status names_append(dm_model_names *names, size_t *capacity, sqlite3_stmt *stmt,
                              dm_error *err)
{
    const void *name = sqlite3_column_text(stmt, 0);
    const char *safe = (const char *)sqlite3_column_text(stmt, 1);
    size_t length = (size_t)sqlite3_column_bytes(stmt, 0);
    dm_str text = {name, length};
    if (name == NULL || !dm__is_utf8(text) ||
        !dm__safe_name_ok(safe, (size_t)sqlite3_column_bytes(stmt, 1)))
        return dm__fail(err, DM_CORRUPT_DATA, "model_name_mapping row %zu: the names are not valid",
                        names->count + 1);
    dm_status rc = name_append(names, capacity, text, err);
    if (rc != DM_OK)
        return rc;
    dm_model_name *model = &names->models[names->count - 1];
    (void)sqlite3_snprintf((int)sizeof model->safe_name, model->safe_name, "%s", safe);
    return DM_OK;
}

dm_status dm__model_names_read(dm__conn *conn, void *argument, dm_error *err)
{
    dm_model_names *names = argument;
    dm_model_names_reset(names);
    size_t capacity = 0;
    sqlite3_stmt *stmt = NULL;
    bool row = true;
    dm_status rc = dm__stmt_get(conn, DM__STMT_MODELS_ALL, &stmt, err);
    while (rc == DM_OK && (rc = dm__stmt_step(conn, stmt, &row, err)) == DM_OK && row)
        rc = names_append(names, &capacity, stmt, err);
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__models_asked(dm__conn *conn, const dm_str *models, size_t count,
                           dm_model_names *names, dm_error *err)
{
    return models == NULL ? dm__model_names_read(conn, names, err)
                          : names_copy(models, count, names, err);
}

dm_status dm_models_get(dm_manager *m, dm_model_names *names_out, dm_error *err)
{
    dm_model_names names = {0};
    dm_status rc = dm__read(m, false, dm__model_names_read, &names, err);
    if (rc == DM_OK)
        *names_out = names;
    else
        dm_model_names_reset(&names);
    return rc;
}

typedef struct {
    dm_str name;
    char *other;
    size_t length;
} lookup;

static dm_status lookup_one(dm__conn *conn, lookup *asked, dm__stmt_id id, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    dm_status rc = dm__stmt_get(conn, id, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_text(stmt, 1, asked->name.bytes, (int)asked->name.length, SQLITE_STATIC);
    rc = dm__stmt_step(conn, stmt, &row, err);
    const void *text = rc == DM_OK && row ? sqlite3_column_text(stmt, 0) : NULL;
    if (text != NULL) {
        asked->length = (size_t)sqlite3_column_bytes(stmt, 0);
        asked->other = dm__malloc(asked->length + 1);
        if (asked->other == NULL)
            rc = dm__no_memory(err);
        else
            memcpy(asked->other, text, asked->length), asked->other[asked->length] = '\0';
    }
    dm__stmt_put(stmt);
    return rc;
}

static dm_status lookup_read(dm__conn *conn, void *argument, dm_error *err)
{
    lookup *asked = argument;
    dm__free(asked->other);
    asked->other = NULL;
    dm_status rc = lookup_one(conn, asked, DM__STMT_MODEL_FIND, err);
    if (rc == DM_OK && asked->other == NULL)
        rc = lookup_one(conn, asked, DM__STMT_MODEL_FIND_SAFE, err);
    return rc;
}

dm_status dm_model_lookup(dm_manager *m, dm_str name, char **name_out, size_t *length_out,
                          dm_error *err)
{
    lookup asked = {name, NULL, 0};
    dm_status rc = dm__read(m, true, lookup_read, &asked, err);
    if (rc != DM_OK) {
        dm__free(asked.other);
        return rc;
    }
    *name_out = asked.other;
    *length_out = asked.length;
    return DM_OK;
}
