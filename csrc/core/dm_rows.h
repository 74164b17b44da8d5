/* SPDX-License-Identifier: MIT
 *
 * Request rows on their way: out of a table, into columns, kept in memory, and shown to whoever
 * asks; and the numbers and ids that rows are known by. A part of dm_internal.h. */
#ifndef DM_ROWS_H
#define DM_ROWS_H

#include "dm.h"

typedef struct dm__conn dm__conn;
typedef struct dm__model dm__model;

/* ---- cache.c: request rows in memory ---- */

#define DM__CHUNK_ROWS 4096

typedef struct dm__cache dm__cache;
typedef struct dm__block dm__block; /* the rows of a chunk */

/* What one snapshot may take from memory: what is there of this epoch. */
typedef struct {
    dm__cache *cache; /* NULL: nothing */
    uint64_t epoch;
} dm__recall;

/* Rows that follow each other by id; all but a model's last have DM__CHUNK_ROWS. */
typedef struct {
    int64_t after_id, last_id; /* there are no other rows between */
    double first_s, last_s;    /* the least and the greatest time */
    uint32_t count;
    dm__block *block; /* NULL: not in memory */
} dm__chunk;

typedef struct {
    dm__chunk *chunks;
    size_t count;
} dm__view;

dm__cache *dm__cache_new(void); /* NULL without memory */
void dm__cache_free(dm__cache *cache);
void dm__cache_empty(dm__cache *cache);
/* Bytes of rows; at first 0, and never less than before. */
void dm__cache_limit_raise(dm__cache *cache, size_t limit);
size_t dm__cache_bytes(dm__cache *cache);
/* The chunks of a model that a snapshot whose last row is `last_id` sees; for dm__view_reset.
 * False without memory. */
bool dm__cache_view(const dm__recall *recall, const char *safe, int64_t last_id,
                    dm__view *view) DM_CHECKED;
void dm__view_reset(dm__view *view);
/* Chunk number `at`, all that a snapshot sees from `after_id` to the last of `rows`, of which there
 * is one at least. Where there is no room for it, or somebody was faster, nothing happens. */
void dm__cache_put(const dm__recall *recall, const char *safe, size_t at, int64_t after_id,
                   const dm_request_columns *rows);
/* NULL: none of them has any. */
void dm__cache_timings_put(const dm__recall *recall, const char *safe, size_t at, dm__block *block,
                           const dm_timing *timings);
/* All columns but the ids; `rows` has room for DM__CHUNK_ROWS. */
void dm__block_read(const dm__block *block, dm_request_columns *rows);
void dm__block_read_ids(const dm__block *block, int64_t *ids);
const dm_timing *dm__block_timings(const dm__block *block, bool *known);

/* ---- scan.c: over the request rows of a model ---- */

typedef struct dm__scan {
    int64_t after_id, end_id; /* only rows with a greater id, up to `end_id` */
    bool newest_first;        /* then ids are not looked at */
    double start_s, end_s;
    bool times_only; /* whatever else a row holds; one without a possible time is passed over */
    size_t limit;    /* end when `rows` holds so many; SIZE_MAX: none */
    /* Where rows go, and room for how many. `full` makes room: it grows the arrays, or deals with
     * the rows and sets their count to 0. Called without a lock, inside SQLite. */
    dm_request_columns rows;
    size_t capacity;
    dm_status (*full)(struct dm__scan *scan);
    void *argument; /* of `full` */
    /* of scan.c */
    dm_status rc;
    bool stopped;
    uint64_t step;
    bool bad; /* a row itself: */
    int64_t bad_row_id;
} dm__scan;

dm_status dm__scan_install(dm__conn *conn, dm_error *err) DM_CHECKED;
/* Run to the end; what is left in `rows` then is the caller's to deal with. */
dm_status dm__scan_run(dm__conn *conn, dm__model *model, dm__scan *scan, dm_error *err) DM_CHECKED;

/* ---- ahead.c ---- */

/* Where the connection has a partner, runs the scan with it, from `*after_id` on and as long as ids
 * up to `last_id` are worth two threads; `*after_id` becomes the last one that was read. */
dm_status dm__ahead_scan(dm__conn *conn, dm__model *model, dm__scan *scan, int64_t *after_id,
                         int64_t last_id, dm_error *err) DM_CHECKED;

/* ---- columns.c ---- */

/* Of a dm__scan: room for more rows, twice as many as now. */
dm_status dm__request_columns_grow(dm__scan *scan);
/* False without memory; then nothing has changed. `capacity` is that of `columns`. */
bool dm__request_columns_append(dm_request_columns *columns, size_t *capacity,
                                const dm_request_columns *rows) DM_CHECKED;
/* `columns` is empty. False without memory; then it is to be reset. */
bool dm__request_columns_alloc(dm_request_columns *columns, size_t count);
void dm__request_columns_reverse(dm_request_columns *columns);
/* By time, then by id. False without memory; then nothing has changed. */
bool dm__request_columns_sort(dm_request_columns *columns);

/* ---- rows.c: the request rows of a model ---- */

/* Some rows of the window, by id; at least one. */
typedef struct {
    dm_request_columns rows;  /* the walk's; ids only where they are wanted */
    const dm_timing *timings; /* NULL: none of them has any */
    double first_s, last_s;   /* the least and the greatest time */
} dm__rows_part;

typedef struct {
    double start_s, end_s;
    bool ids, timings; /* wanted */
    dm_status (*each)(void *argument, const dm__rows_part *part, dm_error *err);
    void *argument;
} dm__rows_query;

dm_status dm__rows_each(dm__conn *conn, dm__model *model, const dm__rows_query *query,
                        dm_error *err) DM_CHECKED;
/* All rows of the window, by id; `columns` is empty, and to be reset also after a failure. */
dm_status dm__rows_all(dm__conn *conn, dm__model *model, double start_s, double end_s,
                       dm_request_columns *columns, dm_error *err) DM_CHECKED;
/* INT64_MIN where there is none. */
dm_status dm__rows_last_id(dm__conn *conn, dm__model *model, int64_t *last_id,
                           dm_error *err) DM_CHECKED;
/* Widens the bounds to the times of all rows; at first they may be NaN. */
dm_status dm__rows_span(dm__conn *conn, dm__model *model, double bounds_s[2],
                        dm_error *err) DM_CHECKED;

/* ---- request_ids.c ---- */

/* The tables beside a model's requests that tell of their rows, and by which column. */
typedef struct {
    const char *suffix, *row_id;
} dm__row_table;
enum { DM__ROW_TABLES = 3 };
extern const dm__row_table dm__row_tables[DM__ROW_TABLES];
/* The greatest number that a row of the model ever had. */
dm_status dm__row_id_last(dm__conn *conn, dm__model *model, int64_t *last_id_out,
                          dm_error *err) DM_CHECKED;
/* SQLite says that no number is left for a row as it says that the disk is full: DM_CORRUPT_DATA
 * then, else `rc`. */
dm_status dm__row_ids_failed(dm__conn *conn, dm__model *model, size_t count, dm_status rc,
                             dm_error *err) DM_CHECKED;
/* In the caller's transaction. The model's next rows get numbers behind `last_id`, if they would
 * not anyway. */
dm_status dm__row_ids_reserve(dm__conn *conn, const char *safe, int64_t last_id,
                              dm_error *err) DM_CHECKED;
/* The same for requests whose table is new: behind all that others tell of rows that were. */
dm_status dm__row_ids_go_on(dm__conn *conn, const char *safe, dm_error *err) DM_CHECKED;
/* In the caller's transaction: the first makes the table. */
dm_status dm__request_ids_create(dm__conn *conn, const char *safe, dm_error *err) DM_CHECKED;
/* The row of that id; 0 where there is none. */
dm_status dm__request_id_find(dm__conn *conn, dm__model *model, dm_str request_id,
                              int64_t *row_id_out, dm_error *err) DM_CHECKED;
dm_status dm__request_id_insert(dm__conn *conn, dm__model *model, int64_t row_id, dm_str request_id,
                                dm_error *err) DM_CHECKED;
/* Insert the rows whose ids are not known; `row_ids` becomes each one's row, new or not. The new
 * ones are the rows where it is ids_out->first_id, the next of it, and so on. */
dm_status dm__requests_insert_once(dm__conn *conn, dm__model *model, const dm_request_rows *rows,
                                   const dm_str *request_ids, int64_t *row_ids, dm_ids *ids_out,
                                   dm_error *err) DM_CHECKED;

#endif
