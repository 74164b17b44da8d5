/* SPDX-License-Identifier: MIT
 *
 * A long scan of one model by both cores. While the connection reads a stretch of ids, its partner,
 * which sees the same moment, reads the next one into memory; that is dealt with when its turn has
 * come, so rows go on in the order of their ids.
 *
 *     connection   | 1 .. 65536        | from memory | 131073 ..         |
 *     partner      | 65537 .. 131072   |             |     .. 262144     |
 *
 * What the partner cannot read, for whatever reason, the connection reads again and says why. */
#include "dm_internal.h"

#include <stdatomic.h>

#define STRETCH ((int64_t)1 << 16) /* ids; a thread costs a hundredth of its time, and 3 MB */

typedef struct {
    dm__conn *conn; /* the partner */
    dm_str model;
    dm__scan scan;
    atomic_bool over;
    dm_status rc;
} stretch;

static void stretch_read(void *argument)
{
    stretch *ahead = argument;
    dm__model *model = NULL;
    ahead->rc = dm__model_find(ahead->conn, ahead->model, &model, NULL);
    if (ahead->rc == DM_OK)
        ahead->rc = dm__scan_run(ahead->conn, model, &ahead->scan, NULL);
}

static dm_status range_scan(dm__conn *conn, dm__model *model, dm__scan *scan, int64_t after_id,
                            int64_t end_id, dm_error *err)
{
    scan->after_id = after_id;
    scan->end_id = end_id;
    return dm__scan_run(conn, model, scan, err);
}

/* As if the scan had read them itself. */
static dm_status rows_take(dm__scan *scan, const dm_request_columns *rows)
{
    dm_status rc = DM_OK;
    for (size_t from = 0, count; from < rows->count && rc == DM_OK; from += count) {
        if (scan->rows.count == scan->capacity)
            rc = scan->full(scan);
        count = scan->capacity - scan->rows.count;
        count = rows->count - from < count ? rows->count - from : count;
        dm_request_columns some = {.count = count,
                                   .id = rows->id + from,
                                   .timestamp_s = rows->timestamp_s + from,
                                   .input_tokens = rows->input_tokens + from,
                                   .output_tokens = rows->output_tokens + from,
                                   .cache_n = rows->cache_n + from,
                                   .prompt_n = rows->prompt_n + from};
        if (rc == DM_OK && !dm__request_columns_append(&scan->rows, &scan->capacity, &some))
            rc = DM_NO_MEMORY; /* not where there is room */
    }
    return rc;
}

static dm_status both_scan(dm__conn *conn, dm__model *model, dm__scan *scan, stretch *ahead,
                           int64_t after_id, dm_error *err)
{
    const int64_t middle_id = after_id + STRETCH, end_id = middle_id + STRETCH;
    dm__thread thread;
    ahead->scan.after_id = middle_id;
    ahead->scan.end_id = end_id;
    ahead->scan.rows.count = 0;
    bool started = dm__thread_start(&thread, stretch_read, ahead) == 0;
    dm_status rc = range_scan(conn, model, scan, after_id, middle_id, err);
    atomic_store(&ahead->over, rc != DM_OK);
    if (started)
        dm__thread_join(thread);
    if (rc != DM_OK)
        return rc;
    return started && ahead->rc == DM_OK ? rows_take(scan, &ahead->scan.rows)
                                         : range_scan(conn, model, scan, middle_id, end_id, err);
}

/* The one before the first that there is: of what was pruned only the ids are gone. */
static dm_status first_find(dm__conn *conn, dm__model *model, int64_t *after_id, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST_AFTER, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_int64(stmt, 1, *after_id);
    rc = dm__stmt_step(conn, stmt, &row, err);
    if (rc == DM_OK && row && sqlite3_column_type(stmt, 0) == SQLITE_INTEGER)
        *after_id = sqlite3_column_int64(stmt, 0) - 1;
    dm__stmt_put(stmt);
    return rc;
}

static bool is_long(int64_t after_id, int64_t last_id)
{
    return last_id > after_id && (uint64_t)last_id - (uint64_t)after_id >= (uint64_t)(2 * STRETCH);
}

dm_status dm__ahead_scan(dm__conn *conn, dm__model *model, dm__scan *scan, int64_t *after_id,
                         int64_t last_id, dm_error *err)
{
    if (conn->partner == NULL || !is_long(*after_id, last_id))
        return DM_OK;
    dm_status rc = first_find(conn, model, after_id, err);
    if (rc != DM_OK || !is_long(*after_id, last_id))
        return rc;
    stretch ahead = {.conn = conn->partner,
                     .model = {model->name, model->name_length},
                     .scan = {.start_s = -INFINITY,
                              .end_s = INFINITY,
                              .limit = SIZE_MAX,
                              .capacity = STRETCH,
                              .full = dm__request_columns_grow}};
    bool goes_on = dm__request_columns_alloc(&ahead.scan.rows, STRETCH);
    ahead.conn->stop.over = &ahead.over;
    while (goes_on && rc == DM_OK && is_long(*after_id, last_id)) {
        rc = both_scan(conn, model, scan, &ahead, *after_id, err);
        *after_id += 2 * STRETCH;
        goes_on = ahead.scan.rows.count > STRETCH / 4; /* else ids are rare: the rest is alone */
    }
    ahead.conn->stop.over = NULL;
    dm_request_columns_reset(&ahead.scan.rows);
    return rc;
}
