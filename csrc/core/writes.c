/* SPDX-License-Identifier: MIT
 *
 * The public writes: check the input, make a change of it, hand it over. */
#include "dm_internal.h"

#include <string.h>

static dm_status model_write(dm_manager *m, dm__change *change, dm_error *err)
{
    dm_status rc = dm_model_name_check(change->model, err);
    return rc == DM_OK ? dm__write(m, change, err) : rc;
}

dm_status dm_model_register(dm_manager *m, const dm_str *names, size_t count, dm_error *err)
{
    for (size_t i = 0; i < count; i++) {
        dm_status rc = dm_model_name_check(names[i], err);
        if (rc != DM_OK)
            return rc;
    }
    dm__change change = {.kind = DM__CHANGE_MODEL_REGISTER, .as.models = {names, count}};
    return dm__write(m, &change, err);
}

dm_status dm_model_delete(dm_manager *m, dm_str model, dm_error *err)
{
    dm__change change = {.kind = DM__CHANGE_MODEL_DELETE, .model = model};
    dm_status rc = model_write(m, &change, err), unfreed = DM_OK;
    /* It is gone, whatever becomes of its room, which can be given back later: also where that was
     * interrupted, or whoever repeats an interrupted call would not find the model. */
    if (rc == DM_OK && !dm_in_batch(m))
        unfreed = dm__room_return(m, NULL);
    (void)unfreed;
    return rc;
}

dm_status dm_model_rename(dm_manager *m, dm_str old_name, dm_str new_name, bool merge,
                          dm_error *err)
{
    dm__change change = {
        .kind = DM__CHANGE_MODEL_RENAME, .model = old_name, .as.rename = {new_name, merge}};
    dm_status rc = dm__new_name_check(new_name, err);
    return rc == DM_OK ? model_write(m, &change, err) : rc;
}

dm_status dm_program_start(dm_manager *m, double start_time_s, int64_t *id_out, dm_error *err)
{
    dm__change change = {.kind = DM__CHANGE_PROGRAM_START, .as.time_s = start_time_s};
    dm_status rc = dm_time_check("start_time", start_time_s, err);
    if (rc == DM_OK)
        rc = dm__write(m, &change, err);
    if (rc == DM_OK)
        *id_out = change.ids.first_id;
    return rc;
}

dm_status dm_program_end(dm_manager *m, double end_time_s, dm_error *err)
{
    dm__change change = {.kind = DM__CHANGE_PROGRAM_END, .as.time_s = end_time_s};
    dm_status rc = dm_time_check("end_time", end_time_s, err);
    return rc == DM_OK ? dm__write(m, &change, err) : rc;
}

dm_status dm_model_start(dm_manager *m, dm_str model, double start_time_s, int64_t *id_out,
                         dm_error *err)
{
    dm__change change = {.kind = DM__CHANGE_MODEL_START, .model = model, .as.time_s = start_time_s};
    dm_status rc = dm_time_check("start_time", start_time_s, err);
    if (rc == DM_OK)
        rc = model_write(m, &change, err);
    if (rc == DM_OK)
        *id_out = change.ids.first_id;
    return rc;
}

dm_status dm_model_end(dm_manager *m, dm_str model, double end_time_s, dm_error *err)
{
    dm__change change = {.kind = DM__CHANGE_MODEL_END, .model = model, .as.time_s = end_time_s};
    dm_status rc = dm_time_check("end_time", end_time_s, err);
    return rc == DM_OK ? model_write(m, &change, err) : rc;
}

static dm_status request_write(dm_manager *m, dm_str model, const dm_request *request,
                               const dm_timing *timing, dm_str id, int64_t *id_out, dm_error *err)
{
    dm__change change = {
        .kind = DM__CHANGE_REQUEST_ADD,
        .model = model,
        .as.request = {*request, timing == NULL ? DM_TIMING_UNKNOWN : *timing, id}};
    dm_status rc = dm_request_check(request, err);
    if (rc == DM_OK)
        rc = dm_timing_check(&change.as.request.timing, err);
    if (rc == DM_OK)
        rc = model_write(m, &change, err);
    if (rc == DM_OK)
        *id_out = change.ids.first_id;
    return rc;
}

dm_status dm_request_add(dm_manager *m, dm_str model, const dm_request *request,
                         const dm_timing *timing, int64_t *id_out, dm_error *err)
{
    return request_write(m, model, request, timing, (dm_str){NULL, 0}, id_out, err);
}

dm_status dm_request_add_once(dm_manager *m, dm_str model, const dm_request *request,
                              const dm_timing *timing, dm_str request_id, int64_t *id_out,
                              dm_error *err)
{
    dm_status rc = dm_request_id_check(request_id, err);
    return rc == DM_OK ? request_write(m, model, request, timing, request_id, id_out, err) : rc;
}

/* `request_ids` may be NULL. */
static dm_status rows_check(const dm_request_rows *rows, const dm_str *request_ids, dm_error *err)
{
    for (size_t i = 0; i < rows->count; i++) {
        dm_request request = {rows->timestamp_s[i], rows->input_tokens[i], rows->output_tokens[i],
                              rows->cache_n[i], rows->prompt_n[i]};
        dm_timing timing = dm__timing_of_row(rows, i);
        dm_error row_err;
        dm_status rc = dm_request_check(&request, &row_err);
        if (rc == DM_OK)
            rc = dm_timing_check(&timing, &row_err);
        if (rc == DM_OK && request_ids != NULL && request_ids[i].bytes != NULL)
            rc = dm_request_id_check(request_ids[i], &row_err);
        if (rc != DM_OK)
            return dm__fail(err, rc, "row %zu: %.200s", i, row_err.text);
    }
    return DM_OK;
}

dm_status dm_requests_add(dm_manager *m, dm_str model, const dm_request_rows *rows, dm_ids *ids_out,
                          dm_error *err)
{
    dm__change change = {
        .kind = DM__CHANGE_REQUESTS_ADD, .model = model, .as.rows = {.columns = *rows}};
    dm_status rc = rows_check(rows, NULL, err);
    if (rc == DM_OK)
        rc = model_write(m, &change, err);
    if (rc == DM_OK)
        *ids_out = change.ids;
    return rc;
}

dm_status dm_requests_add_once(dm_manager *m, dm_str model, const dm_request_rows *rows,
                               const dm_str *request_ids, int64_t *row_ids_out, int64_t *added_out,
                               dm_error *err)
{
    dm_status rc = rows_check(rows, request_ids, err);
    if (rc != DM_OK)
        return rc;
    int64_t *row_ids = dm__calloc(rows->count + 1, sizeof *row_ids);
    dm__change change = {
        .kind = DM__CHANGE_REQUESTS_ADD, .model = model, .as.rows = {*rows, request_ids, row_ids}};
    rc = row_ids == NULL ? dm__no_memory(err) : model_write(m, &change, err);
    if (rc == DM_OK) {
        memcpy(row_ids_out, row_ids, rows->count * sizeof *row_ids);
        *added_out = change.ids.count;
    }
    dm__free(row_ids);
    return rc;
}

/* ---- prices ---- */

static dm_status prices_write(dm_manager *m, dm_str model, const dm__price_edit *edit,
                              dm_error *err)
{
    dm__change change = {.kind = DM__CHANGE_PRICES, .model = model, .as.prices = *edit};
    double from_s = edit->change.effective_from_s;
    dm_status rc = isnan(from_s) ? DM_OK : dm_time_check("effective_from", from_s, err);
    return rc == DM_OK ? model_write(m, &change, err) : rc;
}

dm_status dm_tier_put(dm_manager *m, dm_str model, const dm_tier *tier, dm_tier_mode mode,
                      double effective_from_s, dm_error *err)
{
    dm__price_edit edit = {.kind = DM__EDIT_TIER_PUT,
                           .change.effective_from_s = effective_from_s,
                           .tier = *tier,
                           .mode = mode};
    dm_status rc = dm_tier_check(tier, err);
    return rc == DM_OK ? prices_write(m, model, &edit, err) : rc;
}

dm_status dm_tier_delete(dm_manager *m, dm_str model, int64_t tier_index, double effective_from_s,
                         dm_error *err)
{
    dm__price_edit edit = {.kind = DM__EDIT_TIER_DELETE,
                           .change.effective_from_s = effective_from_s,
                           .tier.tier_index = tier_index};
    dm_status rc = dm__tier_index_check(tier_index, err);
    return rc == DM_OK ? prices_write(m, model, &edit, err) : rc;
}

dm_status dm_pricing_set(dm_manager *m, dm_str model, const dm_price_change *change, dm_error *err)
{
    dm__price_edit edit = {.kind = DM__EDIT_SET, .change = *change};
    dm_status rc = DM_OK;
    if (change->sets & DM_PRICE_HOURLY)
        rc = dm__price_check("hourly_price", change->hourly_price, err);
    if (rc == DM_OK && change->tier_count > DM__TIERS_MAX)
        rc = dm__fail(err, DM_INVALID, "tiers must be at most %d, not %zu", DM__TIERS_MAX,
                      change->tier_count);
    for (size_t i = 0; (change->sets & DM_PRICE_TIERS) && i < change->tier_count && rc == DM_OK;
         i++) {
        rc = dm_tier_check(&change->tiers[i], err);
        if (rc == DM_OK) /* among themselves: each against those before it */
            rc = dm__tier_admit(change->tiers, i, &change->tiers[i], DM_TIER_ADD, err);
    }
    return rc == DM_OK ? prices_write(m, model, &edit, err) : rc;
}
