/* SPDX-License-Identifier: MIT
 *
 * The manual's tables of prices: tiers, the hourly price, which of the two counts. They show what
 * holds now; tariff.c keeps them so. */
#include "dm_internal.h"

#include <string.h>

bool dm__tier_is_placeholder(const dm_tier *tier)
{
    return tier->tier_index == 1 && tier->start_tokens == 0 && tier->end_tokens == 32768 &&
           tier->input_price_per_million == 0 && tier->output_price_per_million == 0 &&
           !tier->support_cache && tier->cache_hit_price_per_million == 0;
}

/* ---- tiers ---- */

/* What is above all counts bounds nothing: so other programs may write that there is no bound. As
 * an integer a float is at most the largest. */
static dm_status end_read(const dm__row *row, int column, int64_t *out, dm_error *err)
{
    int type = sqlite3_column_type(row->stmt, column);
    bool number = type == SQLITE_INTEGER || type == SQLITE_FLOAT;
    *out = 0;
    return number && sqlite3_column_int64(row->stmt, column) > DM_TOKENS_MAX
               ? DM_OK
               : dm__row_integer(row, column, out, err);
}

dm_status dm__tier_read(const char *table, sqlite3_stmt *stmt, int first, dm_tier *tier,
                        dm_error *err)
{
    dm__row row = {stmt, table, sqlite3_column_int64(stmt, first)};
    tier->tier_index = row.row_id;
    dm_status rc = dm__row_count(&row, first + 1, &tier->start_tokens, err);
    if (rc == DM_OK)
        rc = end_read(&row, first + 2, &tier->end_tokens, err);
    if (rc == DM_OK)
        rc = dm__row_price(&row, first + 3, &tier->input_price_per_million, err);
    if (rc == DM_OK)
        rc = dm__row_price(&row, first + 4, &tier->output_price_per_million, err);
    if (rc == DM_OK)
        rc = dm__row_flag(&row, first + 5, &tier->support_cache, err);
    if (rc == DM_OK)
        rc = dm__row_price(&row, first + 6, &tier->cache_hit_price_per_million, err);
    return rc;
}

void dm__tier_bind(sqlite3_stmt *stmt, int first, const dm_tier *tier)
{
    (void)sqlite3_bind_int64(stmt, first, tier->tier_index);
    (void)sqlite3_bind_int64(stmt, first + 1, tier->start_tokens);
    (void)sqlite3_bind_int64(stmt, first + 2, tier->end_tokens);
    (void)sqlite3_bind_double(stmt, first + 3, tier->input_price_per_million);
    (void)sqlite3_bind_double(stmt, first + 4, tier->output_price_per_million);
    (void)sqlite3_bind_int(stmt, first + 5, tier->support_cache);
    (void)sqlite3_bind_double(stmt, first + 6, tier->cache_hit_price_per_million);
}

static dm_status tiers_read(dm__conn *conn, dm__model *model, dm_billing *billing, dm_error *err)
{
    char table[DM_SAFE_NAME_SIZE + 16];
    (void)sqlite3_snprintf((int)sizeof table, table, "%s_tier_pricing", model->safe);
    size_t capacity = 0;
    bool more = true;
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_TIERS, &stmt, err);
    while (rc == DM_OK && (rc = dm__stmt_step(conn, stmt, &more, err)) == DM_OK && more) {
        dm_tier tier = {0};
        bool set = true;
        rc = dm__tier_read(table, stmt, 0, &tier, err);
        if (rc == DM_OK && dm__tier_is_placeholder(&tier)) /* or one that is free */
            rc = dm__history_sets_placeholder(conn, model->safe, &set, err);
        if (rc != DM_OK || !set)
            continue;
        if (billing->tier_count == DM__TIERS_MAX)
            rc = dm__fail(err, DM_CORRUPT_DATA, "%s has more than %d tiers", table, DM__TIERS_MAX);
        else if (dm__array_grow(&billing->tiers, &capacity, billing->tier_count, sizeof tier))
            billing->tiers[billing->tier_count++] = tier;
        else
            rc = dm__no_memory(err);
    }
    dm__stmt_put(stmt);
    return rc;
}

static bool tiers_overlap(const dm_tier *a, const dm_tier *b)
{
    int64_t a_end = a->end_tokens > 0 ? a->end_tokens : INT64_MAX;
    int64_t b_end = b->end_tokens > 0 ? b->end_tokens : INT64_MAX;
    return a->start_tokens < b_end && b->start_tokens < a_end;
}

dm_status dm__tier_admit(const dm_tier *tiers, size_t count, const dm_tier *tier, dm_tier_mode mode,
                         dm_error *err)
{
    bool exists = false;
    const dm_tier *overlapped = NULL;
    for (size_t i = 0; i < count; i++) {
        const dm_tier *other = &tiers[i];
        if (other->tier_index == tier->tier_index)
            exists = true;
        else if (overlapped == NULL && tiers_overlap(tier, other))
            overlapped = other;
    }
    if (exists && mode == DM_TIER_ADD)
        return dm__fail(err, DM_TIER_EXISTS, "tier %lld exists already",
                        (long long)tier->tier_index);
    if (!exists && mode == DM_TIER_UPDATE)
        return dm__fail(err, DM_TIER_NOT_FOUND, "there is no tier %lld",
                        (long long)tier->tier_index);
    if (overlapped != NULL)
        return dm__fail(err, DM_INVALID,
                        "tier %lld (%lld to %lld tokens) would overlap tier %lld "
                        "(%lld to %lld tokens)",
                        (long long)tier->tier_index, (long long)tier->start_tokens,
                        (long long)tier->end_tokens, (long long)overlapped->tier_index,
                        (long long)overlapped->start_tokens, (long long)overlapped->end_tokens);
    return DM_OK;
}

dm_status dm__tier_write(dm__conn *conn, dm__model *model, const dm_tier *tier, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_TIER_INSERT, &stmt, err);
    if (rc != DM_OK)
        return rc;
    dm__tier_bind(stmt, 1, tier);
    rc = dm__stmt_run(conn, stmt, err);
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__tier_remove(dm__conn *conn, dm__model *model, int64_t tier_index, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_TIER_DELETE, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_int64(stmt, 1, tier_index);
    rc = dm__stmt_run(conn, stmt, err);
    dm__stmt_put(stmt);
    return rc;
}

/* ---- the billing row ---- */

dm_status dm__billing_write(dm__conn *conn, dm__model *model, bool use_tier_pricing,
                            double hourly_price, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_BILLING_SET, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_int(stmt, 1, use_tier_pricing);
    (void)sqlite3_bind_double(stmt, 2, hourly_price);
    rc = dm__stmt_run(conn, stmt, err);
    /* The row is there from the model's beginning, unless another program took it. */
    if (rc == DM_OK && sqlite3_changes(conn->db) == 0) {
        rc = dm__model_tables_create(conn, model->safe, err);
        (void)sqlite3_reset(stmt);
        if (rc == DM_OK)
            rc = dm__stmt_run(conn, stmt, err);
    }
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__billing_read(dm__conn *conn, dm__model *model, dm_billing *billing, dm_error *err)
{
    billing->use_tier_pricing = true;
    char table[DM_SAFE_NAME_SIZE + 16];
    (void)sqlite3_snprintf((int)sizeof table, table, "%s_billing", model->safe);
    bool found = false;
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_BILLING, &stmt, err);
    if (rc == DM_OK)
        rc = dm__stmt_step(conn, stmt, &found, err);
    if (rc == DM_OK && found) {
        dm__row row = {stmt, table, 1};
        rc = dm__row_flag(&row, 0, &billing->use_tier_pricing, err);
        if (rc == DM_OK)
            rc = dm__row_price(&row, 1, &billing->hourly_price, err);
    }
    dm__stmt_put(stmt);
    return rc == DM_OK ? tiers_read(conn, model, billing, err) : rc;
}

static dm_status billing_read(dm__conn *conn, dm__model *model, dm__model_read *read, dm_error *err)
{
    dm_billing_reset(read->out);
    return dm__billing_now(conn, model, read->out, err);
}

dm_status dm_billing_get(dm_manager *m, dm_str model, dm_billing *billing_out, dm_error *err)
{
    dm_billing billing = {0};
    dm__model_read read = {.name = model, .from = billing_read, .out = &billing};
    dm_status rc = dm__read(m, true, dm__model_read_run, &read, err);
    if (rc == DM_OK)
        *billing_out = billing;
    else
        dm_billing_reset(&billing);
    return rc;
}
