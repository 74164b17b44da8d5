/* SPDX-License-Identifier: MIT
 *
 * Adoption of databases that the Python class wrote which this package replaces. It kept a model's
 * billing row as two tables, {safe}_hourly_price and {safe}_billing_method, and its first versions
 * had no cache columns in the tiers. All inside the caller's transaction. */
#include "dm_internal.h"

#include <string.h>

static bool table_exists(dm__conn *conn, const char *safe, const char *suffix, const char *column)
{
    char table[DM_SAFE_NAME_SIZE + 16];
    (void)sqlite3_snprintf((int)sizeof table, table, "%s%s", safe, suffix);
    return dm__table_has_column(conn, table, column);
}

/* Move one value, if there is any, from its old table into the billing row; the old table goes.
 * Where we have kept prices already, that class has come back and made its tables again: what it
 * begins with (`none`) says nothing then. */
static dm_status value_move(dm__conn *conn, const char *safe, const char *suffix,
                            const char *column, int none, dm_error *err)
{
    bool priced = false;
    if (!table_exists(conn, safe, suffix, column))
        return DM_OK;
    dm_status rc = dm__history_find_of(conn, safe, &priced, err);
    if (rc == DM_OK)
        rc = dm__conn_exec(conn, err,
                           "UPDATE \"%w_billing\" SET %s=coalesce((SELECT nullif(%s,%s) FROM"
                           " \"%w%s\" ORDER BY id DESC LIMIT 1),%s)",
                           safe, column, column, priced ? (none ? "1" : "0") : "NULL", safe, suffix,
                           column);
    return rc == DM_OK ? dm__conn_exec(conn, err, "DROP TABLE \"%w%s\"", safe, suffix) : rc;
}

static dm_status tier_columns_add(dm__conn *conn, const char *safe, dm_error *err)
{
    dm_status rc = DM_OK;
    if (!table_exists(conn, safe, "_tier_pricing", "support_cache"))
        rc = dm__conn_exec(conn, err,
                           "ALTER TABLE \"%w_tier_pricing\" ADD COLUMN support_cache BOOLEAN NOT "
                           "NULL DEFAULT 0",
                           safe);
    if (rc == DM_OK && !table_exists(conn, safe, "_tier_pricing", "cache_hit_price_per_million"))
        rc = dm__conn_exec(conn, err,
                           "ALTER TABLE \"%w_tier_pricing\" ADD COLUMN "
                           "cache_hit_price_per_million REAL DEFAULT 0.0",
                           safe);
    return rc;
}

static dm_status model_adopt(dm__conn *conn, const char *safe, dm_error *err)
{
    dm_status rc = dm__model_tables_create(conn, safe, err);
    if (rc == DM_OK)
        rc = value_move(conn, safe, "_hourly_price", "hourly_price", 0, err);
    if (rc == DM_OK)
        rc = value_move(conn, safe, "_billing_method", "use_tier_pricing", 1, err);
    return rc == DM_OK ? tier_columns_add(conn, safe, err) : rc;
}

typedef struct {
    char safe[DM_SAFE_NAME_SIZE];
} safe_name;

/* The names first: their tables change while we go through them. */
static dm_status names_read(dm__conn *conn, safe_name **names, size_t *count, dm_error *err)
{
    size_t capacity = 0;
    bool row = true;
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__stmt_get(conn, DM__STMT_MODELS_ALL, &stmt, err);
    while (rc == DM_OK && (rc = dm__stmt_step(conn, stmt, &row, err)) == DM_OK && row) {
        const char *safe = (const char *)sqlite3_column_text(stmt, 1);
        size_t length = (size_t)sqlite3_column_bytes(stmt, 1);
        if (!dm__safe_name_ok(safe, length))
            rc = dm__fail(err, DM_CORRUPT_DATA, "model_name_mapping row %zu has no valid safe_name",
                          *count + 1);
        else if (!dm__array_grow(names, &capacity, *count, sizeof **names))
            rc = dm__no_memory(err);
        else
            memcpy((*names)[(*count)++].safe, safe, length + 1);
    }
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__schema_adopt(dm__conn *conn, dm_error *err)
{
    safe_name *names = NULL;
    size_t count = 0;
    dm_status rc = names_read(conn, &names, &count, err);
    for (size_t i = 0; i < count && rc == DM_OK; i++)
        rc = model_adopt(conn, names[i].safe, err);
    dm__free(names);
    return rc == DM_OK ? dm__foreign_prices_store(conn, err) : rc;
}
