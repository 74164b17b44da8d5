/* SPDX-License-Identifier: MIT
 *
 * Shared inside the core, and with its C tests. The parts, from the bottom up:
 *
 *   error platform stop sha256 check  no SQLite handle
 *   values columns edges percentile   single values, results, moments, ranks
 *   cache                             request rows in memory
 *   conn                              one hardened SQLite connection
 *   stmt                              its prepared statements, by (statement, model)
 *   scan feed                         its ways out of and into many rows
 *   rows                              the rows of a model, from memory or from its table
 *   models rename runtime requests    what is stored: take a connection,
 *   request_ids eras timings          know no threads
 *   checksums
 *   history tariff pricing foreign    prices over time
 *   money cost                        arithmetic
 *   packed kept keep prune            what is kept of what is removed
 *   cells usage performance span      questions over many rows,
 *   partner ahead                     and the second thread of those that are long
 *   change writes                     one write as a value, and the public calls that make it
 *   schema adopt                      tables, versions, older layouts
 *   prepare                           a file that is opened is made ours
 *   store pool writer checkpoint      threads, sharing, waiting: know no tables
 *   fork batch steps witness stats
 *   integrity verify shape            is all as it should be?
 *   rules mend
 *   backup restore export             copies of whole databases, or of their requests
 *   storage vacuum                    room, taken and given back
 */
#ifndef DM_INTERNAL_H
#define DM_INTERNAL_H

#include "dm.h"
#include "dm_rows.h"
#include "platform.h"

#include <math.h>
#include <sqlite3.h>
#include <stdatomic.h>

#define DM__STORE_VALUE_SIZE 17 /* of a word in datamanager_store */

/* Only inside the core, never returned by a public function. */
enum {
    DM__STALE = DM_STATUS_COUNT, /* the model's tables are gone: look its name up again */
    DM__NEEDS_TRANSACTION        /* more than one statement after all: run again inside one */
};

/* ---- error.c ---- */

/* Fill `err` (unless NULL) and return `code`. */
dm_status dm__fail(dm_error *err, dm_status code, const char *format, ...) DM_PRINTF(3, 4);
dm_status dm__no_memory(dm_error *err);
/* The one place where SQLite's codes become ours. `db` may be NULL; its message is copied now, so
 * the connection must still be the caller's. `doing` says in words what was tried, or is "". */
dm_status dm__fail_sqlite(dm_error *err, sqlite3 *db, int sqlite_code, const char *doing);
/* Puts before what went wrong with a file its role, which may be "", and its path, where the text
 * does not name one. Returns `code`. */
dm_status dm__fail_at(dm_error *err, dm_status code, const char *role, const char *path);
/* After this the log may hold what was not stored: the connection must not be used again. */
bool dm__is_suspect(dm_status code, const dm_error *err);

/* The same for an errno. */
dm_status dm__fail_system(dm_error *err, const char *path, int code);

/* Every allocation of ours goes through these, so that tests can make each fail in turn. */
void *dm__malloc(size_t size);
void *dm__calloc(size_t count, size_t size);
void *dm__realloc(void *memory, size_t size);
void dm__free(void *memory);
extern bool (*dm__allocation_fails)(void); /* tests only; NULL in use */

bool dm__is_utf8(dm_str text);
/* What is not becomes "?"; a character that a cut has split goes. `size` is that of the array. */
void dm__make_utf8(char *text, size_t size);

/* ---- check.c ---- */

#define DM__RUN_TIME_END 0x1p63 /* see dm_runtime_add: later hours cannot be billed */
dm_status dm__new_name_check(dm_str name, dm_error *err) DM_CHECKED;
dm_status dm__price_check(const char *field, double price, dm_error *err) DM_CHECKED;
dm_status dm__tier_index_check(int64_t tier_index, dm_error *err) DM_CHECKED;

/* ---- sha256.c (FIPS 180-4) ---- */

void dm__sha256(const void *bytes, size_t length, uint8_t digest[32]);

/* ---- stop.c: long work asks now and then whether to go on ---- */

typedef struct {
    int64_t next_ns;         /* monotonic; 0 at first */
    const atomic_bool *over; /* nobody wants it any more; may be NULL */
} dm__stop;

/* True when the hook says so; asks it at most every 50 ms. Costs a clock reading. */
bool dm__stop_asked(dm__stop *stop);
/* Sleep a little before another try for a lock. DM_BUSY after the deadline, DM_INTERRUPTED. */
dm_status dm__busy_wait(dm__stop *stop, sqlite3 *db, int64_t deadline_ns, dm_error *err) DM_CHECKED;
/* Wait on `cond` until it is signalled, or a moment or the deadline has passed. True: stop. */
bool dm__cond_wait_slice(dm__cond *cond, dm__mutex *mutex, int64_t deadline_ns, dm__stop *stop);
#define DM__STOP_ROWS 4096 /* loops over rows ask once in so many */

/* ---- conn.c ---- */

typedef enum {
    /* without a model */
    DM__STMT_BEGIN, /* deferred: a reader's snapshot */
    DM__STMT_BEGIN_IMMEDIATE,
    DM__STMT_READ_ONCE,
    DM__STMT_COMMIT,
    DM__STMT_ROLLBACK,
    DM__STMT_SAVEPOINT,
    DM__STMT_SAVEPOINT_RELEASE,
    DM__STMT_SAVEPOINT_ROLLBACK,
    DM__STMT_MODEL_FIND,
    DM__STMT_MODEL_FIND_SAFE,
    DM__STMT_MODEL_INSERT,
    DM__STMT_MODEL_RENAME,
    DM__STMT_MODEL_DELETE,
    DM__STMT_MODELS_ALL,
    DM__STMT_PROGRAM_RUN_INSERT,
    DM__STMT_PROGRAM_RUN_NEWEST,
    DM__STMT_PROGRAM_RUN_END,
    DM__STMT_PROGRAM_RUNS,
    DM__STMT_PROGRAM_RUN_DELETE, /* as it was, and unless it is the newest */
    DM__STMT_PRICED,             /* a row, if there is a change */
    DM__STMT_PRICE_CHANGES,
    DM__STMT_PRICE_CHANGE_PUT,
    DM__STMT_PRICE_TIER_PUT,
    DM__STMT_PRUNED_REQUESTS,
    DM__STMT_PRUNED_REQUEST_SUMS,
    DM__STMT_PRUNED_RUNS,
    DM__STMT_PRUNED_SPAN,
    DM__STMT_PRUNED_USED_SINCE,
    DM__STMT_PRUNED_PARTED, /* what a moment lies inside of */
    DM__STMT_PRUNED_PART_BEFORE,
    DM__STMT_PRUNED_PART_AFTER,
    DM__STMT_PRUNED_PART_PUT,
    DM__STMT_PRUNED_RUN_OF_BUCKET,
    DM__STMT_PRUNED_RUN_PUT,
    DM__STMT_PRUNED_OLD, /* sums of what was over: a 1 for runs, their ids, how many they are of */
    DM__STMT_PRUNED_PART_DELETE,
    DM__STMT_PRUNED_RUN_DELETE,
    DM__STMT_STORE_VALUE,
    DM__STMT_ERA,
    DM__STMT_GLOBAL_COUNT,
    /* of one model: %s in the text is its safe name */
    DM__STMT_RUN_INSERT = DM__STMT_GLOBAL_COUNT,
    DM__STMT_RUN_NEWEST,
    DM__STMT_RUN_END,
    DM__STMT_RUNS,
    DM__STMT_RUN_DELETE,
    DM__STMT_RUN_SPAN, /* the first and last times */
    DM__STMT_REQUEST_INSERT,
    DM__STMT_REQUESTS_INSERT, /* through feed.c */
    DM__STMT_REQUESTS,        /* through scan.c: all after an id, oldest first */
    DM__STMT_REQUESTS_NEWEST,
    DM__STMT_REQUEST,
    DM__STMT_REQUEST_NEXT, /* the id that the next will get */
    DM__STMT_REQUEST_LAST,
    DM__STMT_REQUEST_AFTER,
    DM__STMT_REQUEST_DELETE,
    DM__STMT_USED_SINCE, /* by a request or run */
    DM__STMT_BILLING,
    DM__STMT_BILLING_SET,
    DM__STMT_TIERS,
    DM__STMT_TIER_INSERT, /* INSERT OR REPLACE */
    DM__STMT_TIER_DELETE,
    DM__STMT_TIMING_INSERT,
    DM__STMT_TIMING_DELETE,
    DM__STMT_TIMINGS,
    DM__STMT_REQUEST_ID_FIND,
    DM__STMT_REQUEST_ID_OF_ROW,
    DM__STMT_REQUEST_IDS,
    DM__STMT_REQUEST_ID_INSERT,
    DM__STMT_CHECKSUMS_ADD, /* of all from a row on */
    DM__STMT_CHECKSUM_DIFFERS,
    DM__STMT_CHECKSUM_DELETE,
    DM__STMT_COUNT
} dm__stmt_id;

#define DM__MODEL_STMT_COUNT (DM__STMT_COUNT - DM__STMT_GLOBAL_COUNT)
#define DM__MODEL_BUCKETS    256u
#define DM__MODELS_MAX       1024u /* models remembered per connection */

/* A model as one connection knows it; belongs to that connection. */
typedef struct dm__model {
    struct dm__model *next; /* in its bucket */
    uint64_t hash;
    uint64_t used; /* the connection's clock when last found, for eviction */
    char safe[DM_SAFE_NAME_SIZE];
    /* How often its insert had been prepared again when has_checksums was found; -1: not yet. */
    int insert_prepared;
    bool has_checksums;
    sqlite3_stmt *stmts[DM__MODEL_STMT_COUNT];
    size_t name_length;
    char name[]; /* not terminated */
} dm__model;

/* Since they were last added to a store's. */
typedef struct {
    int64_t busy_retries;
    int64_t statement_hits, statement_misses;
    int64_t checkpoints, checkpoints_skipped;
} dm__counters;

/* One connection. Used by one thread at a time; opened without SQLite's mutex. */
typedef struct dm__conn {
    sqlite3 *db;
    sqlite3_stmt *stmts[DM__STMT_GLOBAL_COUNT];
    dm__model *models[DM__MODEL_BUCKETS];
    size_t model_count;
    uint64_t clock;
    dm_durability durability; /* the value of PRAGMA synchronous now */
    bool query_only;          /* it refuses to write */
    bool foreign_price;       /* a read has seen one that is not stored: see foreign.c */
    unsigned commits;         /* since they were last looked at */
    int log_frames;           /* in the write-ahead log after our last commit */
    int checkpoint_held;      /* of them, what the last checkpoint had to leave */
    int log_length;           /* frames in all at that checkpoint */
    dm__stop stop;
    struct dm__scan *scan;       /* the one that runs now */
    const struct dm__feed *feed; /* the rows that go in now */
    dm__recall recall;           /* of the snapshot that it is in now */
    struct dm__conn *partner;    /* that is in the same snapshot; NULL: none */
    dm__counters counters;
    /* While it is lent to a reader; under the store's lock. */
    struct dm__conn *next_lent;
    int64_t lent_ns, lent_to; /* since when, to which thread */
} dm__conn;

/* `path` is absolute or ":memory:". On success `*conn_out` is for dm__conn_close. Waits for
 * locks until the deadline. What is in the file shows at the first statement. */
dm_status dm__conn_open(const char *path, bool read_only, int64_t deadline_ns, dm__conn **conn_out,
                        dm_error *err) DM_CHECKED;
/* `checkpoint` lets SQLite write the log back when this is the file's last connection. */
void dm__conn_close(dm__conn *conn, bool checkpoint);
/* The same for a file that is refused: a log that is empty goes again, any other stays as it is. */
void dm__conn_abandon(dm__conn *conn);
/* Run SQL that is not kept: schema changes and pragmas. Formats as sqlite3_mprintf (%Q, %w). */
dm_status dm__conn_exec(dm__conn *conn, dm_error *err, const char *format, ...) DM_CHECKED;
/* A read that returns nothing: a transaction has its snapshot from then on. */
dm_status dm__conn_read_once(dm__conn *conn, dm_error *err) DM_CHECKED;
/* Whether the file is in WAL mode. */
dm_status dm__conn_has_log(dm__conn *conn, bool *there_out, dm_error *err) DM_CHECKED;
/* Long statements then ask now and then whether to go on, and end with DM_INTERRUPTED. */
void dm__conn_stoppable_set(dm__conn *conn, bool stoppable);
dm_status dm__conn_query_only_set(dm__conn *conn, bool query_only, dm_error *err) DM_CHECKED;
dm_status dm__conn_durability_set(dm__conn *conn, dm_durability durability,
                                  dm_error *err) DM_CHECKED;

/* ---- stmt.c ---- */

/* Our statements are right: what SQLite finds wrong in one is a table that is not as it should be,
 * DM_CORRUPT_DATA. */
dm_status dm__sql_failed(dm__conn *conn, int sqlite_code, const char *sql,
                         dm_error *err) DM_CHECKED;

/* The prepared statement, reset and without bindings; stays the connection's. Give it back with
 * dm__stmt_put, which a NULL may be passed to. */
dm_status dm__stmt_get(dm__conn *conn, dm__stmt_id id, sqlite3_stmt **stmt_out,
                       dm_error *err) DM_CHECKED;
/* DM__STALE where the model's table does not exist any more. */
dm_status dm__model_stmt_get(dm__conn *conn, dm__model *model, dm__stmt_id id,
                             sqlite3_stmt **stmt_out, dm_error *err) DM_CHECKED;
void dm__stmt_put(sqlite3_stmt *stmt);
/* Step a statement that returns no row (or whose row does not matter) to its end. */
dm_status dm__stmt_run(dm__conn *conn, sqlite3_stmt *stmt, dm_error *err) DM_CHECKED;
/* One row: `*row_out` is false at the end. */
dm_status dm__stmt_step(dm__conn *conn, sqlite3_stmt *stmt, bool *row_out,
                        dm_error *err) DM_CHECKED;
/* Get, run, put. */
dm_status dm__stmt_exec(dm__conn *conn, dm__stmt_id id, dm_error *err) DM_CHECKED;
/* Of a table beside the manual's: where it is not there, also since the statement was prepared, it
 * is made. What the change has done before must not be done again: never DM__STALE. */
typedef dm_status (*dm__side_create)(dm__conn *conn, const char *safe, dm_error *err);
dm_status dm__side_stmt_get(dm__conn *conn, dm__model *model, dm__stmt_id id,
                            dm__side_create create, sqlite3_stmt **stmt_out,
                            dm_error *err) DM_CHECKED;
dm_status dm__side_stmt_run(dm__conn *conn, dm__model *model, dm__side_create create,
                            sqlite3_stmt *stmt, dm_error *err) DM_CHECKED;
/* Begin to read, with the tables of that moment: where no transaction has read yet, SQLite looks
 * for tables in one of its own, and gives up over one that is not there when others are made
 * meanwhile. */
dm_status dm__begin_snapshot(dm__conn *conn, dm_error *err) DM_CHECKED;
/* Begin to write, waiting for others. */
dm_status dm__begin_waiting(dm__conn *conn, int64_t deadline_ns, dm_error *err) DM_CHECKED;
/* Undo the transaction, if there is one. */
void dm__rollback(dm__conn *conn);
void dm__conn_statements_finalize(dm__conn *conn);
/* After a step failed: DM__STALE if the model's table is gone, else the error. Resets nothing. */
dm_status dm__stmt_failed(dm__conn *conn, sqlite3_stmt *stmt, int sqlite_code, dm_error *err);

/* The connection's memory of models. */
dm__model *dm__conn_model_find(dm__conn *conn, dm_str name);
dm_status dm__conn_model_remember(dm__conn *conn, dm_str name, const char *safe,
                                  dm__model **model_out, dm_error *err) DM_CHECKED;
void dm__conn_model_forget(dm__conn *conn, dm__model *model); /* NULL is fine */

/* Typed reads that refuse what the rules forbid: DM_CORRUPT_DATA naming table, row and column.
 * `row_id` is for the text only. */
typedef struct {
    sqlite3_stmt *stmt;
    const char *table; /* full table name */
    int64_t row_id;
} dm__row;
dm_status dm__row_time(const dm__row *row, int column, double *out, dm_error *err) DM_CHECKED;
dm_status dm__row_count(const dm__row *row, int column, int64_t *out, dm_error *err) DM_CHECKED;
dm_status dm__row_integer(const dm__row *row, int column, int64_t *out, dm_error *err) DM_CHECKED;
dm_status dm__row_price(const dm__row *row, int column, double *out, dm_error *err) DM_CHECKED;
dm_status dm__row_flag(const dm__row *row, int column, bool *out, dm_error *err) DM_CHECKED;

/* The same in SQL. */
#define DM__IS_TIME(column)                                                                        \
    "typeof(" column ") IN ('real','integer') AND " column ">=0 AND " column "<9e307"

/* Room for element `count` of an array (`&array`) of dm__malloc. */
bool dm__array_grow(void *array_pointer, size_t *capacity, size_t count, size_t element_size);
/* For dm__free; NULL without memory, and never because `count` is 0. */
void *dm__array_copy(const void *array, size_t count, size_t element_size);

/* ---- models.c runtime.c requests.c pricing.c: on the caller's connection and transaction ---- */

/* Look the name up (the connection's memory first). DM_MODEL_NOT_FOUND. */
dm_status dm__model_find(dm__conn *conn, dm_str name, dm__model **model_out,
                         dm_error *err) DM_CHECKED;
/* The same, registering it and making its tables where it is new. With `in_transaction` false a
 * new name is DM__NEEDS_TRANSACTION. */
dm_status dm__model_find_or_register(dm__conn *conn, dm_str name, bool in_transaction,
                                     dm__model **model_out, dm_error *err) DM_CHECKED;
/* Whether all are known, with their tables. In a transaction that has read. */
dm_status dm__models_known(dm__conn *conn, const dm_str *names, size_t count, bool *known_out,
                           dm_error *err) DM_CHECKED;
/* Those that are not. In the caller's transaction. */
dm_status dm__models_register(dm__conn *conn, const dm_str *names, size_t count,
                              dm_error *err) DM_CHECKED;
dm_status dm__model_drop(dm__conn *conn, dm_str name, dm_error *err) DM_CHECKED;
dm_status dm__model_rename(dm__conn *conn, dm_str old_name, dm_str new_name, bool merge,
                           dm_error *err) DM_CHECKED;
bool dm__safe_name_ok(const char *safe, size_t length);
/* The four tables of a model, as the manual gives them, and its billing row. Idempotent. Where the
 * requests were missing, what stands beside them stays, and is of rows that were: new ones get
 * other numbers. */
dm_status dm__model_tables_create(dm__conn *conn, const char *safe, dm_error *err) DM_CHECKED;
/* What stands beside the four tables: timings, ids and checksums, and what is kept of pruned
 * requests and runs. */
dm_status dm__side_tables_drop(dm__conn *conn, const char *safe, dm_error *err) DM_CHECKED;

dm_status dm__run_insert(dm__conn *conn, dm__model *model_or_null, double start_time_s,
                         int64_t *id_out, dm_error *err) DM_CHECKED;
dm_status dm__run_end(dm__conn *conn, dm__model *model_or_null, double end_time_s,
                      dm_error *err) DM_CHECKED;
/* Whether the row is there, and what is in it. */
dm_status dm__request_read(dm__conn *conn, dm__model *model, int64_t row_id, bool *found,
                           dm_request *request, dm_error *err) DM_CHECKED;
/* With `in_transaction` false a row that has a checksum is DM__NEEDS_TRANSACTION. */
dm_status dm__request_insert(dm__conn *conn, dm__model *model, const dm_request *request,
                             bool in_transaction, int64_t *id_out, dm_error *err) DM_CHECKED;
dm_status dm__requests_insert(dm__conn *conn, dm__model *model, const dm_request_rows *rows,
                              dm_ids *ids_out, dm_error *err) DM_CHECKED;

/* ---- timings.c ---- */

bool dm__timing_known(const dm_timing *timing); /* any of it */
dm_timing dm__timing_of_row(const dm_request_rows *rows, size_t i);
/* In the caller's transaction: the first makes the table. */
/* Where it is not there yet. */
dm_status dm__timings_create(dm__conn *conn, const char *safe, dm_error *err) DM_CHECKED;
dm_status dm__timing_insert(dm__conn *conn, dm__model *model, int64_t request_id,
                            const dm_timing *timing, dm_error *err) DM_CHECKED;

/* A way through a model's timings beside one through its requests. */
typedef struct {
    dm__conn *conn;
    sqlite3_stmt *stmt; /* NULL: nothing was timed */
    char table[DM_SAFE_NAME_SIZE + 16];
    int64_t id; /* of `timing` */
    dm_timing timing;
} dm__timings;

/* To be closed after a success, in the same transaction. */
dm_status dm__timings_open(dm__conn *conn, dm__model *model, int64_t first_id, dm__timings *timings,
                           dm_error *err) DM_CHECKED;
/* Ids must ascend from call to call, from `first_id` on. DM_TIMING_UNKNOWN where there is none. */
dm_status dm__timings_find(dm__timings *timings, int64_t request_id, dm_timing *timing_out,
                           dm_error *err) DM_CHECKED;
void dm__timings_close(dm__timings *timings);

/* ---- edges.c ---- */

dm_status dm__ascending_check(const char *what, const double *values, size_t count,
                              dm_error *err) DM_CHECKED;
/* DM_INVALID where they do not ascend, or are fewer than two. */
dm_status dm__edges_check(const double *edges_s, size_t count, dm_error *err) DM_CHECKED;
/* The place of the last of `count` ascending values that is at most `value`; -1: none. */
ptrdiff_t dm__last_at_most(const double *values, size_t count, double value);

/* ---- percentile.c ---- */

/* Values that came one after the other and lie in one bucket. */
typedef struct {
    size_t bucket, begin, count;
} dm__key_run;

typedef struct {
    uint64_t *values;
    size_t count, capacity;
    dm__key_run *runs;
    size_t run_count, run_capacity;
} dm__keys;

/* False without memory. */
bool dm__keys_add(dm__keys *keys, size_t bucket, const uint64_t *values, size_t count) DM_CHECKED;
uint64_t dm__key_of_real(double value); /* at least 0 */
void dm__keys_reset(dm__keys *keys);
/* Of each bucket's values, whole numbers or reals, to `first_out` and every `stride` bytes on. */
dm_status dm__percentiles(const dm__keys *keys, size_t bucket_count, bool whole,
                          dm_percentiles *first_out, size_t stride, dm_error *err) DM_CHECKED;

/* ---- pricing.c: the manual's tables of prices ---- */

/* What the older class gave every model before anybody set a price. */
bool dm__tier_is_placeholder(const dm_tier *tier);
/* A tier from columns `first` … `first + 6`. */
dm_status dm__tier_read(const char *table, sqlite3_stmt *stmt, int first, dm_tier *tier,
                        dm_error *err) DM_CHECKED;
void dm__tier_bind(sqlite3_stmt *stmt, int first, const dm_tier *tier);
/* May this tier come to, or change, those? */
dm_status dm__tier_admit(const dm_tier *tiers, size_t count, const dm_tier *tier, dm_tier_mode mode,
                         dm_error *err) DM_CHECKED;
/* `billing` is empty at first. Leaves the placeholder out, unless the history has such a tier. */
dm_status dm__billing_read(dm__conn *conn, dm__model *model, dm_billing *billing,
                           dm_error *err) DM_CHECKED;
dm_status dm__billing_write(dm__conn *conn, dm__model *model, bool use_tier_pricing,
                            double hourly_price, dm_error *err) DM_CHECKED;
dm_status dm__tier_write(dm__conn *conn, dm__model *model, const dm_tier *tier,
                         dm_error *err) DM_CHECKED;
dm_status dm__tier_remove(dm__conn *conn, dm__model *model, int64_t tier_index,
                          dm_error *err) DM_CHECKED;

/* ---- history.c tariff.c: prices over time ---- */

typedef struct {
    int64_t id;    /* by model */
    double from_s; /* -INFINITY: since ever */
    double made_s; /* when; of what was since ever, and of what has a date, when it last was */
    unsigned sets; /* DM_PRICE_… */
    bool use_tier_pricing;
    double hourly_price;
    dm_strategy strategy;
    dm_tier *tiers;
    size_t tier_count;
    bool by_tier; /* it was told some of the tiers; the others are those that held before */
} dm__price_change;

typedef struct {
    dm__price_change *changes; /* by from_s, then by id */
    size_t count;
    bool stored; /* else they are what the manual's tables say */
} dm__history;

/* All that holds at a moment; the tiers are the history's. */
typedef struct {
    bool use_tier_pricing;
    double hourly_price;
    dm_strategy strategy;
    const dm_tier *tiers;
    size_t tier_count;
} dm__tariff;

/* What a file may hold of them, that a question about it takes bounded time and memory: tiers of
 * one tariff, and of all of them, where each change has those that hold from it on, and counts as
 * one. */
#define DM__TIERS_MAX         1000
#define DM__HISTORY_TIERS_MAX 300000

/* `history` is empty at first, and to be reset afterwards in any case. */
dm_status dm__history_read(dm__conn *conn, dm__model *model, dm__history *history,
                           dm_error *err) DM_CHECKED;
/* DM_INVALID where that is more than a file may hold. */
dm_status dm__history_write(dm__conn *conn, dm__model *model, const dm__history *history,
                            dm_error *err) DM_CHECKED;
extern const char *const dm__history_tables[2];
dm_status dm__history_create(dm__conn *conn, dm_error *err) DM_CHECKED;
/* As dm__pair_find. */
dm_status dm__history_find(dm__conn *conn, bool *there_out, dm_error *err) DM_CHECKED;
/* Is there one of this model? */
dm_status dm__history_find_of(dm__conn *conn, const char *safe, bool *there_out,
                              dm_error *err) DM_CHECKED;
/* Does a change set a tier that looks like the placeholder? Then it is one that is free. */
dm_status dm__history_sets_placeholder(dm__conn *conn, const char *safe, bool *sets_out,
                                       dm_error *err) DM_CHECKED;
/* Is the tiers' table missing, and was it empty? That is so where no change sets tiers. */
dm_status dm__history_tiers_needless(dm__conn *conn, bool *needless_out, dm_error *err) DM_CHECKED;
dm_status dm__history_forget(dm__conn *conn, const char *safe, dm_error *err) DM_CHECKED;
dm__tariff dm__history_at(const dm__history *history, double time_s);
/* Into `tariff`, which holds until then, all changes of the moment of change `*next`; `*next`
 * becomes the one after them. */
void dm__history_step(const dm__history *history, size_t *next, dm__tariff *tariff);
void dm__history_reset(dm__history *history);

typedef struct {
    enum { DM__EDIT_SET, DM__EDIT_TIER_PUT, DM__EDIT_TIER_DELETE } kind;
    dm_price_change change; /* of DM__EDIT_SET; of the others its time */
    dm_tier tier;           /* DM__EDIT_TIER_DELETE: its index */
    dm_tier_mode mode;
} dm__price_edit;

dm_status dm__prices_edit(dm__conn *conn, dm__model *model, const dm__price_edit *edit,
                          dm_error *err) DM_CHECKED;
/* Make the tables show what holds now, where there is a history. */
dm_status dm__prices_show(dm__conn *conn, dm__model *model, dm_error *err) DM_CHECKED;
/* What holds now, also where the tables are behind; `billing` is empty at first. */
dm_status dm__billing_now(dm__conn *conn, dm__model *model, dm_billing *billing,
                          dm_error *err) DM_CHECKED;
/* `*found_out` becomes true where the tables show what is not of the history; `store`: it is from
 * now on, inside the caller's transaction. Not what nobody could be billed by. */
dm_status dm__foreign_change_store(dm__conn *conn, dm__model *model, bool store, bool *found_out,
                                   dm_error *err) DM_CHECKED;
/* `tariffs` is emptied first. */
dm_status dm__tariffs_read(dm__conn *conn, dm__model *model, dm_tariffs *tariffs,
                           dm_error *err) DM_CHECKED;

/* ---- foreign.c: what another program has put into the tables of prices ---- */

/* Of all models; inside the caller's transaction. */
dm_status dm__foreign_prices_store(dm__conn *conn, dm_error *err) DM_CHECKED;
/* The same in a transaction of its own, if there is anything. DM_BUSY: not by the deadline. */
dm_status dm__foreign_prices_keep(dm__conn *conn, int64_t deadline_ns, dm_error *err) DM_CHECKED;

/* ---- feed.c: many rows into a model's table ---- */

typedef struct dm__feed {
    const dm_request_rows *rows;
    const int64_t *row_ids; /* only rows where it is first_id, the next of it, …; NULL: all */
    int64_t first_id;
    size_t count; /* of rows that go in: at least one */
} dm__feed;

dm_status dm__feed_install(dm__conn *conn, dm_error *err) DM_CHECKED;
/* In the caller's transaction. */
dm_status dm__feed_run(dm__conn *conn, dm__model *model, const dm__feed *feed, dm_ids *ids_out,
                       dm_error *err) DM_CHECKED;

/* A read of one model's tables, for dm__read: `from` may be called again, from the start. */
typedef struct dm__model_read {
    dm_str name;
    dm_status (*from)(dm__conn *conn, dm__model *model, struct dm__model_read *read, dm_error *err);
    const dm_window *window;
    void *out;
    /* of dm__read_models */
    size_t index; /* of the model */
    void (*merge)(struct dm__model_read *read, const struct dm__model_read *other);
} dm__model_read; /* the first member of a read that carries more */
dm_status dm__read_model(dm__conn *conn, dm__model_read *read, dm_error *err) DM_CHECKED;
/* The same as a dm__read_fn. */
dm_status dm__model_read_run(dm__conn *conn, void *read, dm_error *err) DM_CHECKED;
dm_status dm__window_check(const dm_window *window, dm_error *err) DM_CHECKED;

/* `names`, which is empty, becomes `models`, or where that is NULL all that there are. */
dm_status dm__models_asked(dm__conn *conn, const dm_str *models, size_t count,
                           dm_model_names *names, dm_error *err) DM_CHECKED;
/* For dm__read: the names of all models into a dm_model_names. */
dm_status dm__model_names_read(dm__conn *conn, void *names, dm_error *err) DM_CHECKED;
dm_status dm__runs_of_model(dm__conn *conn, dm__model *model, const dm_window *window,
                            dm_runs *runs, dm_error *err) DM_CHECKED;

/* ---- partner.c ---- */

/* Each of the models; sets the read's name and index. Some may be read by another thread, with a
 * copy of the read (of `size` bytes) as it was at first; `merge`, where it is set, then adds that
 * copy to the read. */
dm_status dm__read_models(dm__conn *conn, const dm_model_names *names, dm__model_read *read,
                          size_t size, dm_error *err) DM_CHECKED;

/* ---- change.c: one write as a value ---- */

typedef enum {
    DM__CHANGE_MODEL_REGISTER,
    DM__CHANGE_MODEL_DELETE,
    DM__CHANGE_MODEL_RENAME,
    DM__CHANGE_PROGRAM_START,
    DM__CHANGE_PROGRAM_END,
    DM__CHANGE_MODEL_START,
    DM__CHANGE_MODEL_END,
    DM__CHANGE_REQUEST_ADD,
    DM__CHANGE_REQUESTS_ADD,
    DM__CHANGE_PRICES
} dm__change_kind;

typedef struct {
    dm__change_kind kind;
    dm_str model;
    union {
        struct {
            const dm_str *names;
            size_t count;
        } models;
        struct {
            dm_str new_name;
            bool merge; /* also where there is a model of it */
        } rename;
        double time_s;
        struct {
            dm_request row;
            dm_timing timing;
            dm_str id; /* bytes NULL: none */
        } request;
        struct {
            dm_request_rows columns;
            const dm_str *request_ids; /* one a row; NULL: none */
            int64_t *row_ids;          /* with them: room for as many, filled when applied */
        } rows;
        dm__price_edit prices;
    } as;
    dm_ids ids; /* set when applied */
} dm__change;

/* One statement when the model is known, so that it can commit by itself. */
bool dm__change_is_single(const dm__change *change);
/* Takes long enough that nobody else should wait for it unawares. */
bool dm__change_is_heavy(const dm__change *change);
/* May remove or alter rows of requests, or give them to another model. */
bool dm__change_is_rewriting(const dm__change *change);
/* Apply inside the caller's transaction; with `in_transaction` false, as the only statement of an
 * automatic one (then DM__NEEDS_TRANSACTION is a possible answer, with nothing done). */
dm_status dm__change_apply(dm__conn *conn, dm__change *change, bool in_transaction,
                           dm_error *err) DM_CHECKED;
/* A deep copy, in one allocation for dm__free; NULL without memory. */
dm__change *dm__change_copy(const dm__change *change);

/* ---- schema.c adopt.c ---- */

#define DM__SCHEMA_VERSION 1

/* Look before anything is written: what is this file? */
typedef enum { DM__FILE_EMPTY, DM__FILE_OURS, DM__FILE_OLDER } dm__file_kind;
/* DM_FOREIGN, DM_NEWER, DM_DAMAGED. */
dm_status dm__schema_probe(dm__conn *conn, dm__file_kind *kind_out, dm_error *err) DM_CHECKED;
/* Make or adopt, inside the caller's immediate transaction; probes again there first. */
dm_status dm__schema_prepare(dm__conn *conn, dm_error *err) DM_CHECKED;
/* The older layout (billing in two tables, missing columns, placeholder tiers) becomes ours. */
dm_status dm__schema_adopt(dm__conn *conn, dm_error *err) DM_CHECKED;
/* Is it a table of the file, with this column (a view is none)? */
bool dm__table_has_column(dm__conn *conn, const char *table, const char *column);
/* Of two tables that are made together, are they there? Not if neither is: so far there was nothing
 * for them. DM_CORRUPT_DATA where one is missing, for that one held something. As the connection
 * knows the schema, so only after a statement of this transaction. */
dm_status dm__pair_find(dm__conn *conn, const char *const tables[2], bool *there_out,
                        dm_error *err) DM_CHECKED;
/* One alone; in views nothing is stored. */
dm_status dm__table_find(dm__conn *conn, const char *table, bool *there_out,
                         dm_error *err) DM_CHECKED;
/* The rows of one model, from those of them that are there. */
dm_status dm__tables_forget(dm__conn *conn, const char *const tables[2], const char *safe,
                            dm_error *err) DM_CHECKED;
/* The first column of the first row. Formats as dm__conn_exec. */
dm_status dm__conn_integer(dm__conn *conn, int64_t *out, dm_error *err, const char *format,
                           ...) DM_CHECKED;

/* ---- store.c pool.c writer.c checkpoint.c fork.c batch.c ---- */

typedef dm_status (*dm__read_fn)(dm__conn *conn, void *argument, dm_error *err);

/* Run `read` on a reader connection. With `snapshot` inside one read transaction; without, the
 * function begins its own, or steps one statement only. Waits for a connection and for locks;
 * repeats `read` from the start when SQLite says busy, so it must be repeatable. */
dm_status dm__read(dm_manager *m, bool snapshot, dm__read_fn read, void *argument,
                   dm_error *err) DM_CHECKED;
/* A snapshot that may take rows from memory, and leave them there; of one model or `many`. */
dm_status dm__read_rows(dm_manager *m, bool many, dm__read_fn read, void *argument,
                        dm_error *err) DM_CHECKED;
/* A snapshot on a connection of its own, for what takes long: the pool's stay free.
 * On a store in memory it is dm__read. */
dm_status dm__read_aside(dm_manager *m, dm__read_fn read, void *argument, dm_error *err) DM_CHECKED;
/* The same where `read` calls others' code: of a store in memory it gets a copy. */
dm_status dm__read_long(dm_manager *m, dm__read_fn read, void *argument, dm_error *err) DM_CHECKED;
/* Run `work` alone on the writer's connection, in no transaction. Waiting for locks is its own
 * affair, until `dm__deadline_ns`. */
dm_status dm__write_alone(dm_manager *m, dm__read_fn work, void *argument,
                          dm_error *err) DM_CHECKED;
/* DM_READ_ONLY where it is not. */
dm_status dm__writable(dm_manager *m, dm_error *err) DM_CHECKED;
/* Hand the changes over as one atomic job and wait until they are durable, or put them into this
 * thread's open batch (then each `ids` is zero). */
dm_status dm__write(dm_manager *m, dm__change *change, dm_error *err) DM_CHECKED;

#include "dm_internal_care.h"

#endif
