/* SPDX-License-Identifier: MIT
 *
 * The price history: which tariff held when. Kept beside the manual's tables, a row for each
 * change; a change names what it sets (tiers, hourly price, method, strategy) and the moment from
 * which that holds. What it does not set goes on as it was, so a change that is dated back does
 * not undo a later one of something else. Without rows, what the manual's tables say has held
 * since ever: so it is with databases that we adopt, and so nothing breaks where these tables are
 * dropped. */
#include "dm_internal.h"

#include <string.h>

#define SETS_SOME_TIERS 2 /* the rest of its tiers is what held before */

static const char history_sql[] = "CREATE TABLE IF NOT EXISTS datamanager_price_changes (\n"
                                  "    safe_name TEXT NOT NULL,\n"
                                  "    change_id INTEGER NOT NULL,\n"
                                  "    effective_from REAL,\n" /* NULL: since ever */
                                  "    changed_at REAL NOT NULL,\n"
                                  "    use_tier_pricing BOOLEAN,\n" /* NULL: not set by it */
                                  "    hourly_price REAL,\n"
                                  "    strategy TEXT,\n"
                                  "    sets_tiers BOOLEAN NOT NULL,\n" /* or SETS_SOME_TIERS */
                                  "    PRIMARY KEY (safe_name, change_id)\n) WITHOUT ROWID;"
                                  "CREATE TABLE IF NOT EXISTS datamanager_price_tiers (\n"
                                  "    safe_name TEXT NOT NULL,\n"
                                  "    change_id INTEGER NOT NULL,\n"
                                  "    tier_index INTEGER NOT NULL,\n"
                                  "    start_tokens INTEGER NOT NULL,\n"
                                  "    end_tokens INTEGER NOT NULL,\n"
                                  "    input_price_per_million REAL NOT NULL,\n"
                                  "    output_price_per_million REAL NOT NULL,\n"
                                  "    support_cache BOOLEAN NOT NULL,\n"
                                  "    cache_hit_price_per_million REAL NOT NULL,\n"
                                  "    PRIMARY KEY (safe_name, change_id, tier_index)\n"
                                  ") WITHOUT ROWID";

const char *const dm__history_tables[2] = {"datamanager_price_changes", "datamanager_price_tiers"};

dm_status dm__history_create(dm__conn *conn, dm_error *err)
{
    return dm__conn_exec(conn, err, "%s", history_sql);
}

dm_status dm__history_find(dm__conn *conn, bool *there_out, dm_error *err)
{
    return dm__pair_find(conn, dm__history_tables, there_out, err);
}

dm_status dm__history_tiers_needless(dm__conn *conn, bool *needless_out, dm_error *err)
{
    bool there[2] = {false, false};
    int64_t setting = 1;
    *needless_out = false;
    dm_status rc = dm__table_find(conn, dm__history_tables[0], &there[0], err);
    if (rc == DM_OK)
        rc = dm__table_find(conn, dm__history_tables[1], &there[1], err);
    if (rc != DM_OK || !there[0] || there[1])
        return rc;
    rc = dm__conn_integer(
        conn, &setting, err,
        "SELECT EXISTS(SELECT 1 FROM datamanager_price_changes WHERE sets_tiers IS NOT 0)");
    *needless_out = rc == DM_OK && setting == 0;
    return rc == DM_CORRUPT_DATA || rc == DM_DAMAGED ? DM_OK : rc;
}

dm_status dm__history_find_of(dm__conn *conn, const char *safe, bool *there_out, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    *there_out = false;
    dm_status rc = dm__history_find(conn, there_out, err);
    if (rc != DM_OK || !*there_out)
        return rc;
    rc = dm__stmt_get(conn, DM__STMT_PRICED, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_text(stmt, 1, safe, -1, SQLITE_STATIC);
    rc = dm__stmt_step(conn, stmt, there_out, err);
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__history_sets_placeholder(dm__conn *conn, const char *safe, bool *sets_out,
                                       dm_error *err)
{
    int64_t sets = 0;
    dm_status rc = dm__table_find(conn, dm__history_tables[1], sets_out, err);
    if (rc != DM_OK || !*sets_out)
        return rc;
    rc = dm__conn_integer(
        conn, &sets, err,
        "SELECT EXISTS(SELECT 1 FROM datamanager_price_tiers WHERE safe_name=%Q AND tier_index=1"
        " AND start_tokens=0 AND end_tokens=32768 AND input_price_per_million=0 AND"
        " output_price_per_million=0 AND NOT support_cache AND cache_hit_price_per_million=0)",
        safe);
    *sets_out = sets != 0;
    return rc;
}

void dm__history_reset(dm__history *history)
{
    for (size_t i = 0; i < history->count; i++)
        dm__free(history->changes[i].tiers);
    dm__free(history->changes);
    *history = (dm__history){0};
}

/* ---- what holds ---- */

void dm__history_step(const dm__history *history, size_t *next, dm__tariff *tariff)
{
    double from_s = history->changes[*next].from_s;
    for (; *next < history->count && history->changes[*next].from_s == from_s; ++*next) {
        const dm__price_change *change = &history->changes[*next];
        if (change->sets & DM_PRICE_METHOD)
            tariff->use_tier_pricing = change->use_tier_pricing;
        if (change->sets & DM_PRICE_HOURLY)
            tariff->hourly_price = change->hourly_price;
        if (change->sets & DM_PRICE_STRATEGY)
            tariff->strategy = change->strategy;
        if (change->sets & DM_PRICE_TIERS)
            tariff->tiers = change->tiers, tariff->tier_count = change->tier_count;
    }
}

dm__tariff dm__history_at(const dm__history *history, double time_s)
{
    dm__tariff tariff = {.use_tier_pricing = true, .strategy = DM_STRATEGY_GRADUATED};
    for (size_t i = 0; i < history->count && history->changes[i].from_s <= time_s;)
        dm__history_step(history, &i, &tariff);
    return tariff;
}

static dm_status size_check(const dm__history *history, dm_error *err)
{
    size_t hold = 0, sum = 0;
    for (size_t i = 0; i < history->count; i++) {
        const dm__price_change *change = &history->changes[i];
        if (change->sets & DM_PRICE_TIERS)
            hold = change->tier_count;
        if (hold > DM__TIERS_MAX)
            return dm__fail(err, DM_INVALID, "tiers must be at most %d, not %zu", DM__TIERS_MAX,
                            hold);
        sum += hold > 0 ? hold : 1;
    }
    return sum <= DM__HISTORY_TIERS_MAX
               ? DM_OK
               : dm__fail(err, DM_INVALID,
                          "%zu price changes have %zu tiers in all, with those that go on: at most"
                          " %d can be kept",
                          history->count, sum, DM__HISTORY_TIERS_MAX);
}

/* ---- rows ---- */

static dm_status change_read(sqlite3_stmt *stmt, dm__price_change *change, dm_error *err)
{
    dm__row row = {stmt, "datamanager_price_changes", change->id};
    dm_status rc = DM_OK;
    change->from_s = -INFINITY;
    if (sqlite3_column_type(stmt, 1) != SQLITE_NULL)
        rc = dm__row_time(&row, 1, &change->from_s, err);
    if (rc == DM_OK)
        rc = dm__row_time(&row, 2, &change->made_s, err);
    if (rc == DM_OK && sqlite3_column_type(stmt, 3) != SQLITE_NULL) {
        change->sets |= DM_PRICE_METHOD;
        rc = dm__row_flag(&row, 3, &change->use_tier_pricing, err);
    }
    if (rc == DM_OK && sqlite3_column_type(stmt, 4) != SQLITE_NULL) {
        change->sets |= DM_PRICE_HOURLY;
        rc = dm__row_price(&row, 4, &change->hourly_price, err);
    }
    const char *strategy = (const char *)sqlite3_column_text(stmt, 5);
    if (rc == DM_OK && strategy != NULL) {
        change->sets |= DM_PRICE_STRATEGY;
        if (dm_strategy_parse(strategy, &change->strategy, NULL) != DM_OK)
            rc = dm__fail(err, DM_CORRUPT_DATA,
                          "datamanager_price_changes row %lld: there is no strategy %.60s",
                          (long long)change->id, strategy);
    }
    bool sets_tiers = false;
    if (rc == DM_OK)
        rc = dm__row_flag(&row, 6, &sets_tiers, err);
    if (sets_tiers)
        change->sets |= DM_PRICE_TIERS;
    change->by_tier = sqlite3_column_int(stmt, 6) == SETS_SOME_TIERS;
    return rc;
}

/* One row of the join is a change and one of its tiers. */
static dm_status history_append(dm__history *history, size_t *capacity, size_t *tier_capacity,
                                sqlite3_stmt *stmt, dm_error *err)
{
    int64_t id = sqlite3_column_int64(stmt, 0);
    if (history->count == 0 || history->changes[history->count - 1].id != id) {
        dm__price_change change = {.id = id};
        dm_status rc = change_read(stmt, &change, err);
        if (rc != DM_OK)
            return rc;
        if (!dm__array_grow(&history->changes, capacity, history->count, sizeof change))
            return dm__no_memory(err);
        history->changes[history->count++] = change;
        *tier_capacity = 0;
    }
    if (sqlite3_column_type(stmt, 7) == SQLITE_NULL)
        return DM_OK;
    dm__price_change *change = &history->changes[history->count - 1];
    dm_tier tier = {0};
    dm_status rc = dm__tier_read("datamanager_price_tiers", stmt, 7, &tier, err);
    if (rc != DM_OK)
        return rc;
    if (!dm__array_grow(&change->tiers, tier_capacity, change->tier_count, sizeof tier))
        return dm__no_memory(err);
    change->tiers[change->tier_count++] = tier;
    return DM_OK;
}

/* There may be no history, or half of one, which must not pass for none. */
static dm_status not_read(dm__conn *conn, dm_error *err)
{
    bool there = true;
    dm_error why = {0};
    dm_status rc = dm__history_find(conn, &there, &why);
    if (rc != DM_OK && err != NULL)
        *err = why;
    return rc == DM_OK && there ? DM_CORRUPT_DATA : rc;
}

static dm_status stored_read(dm__conn *conn, dm__model *model, dm__history *history, dm_error *err)
{
    size_t capacity = 0, tier_capacity = 0;
    bool more = true;
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__stmt_get(conn, DM__STMT_PRICE_CHANGES, &stmt, err);
    if (rc == DM_OK)
        (void)sqlite3_bind_text(stmt, 1, model->safe, -1, SQLITE_STATIC);
    while (rc == DM_OK && (rc = dm__stmt_step(conn, stmt, &more, err)) == DM_OK && more)
        rc = history_append(history, &capacity, &tier_capacity, stmt, err);
    dm__stmt_put(stmt);
    return rc == DM_CORRUPT_DATA ? not_read(conn, err) : rc;
}

/* What the manual's tables say, as a change that was never stored. */
static dm_status tables_read(dm__conn *conn, dm__model *model, dm__history *history, dm_error *err)
{
    dm_billing billing = {0};
    dm_status rc = dm__billing_read(conn, model, &billing, err);
    if (rc != DM_OK ||
        (billing.tier_count == 0 && billing.hourly_price == 0 && billing.use_tier_pricing))
        goto done; /* nobody has set a price yet */
    history->changes = dm__calloc(1, sizeof *history->changes);
    if (history->changes == NULL) {
        rc = dm__no_memory(err);
        goto done;
    }
    history->count = 1;
    history->changes[0] =
        (dm__price_change){.from_s = -INFINITY,
                           .made_s = 0, /* long ago: what came after it was billed by it */
                           .sets = DM_PRICE_METHOD | DM_PRICE_HOURLY | DM_PRICE_TIERS,
                           .use_tier_pricing = billing.use_tier_pricing,
                           .hourly_price = billing.hourly_price,
                           .tiers = billing.tiers,
                           .tier_count = billing.tier_count};
    billing.tiers = NULL;
done:
    dm_billing_reset(&billing);
    return rc;
}

dm_status dm__history_read(dm__conn *conn, dm__model *model, dm__history *history, dm_error *err)
{
    dm_error why = {0};
    dm_status rc = stored_read(conn, model, history, err);
    history->stored = history->count > 0;
    if (rc == DM_OK && !history->stored)
        rc = tables_read(conn, model, history, err);
    if (rc == DM_OK && size_check(history, &why) != DM_OK)
        rc = dm__fail(err, DM_CORRUPT_DATA, "prices of %s: %s", model->safe, why.text);
    return rc;
}

static dm_status tier_store(dm__conn *conn, dm__model *model, int64_t change_id,
                            const dm_tier *tier, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__stmt_get(conn, DM__STMT_PRICE_TIER_PUT, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_text(stmt, 1, model->safe, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(stmt, 2, change_id);
    dm__tier_bind(stmt, 3, tier);
    rc = dm__stmt_run(conn, stmt, err);
    dm__stmt_put(stmt);
    return rc;
}

static dm_status change_store(dm__conn *conn, dm__model *model, const dm__price_change *change,
                              dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__stmt_get(conn, DM__STMT_PRICE_CHANGE_PUT, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_text(stmt, 1, model->safe, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(stmt, 2, change->id);
    if (!isinf(change->from_s))
        (void)sqlite3_bind_double(stmt, 3, change->from_s);
    (void)sqlite3_bind_double(stmt, 4, change->made_s);
    if (change->sets & DM_PRICE_METHOD)
        (void)sqlite3_bind_int(stmt, 5, change->use_tier_pricing);
    if (change->sets & DM_PRICE_HOURLY)
        (void)sqlite3_bind_double(stmt, 6, change->hourly_price);
    if (change->sets & DM_PRICE_STRATEGY)
        (void)sqlite3_bind_text(stmt, 7, dm_strategy_name(change->strategy), -1, SQLITE_STATIC);
    bool sets_tiers = (change->sets & DM_PRICE_TIERS) != 0;
    (void)sqlite3_bind_int(stmt, 8, sets_tiers && change->by_tier ? SETS_SOME_TIERS : sets_tiers);
    rc = dm__stmt_run(conn, stmt, err);
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__history_write(dm__conn *conn, dm__model *model, const dm__history *history,
                            dm_error *err)
{
    bool there = false;
    dm_status rc = size_check(history, err);
    if (rc == DM_OK)
        rc = dm__history_find(conn, &there, err);
    if (rc == DM_OK && !there)
        rc = dm__history_create(conn, err);
    if (rc == DM_OK)
        rc = dm__history_forget(conn, model->safe, err);
    for (size_t i = 0; i < history->count && rc == DM_OK; i++) {
        const dm__price_change *change = &history->changes[i];
        rc = change_store(conn, model, change, err);
        for (size_t t = 0; t < change->tier_count && rc == DM_OK; t++)
            rc = tier_store(conn, model, change->id, &change->tiers[t], err);
    }
    return rc;
}

dm_status dm__history_forget(dm__conn *conn, const char *safe, dm_error *err)
{
    return dm__tables_forget(conn, dm__history_tables, safe, err);
}
