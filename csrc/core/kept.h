/* SPDX-License-Identifier: MIT
 *
 * What is kept of requests and runs that were pruned: kept.c reads it, keep.c adds to it. */
#ifndef DM_KEPT_H
#define DM_KEPT_H

#include "dm_internal.h"

#define DM__KEPT_ROWS      DM__CHUNK_ROWS /* most requests of a part */
#define DM__PACKED_ROW_MAX 32             /* bytes */
#define DM__PROGRAM        "program"      /* stands for the program where models have safe names */

/* ---- packed.c ---- */

/* Returns how many bytes it took. */
size_t dm__request_pack(const dm_request *request, uint8_t packed[DM__PACKED_ROW_MAX]);
/* Exactly `count` requests, into the columns but those of ids and times. False where the bytes are
 * anything else. */
bool dm__requests_unpack(const uint8_t *packed, size_t size, size_t count,
                         dm_request_columns *columns) DM_CHECKED;

/* ---- kept.c ---- */

extern const char *const dm__kept_tables[2];
dm_status dm__kept_create(dm__conn *conn, dm_error *err) DM_CHECKED;
/* As dm__pair_find. */
dm_status dm__kept_find(dm__conn *conn, bool *there_out, dm_error *err) DM_CHECKED;
/* Of each table that is there. */
dm_status dm__kept_forget(dm__conn *conn, const char *safe, dm_error *err) DM_CHECKED;
dm_status dm__kept_move(dm__conn *conn, const char *from, const char *to, dm_error *err) DM_CHECKED;

/* Requests that were pruned together, in the order in which they count. */
typedef struct {
    double first_s, last_s;
    int64_t count;
    int64_t sums[4];         /* input_tokens, output_tokens, cache_n, prompt_n */
    dm_request_columns rows; /* without ids and times; where only sums are asked for, none */
} dm__kept_part;

typedef dm_status (*dm__kept_part_fn)(void *argument, const dm__kept_part *part, dm_error *err);
/* Those parts that reach into the window, in order; `rows`: with their rows. */
dm_status dm__kept_parts_each(dm__conn *conn, const char *safe, double start_s, double end_s,
                              bool rows, dm__kept_part_fn each, void *argument,
                              dm_error *err) DM_CHECKED;

typedef dm_status (*dm__kept_run_fn)(void *argument, const dm_kept_run *run, dm_error *err);
dm_status dm__kept_runs_each(dm__conn *conn, const char *safe, dm__kept_run_fn each, void *argument,
                             dm_error *err) DM_CHECKED;

/* Widens the bounds to the times of all that is kept; at first they may be NaN. */
dm_status dm__kept_span(dm__conn *conn, const char *safe, double bounds_s[2],
                        dm_error *err) DM_CHECKED;
dm_status dm__kept_used_since(dm__conn *conn, const char *safe, double time_s, bool *used_out,
                              dm_error *err) DM_CHECKED;

/* DM_INVALID where a price of `model` that begins at that moment would part what is kept of `kept`,
 * which may be another: no question about it could then be answered. */
dm_status dm__kept_price_admit(dm__conn *conn, const dm__model *model, double from_s,
                               const dm__model *kept, dm_error *err) DM_CHECKED;

/* A stored part; its `rows` have room for DM__KEPT_ROWS and then agree with the sums, or have none
 * and are not read. DM_CORRUPT_DATA. */
dm_status dm__kept_part_read(sqlite3_stmt *stmt, dm__kept_part *part, dm_error *err) DM_CHECKED;
dm_status dm__kept_run_read(sqlite3_stmt *stmt, dm_kept_run *run, dm_error *err) DM_CHECKED;
#define DM__KEPT_SUM_COLUMNS                                                                       \
    "id,first_request,last_request,requests,input_tokens,output_tokens,cache_n,prompt_n"
#define DM__KEPT_PART_COLUMNS DM__KEPT_SUM_COLUMNS ",packed"
#define DM__KEPT_RUN_COLUMNS  "id,start_time,end_time,runs,seconds"

/* ---- keep.c: in the caller's transaction ---- */

typedef struct {
    dm__conn *conn;
    const char *safe;
    const double *edges_s; /* where buckets begin */
    size_t edge_count;
    double stays_s; /* of a request that stays a row: no part goes on over it; -INFINITY: none */
    dm_tariffs tariffs;
    /* the part that requests are added to; its id is 0 until it is stored */
    bool open;
    int64_t id, sums[4];
    double bucket_s, first_s, last_s;
    double next_s;   /* where the part after it begins */
    int64_t own_run; /* the last that was stored here, and not before; 0: none */
    size_t count, size;
    uint8_t *packed;         /* room for DM__KEPT_ROWS */
    dm_request_columns rows; /* the same, to read a stored part before it goes on */
} dm__keeper;

/* `model` NULL: the program. To be reset also after a failure. */
dm_status dm__keeper_begin(dm__keeper *keeper, dm__conn *conn, dm__model *model,
                           dm_error *err) DM_CHECKED;
/* In the order of time. */
dm_status dm__keep_request(dm__keeper *keeper, const dm_request *request, dm_error *err) DM_CHECKED;
dm_status dm__keep_run(dm__keeper *keeper, const dm_run *run, dm_error *err) DM_CHECKED;
dm_status dm__keeper_flush(dm__keeper *keeper, dm_error *err) DM_CHECKED;
void dm__keeper_reset(dm__keeper *keeper);

#endif
