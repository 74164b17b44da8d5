/* SPDX-License-Identifier: MIT
 *
 * datamanager core: the usage and billing store of a local LLM manager, over SQLite.
 *
 * A `dm_manager` is a cheap handle on a store; a process holds one store per database file, found
 * by (device, inode), however many handles are open on it. A store has one writer connection,
 * whose commits are shared by all callers that wait (group commit), and a pool of readers.
 *
 *     dm_manager *m = NULL;
 *     dm_error err;
 *     dm_options options = {0};
 *     if (dm_open("usage.db", &options, &m, &err) != DM_OK)
 *         return fail(err.text);
 *     dm_request request = {.timestamp_s = 1.7e9, .input_tokens = 150, .output_tokens = 80};
 *     int64_t id = 0;
 *     dm_status rc = dm_request_add(m, DM_STR("Qwen3-Coder-30B"), &request, NULL, &id, &err);
 *     dm_free(m);
 *
 * Ownership: what an `_out` pointer receives belongs to the caller and is given back with the
 * matching `_free` or `_reset`; everything passed in is borrowed for the call. Free, reset and
 * close accept NULL and may be repeated.
 *
 * Threads: any thread may call any function on any handle. `dm_free` is the exception: no other
 * call may be inside the handle or come after it.
 *
 * Failure: a call that does not return DM_OK leaves its outputs untouched and the database as it
 * was. `err` may be NULL; where it is not, it says what failed and which value was seen.
 *
 * Blocking: writes return when they are durable. A call waits for the file's lock, for a reader
 * connection and for the callers before it, all together at most the handle's busy timeout
 * (DM_BUSY). The time that its own work takes is not counted.
 *
 * fork(): call dm_fork_before() ahead of it and dm_fork_parent() / dm_fork_child() after it; then
 * the same handles work on both sides. A child of a fork without them gets DM_FORKED from every
 * call on a store that was open, and when it opens that store's file anew, in whatever mode; it
 * never touches the inherited SQLite handles.
 */
#ifndef DM_H
#define DM_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* name, message used where no better one is known */
#define DM_STATUS_LIST(X)                                                                          \
    X(DM_OK, "no error")                                                                           \
    X(DM_INVALID, "invalid value")                                                                 \
    X(DM_MODEL_NOT_FOUND, "model not found")                                                       \
    X(DM_TIER_EXISTS, "tier exists already")                                                       \
    X(DM_TIER_NOT_FOUND, "tier not found")                                                         \
    X(DM_RUN_NOT_FOUND, "no run to end")                                                           \
    X(DM_BUSY, "timed out waiting")                                                                \
    X(DM_DISK_FULL, "disk is full")                                                                \
    X(DM_IO, "input/output error")                                                                 \
    X(DM_CANNOT_OPEN, "cannot open the database file")                                             \
    X(DM_EXISTS, "a file is in the way")                                                           \
    X(DM_CLOSED, "the data manager is closed")                                                     \
    X(DM_FORKED, "the store was open when this process was forked")                                \
    X(DM_CORRUPT_DATA, "a stored value breaks the rules")                                          \
    X(DM_DAMAGED, "the database file is damaged")                                                  \
    X(DM_FOREIGN, "the database belongs to another program")                                       \
    X(DM_NEWER, "the database was written by a newer version")                                     \
    X(DM_READ_ONLY, "opened for reading only")                                                     \
    X(DM_MOVED, "the database file was moved, removed or replaced")                                \
    X(DM_NO_MEMORY, "out of memory")                                                               \
    X(DM_INTERRUPTED, "interrupted")                                                               \
    X(DM_MISUSE, "call out of order")                                                              \
    X(DM_INTERNAL, "unexpected error")

typedef enum {
#define DM_STATUS_ENUM(name, message) name,
    DM_STATUS_LIST(DM_STATUS_ENUM)
#undef DM_STATUS_ENUM
        DM_STATUS_COUNT
} dm_status;

#if defined(__GNUC__)
#define DM_CHECKED             __attribute__((warn_unused_result))
#define DM_PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))
#else
#define DM_CHECKED
#define DM_PRINTF(text, first)
#endif

typedef struct {
    dm_status code;
    int sqlite_code; /* extended SQLite code; 0 when SQLite was not involved */
    int system_code; /* errno; 0 where it is not known */
    bool names_file; /* the text begins with the path of the file that it is about */
    char text[512];  /* UTF-8, always terminated */
} dm_error;

/* "DM_BUSY" and the like; "DM_?" for a number that is none. */
const char *dm_status_name(dm_status status);

/* "SQLITE_IOERR_FSYNC" and the like; NULL for a code that SQLite does not define. */
const char *dm_sqlite_code_name(int sqlite_code);

/* Text with a length; need not be terminated. Model names are UTF-8. */
typedef struct {
    const char *bytes;
    size_t length;
} dm_str;

#define DM_STR(literal) ((dm_str){(literal), sizeof(literal) - 1})

/* ---- limits of what is accepted ---- */

#define DM_TOKENS_MAX     ((int64_t)1 << 53) /* exact as a double, as other programs read it */
#define DM_TIME_END_S     253402300800.0     /* the year 10000: later ones are milliseconds */
#define DM_NAME_MAX       1024               /* bytes of UTF-8 */
#define DM_REQUEST_ID_MAX 255                /* bytes of UTF-8 */
#define DM_SAFE_NAME_SIZE 23                 /* "model_" + 16 hex digits + NUL */

/* ---- values ---- */

/* One finished request: a row of {safe}_requests without its id. */
typedef struct {
    double timestamp_s; /* epoch seconds, finite, >= 0 */
    int64_t input_tokens;
    int64_t output_tokens;
    int64_t cache_n;  /* input tokens served from the cache */
    int64_t prompt_n; /* input tokens that were computed */
} dm_request;

/* How long a request took, in seconds, finite, >= 0; NaN: not known. */
typedef struct {
    double duration_s;    /* from its arrival to its last token */
    double first_token_s; /* from its arrival to its first token; not after duration_s */
} dm_timing;

#define DM_TIMING_UNKNOWN ((dm_timing){NAN, NAN})

/* A run of the program or of a model. A run that has just begun ends where it starts. */
typedef struct {
    int64_t id;
    double start_time_s;
    double end_time_s;
} dm_run;

/* Prices for start_tokens < n <= end_tokens; end_tokens <= 0 means no upper bound. */
typedef struct {
    int64_t tier_index;
    int64_t start_tokens;
    int64_t end_tokens;
    double input_price_per_million;
    double output_price_per_million;
    bool support_cache;
    double cache_hit_price_per_million;
} dm_tier;

typedef struct {
    bool use_tier_pricing;
    double hourly_price;
    dm_tier *tiers; /* by tier_index; NULL when there are none */
    size_t tier_count;
} dm_billing;

/* How tiers are read: see cost.c. The names are those that are stored and that callers use. */
#define DM_STRATEGY_LIST(X)                                                                        \
    X(DM_STRATEGY_GRADUATED, "graduated")                                                          \
    X(DM_STRATEGY_VOLUME, "volume")                                                                \
    X(DM_STRATEGY_CUMULATIVE, "cumulative")

typedef enum {
#define DM_STRATEGY_ENUM(name, text) name,
    DM_STRATEGY_LIST(DM_STRATEGY_ENUM)
#undef DM_STRATEGY_ENUM
        DM_STRATEGY_COUNT
} dm_strategy;

const char *dm_strategy_name(dm_strategy strategy);
/* DM_INVALID names the value and what is known. */
dm_status dm_strategy_parse(const char *name, dm_strategy *strategy_out, dm_error *err) DM_CHECKED;

/* How a model is billed from a moment on. */
typedef struct {
    double from_s; /* -INFINITY: since ever */
    bool use_tier_pricing;
    double hourly_price;
    dm_strategy strategy;
    dm_tier *tiers; /* by tier_index; may be those of the tariff before it */
    size_t tier_count;
} dm_tariff;

typedef struct {
    dm_tariff *tariffs; /* by from_s; the first holds since ever, each until the next */
    size_t count;
} dm_tariffs;

/* What a change of prices sets: the rest stays as it was. */
#define DM_PRICE_TIERS    1u
#define DM_PRICE_HOURLY   2u
#define DM_PRICE_METHOD   4u
#define DM_PRICE_STRATEGY 8u

typedef struct {
    unsigned sets;        /* DM_PRICE_… */
    const dm_tier *tiers; /* all of them, in any order */
    size_t tier_count;
    double hourly_price;
    bool use_tier_pricing;
    dm_strategy strategy;
    double effective_from_s; /* past or future; NaN: now */
} dm_price_change;

typedef struct {
    dm_run *runs; /* newest first */
    size_t count;
} dm_runs;

typedef struct {
    char *original_name; /* UTF-8, may not be empty, never holds NUL */
    size_t original_length;
    char safe_name[DM_SAFE_NAME_SIZE];
} dm_model_name;

typedef struct {
    dm_model_name *models; /* by id, that is in order of registration */
    size_t count;
} dm_model_names;

/* Requests as columns, newest first: element i of each column is one row. */
typedef struct {
    size_t count;
    int64_t *id;
    double *timestamp_s;
    int64_t *input_tokens;
    int64_t *output_tokens;
    int64_t *cache_n;
    int64_t *prompt_n;
} dm_request_columns;

/* Rows to add, as columns of `count` elements each; borrowed. */
typedef struct {
    size_t count;
    const double *timestamp_s;
    const int64_t *input_tokens;
    const int64_t *output_tokens;
    const int64_t *cache_n;
    const int64_t *prompt_n;
    const double *duration_s; /* as in dm_timing; NULL: none is known */
    const double *first_token_s;
} dm_request_rows;

/* Which rows: start_s <= t < end_s, at most `limit` of them, the newest (0: all). The whole of
 * time is -INFINITY to INFINITY, see DM_WINDOW_ALL. NaN is refused. For runs, a run is in the
 * window when it overlaps it; one that has just begun counts as the instant of its start. */
typedef struct {
    double start_s;
    double end_s;
    int64_t limit;
} dm_window;

#define DM_WINDOW_ALL ((dm_window){-INFINITY, INFINITY, 0})

/* The ids that a write made: first_id .. first_id + count - 1; count is 0 for a write that adds
 * no row. Of dm_requests_add_once in a batch they are those of `row_ids` instead, one a row. */
typedef struct {
    int64_t first_id;
    int64_t count;
    const int64_t *row_ids; /* NULL: as above */
} dm_ids;

void dm_billing_reset(dm_billing *billing);
void dm_tariffs_reset(dm_tariffs *tariffs);
void dm_runs_reset(dm_runs *runs);
void dm_model_names_reset(dm_model_names *names);
void dm_request_columns_reset(dm_request_columns *columns);
/* Room for one column of `count` values, to be owned by a dm_request_columns; NULL: no memory. */
void *dm_array_new(size_t count);

/* ---- checks of input; every write makes them before it queues anything ---- */

/* DM_INVALID names the field and the value. Times are from 0 and before DM_TIME_END_S. No SQLite,
 * no allocation, any thread. */
dm_status dm_request_check(const dm_request *request, dm_error *err) DM_CHECKED;
dm_status dm_timing_check(const dm_timing *timing, dm_error *err) DM_CHECKED;
dm_status dm_tier_check(const dm_tier *tier, dm_error *err) DM_CHECKED;
dm_status dm_model_name_check(dm_str name, dm_error *err) DM_CHECKED;
dm_status dm_request_id_check(dm_str request_id, dm_error *err) DM_CHECKED;
dm_status dm_time_check(const char *field, double time_s, dm_error *err) DM_CHECKED;

/* "model_" and the first 16 hex digits of the SHA-256 of the name's bytes. */
void dm_safe_name(dm_str name, char safe_name[DM_SAFE_NAME_SIZE]);

/* ---- open and close ---- */

typedef enum { DM_DURABILITY_FULL, DM_DURABILITY_NORMAL } dm_durability;

typedef struct {
    dm_durability durability; /* FULL: a returned write survives a power cut (synchronous=FULL) */
    int pool_size;            /* most reader connections of the store, 1..1000; 0 means 10. Where
                                 handles differ, the largest so far counts */
    int64_t busy_timeout_ms;  /* 0 means the default of 30,000; -1: do not wait at all */
    int64_t cache_bytes;  /* of memory for request rows that were read; 0 means 64 MiB; -1: none.
                             Where handles differ, the largest so far counts */
    bool read_only;       /* never writes to the database; refuses one that must be adopted */
    const dm_str *models; /* names to register; may be NULL */
    size_t model_count;
    bool checksums; /* of requests, for dm_check; a file that has models must have been
                       made so */
} dm_options;

typedef struct dm_manager dm_manager;

/* Open the database at `path` (UTF-8 or the system's bytes, terminated; a path, never a URI),
 * making it (0600) and its folders (0700) where they are missing and `read_only` is not set.
 * ":memory:" is a database private to this handle. Older layouts are adopted in one transaction. A
 * file that is refused for what is found is not touched: one that is not ours (DM_FOREIGN), newer
 * (DM_NEWER), damaged (DM_DAMAGED), not a regular file or hard-linked (DM_CANNOT_OPEN), or which
 * cannot be given what `options` ask for. Of `models` all are registered or none. */
dm_status dm_open(const char *path, const dm_options *options, dm_manager **manager_out,
                  dm_error *err) DM_CHECKED;

/* Close the handle: calls inside finish or get DM_CLOSED, later ones get DM_CLOSED; open batches
 * are dropped, and how many writes were in them is returned. The store's last close writes the log
 * back and leaves one self-contained file, unless another process has it open. Errors of that are
 * not reported: everything acknowledged is already durable. Must not be called from a stop hook.
 * Where that ends the wait for the calls inside, the handle is closed, but the rest is left to the
 * next dm_close or to dm_free. */
size_t dm_close(dm_manager *manager);

/* Close and release the memory. */
void dm_free(dm_manager *manager);

bool dm_is_closed(dm_manager *manager);

/* ---- writes: each is one transaction, or joins this thread's open batch ----
 *
 * Inside a batch the arguments are checked at once, but nothing is written and no id is known:
 * `*id_out` becomes 0. A write to a model not seen before registers it in the same transaction. */

dm_status dm_model_register(dm_manager *m, const dm_str *names, size_t count,
                            dm_error *err) DM_CHECKED;
dm_status dm_model_delete(dm_manager *m, dm_str model, dm_error *err) DM_CHECKED;

/* The model and all its records get another name. Where that is known already, the records of both
 * come together under it, if `merge` is set (else DM_INVALID): ids of the old go on behind those of
 * the new, and prices stay those of the new, unless it has none. DM_MODEL_NOT_FOUND; DM_INVALID
 * where one of these prices would begin inside what is kept of the other's pruned requests or
 * runs. */
dm_status dm_model_rename(dm_manager *m, dm_str old_name, dm_str new_name, bool merge,
                          dm_error *err) DM_CHECKED;

dm_status dm_program_start(dm_manager *m, double start_time_s, int64_t *id_out,
                           dm_error *err) DM_CHECKED;
/* Ends the newest run. DM_RUN_NOT_FOUND where there is none; DM_INVALID before its start. */
dm_status dm_program_end(dm_manager *m, double end_time_s, dm_error *err) DM_CHECKED;
dm_status dm_model_start(dm_manager *m, dm_str model, double start_time_s, int64_t *id_out,
                         dm_error *err) DM_CHECKED;
dm_status dm_model_end(dm_manager *m, dm_str model, double end_time_s, dm_error *err) DM_CHECKED;

/* `timing` may be NULL. */
dm_status dm_request_add(dm_manager *m, dm_str model, const dm_request *request,
                         const dm_timing *timing, int64_t *id_out, dm_error *err) DM_CHECKED;
/* All rows or none. A bad row is DM_INVALID and the text begins with "row N: ", N from 0. */
dm_status dm_requests_add(dm_manager *m, dm_str model, const dm_request_rows *rows, dm_ids *ids_out,
                          dm_error *err) DM_CHECKED;

/* Exactly once: a request of a model is known by an id of the caller's, 1 to DM_REQUEST_ID_MAX
 * bytes of UTF-8 without NUL. Where the model has one of that id already, nothing is added, and the
 * row id is the first's, whatever the values are; so whoever does not know whether a write arrived
 * repeats it. The ids outlive their rows, so that what was pruned does not come back. */
dm_status dm_request_add_once(dm_manager *m, dm_str model, const dm_request *request,
                              const dm_timing *timing, dm_str request_id, int64_t *id_out,
                              dm_error *err) DM_CHECKED;
/* The same of many, an id a row (bytes NULL: this one has none). `row_ids_out` has room for one a
 * row, `*added_out` becomes how many of them are new; inside a batch they become 0. */
dm_status dm_requests_add_once(dm_manager *m, dm_str model, const dm_request_rows *rows,
                               const dm_str *request_ids, int64_t *row_ids_out, int64_t *added_out,
                               dm_error *err) DM_CHECKED;

typedef enum {
    DM_TIER_ADD,    /* DM_TIER_EXISTS where the index is taken; an untouched placeholder is not */
    DM_TIER_UPDATE, /* DM_TIER_NOT_FOUND where it is free */
    DM_TIER_SET     /* either */
} dm_tier_mode;

/* ---- prices ----
 *
 * Each change is kept in the price history with the moment from which it holds: now, or
 * `effective_from_s`, which may lie in the past or the future (NaN: now). The first holds since
 * ever, and a change of now replaces the one before it, from that one's beginning, as long as no
 * request or run is later than it: setting up is one change. The manual's tables show what held
 * at the time of the latest change. DM_INVALID where a change would begin inside what is kept of
 * pruned requests or runs, after the first and up to the last (see dm_prune): no question could be
 * answered afterwards. DM_CORRUPT_DATA where another program has set what nobody could be billed by
 * and the change does not put it right. */

/* DM_INVALID where the tier would overlap another of the model's tiers of that moment. */
dm_status dm_tier_put(dm_manager *m, dm_str model, const dm_tier *tier, dm_tier_mode mode,
                      double effective_from_s, dm_error *err) DM_CHECKED;
dm_status dm_tier_delete(dm_manager *m, dm_str model, int64_t tier_index, double effective_from_s,
                         dm_error *err) DM_CHECKED;
/* Several things in one step. */
dm_status dm_pricing_set(dm_manager *m, dm_str model, const dm_price_change *change,
                         dm_error *err) DM_CHECKED;

/* ---- batches: one transaction of many writes, all or nothing ----
 *
 * A batch belongs to the handle and to the thread that began it; only that thread's writes through
 * that handle join it. It holds memory, no connection and no lock: the writes are applied, in
 * their order, when the outermost batch ends. A batch begun inside a batch is a part of it: ending
 * it with `commit` hands its writes to the outer one, without drops them. After a fork it is the
 * parent's alone; in the child writes go on without one. */

/* `*level_out` is by what it is ended; never 0, and not that of another batch of the handle. */
dm_status dm_batch_begin(dm_manager *m, uint64_t *level_out, dm_error *err) DM_CHECKED;
/* Whether this thread has a batch open here. */
bool dm_in_batch(dm_manager *m);

/* `*ids_out` becomes an array of `*count_out` elements, one a write in order (free it with
 * dm_ids_free); NULL and 0 for an inner batch or without `commit`. When a write fails at the end,
 * its error is reported, nothing of the batch is stored, and the batch is over all the same.
 * DM_MISUSE where it is not open; and where it is another thread's, or one inside it is still open:
 * then all of it is dropped, from the outermost on, and writes and batches of the thread it belongs
 * to are DM_MISUSE until its other levels have ended, each with DM_MISUSE. */
dm_status dm_batch_end(dm_manager *m, uint64_t level, bool commit, dm_ids **ids_out,
                       size_t *count_out, dm_error *err) DM_CHECKED;
void dm_ids_free(dm_ids *ids);

/* ---- reads: each sees one moment of the database; not what this thread's batch holds ---- */

dm_status dm_models_get(dm_manager *m, dm_model_names *names_out, dm_error *err) DM_CHECKED;

/* A known original name gives its safe name, a known safe name its original: `*name_out` is then
 * a terminated string for the caller to free with dm_text_free; NULL where it is neither. */
dm_status dm_model_lookup(dm_manager *m, dm_str name, char **name_out, size_t *length_out,
                          dm_error *err) DM_CHECKED;
void dm_text_free(char *text);

dm_status dm_program_runs(dm_manager *m, const dm_window *window, dm_runs *runs_out,
                          dm_error *err) DM_CHECKED;
dm_status dm_model_runs(dm_manager *m, dm_str model, const dm_window *window, dm_runs *runs_out,
                        dm_error *err) DM_CHECKED;
dm_status dm_requests_get(dm_manager *m, dm_str model, const dm_window *window,
                          dm_request_columns *columns_out, dm_error *err) DM_CHECKED;
/* What holds now. */
dm_status dm_billing_get(dm_manager *m, dm_str model, dm_billing *billing_out,
                         dm_error *err) DM_CHECKED;
dm_status dm_price_history(dm_manager *m, dm_str model, dm_tariffs *tariffs_out,
                           dm_error *err) DM_CHECKED;

/* ---- money ----
 *
 * Costs are exact: whole numbers, added and multiplied, never divided but for the one rounding of a
 * runtime's cost. These functions are pure: no allocation, no clock, no locale, any thread.
 * Amounts, prices and tokens are never negative where nothing else is said. */

__extension__ typedef __int128 dm_int128;
typedef dm_int128 dm_amount; /* a whole number of 1e-18 currency units */

/* Prices are held in 1e-12 currency units: a price of a million tokens is, as a number, the amount
 * that one token costs. */
#define DM_PRICE_MAX 1e26 /* currency units; in 1e-12 of them, what 128 bits hold */

/* The decimal that the shortest text of `price` shows, rounded half to even to 1e-12. DM_INVALID
 * names the field where the price is not from 0 to DM_PRICE_MAX. */
dm_status dm_price_parse(const char *field, double price, dm_amount *price_out,
                         dm_error *err) DM_CHECKED;
double dm_price_to_double(dm_amount price);

/* *sum += amount * count; DM_INVALID where that is above the largest amount, 1.7e20 currency
 * units. */
dm_status dm_amount_add(dm_amount *sum, dm_amount amount, dm_int128 count,
                        dm_error *err) DM_CHECKED;

/* The nearest double; of two that are equally near, the even one. May be negative. */
double dm_amount_to_double(dm_amount amount);

/* Plain decimal without an exponent, and without zeros at its end: "0.086464", "0", "-12". */
#define DM_AMOUNT_TEXT_SIZE 42
void dm_amount_to_text(dm_amount amount, char text[DM_AMOUNT_TEXT_SIZE]);

/* What tokens start_tokens < n <= end_tokens cost. */
typedef struct {
    int64_t tier_index;
    int64_t start_tokens;
    int64_t end_tokens; /* INT64_MAX: no upper bound */
    bool support_cache;
    dm_amount input_price; /* of a million tokens in 1e-12, or of one token in 1e-18 */
    dm_amount output_price;
    dm_amount cache_hit_price;
} dm_price_slice;

/* The tiers, checked and by start_tokens; they may come in any order. `slices_out` has room for
 * `count`; on failure what it holds is undefined. DM_INVALID where two of them overlap. */
dm_status dm_price_slices(const dm_tier *tiers, size_t count, dm_price_slice *slices_out,
                          dm_error *err) DM_CHECKED;

/* How many tokens pay which price of a slice; wide enough for every row that a file can hold. */
typedef struct {
    dm_int128 input; /* without the hits that pay their own price */
    dm_int128 cache_hit;
    dm_int128 output;
} dm_slice_tokens;

/* The tokens of the billing period before a request. */
typedef struct {
    int64_t input;
    int64_t output;
} dm_tokens_before;

/* Add to `counts`, one for each slice, what the rows use: their input_tokens, output_tokens and
 * cache_n, each from 0 to DM_TOKENS_MAX. Only DM_STRATEGY_CUMULATIVE looks at `before`, and moves
 * it past the rows, with or without slices. */
void dm_cost_count(const dm_price_slice *slices, size_t slice_count, dm_strategy strategy,
                   const dm_request_rows *rows, dm_tokens_before *before, dm_slice_tokens *counts);

/* Tokens times prices. DM_INVALID where it is above the largest amount. */
dm_status dm_cost_sum(const dm_price_slice *slices, size_t slice_count,
                      const dm_slice_tokens *counts, dm_amount *cost_out, dm_error *err) DM_CHECKED;

/* Seconds times hourly prices, in 2^-64 * 1e-12; begins as {0}. */
typedef struct {
    uint64_t limbs[4]; /* the lowest first */
} dm_runtime_sum;

/* Add the time from from_s to to_s at `hourly_price`. Exact down to 2^-64 s, which is finer than
 * any double above 2^-12 s. DM_INVALID where from_s is negative or after to_s, to_s is not below
 * 2^63, or the sum is above what it can hold. */
dm_status dm_runtime_add(dm_runtime_sum *sum, double from_s, double to_s, dm_amount hourly_price,
                         dm_error *err) DM_CHECKED;

/* Of a sum at an hourly price of 1: its seconds, as the nearest double. */
double dm_runtime_seconds(const dm_runtime_sum *sum);

/* Divided by 3600 s and rounded, once, half to even, to 1e-12 currency units. DM_INVALID where it
 * is above the largest amount. */
dm_status dm_runtime_cost(const dm_runtime_sum *sum, dm_amount *cost_out, dm_error *err) DM_CHECKED;

/* ---- usage: what was used, and what it cost, by model and time ---- */

typedef struct {
    const dm_str *models; /* NULL: all */
    size_t model_count;
    /* Buckets: edges_s[i] <= t < edges_s[i + 1]; ascending, at least two; the first may be
     * -INFINITY and the last INFINITY. Where days or months begin is the caller's to know. */
    const double *edges_s;
    size_t edge_count;
    /* Where billing periods begin, ascending; what is before the first is a period too. Only
     * DM_STRATEGY_CUMULATIVE needs them: where it is met and this is NULL, DM_MISUSE. */
    const double *periods_s;
    size_t period_count;
    const dm_strategy *strategy; /* NULL: each model's own */
    bool current_prices;         /* false: those of the time */
    /* No costs: they are 0, and there are no parts. What is kept of pruned requests and runs counts
     * where it begins, instead of being refused, where an edge lies inside it. Takes the least
     * time. */
    bool counts_only;
} dm_usage_query;

typedef struct {
    size_t model;  /* in dm_usage.models */
    size_t bucket; /* from 0 */
    int64_t requests;
    int64_t input_tokens;
    int64_t output_tokens;
    int64_t cache_n;
    int64_t prompt_n;
    double first_request_s; /* NaN where there is none */
    double last_request_s;
    double runtime_s;       /* of the model's runs, within the bucket */
    dm_amount token_cost;   /* while the model was billed by tiers */
    dm_amount runtime_cost; /* while it was billed by the hour; rounded to 1e-12 */
} dm_usage_row;

/* The tokens, of all buckets, that paid the prices of one tier while one tariff held; or the
 * seconds that paid its hourly price. */
typedef struct {
    size_t model;
    double from_s; /* since when the tariff held; -INFINITY: ever */
    dm_price_slice slice;
    dm_slice_tokens tokens;
    dm_amount cost;
    bool by_hour; /* then these two instead, and `cost` is rounded to 1e-12 */
    double runtime_s;
    dm_amount hourly_price;
} dm_usage_part;

typedef struct {
    dm_model_names models; /* in the order asked for, or of registration */
    dm_usage_row *rows;    /* a row for each model and bucket, models first */
    size_t row_count;
    dm_usage_part *parts; /* by model, time and tier, where there are tokens, or seconds that cost
                             something; a model's token costs are the sum of its parts */
    size_t part_count;
} dm_usage;

void dm_usage_reset(dm_usage *usage);

/* Everything of one moment of the database. DM_MODEL_NOT_FOUND; DM_INVALID for edges out of order,
 * where a sum is above what its type holds, and where an edge, a price change or a billing period
 * begins inside what is kept of pruned requests or runs (see dm_prune). */
dm_status dm_usage_get(dm_manager *m, const dm_usage_query *query, dm_usage *usage_out,
                       dm_error *err) DM_CHECKED;

/* The time of the first and of the last request, or the ends of runs where those lie further out,
 * of some or all (NULL) models; both NaN where there is neither. A row that is impossible counts
 * with its time, or not at all. */
dm_status dm_time_span_get(dm_manager *m, const dm_str *models, size_t model_count,
                           double *first_s_out, double *last_s_out, dm_error *err) DM_CHECKED;

/* ---- performance: how fast requests were answered, by model and time ---- */

/* Values that were seen: the q-th percentile is the least of which at least q in 100 values are not
 * greater (nearest rank). NaN where `count` is 0. */
typedef struct {
    int64_t count;
    double p50, p90, p95, p99, max;
} dm_percentiles;

typedef struct {
    size_t model;  /* in dm_performance.models */
    size_t bucket; /* from 0 */
    int64_t requests;
    double first_request_s; /* NaN where there is none */
    double last_request_s;
    double prompt_tokens;     /* prompt_n of the requests whose first_token_s is known … */
    double prompt_s;          /* … and the time to their first tokens */
    double generation_tokens; /* output_tokens of those whose duration_s is known too … */
    double generation_s;      /* … and their time after the first token */
    dm_percentiles duration_s;
    dm_percentiles first_token_s;
    dm_percentiles input_tokens;
    dm_percentiles output_tokens;
} dm_performance_row;

typedef struct {
    dm_model_names models;    /* in the order asked for, or of registration */
    dm_performance_row *rows; /* a row for each model and bucket, models first */
    size_t row_count;
} dm_performance;

void dm_performance_reset(dm_performance *performance);

/* Models (NULL: all) and edges as in dm_usage_query. Takes memory for two numbers a request. */
dm_status dm_performance_get(dm_manager *m, const dm_str *models, size_t model_count,
                             const double *edges_s, size_t edge_count,
                             dm_performance *performance_out, dm_error *err) DM_CHECKED;

/* ---- process ---- */

/* Called about every 50 ms from a thread that waits or works long inside a call, with none of the
 * core's locks held; true ends the call with DM_INTERRUPTED and nothing written. NULL: none. */
typedef bool (*dm_stop_hook)(void);
void dm_set_stop_hook(dm_stop_hook hook);

/* Before fork(): no new work begins, what runs finishes (for at most `quiet_ms`), every connection
 * is closed without a checkpoint. Afterwards exactly one of the other two must be called, by the
 * same thread. Where quiet was not reached in time, the child's store is unusable (DM_FORKED). */
void dm_fork_before(int64_t quiet_ms);
void dm_fork_parent(void);
void dm_fork_child(void);

typedef struct {
    const char *version;   /* "3.40.1" */
    const char *source_id; /* as sqlite3_sourceid() */
    int version_number;    /* 3040001 */
    bool wal_reset_race;   /* this version can lose commits to a foreign checkpoint */
    int64_t memory_used;   /* bytes that this copy of SQLite has allocated in the process */
} dm_sqlite_info;

void dm_sqlite_info_get(dm_sqlite_info *info_out);

/* The clock that timestamps use: seconds since 1970 UTC. */
double dm_now_s(void);

#include "dm_care.h"

#endif
