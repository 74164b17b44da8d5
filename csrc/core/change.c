/* SPDX-License-Identifier: MIT
 *
 * One write as a value: checked, queued or kept in a batch, applied later on the writer. */
#include "dm_internal.h"

#include <string.h>

bool dm__change_is_single(const dm__change *change)
{
    return (change->kind == DM__CHANGE_REQUEST_ADD && change->as.request.id.bytes == NULL &&
            !dm__timing_known(&change->as.request.timing)) ||
           change->kind == DM__CHANGE_MODEL_START || change->kind == DM__CHANGE_PROGRAM_START;
}

bool dm__change_is_heavy(const dm__change *change)
{
    return change->kind == DM__CHANGE_MODEL_DELETE || change->kind == DM__CHANGE_MODEL_RENAME ||
           change->kind == DM__CHANGE_MODEL_REGISTER ||
           (change->kind == DM__CHANGE_REQUESTS_ADD && change->as.rows.columns.count > 100);
}

bool dm__change_is_rewriting(const dm__change *change)
{
    return change->kind == DM__CHANGE_MODEL_DELETE || change->kind == DM__CHANGE_MODEL_RENAME;
}

static dm_status request_add(dm__conn *conn, dm__model *model, dm__change *change,
                             bool in_transaction, dm_error *err)
{
    const dm_timing *timing = &change->as.request.timing;
    dm_str id = change->as.request.id;
    int64_t *row_id = &change->ids.first_id;
    *row_id = 0;
    dm_status rc = id.bytes == NULL ? DM_OK : dm__request_id_find(conn, model, id, row_id, err);
    if (rc != DM_OK || *row_id != 0)
        return rc;
    rc = dm__request_insert(conn, model, &change->as.request.row, in_transaction, row_id, err);
    if (rc == DM_OK && id.bytes != NULL)
        rc = dm__request_id_insert(conn, model, *row_id, id, err);
    if (rc == DM_OK && dm__timing_known(timing))
        rc = dm__timing_insert(conn, model, *row_id, timing, err);
    return rc;
}

static dm_status requests_add(dm__conn *conn, dm__model *model, dm__change *change, dm_error *err)
{
    const dm_request_rows *rows = &change->as.rows.columns;
    int64_t *row_ids = change->as.rows.row_ids;
    dm_status rc = row_ids == NULL
                       ? dm__requests_insert(conn, model, rows, &change->ids, err)
                       : dm__requests_insert_once(conn, model, rows, change->as.rows.request_ids,
                                                  row_ids, &change->ids, err);
    if (rows->duration_s == NULL && rows->first_token_s == NULL)
        return rc;
    int64_t next_id = change->ids.first_id;
    for (size_t i = 0; i < rows->count && rc == DM_OK; i++) {
        dm_timing timing = dm__timing_of_row(rows, i);
        bool added = row_ids == NULL || row_ids[i] == next_id;
        if (added && dm__timing_known(&timing))
            rc = dm__timing_insert(conn, model, next_id, &timing, err);
        next_id += added;
        if (rc == DM_OK && i % DM__STOP_ROWS == 0 && dm__stop_asked(&conn->stop))
            rc = dm__fail(err, DM_INTERRUPTED, "interrupted while writing");
    }
    return rc;
}

static dm_status apply_to_model(dm__conn *conn, dm__model *model, dm__change *change,
                                bool in_transaction, dm_error *err)
{
    switch (change->kind) {
    case DM__CHANGE_MODEL_START:
        return dm__run_insert(conn, model, change->as.time_s, &change->ids.first_id, err);
    case DM__CHANGE_MODEL_END:
        return dm__run_end(conn, model, change->as.time_s, err);
    case DM__CHANGE_REQUEST_ADD:
        return request_add(conn, model, change, in_transaction, err);
    case DM__CHANGE_REQUESTS_ADD:
        return requests_add(conn, model, change, err);
    default:
        return dm__prices_edit(conn, model, &change->as.prices, err);
    }
}

/* What cannot succeed on a model without rows must not register it. */
static bool needs_known_model(const dm__change *change)
{
    if (change->kind != DM__CHANGE_PRICES)
        return change->kind == DM__CHANGE_MODEL_END;
    const dm__price_edit *edit = &change->as.prices;
    return edit->kind == DM__EDIT_TIER_DELETE ||
           (edit->kind == DM__EDIT_TIER_PUT && edit->mode == DM_TIER_UPDATE);
}

static dm_status model_apply(dm__conn *conn, dm__change *change, bool in_transaction, dm_error *err)
{
    dm_status rc = DM_OK;
    for (int attempt = 0; attempt < 2; attempt++) {
        dm__model *model = NULL;
        rc = needs_known_model(change)
                 ? dm__model_find(conn, change->model, &model, err)
                 : dm__model_find_or_register(conn, change->model, in_transaction, &model, err);
        int changes = sqlite3_total_changes(conn->db);
        if (rc == DM_OK)
            rc = apply_to_model(conn, model, change, in_transaction, err);
        if (rc != (dm_status)DM__STALE)
            return rc;
        if (sqlite3_total_changes(conn->db) != changes)
            break; /* what is done already would be done twice: the caller undoes it */
        /* Deleted by another process, or registered in a transaction that was undone. */
        dm__conn_model_forget(conn, dm__conn_model_find(conn, change->model));
    }
    return dm__fail(err, DM_CORRUPT_DATA, "a table of model '%.*s' is missing",
                    (int)(change->model.length < 100 ? change->model.length : 100),
                    change->model.bytes);
}

dm_status dm__change_apply(dm__conn *conn, dm__change *change, bool in_transaction, dm_error *err)
{
    change->ids = (dm_ids){0};
    dm_status rc;
    switch (change->kind) {
    case DM__CHANGE_MODEL_REGISTER:
        rc = dm__models_register(conn, change->as.models.names, change->as.models.count, err);
        break;
    case DM__CHANGE_MODEL_DELETE:
        rc = dm__model_drop(conn, change->model, err);
        break;
    case DM__CHANGE_MODEL_RENAME:
        dm__conn_stoppable_set(conn, true); /* all rows move where both are known */
        rc = dm__model_rename(conn, change->model, change->as.rename.new_name,
                              change->as.rename.merge, err);
        dm__conn_stoppable_set(conn, false);
        break;
    case DM__CHANGE_PROGRAM_START:
        rc = dm__run_insert(conn, NULL, change->as.time_s, &change->ids.first_id, err);
        break;
    case DM__CHANGE_PROGRAM_END:
        rc = dm__run_end(conn, NULL, change->as.time_s, err);
        break;
    default:
        rc = model_apply(conn, change, in_transaction, err);
    }
    if (rc == DM_OK && change->ids.first_id != 0 && change->kind != DM__CHANGE_REQUESTS_ADD)
        change->ids.count = 1;
    return rc;
}

/* ---- deep copy: the change, then its arrays, then its text, in one piece ---- */

static char *append(char *at, const void *bytes, size_t size)
{
    if (size > 0)
        memcpy(at, bytes, size);
    return at + size;
}

/* Behind them their text; returns where that ends. */
static char *copy_request_ids(dm__change *copy, char *at)
{
    const dm_str *request_ids = copy->as.rows.request_ids;
    size_t count = copy->as.rows.columns.count;
    dm_str *ids = (dm_str *)(void *)at;
    at += count * sizeof *ids;
    for (size_t i = 0; i < count; i++) {
        ids[i] = (dm_str){request_ids[i].bytes == NULL ? NULL : at, request_ids[i].length};
        at = append(at, request_ids[i].bytes, request_ids[i].length);
    }
    copy->as.rows.request_ids = ids;
    return at;
}

static dm__change *copy_rows(const dm__change *change)
{
    const dm_str *request_ids = change->as.rows.request_ids;
    size_t count = change->as.rows.columns.count, column = count * 8, text = 0;
    for (size_t i = 0; request_ids != NULL && i < count; i++)
        text += request_ids[i].length;
    dm__change *copy = dm__malloc(sizeof *copy + 8 * column + count * sizeof *request_ids + text +
                                  change->model.length);
    if (copy == NULL)
        return NULL;
    *copy = *change;
    char *at = (char *)(copy + 1);
    dm_request_rows *rows = &copy->as.rows.columns;
    const void **columns[] = {
        (const void **)&rows->timestamp_s,   (const void **)&rows->input_tokens,
        (const void **)&rows->output_tokens, (const void **)&rows->cache_n,
        (const void **)&rows->prompt_n,      (const void **)&rows->duration_s,
        (const void **)&rows->first_token_s};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        if (*columns[i] == NULL) /* not known; or there are no rows */
            continue;
        char *begin = at;
        at = append(at, *columns[i], column);
        *columns[i] = begin;
    }
    if (request_ids != NULL) {
        copy->as.rows.row_ids = (int64_t *)(void *)at;
        at = copy_request_ids(copy, at + column);
    }
    copy->model.bytes = at;
    (void)append(at, change->model.bytes, change->model.length);
    return copy;
}

static dm__change *copy_names(const dm__change *change)
{
    size_t count = change->as.models.count, text = 0;
    for (size_t i = 0; i < count; i++)
        text += change->as.models.names[i].length;
    dm__change *copy = dm__malloc(sizeof *copy + count * sizeof(dm_str) + text);
    if (copy == NULL)
        return NULL;
    *copy = *change;
    dm_str *names = (dm_str *)(void *)(copy + 1);
    char *at = (char *)(names + count);
    for (size_t i = 0; i < count; i++) {
        names[i] = (dm_str){at, change->as.models.names[i].length};
        at = append(at, change->as.models.names[i].bytes, names[i].length);
    }
    copy->as.models.names = names;
    return copy;
}

static dm__change *copy_prices(const dm__change *change)
{
    const dm_price_change *set = &change->as.prices.change;
    size_t tiers = set->tier_count * sizeof *set->tiers;
    dm__change *copy = dm__malloc(sizeof *copy + tiers + change->model.length);
    if (copy == NULL)
        return NULL;
    *copy = *change;
    char *at = (char *)(copy + 1);
    copy->as.prices.change.tiers = (dm_tier *)(void *)at;
    at = append(at, set->tiers, tiers);
    copy->model.bytes = at;
    (void)append(at, change->model.bytes, change->model.length);
    return copy;
}

/* Beside the model's name; NULL where the kind has none. */
static dm_str *second_text(dm__change *change)
{
    if (change->kind == DM__CHANGE_MODEL_RENAME)
        return &change->as.rename.new_name;
    return change->kind == DM__CHANGE_REQUEST_ADD ? &change->as.request.id : NULL;
}

static dm__change *copy_texts(const dm__change *change)
{
    dm__change kept = *change;
    dm_str *text = second_text(&kept);
    size_t length = text == NULL ? 0 : text->length;
    dm__change *copy = dm__malloc(sizeof *copy + change->model.length + length);
    if (copy == NULL)
        return NULL;
    *copy = kept;
    copy->model.bytes = (char *)(copy + 1);
    char *at = append((char *)(copy + 1), change->model.bytes, change->model.length);
    if (length > 0) {
        second_text(copy)->bytes = at;
        (void)append(at, text->bytes, length);
    }
    return copy;
}

dm__change *dm__change_copy(const dm__change *change)
{
    if (change->kind == DM__CHANGE_PRICES)
        return copy_prices(change);
    if (change->kind == DM__CHANGE_REQUESTS_ADD)
        return copy_rows(change);
    if (change->kind == DM__CHANGE_MODEL_REGISTER)
        return copy_names(change);
    return copy_texts(change);
}
