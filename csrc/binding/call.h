/* SPDX-License-Identifier: MIT
 *
 * What the methods of Manager have in common: how they begin and how they end. */
#ifndef DM_CALL_H
#define DM_CALL_H

#include "module.h"

typedef struct {
    module_state *state;
    dm_manager *core;
    PyObject *args[8]; /* borrowed; NULL where not given */
    dm_error err;
} call;

#define METHOD_ARGS PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames

/* The state, the handle and the arguments; -1 with an exception. */
int call_begin(call *c, PyObject *self, const arg_spec *spec, PyObject *const *args,
               Py_ssize_t nargs, PyObject *kwnames);
/* The same where the first argument is a model's name. */
int call_begin_model(call *c, dm_str *model, PyObject *self, const arg_spec *spec,
                     PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* After core_leave: did the core fail, or Ctrl-C come? Then the exception is set. */
bool call_failed(call *c, dm_status rc);
PyObject *finish_none(call *c, dm_status rc);
/* The id of a new row; None inside a batch, where it is not known yet. */
PyObject *finish_id(call *c, dm_status rc, int64_t id);

typedef struct {
    PyObject *function, *manager; /* borrowed */
} progress_call;

/* A function of (done, total), or None; of care.c. */
int to_progress(PyObject *object, PyObject *manager, progress_call *call_out, dm_progress *out);

/* The methods, by topic; manager.c has their docs. prices.c: */
PyObject *tier_add(METHOD_ARGS);
PyObject *tier_update(METHOD_ARGS);
PyObject *tier_set(METHOD_ARGS);
PyObject *tier_delete(METHOD_ARGS);
PyObject *hourly_price_set(METHOD_ARGS);
PyObject *billing_method_set(METHOD_ARGS);
PyObject *billing_strategy_set(METHOD_ARGS);
PyObject *pricing_set(METHOD_ARGS);
PyObject *billing_get(METHOD_ARGS);
PyObject *price_history(METHOD_ARGS);
/* usage.c: */
PyObject *usage_get(METHOD_ARGS);
PyObject *time_span_get(METHOD_ARGS);
/* care.c: */
PyObject *backup(METHOD_ARGS);
PyObject *check(METHOD_ARGS);
PyObject *stats(PyObject *self, PyObject *none);
PyObject *storage_stats(PyObject *self, PyObject *none);
PyObject *vacuum(METHOD_ARGS);
/* exchange.c: */
PyObject *requests_export(METHOD_ARGS);
PyObject *requests_import(METHOD_ARGS);
/* prune.c: */
PyObject *prune(METHOD_ARGS);
PyObject *kept_runs(METHOD_ARGS);
/* performance.c: */
PyObject *performance_get(METHOD_ARGS);

#endif
