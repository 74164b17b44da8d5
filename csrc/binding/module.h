/* SPDX-License-Identifier: MIT
 *
 * What the parts of the binding share. */
#ifndef DM_MODULE_H
#define DM_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>
#include <structmember.h>

#include "dm.h"

enum {
    RECORD_RUN,
    RECORD_REQUEST,
    RECORD_TIER,
    RECORD_BILLING,
    RECORD_TARIFF,
    RECORD_COST_SLICE,
    RECORD_COST,
    RECORD_USAGE,
    RECORD_FINDING,
    RECORD_PERFORMANCE,
    RECORD_STATUS,
    RECORD_PRUNED,
    RECORD_COUNT
};

typedef struct {
    PyObject *error; /* DataManagerError */
    PyObject *errors[DM_STATUS_COUNT];
    PyTypeObject *manager_type, *batch_type, *requests_type, *column_type;
    PyTypeObject *record_types[RECORD_COUNT];
    PyObject *decimal_type; /* decimal.Decimal once a cost was asked for; NULL before */
    PyObject *decimal_zero; /* of which there are many */
} module_state;

extern PyModuleDef module_def;
module_state *state_of_type(PyTypeObject *type);

/* ---- hooks.c ---- */

/* Around every core call: nothing between them may touch a Python object. After core_leave
 * KeyboardInterrupt may be set, whatever the core returned. */
void core_enter(void);
void core_leave(void);
int hooks_install(void);

/* ---- errors.c ---- */

int errors_add(PyObject *module, module_state *state);
/* The only place where a status becomes an exception. Returns NULL. */
void *raise_error(module_state *state, dm_status rc, const dm_error *err);
/* InvalidDataError. Returns -1. An error that is set gives way to it, unless it is not about the
 * value: no memory, Ctrl-C. */
int raise_invalid(module_state *state, const char *format, ...);
/* The same, and behind the text the value, as it shows itself. */
int raise_invalid_value(module_state *state, PyObject *value, const char *format, ...);
/* The same where a refusal means that there is nothing: the error that is set goes, unless false.
 */
bool error_is_refusal(void);

/* ---- args.c ---- */

typedef struct {
    const char *function;
    const char *names[8]; /* ends with NULL */
    int required;
    int positional; /* how many may be given by position */
} arg_spec;

/* Fills `out` (borrowed; NULL where not given). */
int args_parse(const arg_spec *spec, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
               PyObject **out);

/* ---- convert.c: -1 with InvalidDataError naming the field; ranges are the core's to judge ---- */

int to_name(module_state *state, PyObject *object, dm_str *out);
int to_new_name(module_state *state, PyObject *object, dm_str *out);
int to_request_id(module_state *state, PyObject *object, dm_str *out);
int to_time(module_state *state, PyObject *object, const char *field, double *out);
int to_seconds(module_state *state, PyObject *object, const char *field, double *out);
int to_price(module_state *state, PyObject *object, const char *field, double *out);
int to_count(module_state *state, PyObject *object, const char *field, int64_t *out);
int to_flag(module_state *state, PyObject *object, const char *field, bool *out);
int to_request(module_state *state, PyObject *object, dm_request *out);
int to_tier(module_state *state, PyObject *object, dm_tier *out);
bool is_given(PyObject *object); /* and not None */
/* Seconds since 1970 or a datetime; `otherwise` where it is not given. */
int to_moment(module_state *state, PyObject *object, const char *field, double otherwise,
              double *out);
/* The system's bytes, a new reference. */
int to_path(module_state *state, PyObject *object, const char *field, PyObject **bytes_out);
/* Seconds, as dm_options has them in milliseconds; 0 where it is not given. */
int to_timeout(module_state *state, PyObject *object, int64_t *timeout_ms_out);
int to_strategy(module_state *state, PyObject *object, dm_strategy *out);
int to_window(module_state *state, PyObject *minutes, PyObject *start, PyObject *end,
              PyObject *limit, dm_window *out);

/* Lists to arrays, for PyMem_Free. */
int to_doubles(PyObject *object, double **values_out, size_t *count_out);
/* The names stay those of `items`, a new reference that must outlive them. */
int to_names(module_state *state, PyObject *object, PyObject **items, dm_str **names_out,
             size_t *count_out);

/* ---- rows.c: many rows as columns ---- */

#define ROW_COLUMNS 7 /* of numbers: the five of a row, duration and first_token */

typedef struct {
    dm_request_rows rows;
    dm_str *request_ids; /* NULL: there are none */
    PyObject *texts;     /* whose they are, a tuple */
    void *owned[ROW_COLUMNS];
    Py_buffer views[ROW_COLUMNS];
    bool has_view[ROW_COLUMNS];
} row_columns;

/* `request_ids` may be NULL or None; a mapping may have them itself. */
int to_rows(module_state *state, PyObject *object, PyObject *request_ids, row_columns *out);
void row_columns_reset(row_columns *columns);

/* ---- records.c, record_table.c ---- */

typedef union {
    double real;
    long long whole;
    char flag;
    PyObject *object;
} record_value;

#define RECORD_FIELDS_MAX 32

typedef struct {
    const char *name, *doc;
    int field_count;
    struct {
        const char *name;
        enum { FIELD_REAL, FIELD_WHOLE, FIELD_FLAG, FIELD_LIST, FIELD_OBJECT } kind;
        const char *doc;
    } fields[RECORD_FIELDS_MAX];
} record_spec;

extern const record_spec record_specs[RECORD_COUNT];

int records_add(PyObject *module, module_state *state);
/* A record of `values`, whose references it takes over, also when it fails: with an exception set
 * where one of them is NULL. */
PyObject *record_make(module_state *state, int kind, const record_value *values);
PyObject *number_or_none(double value); /* None where it is not finite */
/* What the rows of an answer share: one object for each model and for each edge. */
typedef struct {
    PyObject *models, *edges; /* tuples */
} row_labels;
int row_labels_make(row_labels *labels, const dm_model_names *models, const double *edges_s,
                    size_t edge_count);
void row_labels_reset(row_labels *labels);
PyObject *row_label(PyObject *labels, size_t at); /* a new reference */
PyObject *tiers_new(module_state *state, const dm_tier *tiers, size_t count);
PyObject *tariff_new(module_state *state, const dm_tariff *tariff);
PyObject *run_new(module_state *state, const dm_run *run);
PyObject *tier_new(module_state *state, const dm_tier *tier);
PyObject *billing_new(module_state *state, const dm_billing *billing);
PyObject *request_new(module_state *state, const dm_request_columns *columns, size_t at);
bool record_to_tier(module_state *state, PyObject *object, dm_tier *out);

/* ---- prices.c, cost.c ---- */

/* Any iterable of tiers: an array for PyMem_Free. */
int to_tiers(module_state *state, PyObject *object, dm_tier **tiers_out, size_t *count_out);
PyObject *cost_get(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
/* decimal.Decimal; the module is imported when the first is asked for. */
PyObject *decimal_new(module_state *state, dm_amount amount);
/* A Cost: what one request costs whose tokens are counted. */
PyObject *cost_slice_new(module_state *state, const dm_price_slice *slice,
                         const dm_slice_tokens *tokens, dm_amount cost);
PyObject *cost_new(module_state *state, dm_strategy strategy, const dm_price_slice *slices,
                   size_t slice_count, const dm_slice_tokens *counts);

/* ---- care.c ---- */

PyObject *restore(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
/* Is this thread in a progress function of a call on this handle? */
bool care_is_telling(PyObject *manager);
/* From now on it is, until it is set back to what is returned. */
PyObject *care_telling_set(PyObject *manager);

/* ---- exchange.c ---- */

PyObject *is_open(PyObject *module, PyObject *path);
PyObject *request_check(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames);

/* ---- arrow.c: tables in memory, and how they are handed to others ---- */

/* Freed by whoever drops the last reference. That is no Python reference, because an Arrow array
 * may be released on any thread, without the GIL, and after the interpreter that made it. */
typedef struct counted {
    atomic_size_t references;
    void (*free)(struct counted *object);
} counted;

void *counted_hold(counted *object); /* returns it */
void counted_drop(counted *object);

/* Values have 8 bytes each and are never NULL. Of "u" they are the bytes of all texts: text i has
 * those from offsets[i] to offsets[i + 1]. */
typedef struct {
    const char *name;
    const char *format; /* Arrow's: "l" int64, "g" float64, "tsu:UTC" microseconds, "u" text */
    const void *values;
    const int32_t *offsets; /* of texts; NULL for numbers */
    const uint8_t *valid;   /* a bit for each row, lowest first, 0 for a null; NULL: no nulls */
    bool nullable;          /* by its schema, also where there are no nulls */
} table_column;

/* Made once, then only read. All that it points at lives as long as itself. */
typedef struct {
    counted counted;
    const table_column *columns;
    size_t column_count;
} table;

typedef struct {
    table *table;
    Py_ssize_t start, step, length; /* of no row, start is 0; of fewer than two, step is 1 */
} table_view;

/* What __arrow_c_schema__, __arrow_c_array__ and __arrow_c_stream__ return: a struct of all
 * columns, or `only` one of them (NULL: all). Rows are copied only where they do not lie side by
 * side. */
PyObject *arrow_schema(const table_view *view, const table_column *only);
PyObject *arrow_array(const table_view *view, const table_column *only, PyObject *const *args,
                      Py_ssize_t nargs, PyObject *kwnames);
PyObject *arrow_stream(const table_view *view, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames);

/* ---- requests.c, column.c, table.c ---- */

int table_add(PyObject *module);
int requests_add(PyObject *module, module_state *state);
/* Takes over what `columns` holds, also when it fails. */
PyObject *requests_new(module_state *state, dm_request_columns *columns);
int column_add(PyObject *module, module_state *state);
/* A column of numbers. */
PyObject *column_new(module_state *state, const table_view *view, const table_column *column);

/* ---- manager.c, open.c, batch.c ---- */

typedef struct {
    PyObject_HEAD dm_manager *core;
    PyObject *path;
    PyObject *weak_references;
} manager_object;

int manager_add(PyObject *module, module_state *state);
int manager_init(PyObject *object, PyObject *args, PyObject *keywords);
int batch_add(PyObject *module, module_state *state);
PyObject *batch_new(module_state *state, manager_object *manager);
PyObject *ids_range(const dm_ids *ids);
PyObject *row_ids_list(const int64_t *row_ids, size_t count);
/* The core's handle; NULL with ClosedError where the object was never opened. */
dm_manager *manager_core(manager_object *self);

#endif
