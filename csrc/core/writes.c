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
    return model_write(m, &change, err);
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

dm_status dm_request_add(dm_manager *m, dm_str model, const dm_request *request, int64_t *id_out,
                         dm_error *err)
{
    dm__change change = {.kind = DM__CHANGE_REQUEST_ADD, .model = model, .as.request = *request};
    dm_status rc = dm_request_check(request, err);
    if (rc == DM_OK)
        rc = model_write(m, &change, err);
    if (rc == DM_OK)
        *id_out = change.ids.first_id;
    return rc;
}

static dm_status rows_check(const dm_request_rows *rows, dm_error *err)
{
    for (size_t i = 0; i < rows->count; i++) {
        dm_request request = {rows->timestamp_s[i], rows->input_tokens[i], rows->output_tokens[i],
                              rows->cache_n[i], rows->prompt_n[i]};
        dm_error row_err;
        dm_status rc = dm_request_check(&request, &row_err);
        if (rc != DM_OK)
            return dm__fail(err, rc, "row %zu: %.200s", i, row_err.text);
    }
    return DM_OK;
}

dm_status dm_requests_add(dm_manager *m, dm_str model, const dm_request_rows *rows, dm_ids *ids_out,
                          dm_error *err)
{
    dm__change change = {.kind = DM__CHANGE_REQUESTS_ADD, .model = model, .as.rows = *rows};
    dm_status rc = rows_check(rows, err);
    if (rc == DM_OK)
        rc = model_write(m, &change, err);
    if (rc == DM_OK)
        *ids_out = change.ids;
    return rc;
}

dm_status dm_tier_put(dm_manager *m, dm_str model, const dm_tier *tier, dm_tier_mode mode,
                      dm_error *err)
{
    dm__change change = {.kind = DM__CHANGE_TIER_PUT, .model = model, .as.tier_put = {*tier, mode}};
    dm_status rc = dm_tier_check(tier, err);
    return rc == DM_OK ? model_write(m, &change, err) : rc;
}

dm_status dm_tier_delete(dm_manager *m, dm_str model, int64_t tier_index, dm_error *err)
{
    dm__change change = {
        .kind = DM__CHANGE_TIER_DELETE, .model = model, .as.tier_index = tier_index};
    dm_status rc = dm__tier_index_check(tier_index, err);
    return rc == DM_OK ? model_write(m, &change, err) : rc;
}

dm_status dm_hourly_price_set(dm_manager *m, dm_str model, double hourly_price, dm_error *err)
{
    dm__change change = {
        .kind = DM__CHANGE_HOURLY_PRICE, .model = model, .as.hourly_price = hourly_price};
    dm_status rc = dm__price_check("hourly_price", hourly_price, err);
    return rc == DM_OK ? model_write(m, &change, err) : rc;
}

dm_status dm_billing_method_set(dm_manager *m, dm_str model, bool use_tier_pricing, dm_error *err)
{
    dm__change change = {
        .kind = DM__CHANGE_BILLING_METHOD, .model = model, .as.use_tier_pricing = use_tier_pricing};
    return model_write(m, &change, err);
}
