/* SPDX-License-Identifier: MIT
 *
 * Looking after a database: copies, checks, room, numbers. A part of dm.h, which includes it. */
#ifndef DM_CARE_H
#define DM_CARE_H

#include "dm.h"

/* Told how far a long call has come, from its own thread, with none of the core's locks held;
 * `done` never falls, and equals `total` the last time, just before the call can no longer be
 * stopped. True ends the call with DM_INTERRUPTED and nothing changed. Must not close the handle
 * that the call is on. */
typedef struct {
    bool (*report)(void *argument, int64_t done, int64_t total); /* pages, or what a call says */
    void *argument;
} dm_progress;

/* Write the database as it is at one moment to a new file at `dest` (0600; folders are made), while
 * others write. The file appears there when it is whole, checked and on the disk; before that, and
 * on failure, what was there stays. DM_EXISTS where a file is there and `overwrite` is not set,
 * where it is open in this process, or in another for writing, or where a log that holds something
 * stands beside it. DM_INVALID for ":memory:", and for a name that SQLite gives to what it puts
 * beside a database ("-wal", "-shm", "-journal"). `progress` may be NULL. While it runs, the log is
 * not cut off. */
dm_status dm_backup(dm_manager *m, const char *dest, bool overwrite, const dm_progress *progress,
                    dm_error *err) DM_CHECKED;

/* Put what is in `src` in the place of what is in `dest`, whose name dm_backup would take, in one
 * transaction: every handle, in any process, sees all of the one or all of the other. What was
 * there is kept in a file beside it, whose name `*kept_out` becomes (for dm_text_free; NULL where
 * there was no database). `src` is checked first: DM_FOREIGN, DM_NEWER, DM_DAMAGED, DM_READ_ONLY. A
 * `dest` of the older layout is refused too (DM_READ_ONLY), and one of another encoding
 * (DM_INVALID); one that cannot be opened because it is damaged is put aside with its log, and the
 * handles on it get DM_MOVED. `progress` must not write to `dest` (DM_MISUSE). */
dm_status dm_restore(const char *src, const char *dest, int64_t busy_timeout_ms,
                     const dm_progress *progress, char **kept_out, dm_error *err) DM_CHECKED;

/* By a handle of this process, as a database or as what SQLite has put beside one, whatever its
 * name: then nobody here may open the file in another way. */
bool dm_database_is_open(const char *path);

/* Which requests and runs go: requests of before `before_s`, and runs that were over by then. The
 * newest run of a model, and of the program, stays. */
typedef struct {
    const dm_str *models; /* NULL: all, and the runs of the program */
    size_t model_count;
    double before_s; /* may be infinite */
    /* Where the buckets begin of which sums are kept, ascending; at least one: what lies before the
     * first, which is finite, stays. NULL: nothing is kept, and the sums of requests of before
     * `before_s`, and of runs that were over by then, go, too. */
    const double *edges_s;
    size_t edge_count;
    bool dry_run; /* only say what would go */
} dm_prune_query;

typedef struct {
    int64_t requests, runs;
} dm_pruned;

typedef struct {
    dm_model_names models; /* in the order asked for, or of registration */
    dm_pruned *counts;     /* of each, and one more: of the program */
} dm_prune_result;

void dm_prune_result_reset(dm_prune_result *result);

/* Remove old requests and runs in short transactions, between which others write; each takes rows
 * away and puts them into what is kept. Stopped anywhere, also by a crash, what has gone is in the
 * sums and the rest is there. Takes 16 bytes of memory for each request of a model, and for each
 * sum that goes. `progress`, in requests and runs, may be NULL: with it, DM_INTERRUPTED leaves what
 * was done. Questions then answer as before, but for those of which an edge lies inside a bucket
 * that was kept: dm_usage_get refuses these, and what would store such an edge is refused, too
 * (DM_INVALID). So is a call inside a batch, unless it is dry. A request whose checksum differs
 * stays, unless nothing is kept. Where a model's data are damaged the others are pruned, and then
 * the first such error is returned (DM_CORRUPT_DATA). DM_MODEL_NOT_FOUND. */
dm_status dm_prune(dm_manager *m, const dm_prune_query *query, const dm_progress *progress,
                   dm_prune_result *result_out, dm_error *err) DM_CHECKED;

/* What is kept of runs that were pruned. */
typedef struct {
    double start_time_s, end_time_s; /* of the first and of the last */
    int64_t runs;
    double seconds; /* of all of them */
} dm_kept_run;

typedef struct {
    dm_kept_run *runs;
    size_t count;
} dm_kept_runs;

void dm_kept_runs_reset(dm_kept_runs *runs);

/* `model` NULL: of the program. */
dm_status dm_kept_runs_get(dm_manager *m, const dm_str *model, dm_kept_runs *runs_out,
                           dm_error *err) DM_CHECKED;

typedef struct {
    const dm_str *models; /* NULL: all */
    size_t model_count;
    double start_s, end_s; /* start_s <= t < end_s; all: -INFINITY, INFINITY */
} dm_export;

/* Rows of one model, in order of their ids; borrowed. */
typedef struct {
    dm_str model;
    dm_request_rows rows;
    /* One a row: its own, or one that dm_requests_add_once takes, in this database, for the row
     * that is there. */
    const dm_str *request_ids;
    int64_t done, total; /* rows, with these, and of all models */
} dm_export_part;

/* Whoever writes the file. Each is called with none of the core's locks held; true ends the call
 * with DM_INTERRUPTED. */
typedef struct {
    bool (*begin)(void *argument, const char *path); /* an empty file, to be written to */
    bool (*take)(void *argument, const dm_export_part *part);
    bool (*end)(void *argument); /* it is whole, and closed */
    void *argument;
} dm_export_writer;

/* Write the requests of one moment to a new file at `dest`, by the rules of dm_backup. */
dm_status dm_requests_export(dm_manager *m, const char *dest, bool overwrite,
                             const dm_export *query, const dm_export_writer *writer,
                             int64_t *count_out, dm_error *err) DM_CHECKED;

/* An error is what reads refuse, or what cost data; a warning is what should not be so. */
typedef enum { DM_SEVERITY_ERROR, DM_SEVERITY_WARNING } dm_severity;

#define DM_NO_ROW INT64_MIN

typedef struct {
    dm_severity severity;
    char table[64]; /* empty: of the file as a whole */
    int64_t row_id; /* DM_NO_ROW: of the table as a whole */
    bool repaired;  /* mended by this call */
    char text[256]; /* UTF-8, always terminated */
} dm_finding;

typedef struct {
    dm_finding *findings;
    size_t count;
} dm_findings;

void dm_findings_reset(dm_findings *findings);

/* All that is wrong, of one moment: the file, as SQLite sees it; the mapping and the tables, and
 * how they are declared; tiers, prices and their history; and, unless `quick`, indexes and the
 * values in every row. A table gives at most 100 errors and 100 warnings, all together 10,000 of
 * each. What SQLite cannot check, for want of another program's function or collation, is an error
 * of a table of ours and a warning of any other. With `repair` what can be mended without losing
 * anything is mended first, each as a finding of its own: tables and billing rows that are missing,
 * but not one of two that come together, where it held something; indexes. */
dm_status dm_check(dm_manager *m, bool quick, bool repair, dm_findings *findings_out,
                   dm_error *err) DM_CHECKED;

typedef struct {
    int64_t requests, runs; /* rows */
    int64_t bytes;          /* of its tables */
} dm_model_storage;

typedef struct {
    int64_t file_bytes; /* when the log is written back */
    int64_t free_bytes; /* of them, to be used again before the file grows */
    int64_t log_bytes;  /* beside it */
    bool bytes_known;   /* of models; not where SQLite was built without dbstat */
    dm_model_names models;
    dm_model_storage *sizes; /* of each */
} dm_storage;

void dm_storage_reset(dm_storage *storage);

/* What takes how much room. Reads the whole file. */
dm_status dm_storage_get(dm_manager *m, dm_storage *storage_out, dm_error *err) DM_CHECKED;

/* Give back what is free, in steps between which others write; `progress`, which may be NULL, is
 * told of pages. A file that was not made here is written anew instead, in one transaction for
 * which other writers wait, and nothing is told; the next time it goes in steps, too. The sizes are
 * those of dm_storage.file_bytes; the file itself shrinks when no reader needs its old pages.
 * DM_INTERRUPTED: the rest is still free. */
dm_status dm_vacuum(dm_manager *m, const dm_progress *progress, int64_t *before_out,
                    int64_t *after_out, dm_error *err) DM_CHECKED;

/* What the store of a handle has done in this process, all handles together; those that are
 * read-only have a store of their own. */
typedef struct {
    int64_t commits;           /* of writes; prunes, vacuums and repairs are not among them */
    int64_t operations;        /* writes in them */
    int64_t failed_operations; /* writes that were refused or undone */
    int64_t largest_commit;    /* most callers that shared one */
    int64_t write_waits;       /* writes that waited for those before them */
    int64_t read_waits;        /* reads that waited for a connection */
    int64_t busy_retries;      /* tries again because another connection held a lock */
    int64_t checkpoints;
    int64_t checkpoints_skipped;   /* because others were busy */
    int64_t checkpoint_held_pages; /* what the latest could not write back, for a reader's sake */
    int64_t statement_hits;        /* prepared statements that were at hand */
    int64_t statement_misses;
    int64_t handles;
    int64_t pool_size;
    int64_t connections;        /* that read: open, in use or not */
    int64_t reading;            /* in use */
    double oldest_read_s;       /* how long the oldest of them has been; 0: there is none */
    int64_t oldest_read_thread; /* the system's number of its thread */
    int64_t cached_bytes;       /* of request rows in memory */
    int64_t cache_drops;        /* times that they were given up: others may have changed them */
} dm_stats;

/* Cheap: takes the store's lock, waits for nothing else. */
dm_status dm_stats_get(dm_manager *m, dm_stats *stats_out, dm_error *err) DM_CHECKED;

#endif
