/* SPDX-License-Identifier: MIT
 *
 * Changing prices. Every change goes into the history, at the moment from which it holds, and the
 * manual's tables are then made to show what holds now. Setting up is one change: it replaces the
 * one before it, from that one's beginning, as long as nothing was used at it and that one was
 * given no date. */
#include "kept.h"

#include <string.h>

static bool tiers_equal(const dm_tier *a, const dm_tier *b)
{
    return a->tier_index == b->tier_index && a->start_tokens == b->start_tokens &&
           a->end_tokens == b->end_tokens &&
           a->input_price_per_million == b->input_price_per_million &&
           a->output_price_per_million == b->output_price_per_million &&
           a->support_cache == b->support_cache &&
           a->cache_hit_price_per_million == b->cache_hit_price_per_million;
}

static const dm_tier *tier_find(const dm_tier *tiers, size_t count, int64_t tier_index)
{
    for (size_t i = 0; i < count; i++)
        if (tiers[i].tier_index == tier_index)
            return &tiers[i];
    return NULL;
}

/* Is each of them among the others, just as it is? */
static bool tiers_within(const dm_tier *tiers, size_t count, const dm_tier *among,
                         size_t among_count)
{
    for (size_t i = 0; i < count; i++) {
        const dm_tier *same = tier_find(among, among_count, tiers[i].tier_index);
        if (same == NULL || !tiers_equal(same, &tiers[i]))
            return false;
    }
    return true;
}

/* ---- the tables show what holds now ---- */

static bool tiers_show(const dm_billing *billing, const dm__tariff *tariff)
{
    for (size_t i = 0; i < billing->tier_count; i++) /* the older class may put its own there */
        if (!dm__tier_is_placeholder(&billing->tiers[i]) &&
            tier_find(tariff->tiers, tariff->tier_count, billing->tiers[i].tier_index) == NULL)
            return false;
    return tiers_within(tariff->tiers, tariff->tier_count, billing->tiers, billing->tier_count);
}

/* What they do not show of it, as in dm_price_change. */
static unsigned tables_differ(const dm_billing *billing, const dm__tariff *tariff)
{
    return (billing->use_tier_pricing != tariff->use_tier_pricing ? DM_PRICE_METHOD : 0u) |
           (billing->hourly_price != tariff->hourly_price ? DM_PRICE_HOURLY : 0u) |
           (tiers_show(billing, tariff) ? 0u : DM_PRICE_TIERS);
}

static bool tables_show(const dm_billing *billing, const dm__tariff *tariff)
{
    return tables_differ(billing, tariff) == 0;
}

static dm_status tables_update(dm__conn *conn, dm__model *model, const dm_billing *billing,
                               const dm__tariff *tariff, dm_error *err)
{
    dm_status rc = DM_OK;
    for (size_t i = 0; i < billing->tier_count && rc == DM_OK; i++)
        if (tier_find(tariff->tiers, tariff->tier_count, billing->tiers[i].tier_index) == NULL)
            rc = dm__tier_remove(conn, model, billing->tiers[i].tier_index, err);
    for (size_t i = 0; i < tariff->tier_count && rc == DM_OK; i++) {
        const dm_tier *tier = &tariff->tiers[i];
        const dm_tier *shown = tier_find(billing->tiers, billing->tier_count, tier->tier_index);
        if (shown == NULL || !tiers_equal(shown, tier))
            rc = dm__tier_write(conn, model, tier, err);
    }
    if (rc == DM_OK)
        rc = dm__billing_write(conn, model, tariff->use_tier_pricing, tariff->hourly_price, err);
    return rc;
}

/* ---- which change of the history takes the edit ---- */

static int64_t last_change_id(const dm__history *history)
{
    int64_t last_id = 0;
    for (size_t i = 0; i < history->count; i++)
        if (history->changes[i].id > last_id)
            last_id = history->changes[i].id;
    return last_id;
}

static dm_status change_insert(dm__history *history, double from_s, double made_s,
                               dm__price_change **change_out, dm_error *err)
{
    int64_t id = last_change_id(history) + 1;
    size_t at = 0;
    for (size_t i = 0; i < history->count; i++)
        if (history->changes[i].from_s <= from_s)
            at = i + 1;
    dm__price_change *changes =
        dm__realloc(history->changes, (history->count + 1) * sizeof *changes);
    if (changes == NULL)
        return dm__no_memory(err);
    memmove(changes + at + 1, changes + at, (history->count - at) * sizeof *changes);
    changes[at] = (dm__price_change){.id = id, .from_s = from_s, .made_s = made_s};
    history->changes = changes;
    history->count++;
    *change_out = &changes[at];
    return DM_OK;
}

/* When the tables were last made to show what holds. */
static double last_shown_s(const dm__history *history)
{
    double shown_s = -INFINITY;
    for (size_t i = 0; i < history->count; i++)
        shown_s = fmax(shown_s, history->changes[i].made_s);
    return shown_s;
}

/* Tables that show what held at some moment since then are only behind, and what holds now is ours
 * in any case: the clock may have been set back. Otherwise another program has changed them. */
static bool tables_are_ours(const dm__history *history, const dm_billing *billing, double now_s)
{
    double shown_s = last_shown_s(history);
    dm__tariff then = dm__history_at(history, shown_s), now = dm__history_at(history, now_s);
    bool ours = tables_show(billing, &then) || tables_show(billing, &now);
    then = dm__history_at(history, NAN);
    for (size_t i = 0; i < history->count && !ours;) {
        double from_s = history->changes[i].from_s;
        dm__history_step(history, &i, &then);
        ours = from_s > shown_s && from_s <= now_s && tables_show(billing, &then);
    }
    return ours;
}

/* What another program has put into the tables counts from now: since when, we cannot know. What it
 * has left as we last showed it does not: the tables may be behind with that. */
static dm_status foreign_change_keep(dm__history *history, const dm_billing *billing, double now_s,
                                     dm__price_change **change_out, dm_error *err)
{
    dm__price_change *change = NULL;
    dm__tariff shown = dm__history_at(history, last_shown_s(history));
    dm_status rc = change_insert(history, now_s, now_s, &change, err);
    if (rc != DM_OK)
        return rc;
    change->sets = tables_differ(billing, &shown);
    change->use_tier_pricing = billing->use_tier_pricing;
    change->hourly_price = billing->hourly_price;
    if (change->sets & DM_PRICE_TIERS) {
        change->tiers = dm__array_copy(billing->tiers, billing->tier_count, sizeof *billing->tiers);
        if (change->tiers == NULL)
            return dm__no_memory(err);
        change->tier_count = billing->tier_count;
    }
    *change_out = change;
    return DM_OK;
}

/* What the tables say, and the history with what another program has put into them, which is its
 * change `*foreign_out`, or none. A billing row that got lost says nothing. */
static dm_status prices_read(dm__conn *conn, dm__model *model, double now_s, dm__history *history,
                             dm_billing *billing, dm__price_change **foreign_out, dm_error *err)
{
    int64_t rows = 0;
    dm_status rc = dm__history_read(conn, model, history, err);
    if (rc == DM_OK)
        rc = dm__billing_read(conn, model, billing, err);
    if (rc == DM_OK && history->stored && !tables_are_ours(history, billing, now_s))
        rc = dm__conn_integer(conn, &rows, err, "SELECT count(*) FROM \"%w_billing\"", model->safe);
    return rc == DM_OK && rows > 0 ? foreign_change_keep(history, billing, now_s, foreign_out, err)
                                   : rc;
}

static dm_status prices_store(dm__conn *conn, dm__model *model, const dm__history *history,
                              const dm_billing *billing, double now_s, dm_error *err)
{
    dm_status rc = dm__history_write(conn, model, history, err);
    dm__tariff now = dm__history_at(history, now_s);
    return rc == DM_OK ? tables_update(conn, model, billing, &now, err) : rc;
}

/* Could anybody be billed by them? */
static dm_status prices_check(double hourly_price, const dm_tier *tiers, size_t count,
                              dm_error *err)
{
    dm_status rc = dm__price_check("hourly_price", hourly_price, err);
    for (size_t i = 0; i < count && rc == DM_OK; i++) {
        rc = dm_tier_check(&tiers[i], err);
        if (rc == DM_OK)
            rc = dm__tier_admit(tiers, i, &tiers[i], DM_TIER_ADD, err);
    }
    return rc;
}

static bool billing_is_sound(const dm_billing *billing)
{
    return prices_check(billing->hourly_price, billing->tiers, billing->tier_count, NULL) == DM_OK;
}

/* A run that goes on is use only after a while: what is set up by several calls is one change. */
#define SETTING_UP_S 60.0

static dm_status used_since(dm__conn *conn, dm__model *model, double time_s, double now_s,
                            bool *used_out, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_USED_SINCE, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_double(stmt, 1, time_s);
    (void)sqlite3_bind_double(stmt, 2, now_s - SETTING_UP_S);
    rc = dm__stmt_step(conn, stmt, &row, err);
    if (rc == DM_OK)
        *used_out = sqlite3_column_int(stmt, 0) != 0;
    dm__stmt_put(stmt);
    if (rc == DM_OK && !*used_out) /* what was pruned was billed by it, too */
        rc = dm__kept_used_since(conn, model->safe, time_s, used_out, err);
    return rc;
}

static dm_status change_for_now(dm__conn *conn, dm__model *model, dm__history *history,
                                double now_s, dm__price_change **change_out, dm_error *err)
{
    dm__price_change *latest = NULL;
    for (size_t i = 0; i < history->count && history->changes[i].from_s <= now_s; i++)
        latest = &history->changes[i];
    if (latest == NULL)
        return change_insert(history, history->count == 0 ? -INFINITY : now_s, now_s, change_out,
                             err);
    bool dated = !isinf(latest->from_s) && latest->from_s != latest->made_s, used = true;
    if (dated)
        return change_insert(history, now_s, now_s, change_out, err);
    dm_status rc = used_since(conn, model, isinf(latest->from_s) ? latest->made_s : latest->from_s,
                              now_s, &used, err);
    if (rc != DM_OK)
        return rc;
    if (used)
        return change_insert(history, now_s, now_s, change_out, err);
    if (isinf(latest->from_s))
        latest->made_s = now_s;
    *change_out = latest;
    return DM_OK;
}

static dm_status change_for(dm__conn *conn, dm__model *model, dm__history *history, double from_s,
                            double now_s, dm__price_change **change_out, dm_error *err)
{
    if (isnan(from_s))
        return change_for_now(conn, model, history, now_s, change_out, err);
    for (size_t i = 0; i < history->count; i++)
        if (history->changes[i].from_s == from_s) {
            history->changes[i].made_s = now_s;
            *change_out = &history->changes[i];
            return DM_OK;
        }
    return change_insert(history, from_s, now_s, change_out, err);
}

dm_status dm__foreign_change_store(dm__conn *conn, dm__model *model, bool store, bool *found_out,
                                   dm_error *err)
{
    double now_s = dm__realtime_s();
    dm__history history = {0};
    dm_billing billing = {0};
    dm__price_change *foreign = NULL;
    dm_status rc = prices_read(conn, model, now_s, &history, &billing, &foreign, err);
    bool found = rc == DM_OK && foreign != NULL && billing_is_sound(&billing);
    if (found)
        rc = dm__kept_price_admit(conn, model, now_s, model, err);
    if (rc == DM_OK && found && store)
        rc = prices_store(conn, model, &history, &billing, now_s, err);
    *found_out |= rc == DM_OK && found;
    dm_billing_reset(&billing);
    dm__history_reset(&history);
    return rc;
}

/* ---- the edit ---- */

/* The tiers that hold at the moment of the edit, with it, as a new array. */
static dm_status tiers_edit(const dm__tariff *before, const dm__price_edit *edit,
                            dm_tier **tiers_out, size_t *count_out, dm_error *err)
{
    const dm_price_change *set = &edit->change;
    size_t count = edit->kind == DM__EDIT_SET ? set->tier_count : before->tier_count;
    const dm_tier *from = edit->kind == DM__EDIT_SET ? set->tiers : before->tiers;
    dm_tier *tiers = dm__calloc(count + 1, sizeof *tiers);
    if (tiers == NULL)
        return dm__no_memory(err);
    size_t kept = 0;
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        if (edit->kind != DM__EDIT_SET && from[i].tier_index == edit->tier.tier_index)
            found = true;
        else
            tiers[kept++] = from[i];
    }
    dm_status rc = DM_OK;
    if (edit->kind == DM__EDIT_TIER_DELETE && !found)
        rc = dm__fail(err, DM_TIER_NOT_FOUND, "there is no tier %lld",
                      (long long)edit->tier.tier_index);
    if (edit->kind == DM__EDIT_TIER_PUT) {
        rc = dm__tier_admit(before->tiers, before->tier_count, &edit->tier, edit->mode, err);
        tiers[kept++] = edit->tier;
    }
    if (rc != DM_OK) {
        dm__free(tiers);
        return rc;
    }
    *tiers_out = tiers;
    *count_out = kept;
    return DM_OK;
}

/* The tiers of a later change that was told of some: those that it copied of what held before it
 * are now what holds before it. */
static dm_status tiers_follow(const dm__tariff *was, const dm__tariff *now,
                              const dm__price_change *later, dm_tier **tiers_out, size_t *count_out,
                              dm_error *err)
{
    dm_tier *tiers = dm__calloc(later->tier_count + now->tier_count + 1, sizeof *tiers);
    size_t count = 0;
    if (tiers == NULL)
        return dm__no_memory(err);
    for (size_t i = 0; i < later->tier_count; i++) {
        const dm_tier *theirs = &later->tiers[i];
        if (tiers_within(theirs, 1, was->tiers, was->tier_count))
            theirs = tier_find(now->tiers, now->tier_count, theirs->tier_index);
        if (theirs != NULL)
            tiers[count++] = *theirs;
    }
    for (size_t i = 0; i < now->tier_count; i++) {
        int64_t index = now->tiers[i].tier_index;
        if (tier_find(was->tiers, was->tier_count, index) == NULL &&
            tier_find(later->tiers, later->tier_count, index) == NULL)
            tiers[count++] = now->tiers[i];
    }
    dm_error why = {0};
    dm_status rc = prices_check(0, tiers, count, &why);
    if (rc != DM_OK) {
        dm__free(tiers);
        return dm__fail(err, rc, "%s of the prices that hold from %.17g on", why.text,
                        later->from_s);
    }
    *tiers_out = tiers;
    *count_out = count;
    return DM_OK;
}

/* What an edit changes goes on in later changes that were told of other tiers, until one that was
 * told of all. */
static dm_status edit_carry(dm__history *history, size_t at, dm__tariff was, dm__tariff now,
                            dm_error *err)
{
    dm_status rc = DM_OK;
    dm_tier *replaced = NULL;
    for (size_t i = at + 1; i < history->count; i++) {
        dm__price_change *later = &history->changes[i];
        if (!(later->sets & DM_PRICE_TIERS))
            continue;
        if (!later->by_tier)
            break;
        dm_tier *tiers = NULL;
        size_t count = 0;
        rc = tiers_follow(&was, &now, later, &tiers, &count, err);
        if (rc != DM_OK)
            break;
        was = (dm__tariff){.tiers = later->tiers, .tier_count = later->tier_count};
        now = (dm__tariff){.tiers = tiers, .tier_count = count};
        dm__free(replaced);
        replaced = later->tiers;
        later->tiers = tiers;
        later->tier_count = count;
    }
    dm__free(replaced);
    return rc;
}

static dm_status edit_apply_tiers(dm__history *history, dm__price_change *change,
                                  const dm__price_edit *edit, dm_error *err)
{
    dm__tariff before = dm__history_at(history, change->from_s);
    dm_tier *tiers = NULL;
    size_t count = 0;
    dm_status rc = tiers_edit(&before, edit, &tiers, &count, err);
    dm__tariff after = {.tiers = tiers, .tier_count = count};
    if (rc == DM_OK)
        rc = edit_carry(history, (size_t)(change - history->changes), before, after, err);
    if (rc != DM_OK) {
        dm__free(tiers);
        return rc;
    }
    dm__free(change->tiers);
    change->tiers = tiers;
    change->tier_count = count;
    change->by_tier =
        edit->kind != DM__EDIT_SET && (change->by_tier || !(change->sets & DM_PRICE_TIERS));
    change->sets |= DM_PRICE_TIERS;
    return DM_OK;
}

static dm_status edit_apply(dm__history *history, dm__price_change *change,
                            const dm__price_edit *edit, dm_error *err)
{
    const dm_price_change *set = &edit->change;
    dm_status rc = DM_OK;
    if (edit->kind != DM__EDIT_SET || (set->sets & DM_PRICE_TIERS))
        rc = edit_apply_tiers(history, change, edit, err);
    if (rc != DM_OK || edit->kind != DM__EDIT_SET)
        return rc;
    change->sets |= set->sets;
    if (set->sets & DM_PRICE_METHOD)
        change->use_tier_pricing = set->use_tier_pricing;
    if (set->sets & DM_PRICE_HOURLY)
        change->hourly_price = set->hourly_price;
    if (set->sets & DM_PRICE_STRATEGY)
        change->strategy = set->strategy;
    return DM_OK;
}

/* A host may set its prices whenever it starts. What it dates is kept in any case: it stays where
 * an earlier change is dated back. */
static bool edit_is_needless(const dm__history *history, const dm_billing *billing,
                             const dm__price_edit *edit, double now_s)
{
    const dm_price_change *set = &edit->change;
    dm__tariff now = dm__history_at(history, now_s);
    if (!history->stored || !tables_show(billing, &now) || !isnan(set->effective_from_s) ||
        edit->kind == DM__EDIT_TIER_DELETE)
        return false;
    if (edit->kind == DM__EDIT_TIER_PUT)
        return edit->mode != DM_TIER_ADD && tiers_within(&edit->tier, 1, now.tiers, now.tier_count);
    return (!(set->sets & DM_PRICE_METHOD) || set->use_tier_pricing == now.use_tier_pricing) &&
           (!(set->sets & DM_PRICE_HOURLY) || set->hourly_price == now.hourly_price) &&
           (!(set->sets & DM_PRICE_STRATEGY) || set->strategy == now.strategy) &&
           (!(set->sets & DM_PRICE_TIERS) ||
            (set->tier_count == now.tier_count &&
             tiers_within(set->tiers, set->tier_count, now.tiers, now.tier_count)));
}

/* With another program's prices: once stored, what bills nobody would be in the way of every
 * question about that time. */
static dm_status outcome_admit(const dm__model *model, const dm__history *history, double time_s,
                               dm_error *err)
{
    dm_error why = {0};
    dm__tariff holds = dm__history_at(history, time_s);
    return prices_check(holds.hourly_price, holds.tiers, holds.tier_count, &why) == DM_OK
               ? DM_OK
               : dm__fail(err, DM_CORRUPT_DATA,
                          "prices of %s, which another program has changed: %s; only a change from "
                          "now on that puts this right is taken",
                          model->safe, why.text);
}

/* Prices of another program's file that nobody could be billed by. */
static bool first_bills_nobody(const dm__history *history)
{
    const dm__price_change *first = history->changes;
    return !history->stored && history->count > 0 &&
           prices_check(first->hourly_price, first->tiers, first->tier_count, NULL) != DM_OK;
}

dm_status dm__prices_edit(dm__conn *conn, dm__model *model, const dm__price_edit *edit,
                          dm_error *err)
{
    double now_s = dm__realtime_s();
    dm__history history = {0};
    dm_billing billing = {0};
    dm__price_change *change = NULL, *foreign = NULL;
    dm_status rc = prices_read(conn, model, now_s, &history, &billing, &foreign, err);
    int64_t last_id = last_change_id(&history);
    if (rc != DM_OK || (foreign == NULL && edit_is_needless(&history, &billing, edit, now_s)))
        goto done;
    if (foreign != NULL)
        rc = dm__kept_price_admit(conn, model, now_s, model, err);
    bool mends = rc == DM_OK && first_bills_nobody(&history); /* since ever: it billed nobody */
    if (rc == DM_OK && foreign != NULL && isnan(edit->change.effective_from_s))
        change = foreign;
    else if (mends && isnan(edit->change.effective_from_s))
        change = history.changes, change->made_s = now_s;
    else if (rc == DM_OK)
        rc = change_for(conn, model, &history, edit->change.effective_from_s, now_s, &change, err);
    if (rc == DM_OK && change->id > last_id) /* those that were there stay what they are */
        rc = dm__kept_price_admit(conn, model, change->from_s, model, err);
    if (rc == DM_OK)
        rc = edit_apply(&history, change, edit, err);
    if (rc == DM_OK && (foreign != NULL || mends))
        rc = outcome_admit(model, &history, mends ? -INFINITY : now_s, err);
    if (rc == DM_OK)
        rc = prices_store(conn, model, &history, &billing, now_s, err);
done:
    dm_billing_reset(&billing);
    dm__history_reset(&history);
    return rc;
}

dm_status dm__prices_show(dm__conn *conn, dm__model *model, dm_error *err)
{
    dm__history history = {0};
    dm_billing billing = {0};
    dm_status rc = dm__history_read(conn, model, &history, err);
    if (rc == DM_OK && history.stored)
        rc = dm__billing_read(conn, model, &billing, err);
    if (rc == DM_OK && history.stored) {
        dm__tariff now = dm__history_at(&history, dm__realtime_s());
        rc = tables_update(conn, model, &billing, &now, err);
    }
    dm_billing_reset(&billing);
    dm__history_reset(&history);
    return rc;
}

/* ---- reading ---- */

dm_status dm__billing_now(dm__conn *conn, dm__model *model, dm_billing *billing, dm_error *err)
{
    double now_s = dm__realtime_s();
    dm__history history = {0};
    dm__price_change *foreign = NULL;
    dm_status rc = prices_read(conn, model, now_s, &history, billing, &foreign, err);
    conn->foreign_price |= foreign != NULL && billing_is_sound(billing);
    if (rc == DM_OK && history.count > 0) {
        dm__tariff now = dm__history_at(&history, now_s);
        dm_tier *tiers = dm__array_copy(now.tiers, now.tier_count, sizeof *tiers);
        if (tiers == NULL) {
            rc = dm__no_memory(err);
        } else {
            dm__free(billing->tiers);
            *billing = (dm_billing){now.use_tier_pricing, now.hourly_price, tiers, now.tier_count};
        }
    }
    dm__history_reset(&history);
    return rc;
}

void dm_tariffs_reset(dm_tariffs *tariffs)
{
    for (size_t i = 0; i < tariffs->count; i++)
        if (i == 0 || tariffs->tariffs[i].tiers != tariffs->tariffs[i - 1].tiers)
            dm__free(tariffs->tariffs[i].tiers);
    dm__free(tariffs->tariffs);
    *tariffs = (dm_tariffs){0};
}

/* `go_on`: its tiers are those of the one before it. */
static dm_status tariff_append(dm_tariffs *tariffs, const dm__tariff *tariff, double from_s,
                               bool go_on, dm_error *err)
{
    dm_tier *tiers = go_on ? tariffs->tariffs[tariffs->count - 1].tiers
                           : dm__array_copy(tariff->tiers, tariff->tier_count, sizeof *tiers);
    if (tiers == NULL)
        return dm__no_memory(err);
    tariffs->tariffs[tariffs->count++] = (dm_tariff){.from_s = from_s,
                                                     .use_tier_pricing = tariff->use_tier_pricing,
                                                     .hourly_price = tariff->hourly_price,
                                                     .strategy = tariff->strategy,
                                                     .tiers = tiers,
                                                     .tier_count = tariff->tier_count};
    return DM_OK;
}

dm_status dm__tariffs_read(dm__conn *conn, dm__model *model, dm_tariffs *tariffs, dm_error *err)
{
    dm__history history = {0};
    dm_billing billing = {0};
    dm__price_change *foreign = NULL; /* today's prices are those that the tables show */
    dm_tariffs_reset(tariffs);
    dm_status rc = prices_read(conn, model, dm__realtime_s(), &history, &billing, &foreign, err);
    conn->foreign_price |= foreign != NULL && billing_is_sound(&billing);
    if (rc != DM_OK)
        goto done;
    tariffs->tariffs = dm__calloc(history.count + 1, sizeof *tariffs->tariffs);
    if (tariffs->tariffs == NULL) {
        rc = dm__no_memory(err);
        goto done;
    }
    /* The first stands for "since ever", also where a change holds since ever. */
    dm__tariff tariff = dm__history_at(&history, -INFINITY);
    rc = tariff_append(tariffs, &tariff, -INFINITY, false, err);
    for (size_t i = 0; i < history.count && rc == DM_OK;) {
        double from_s = history.changes[i].from_s;
        const dm_tier *before = tariff.tiers;
        dm__history_step(&history, &i, &tariff);
        if (from_s > -INFINITY)
            rc = tariff_append(tariffs, &tariff, from_s, tariff.tiers == before, err);
    }
done:
    dm_billing_reset(&billing);
    dm__history_reset(&history);
    return rc;
}

static dm_status tariffs_read(dm__conn *conn, dm__model *model, dm__model_read *read, dm_error *err)
{
    return dm__tariffs_read(conn, model, read->out, err);
}

dm_status dm_price_history(dm_manager *m, dm_str model, dm_tariffs *tariffs_out, dm_error *err)
{
    dm_tariffs tariffs = {0};
    dm__model_read read = {.name = model, .from = tariffs_read, .out = &tariffs};
    dm_status rc = dm__read(m, true, dm__model_read_run, &read, err);
    if (rc == DM_OK)
        *tariffs_out = tariffs;
    else
        dm_tariffs_reset(&tariffs);
    return rc;
}
