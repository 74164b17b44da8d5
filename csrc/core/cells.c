/* SPDX-License-Identifier: MIT
 *
 * Time cut into cells: see cells.h. */
#include "cells.h"

#include <stdlib.h>

void dm__cells_reset(dm__cells *usage)
{
    for (size_t i = 0; i < usage->tariff_count; i++)
        if (i == 0 || usage->tariffs[i].slices != usage->tariffs[i - 1].slices)
            dm__free(usage->tariffs[i].slices);
    dm__free(usage->tariffs);
    dm__free(usage->tariff_from_s);
    dm__free(usage->buckets);
    dm__free(usage->cells);
    dm__free(usage->counts);
    *usage = (dm__cells){0};
}

/* ---- tariffs ---- */

/* Tiers that overlap were not stored through us: the file is to blame, so the model is named. Those
 * that go on are those of the tariff before: a small file may have many changes of many tiers. */
static dm_status tariff_make(dm__cell_tariff *out, const dm_tariff *from, bool go_on,
                             const dm_usage_query *query, const dm__model *model, dm_error *err)
{
    dm_error why = {0};
    out->by_tiers = from->use_tier_pricing;
    out->strategy = query->strategy != NULL ? *query->strategy : from->strategy;
    out->slices = go_on ? out[-1].slices : dm__calloc(from->tier_count + 1, sizeof *out->slices);
    if (out->slices == NULL)
        return dm__no_memory(err);
    out->slice_count = from->tier_count;
    dm_status rc = dm_price_parse("hourly_price", from->hourly_price, &out->hourly_price, &why);
    if (rc == DM_OK && !go_on)
        rc = dm_price_slices(from->tiers, from->tier_count, out->slices, &why);
    return rc == DM_OK ? rc
                       : dm__fail(err, DM_CORRUPT_DATA, "prices of %s: %s", model->safe, why.text);
}

static dm_status tariffs_alloc(dm__cells *usage, size_t count, dm_error *err)
{
    usage->tariffs = dm__calloc(count, sizeof *usage->tariffs);
    usage->tariff_from_s = dm__calloc(count, sizeof *usage->tariff_from_s);
    return usage->tariffs == NULL || usage->tariff_from_s == NULL ? dm__no_memory(err) : DM_OK;
}

/* One that always holds, by tiers, of which there are none. */
static dm_status tariff_without_prices(dm__cells *usage, dm_error *err)
{
    dm_status rc = tariffs_alloc(usage, 1, err);
    if (rc == DM_OK) {
        usage->tariff_count = 1;
        usage->tariff_from_s[0] = -INFINITY;
        usage->tariffs[0].by_tiers = true;
    }
    return rc;
}

/* Where the cells begin: what came before in the period counts too. */
static double cells_begin_s(const dm__cells *usage)
{
    const dm_usage_query *query = usage->query;
    double begin_s = query->edges_s[0];
    if (!usage->cumulative)
        return begin_s;
    ptrdiff_t period = dm__last_at_most(query->periods_s, query->period_count, begin_s);
    return period < 0 ? -INFINITY : query->periods_s[period];
}

/* The tariffs that cells will have: what is wrong with another is no matter. */
static void tariffs_choose(dm__cells *usage, const dm_tariffs *history, size_t *first_out,
                           size_t *count_out)
{
    const dm_usage_query *query = usage->query;
    bool current = query->current_prices;
    double now_s = dm__realtime_s(), end_s = query->edges_s[query->edge_count - 1];
    size_t first = 0, end = history->count;
    for (size_t i = 0; current && i < end && history->tariffs[i].from_s <= now_s; i++)
        first = i;
    if (current)
        end = first + 1;
    for (size_t i = first; i < end; i++) {
        const dm_tariff *tariff = &history->tariffs[i];
        dm_strategy strategy = query->strategy != NULL ? *query->strategy : tariff->strategy;
        usage->cumulative |= tariff->use_tier_pricing && strategy == DM_STRATEGY_CUMULATIVE;
    }
    double begin_s = cells_begin_s(usage);
    while (first + 1 < end && history->tariffs[first + 1].from_s <= begin_s)
        first++;
    while (first + 1 < end && history->tariffs[end - 1].from_s >= end_s)
        end--;
    *first_out = first;
    *count_out = end - first;
}

static dm_status tariffs_make(dm__conn *conn, dm__model *model, dm__cells *usage, dm_error *err)
{
    dm_tariffs history = {0};
    size_t first = 0, count = 0;
    dm_status rc = dm__tariffs_read(conn, model, &history, err);
    if (rc != DM_OK)
        goto done;
    tariffs_choose(usage, &history, &first, &count);
    rc = tariffs_alloc(usage, count, err);
    for (size_t i = 0; i < count && rc == DM_OK; i++) {
        usage->tariff_count++;
        const dm_tariff *from = &history.tariffs[first + i];
        usage->tariff_from_s[i] = usage->query->current_prices ? -INFINITY : from->from_s;
        bool go_on = i > 0 && from->tiers == from[-1].tiers;
        rc = tariff_make(&usage->tariffs[i], from, go_on, usage->query, model, err);
    }
    if (rc == DM_OK && usage->cumulative && usage->query->periods_s == NULL)
        rc = dm__fail(err, DM_MISUSE, "the cumulative strategy needs billing periods");
done:
    dm_tariffs_reset(&history);
    return rc;
}

/* ---- cells ---- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* All moments at which something begins, from `begin_s` on and before the last edge, and that edge,
 * ascending and each once. */
static double *cuts_make(const dm__cells *usage, double begin_s, size_t *count_out)
{
    const dm_usage_query *query = usage->query;
    const struct {
        const double *values;
        size_t count;
    } sources[] = {{query->edges_s, query->edge_count},
                   {usage->tariff_from_s, usage->tariff_count},
                   {query->periods_s, usage->cumulative ? query->period_count : 0}};
    const double end_s = query->edges_s[query->edge_count - 1];
    double *cuts =
        dm__calloc(query->edge_count + usage->tariff_count + query->period_count + 1, sizeof *cuts);
    if (cuts == NULL)
        return NULL;
    size_t count = 0, kept = 0;
    cuts[count++] = begin_s;
    for (size_t s = 0; s < sizeof sources / sizeof *sources; s++)
        for (size_t i = 0; i < sources[s].count; i++)
            if (sources[s].values[i] > begin_s && sources[s].values[i] <= end_s)
                cuts[count++] = sources[s].values[i];
    qsort(cuts, count, sizeof *cuts, compare_doubles);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || cuts[i] != cuts[kept - 1])
            cuts[kept++] = cuts[i];
    *count_out = kept;
    return cuts;
}

static void cell_make(dm__cells *usage, dm__cell *out, double from_s, double to_s)
{
    const dm_usage_query *query = usage->query;
    ptrdiff_t bucket = dm__last_at_most(query->edges_s, query->edge_count - 1, from_s);
    ptrdiff_t tariff_at = dm__last_at_most(usage->tariff_from_s, usage->tariff_count, from_s);
    ptrdiff_t period = dm__last_at_most(query->periods_s, query->period_count, from_s);
    *out = (dm__cell){.from_s = from_s,
                      .to_s = to_s,
                      .bucket = bucket < 0 ? NULL : &usage->buckets[bucket],
                      .tariff = &usage->tariffs[tariff_at],
                      .begins_period = period >= 0 && query->periods_s[period] == from_s};
}

static dm_status cuts_to_cells(dm__cells *usage, dm_error *err)
{
    size_t cut_count = 0, slices = 0;
    dm_status rc = DM_OK;
    double *cuts = cuts_make(usage, cells_begin_s(usage), &cut_count);
    usage->cells = dm__calloc(cut_count + 1, sizeof *usage->cells);
    if (cuts == NULL || usage->cells == NULL) {
        rc = dm__no_memory(err);
        goto done;
    }
    for (size_t i = 0; i + 1 < cut_count; i++) {
        cell_make(usage, &usage->cells[usage->cell_count], cuts[i], cuts[i + 1]);
        slices += usage->cells[usage->cell_count++].tariff->slice_count;
    }
    usage->at = usage->cells;
    usage->counts = dm__calloc(slices + 1, sizeof *usage->counts);
    if (usage->counts == NULL) {
        rc = dm__no_memory(err);
        goto done;
    }
    slices = 0;
    for (size_t i = 0; i < usage->cell_count; i++) {
        usage->cells[i].counts = usage->counts + slices;
        slices += usage->cells[i].tariff->slice_count;
    }
done:
    dm__free(cuts);
    return rc;
}

dm_status dm__cells_make(dm__cells *usage, dm__conn *conn, dm__model *model, dm_error *err)
{
    dm_status rc = usage->query->counts_only ? tariff_without_prices(usage, err)
                                             : tariffs_make(conn, model, usage, err);
    return rc == DM_OK ? cuts_to_cells(usage, err) : rc;
}

dm__cell *dm__cell_of(dm__cells *usage, double time_s)
{
    size_t low = 0, high = usage->cell_count - 1;
    while (low < high) {
        size_t middle = low + (high - low + 1) / 2;
        if (usage->cells[middle].from_s <= time_s)
            low = middle;
        else
            high = middle - 1;
    }
    return &usage->cells[low];
}
