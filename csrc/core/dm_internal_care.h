/* SPDX-License-Identifier: MIT
 *
 * Checks and copies of databases. A part of dm_internal.h, which includes it. */
#ifndef DM_INTERNAL_CARE_H
#define DM_INTERNAL_CARE_H

#include "dm_internal.h"

/* ---- integrity.c ---- */

/* DM_DAMAGED with the first thing that SQLite finds wrong. `quick` leaves out the indexes. */
dm_status dm__integrity_verify(dm__conn *conn, bool quick, dm_error *err) DM_CHECKED;

typedef struct {
    dm__conn *conn;
    dm__conn *ours; /* in memory: our tables as they should be, those of DM__MODEL_SAFE */
    dm_error *err;
    dm_findings *found;
    size_t capacity;
    size_t kept; /* findings of before */
    bool quick;
    bool mend_models, mend_indexes; /* there is something to mend */
    bool seen;
    int64_t deadline_ns;
} dm__audit;

#define DM__MODEL_SAFE "model"

/* `table` NULL: of the file. */
dm_status dm__found(dm__audit *audit, dm_severity severity, const char *table, int64_t row_id,
                    const char *format, ...) DM_PRINTF(5, 6) DM_CHECKED;
/* An error that says that something is wrong in the file becomes a finding; others stay. */
dm_status dm__found_error(dm__audit *audit, dm_status rc, const char *table,
                          int64_t row_id) DM_CHECKED;
typedef dm_status (*dm__audit_row_fn)(dm__audit *audit, sqlite3_stmt *stmt, const char *table);
/* Call `each` for the rows of a query. */
dm_status dm__audit_each(dm__audit *audit, const char *table, dm__audit_row_fn each,
                         const char *format, ...) DM_CHECKED;

/* rules.c */
/* Is `table` as `like` is among `ours`? `usable` becomes false where it cannot be read. */
dm_status dm__table_audit(dm__audit *audit, const char *table, const char *like,
                          bool *usable) DM_CHECKED;
dm_status dm__runs_audit(dm__audit *audit, const char *table) DM_CHECKED;
dm_status dm__model_audit(dm__audit *audit, dm_str name, const char *safe) DM_CHECKED;

/* mend.c: for dm__write_alone; the findings become what was done. */
dm_status dm__mend_run(dm__conn *conn, void *audit, dm_error *err) DM_CHECKED;

/* ---- backup.c restore.c ---- */

typedef struct {
    const dm_progress *progress; /* may be NULL */
    int64_t before, after;       /* pages of other copies of the same call */
    dm__stop stop;
} dm__copying;

/* All pages, from a connection that is in a read transaction. Adds their number to `before`. */
dm_status dm__pages_copy(sqlite3_backup *backup, sqlite3 *to, dm__copying *copying,
                         dm_error *err) DM_CHECKED;

typedef struct {
    bool check;
    bool replace;      /* what is there */
    const char *aside; /* or move it, with its log, to this name; NULL: do not */
} dm__snapshot;

/* All of it to a file that is empty, and open nowhere. */
dm_status dm__file_fill(const char *path, dm__conn *from, dm__copying *copying,
                        dm_error *err) DM_CHECKED;

/* To a new file at `dest`, as dm_backup says. */
dm_status dm__snapshot_write(dm__conn *from, const char *dest, const dm__snapshot *how,
                             dm__copying *copying, dm_error *err) DM_CHECKED;
/* Give a whole and synced file its name, and sync that. */
dm_status dm__file_put(dm__unfinished *file, const char *dest, const dm__snapshot *how,
                       dm_error *err) DM_CHECKED;
/* The path that a snapshot would go to, for free(), where it may go there. */
dm_status dm__dest_resolve(const char *dest, bool replace, char **path_out,
                           dm_error *err) DM_CHECKED;

#endif
