/* SPDX-License-Identifier: MIT
 *
 * The request rows of a model, oldest id first, chunk by chunk: from memory what is kept there,
 * from the table the rest, which is kept from then on. Without the leave of witness.c all comes
 * from the table, and nothing is kept. */
#include "dm_internal.h"

#include <string.h>

typedef struct {
    dm__conn *conn;
    dm__model *model;
    const dm__rows_query *query;
    dm_error *err;
    dm__view view;
    dm__scan scan;
    dm_timing *timings; /* of the rows of `scan`, where the query wants them */
    bool timed;         /* any of them is known */
    int64_t last_id;    /* of the table; INT64_MIN where nobody has looked */
    /* the chunk that is being read */
    size_t at;
    int64_t after_id;
    int64_t end_id; /* its last one, where that is known; else INT64_MAX */
    size_t shown;   /* so many rows of `scan` have been dealt with already */
    bool bounds;    /* only the first and last times are wanted: `each` gets them without rows */
} rows_walk;

static bool within(const dm__rows_query *query, const dm__chunk *chunk)
{
    return chunk->first_s >= query->start_s && chunk->last_s < query->end_s;
}

static bool apart(const dm__rows_query *query, const dm__chunk *chunk)
{
    return !(chunk->last_s >= query->start_s && chunk->first_s < query->end_s);
}

/* ---- timings ---- */

static dm_status timings_read(rows_walk *walk)
{
    const dm_request_columns *rows = &walk->scan.rows;
    dm__timings timings;
    dm_status rc = dm__timings_open(walk->conn, walk->model, rows->id[0], &timings, walk->err);
    for (size_t i = 0; i < rows->count && rc == DM_OK && timings.stmt != NULL; i++) {
        rc = dm__timings_find(&timings, rows->id[i], &walk->timings[i], walk->err);
        walk->timed |= dm__timing_known(&walk->timings[i]);
    }
    dm__timings_close(&timings);
    return rc;
}

static dm_status timings_get(rows_walk *walk, dm__block *block)
{
    bool known = false;
    const dm_timing *kept = block == NULL ? NULL : dm__block_timings(block, &known);
    walk->timed = kept != NULL;
    if (walk->timed)
        memcpy(walk->timings, kept, walk->scan.rows.count * sizeof *kept);
    if (known)
        return DM_OK;
    if (block != NULL)
        dm__block_read_ids(block, walk->scan.rows.id);
    dm_status rc = timings_read(walk);
    if (rc == DM_OK && block != NULL)
        dm__cache_timings_put(&walk->conn->recall, walk->model->safe, walk->at, block,
                              walk->timed ? walk->timings : NULL);
    return rc;
}

/* ---- showing ---- */

/* Leaves only those of the window; their order stays. */
static void rows_filter(rows_walk *walk, size_t from)
{
    const dm__rows_query *query = walk->query;
    dm_request_columns *rows = &walk->scan.rows;
    size_t kept = from;
    for (size_t i = from; i < rows->count; i++) {
        double time_s = rows->timestamp_s[i];
        rows->id[kept] = rows->id[i];
        rows->timestamp_s[kept] = time_s;
        rows->input_tokens[kept] = rows->input_tokens[i];
        rows->output_tokens[kept] = rows->output_tokens[i];
        rows->cache_n[kept] = rows->cache_n[i];
        rows->prompt_n[kept] = rows->prompt_n[i];
        if (walk->timed)
            walk->timings[kept] = walk->timings[i];
        kept += time_s >= query->start_s && time_s < query->end_s;
    }
    rows->count = kept;
}

static void bounds_find(dm__rows_part *part)
{
    part->first_s = part->last_s = part->rows.timestamp_s[0];
    for (size_t i = 1; i < part->rows.count; i++) {
        double time_s = part->rows.timestamp_s[i];
        part->first_s = time_s < part->first_s ? time_s : part->first_s;
        part->last_s = time_s > part->last_s ? time_s : part->last_s;
    }
}

/* The rows from `from` on; they may be spoilt by it. `whole`: they are the chunk, and wanted. */
static dm_status rows_show(rows_walk *walk, size_t from, const dm__chunk *whole, dm__block *block)
{
    dm_request_columns *rows = &walk->scan.rows;
    walk->timed = false;
    dm_status rc = walk->timings != NULL && rows->count > from ? timings_get(walk, block) : DM_OK;
    if (rc == DM_OK && whole == NULL)
        rows_filter(walk, from);
    if (rc != DM_OK || rows->count <= from)
        return rc;
    dm__rows_part part = {.rows = {.count = rows->count - from,
                                   .id = rows->id + from,
                                   .timestamp_s = rows->timestamp_s + from,
                                   .input_tokens = rows->input_tokens + from,
                                   .output_tokens = rows->output_tokens + from,
                                   .cache_n = rows->cache_n + from,
                                   .prompt_n = rows->prompt_n + from},
                          .timings = walk->timed ? walk->timings + from : NULL};
    if (whole == NULL)
        bounds_find(&part);
    else
        part.first_s = whole->first_s, part.last_s = whole->last_s;
    return walk->query->each(walk->query->argument, &part, walk->err);
}

/* ---- from the table ---- */

/* What has been read is a chunk, or what there is of the last one. */
static dm_status chunk_read(dm__scan *scan)
{
    rows_walk *walk = scan->argument;
    dm_request_columns *rows = &scan->rows;
    if (rows->count <= walk->shown)
        return DM_OK;
    int64_t last_id = rows->id[rows->count - 1];
    if (walk->conn->recall.cache != NULL)
        dm__cache_put(&walk->conn->recall, walk->model->safe, walk->at, walk->after_id, rows);
    dm_status rc = rows_show(walk, walk->shown, NULL, NULL);
    walk->at++;
    walk->after_id = last_id;
    walk->shown = 0;
    rows->count = 0;
    return rc;
}

static dm_status table_walk(rows_walk *walk, int64_t after_id, int64_t end_id)
{
    walk->scan.after_id = after_id;
    walk->scan.end_id = end_id;
    dm_status rc = dm__scan_run(walk->conn, walk->model, &walk->scan, walk->err);
    return rc == DM_OK ? chunk_read(&walk->scan) : rc;
}

/* ---- from memory ---- */

static dm_status bounds_show(const rows_walk *walk, const dm__chunk *chunk)
{
    dm__rows_part part = {.first_s = chunk->first_s, .last_s = chunk->last_s};
    return walk->query->each(walk->query->argument, &part, walk->err);
}

static dm_status chunk_walk(rows_walk *walk, dm__chunk *chunk)
{
    walk->after_id = chunk->last_id;
    if (walk->bounds)
        return bounds_show(walk, chunk);
    if (apart(walk->query, chunk))
        return DM_OK;
    if (chunk->block == NULL) {
        walk->after_id = chunk->after_id;
        size_t at = walk->at;
        dm_status rc = table_walk(walk, chunk->after_id, chunk->last_id);
        walk->at = at;
        walk->after_id = chunk->last_id;
        return rc;
    }
    dm__block_read(chunk->block, &walk->scan.rows);
    if (walk->query->ids)
        dm__block_read_ids(chunk->block, walk->scan.rows.id);
    dm_status rc = rows_show(walk, 0, within(walk->query, chunk) ? chunk : NULL, chunk->block);
    walk->scan.rows.count = 0;
    return rc;
}

/* The last chunk of the view goes on growing, so its rows begin what is read next. */
static void chunk_resume(rows_walk *walk)
{
    if (walk->view.count == 0)
        return;
    const dm__chunk *last = &walk->view.chunks[walk->view.count - 1];
    if (last->count == DM__CHUNK_ROWS)
        return;
    walk->at--;
    walk->after_id = last->after_id;
    dm__block_read(last->block, &walk->scan.rows);
    dm__block_read_ids(last->block, walk->scan.rows.id);
    walk->shown = last->count;
}

/* ---- all ---- */

dm_status dm__rows_last_id(dm__conn *conn, dm__model *model, int64_t *last_id, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = false;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_REQUEST_LAST, &stmt, err);
    if (rc == DM_OK)
        rc = dm__stmt_step(conn, stmt, &row, err);
    *last_id = INT64_MIN;
    if (rc == DM_OK && row && sqlite3_column_type(stmt, 0) == SQLITE_INTEGER)
        *last_id = sqlite3_column_int64(stmt, 0);
    dm__stmt_put(stmt);
    return rc;
}

static dm_status view_get(rows_walk *walk)
{
    walk->last_id = INT64_MIN;
    if (walk->conn->recall.cache == NULL)
        return DM_OK;
    dm_status rc = dm__rows_last_id(walk->conn, walk->model, &walk->last_id, walk->err);
    if (rc == DM_OK &&
        !dm__cache_view(&walk->conn->recall, walk->model->safe, walk->last_id, &walk->view))
        rc = dm__no_memory(walk->err);
    /* What cannot be gone on with is read again. */
    if (walk->view.count > 0) {
        const dm__chunk *last = &walk->view.chunks[walk->view.count - 1];
        if (last->block == NULL && last->count < DM__CHUNK_ROWS)
            walk->view.count--;
    }
    return rc;
}

static dm_status buffers_alloc(rows_walk *walk)
{
    walk->scan.capacity = DM__CHUNK_ROWS;
    if (walk->query->timings)
        walk->timings = dm__malloc(DM__CHUNK_ROWS * sizeof *walk->timings);
    return dm__request_columns_alloc(&walk->scan.rows, DM__CHUNK_ROWS) &&
                   (walk->timings != NULL || !walk->query->timings)
               ? DM_OK
               : dm__no_memory(walk->err);
}

static dm_status walk_run(rows_walk *walk)
{
    walk->after_id = INT64_MIN;
    walk->scan = (dm__scan){.start_s = -INFINITY,
                            .end_s = INFINITY,
                            .limit = SIZE_MAX,
                            .full = chunk_read,
                            .argument = walk};
    dm_status rc = buffers_alloc(walk);
    if (rc == DM_OK)
        rc = view_get(walk);
    for (; walk->at < walk->view.count && rc == DM_OK; walk->at++)
        rc = chunk_walk(walk, &walk->view.chunks[walk->at]);
    if (rc == DM_OK) {
        int64_t after_id = walk->after_id;
        chunk_resume(walk);
        rc = dm__ahead_scan(walk->conn, walk->model, &walk->scan, &after_id, walk->last_id,
                            walk->err);
        if (rc == DM_OK)
            rc = table_walk(walk, after_id, INT64_MAX);
    }
    dm__view_reset(&walk->view);
    dm_request_columns_reset(&walk->scan.rows);
    dm__free(walk->timings);
    return rc;
}

dm_status dm__rows_each(dm__conn *conn, dm__model *model, const dm__rows_query *query,
                        dm_error *err)
{
    rows_walk walk = {.conn = conn, .model = model, .query = query, .err = err};
    return walk_run(&walk);
}

/* ---- what is asked of them ---- */

typedef struct {
    dm_request_columns *columns;
    size_t capacity;
} gathered;

static dm_status some_gather(void *argument, const dm__rows_part *part, dm_error *err)
{
    gathered *all = argument;
    bool done = dm__request_columns_append(all->columns, &all->capacity, &part->rows);
    return done ? DM_OK : dm__no_memory(err);
}

dm_status dm__rows_all(dm__conn *conn, dm__model *model, double start_s, double end_s,
                       dm_request_columns *columns, dm_error *err)
{
    gathered all = {.columns = columns};
    dm__rows_query query = {
        .start_s = start_s, .end_s = end_s, .ids = true, .each = some_gather, .argument = &all};
    return dm__rows_each(conn, model, &query, err);
}

static dm_status bounds_widen(void *argument, const dm__rows_part *part, dm_error *err)
{
    (void)err;
    double *bounds_s = argument;
    bounds_s[0] = fmin(bounds_s[0], part->first_s); /* fmin and fmax pass over NaN */
    bounds_s[1] = fmax(bounds_s[1], part->last_s);
    return DM_OK;
}

dm_status dm__rows_span(dm__conn *conn, dm__model *model, double bounds_s[2], dm_error *err)
{
    dm__rows_query query = {
        .start_s = -INFINITY, .end_s = INFINITY, .each = bounds_widen, .argument = bounds_s};
    rows_walk walk = {.conn = conn, .model = model, .query = &query, .err = err, .bounds = true};
    return walk_run(&walk);
}
