/* SPDX-License-Identifier: MIT
 *
 * The Manager type: one short function per method. Each parses, gives the GIL up for one call of
 * the core, takes it back, and converts or raises. */
#include "call.h"

#include <stddef.h>

/* ---- close ---- */

/* Who has ended no batch has been told of no error. Not a ResourceWarning: that is not shown. */
static int writes_lost_warn(size_t dropped)
{
    return dropped == 0
               ? 0
               : PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                                  "closed with a batch open: its writes were dropped, %zu of them",
                                  dropped);
}

static PyObject *manager_close(PyObject *self, PyObject *none)
{
    (void)none;
    dm_manager *core = ((manager_object *)self)->core;
    if (care_is_telling(self)) {
        PyErr_SetString(state_of_type(Py_TYPE(self))->error,
                        "close() from the progress function of a call on the same handle");
        return NULL;
    }
    core_enter();
    size_t dropped = dm_close(core);
    core_leave();
    if (PyErr_Occurred() || writes_lost_warn(dropped) < 0) /* Ctrl-C */
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *manager_enter(PyObject *self, PyObject *none)
{
    (void)none;
    module_state *state = state_of_type(Py_TYPE(self));
    dm_manager *core = manager_core((manager_object *)self);
    if (core == NULL)
        return NULL;
    if (dm_is_closed(core)) {
        PyErr_SetString(state->errors[DM_CLOSED], "the data manager is closed");
        return NULL;
    }
    return Py_NewRef(self);
}

static PyObject *manager_exit(PyObject *self, PyObject *args)
{
    return manager_close(self, args);
}

/* Also while an exception is on its way. A Ctrl-C must not come out of here: let it come again. */
static void core_free(dm_manager *core)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    core_enter();
    size_t dropped = dm_close(core);
    dm_free(core);
    core_leave();
    if (PyErr_Occurred()) {
        PyErr_Clear();
        PyErr_SetInterrupt();
    }
    if (writes_lost_warn(dropped) < 0)
        PyErr_WriteUnraisable(NULL);
    PyErr_Restore(type, value, trace);
}

static void manager_dealloc(PyObject *object)
{
    manager_object *self = (manager_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (self->weak_references != NULL)
        PyObject_ClearWeakRefs(object);
    if (self->core != NULL)
        core_free(self->core);
    Py_XDECREF(self->path);
    type->tp_free(object);
    Py_DECREF(type);
}

static int manager_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

/* ---- runs ---- */

static PyObject *program_start(METHOD_ARGS)
{
    static const arg_spec spec = {"add_program_runtime_start", {"start_time"}, 1, 1};
    call c;
    double time_s;
    int64_t id = 0;
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0 ||
        to_time(c.state, c.args[0], "start_time", &time_s) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_program_start(c.core, time_s, &id, &c.err);
    core_leave();
    return finish_id(&c, rc, id);
}

static PyObject *program_end(METHOD_ARGS)
{
    static const arg_spec spec = {"update_program_runtime_end", {"end_time"}, 1, 1};
    call c;
    double time_s;
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0 ||
        to_time(c.state, c.args[0], "end_time", &time_s) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_program_end(c.core, time_s, &c.err);
    core_leave();
    return finish_none(&c, rc);
}

static PyObject *model_start(METHOD_ARGS)
{
    static const arg_spec spec = {"add_model_runtime_start", {"model_name", "start_time"}, 2, 2};
    call c;
    dm_str model;
    double time_s;
    int64_t id = 0;
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0 ||
        to_time(c.state, c.args[1], "start_time", &time_s) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_model_start(c.core, model, time_s, &id, &c.err);
    core_leave();
    return finish_id(&c, rc, id);
}

static PyObject *model_end(METHOD_ARGS)
{
    static const arg_spec spec = {"update_model_runtime_end", {"model_name", "end_time"}, 2, 2};
    call c;
    dm_str model;
    double time_s;
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0 ||
        to_time(c.state, c.args[1], "end_time", &time_s) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_model_end(c.core, model, time_s, &c.err);
    core_leave();
    return finish_none(&c, rc);
}

static PyObject *finish_runs(call *c, dm_status rc, dm_runs *runs)
{
    PyObject *list = NULL;
    if (rc != DM_OK || PyErr_Occurred())
        (void)raise_error(c->state, rc, &c->err);
    else
        list = PyList_New((Py_ssize_t)runs->count);
    for (size_t i = 0; list != NULL && i < runs->count; i++) {
        PyObject *run = run_new(c->state, &runs->runs[i]);
        if (run == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, run);
    }
    dm_runs_reset(runs);
    return list;
}

static PyObject *program_runs(METHOD_ARGS)
{
    static const arg_spec spec = {"get_program_runtime", {"limit", "start", "end"}, 0, 1};
    call c;
    dm_window window;
    dm_runs runs = {0};
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0 ||
        to_window(c.state, NULL, c.args[1], c.args[2], c.args[0], &window) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_program_runs(c.core, &window, &runs, &c.err);
    core_leave();
    return finish_runs(&c, rc, &runs);
}

static PyObject *model_runs(METHOD_ARGS)
{
    static const arg_spec spec = {
        "get_model_runtime", {"model_name", "limit", "start", "end"}, 1, 2};
    call c;
    dm_str model;
    dm_window window;
    dm_runs runs = {0};
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0 ||
        to_window(c.state, NULL, c.args[2], c.args[3], c.args[1], &window) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_model_runs(c.core, model, &window, &runs, &c.err);
    core_leave();
    return finish_runs(&c, rc, &runs);
}

/* ---- requests ---- */

static PyObject *request_add(METHOD_ARGS)
{
    static const arg_spec spec = {
        "add_model_request",
        {"model_name", "request_data", "duration", "first_token", "request_id"},
        2,
        2};
    call c;
    dm_str model, request_id;
    dm_request request;
    dm_timing timing = DM_TIMING_UNKNOWN;
    int64_t id = 0;
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0 ||
        to_request(c.state, c.args[1], &request) < 0 ||
        (is_given(c.args[2]) &&
         to_seconds(c.state, c.args[2], "duration", &timing.duration_s) < 0) ||
        (is_given(c.args[3]) &&
         to_seconds(c.state, c.args[3], "first_token", &timing.first_token_s) < 0) ||
        (is_given(c.args[4]) && to_request_id(c.state, c.args[4], &request_id) < 0))
        return NULL;
    bool once = is_given(c.args[4]);
    core_enter();
    dm_status rc =
        once ? dm_request_add_once(c.core, model, &request, &timing, request_id, &id, &c.err)
             : dm_request_add(c.core, model, &request, &timing, &id, &c.err);
    core_leave();
    return finish_id(&c, rc, id);
}

/* A list, one id a row. */
static PyObject *requests_add_once(call *c, dm_str model, const row_columns *columns)
{
    size_t count = columns->rows.count;
    int64_t added = 0, *row_ids = PyMem_Calloc(count + 1, sizeof *row_ids);
    if (row_ids == NULL)
        return PyErr_NoMemory();
    core_enter();
    dm_status rc = dm_requests_add_once(c->core, model, &columns->rows, columns->request_ids,
                                        row_ids, &added, &c->err);
    core_leave();
    PyObject *result = NULL;
    if (!call_failed(c, rc))
        result = count > 0 && row_ids[0] == 0 ? Py_NewRef(Py_None) /* inside a batch */
                                              : row_ids_list(row_ids, count);
    PyMem_Free(row_ids);
    return result;
}

static PyObject *requests_add_many(METHOD_ARGS)
{
    static const arg_spec spec = {
        "add_model_requests", {"model_name", "rows", "request_ids"}, 2, 2};
    call c;
    dm_str model;
    row_columns columns = {0};
    dm_ids ids = {0};
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0)
        return NULL;
    if (to_rows(c.state, c.args[1], c.args[2], &columns) < 0) {
        row_columns_reset(&columns);
        return NULL;
    }
    if (columns.request_ids != NULL) {
        PyObject *list = requests_add_once(&c, model, &columns);
        row_columns_reset(&columns);
        return list;
    }
    size_t count = columns.rows.count;
    core_enter();
    dm_status rc = dm_requests_add(c.core, model, &columns.rows, &ids, &c.err);
    core_leave();
    row_columns_reset(&columns);
    if (rc != DM_OK || PyErr_Occurred())
        return raise_error(c.state, rc, &c.err);
    if (ids.count == 0 && count > 0)
        Py_RETURN_NONE; /* inside a batch */
    return ids_range(&ids);
}

static PyObject *requests_get(METHOD_ARGS)
{
    static const arg_spec spec = {
        "get_model_requests", {"model_name", "minutes", "start", "end", "limit"}, 1, 2};
    call c;
    dm_str model;
    dm_window window;
    dm_request_columns columns = {0};
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0 ||
        to_window(c.state, c.args[1], c.args[2], c.args[3], c.args[4], &window) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_requests_get(c.core, model, &window, &columns, &c.err);
    core_leave();
    if (rc == DM_OK && !PyErr_Occurred())
        return requests_new(c.state, &columns);
    dm_request_columns_reset(&columns);
    return raise_error(c.state, rc, &c.err);
}

/* ---- models ---- */

static PyObject *safe_name_compute(METHOD_ARGS)
{
    static const arg_spec spec = {"get_safe_model_name", {"model_name"}, 1, 1};
    call c;
    dm_str model;
    char safe[DM_SAFE_NAME_SIZE];
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0)
        return NULL;
    dm_status rc = dm_model_name_check(model, &c.err);
    if (rc == DM_OK && dm_is_closed(c.core)) {
        PyErr_SetString(c.state->errors[DM_CLOSED], "the data manager is closed");
        return NULL;
    }
    if (rc != DM_OK)
        return raise_error(c.state, rc, &c.err);
    dm_safe_name(model, safe);
    return PyUnicode_FromString(safe);
}

static PyObject *name_lookup(METHOD_ARGS)
{
    static const arg_spec spec = {"get_model_safe_name", {"model_name"}, 1, 1};
    call c;
    dm_str name;
    char *other = NULL;
    size_t length = 0;
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0 ||
        to_name(c.state, c.args[0], &name) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_model_lookup(c.core, name, &other, &length, &c.err);
    core_leave();
    PyObject *result;
    if (rc != DM_OK || PyErr_Occurred())
        result = raise_error(c.state, rc, &c.err);
    else
        result = other == NULL ? Py_NewRef(Py_None)
                               : PyUnicode_DecodeUTF8(other, (Py_ssize_t)length, "replace");
    dm_text_free(other);
    return result;
}

static PyObject *models_get(PyObject *self, PyObject *none)
{
    (void)none;
    module_state *state = state_of_type(Py_TYPE(self));
    dm_manager *core = manager_core((manager_object *)self);
    dm_model_names names = {0};
    dm_error err;
    if (core == NULL)
        return NULL;
    core_enter();
    dm_status rc = dm_models_get(core, &names, &err);
    core_leave();
    PyObject *list = rc != DM_OK || PyErr_Occurred() ? raise_error(state, rc, &err)
                                                     : PyList_New((Py_ssize_t)names.count);
    for (size_t i = 0; list != NULL && i < names.count; i++) {
        PyObject *name = PyUnicode_FromStringAndSize(names.models[i].original_name,
                                                     (Py_ssize_t)names.models[i].original_length);
        if (name == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, name);
    }
    dm_model_names_reset(&names);
    return list;
}

static PyObject *model_delete(METHOD_ARGS)
{
    static const arg_spec spec = {"delete_model_tables", {"model_name"}, 1, 1};
    call c;
    dm_str model;
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_model_delete(c.core, model, &c.err);
    core_leave();
    return finish_none(&c, rc);
}

static PyObject *model_rename(METHOD_ARGS)
{
    static const arg_spec spec = {"rename_model", {"old_name", "new_name", "merge"}, 2, 2};
    call c;
    dm_str old_name, new_name;
    bool merge = true;
    if (call_begin_model(&c, &old_name, self, &spec, args, nargs, kwnames) < 0 ||
        to_new_name(c.state, c.args[1], &new_name) < 0 ||
        (c.args[2] != NULL && to_flag(c.state, c.args[2], "merge", &merge) < 0))
        return NULL;
    core_enter();
    dm_status rc = dm_model_rename(c.core, old_name, new_name, merge, &c.err);
    core_leave();
    return finish_none(&c, rc);
}

static PyObject *manager_batch(PyObject *self, PyObject *none)
{
    (void)none;
    module_state *state = state_of_type(Py_TYPE(self));
    dm_manager *core = manager_core((manager_object *)self);
    if (core == NULL)
        return NULL;
    if (dm_is_closed(core)) {
        PyErr_SetString(state->errors[DM_CLOSED], "the data manager is closed");
        return NULL;
    }
    return batch_new(state, (manager_object *)self);
}

/* ---- the type ---- */

static PyObject *manager_closed(PyObject *self, void *none)
{
    (void)none;
    dm_manager *core = ((manager_object *)self)->core;
    return PyBool_FromLong(core == NULL || dm_is_closed(core));
}

static PyObject *manager_repr(PyObject *self)
{
    manager_object *manager = (manager_object *)self;
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    bool closed = manager->core == NULL || dm_is_closed(manager->core);
    return PyUnicode_FromFormat("<%s %R%s>", name == NULL ? Py_TYPE(self)->tp_name : name + 1,
                                manager->path == NULL ? Py_None : manager->path,
                                closed ? ", closed" : "");
}

#define CALL(function) (PyCFunction)(void (*)(void)) function, METH_FASTCALL | METH_KEYWORDS

static PyMethodDef manager_methods[] = {
    {"close", manager_close, METH_NOARGS,
     "close($self, /)\n--\n\nClose the handle; calls in other threads finish or get ClosedError."},
    {"__enter__", manager_enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", manager_exit, METH_VARARGS, "Close."},
    {"add_program_runtime_start", CALL(program_start),
     "add_program_runtime_start($self, /, start_time)\n--\n\nBegin a run of the program at "
     "start_time (epoch seconds). Returns its id."},
    {"update_program_runtime_end", CALL(program_end),
     "update_program_runtime_end($self, /, end_time)\n--\n\nEnd the newest run of the program, or "
     "move its end on. Raises RunNotFoundError where there is none."},
    {"get_program_runtime", CALL(program_runs),
     "get_program_runtime($self, /, limit=0, *, start=None, end=None)\n--\n\nRuns of the program, "
     "newest first; limit=0 means all."},
    {"add_model_runtime_start", CALL(model_start),
     "add_model_runtime_start($self, /, model_name, start_time)\n--\n\nBegin a run of the model at "
     "start_time (epoch seconds). Returns its id."},
    {"update_model_runtime_end", CALL(model_end),
     "update_model_runtime_end($self, /, model_name, end_time)\n--\n\nEnd the model's newest run. "
     "Raises RunNotFoundError where it has none."},
    {"get_model_runtime", CALL(model_runs),
     "get_model_runtime($self, /, model_name, limit=0, *, start=None, end=None)\n--\n\nRuns of the "
     "model, newest first, that overlap start <= t < end (epoch seconds); limit=0 means all."},
    {"add_model_request", CALL(request_add),
     "add_model_request($self, /, model_name, request_data, *, duration=None, first_token=None, "
     "request_id=None)\n--\n\nRecord one request: [timestamp "
     "(epoch seconds), input_tokens, output_tokens, cache_n, prompt_n]. Returns its id when it is "
     "durable; None inside a batch. A request_id (at most 255 bytes of UTF-8) that the model has "
     "already adds nothing: the id of the first is returned."},
    {"add_model_requests", CALL(requests_add_many),
     "add_model_requests($self, /, model_name, rows, *, request_ids=None)\n--\n\nRecord many "
     "requests in one "
     "transaction: an iterable of 5-value rows, or a mapping of columns. Returns the range of "
     "their ids; with request_ids, one a row (None: it has none), or a column request_id, the list "
     "of the ids that the rows have, new or not. A bad row raises InvalidDataError naming its "
     "position; nothing is stored."},
    {"get_model_requests", CALL(requests_get),
     "get_model_requests($self, /, model_name, minutes=0, *, start=None, end=None, limit=0)\n--\n\n"
     "Requests of the model, newest first: of the last minutes (0: all), or start <= timestamp < "
     "end (epoch seconds); limit=0 means all."},
    {"add_tier_pricing", CALL(tier_add),
     "add_tier_pricing($self, /, model_name, tier_data, *, effective_from=None)\n--\n\nAdd a tier: "
     "[tier_index, "
     "start_tokens, end_tokens, input price, output price, support_cache, cache hit price], "
     "prices per million tokens. Raises TierExistsError where the index is taken."},
    {"update_tier_pricing", CALL(tier_update),
     "update_tier_pricing($self, /, model_name, tier_data, *, effective_from=None)\n--\n\nChange a "
     "tier. Raises "
     "TierNotFoundError where there is none of its index."},
    {"set_tier_pricing", CALL(tier_set),
     "set_tier_pricing($self, /, model_name, tier_data, *, effective_from=None)\n--\n\nAdd or "
     "change a tier."},
    {"delete_tier_pricing", CALL(tier_delete),
     "delete_tier_pricing($self, /, model_name, tier_index, *, effective_from=None)\n--\n\nRemove "
     "a tier. Raises "
     "TierNotFoundError where there is none of this index."},
    {"update_hourly_price", CALL(hourly_price_set),
     "update_hourly_price($self, /, model_name, hourly_price, *, effective_from=None)\n--\n\nSet "
     "the price per hour."},
    {"update_billing_method", CALL(billing_method_set),
     "update_billing_method($self, /, model_name, use_tier_pricing, *, effective_from=None)\n--\n\n"
     "Bill by tiers (True) or by the hour (False)."},
    {"set_billing_strategy", CALL(billing_strategy_set),
     "set_billing_strategy($self, /, model_name, strategy, *, effective_from=None)\n--\n\nHow "
     "tiers "
     "are read: 'graduated', 'volume' or 'cumulative'."},
    {"set_pricing", CALL(pricing_set),
     "set_pricing($self, /, model_name, *, tiers=None, hourly_price=None, use_tier_pricing=None, "
     "strategy=None, effective_from=None)\n--\n\nChange several things in one step; tiers are all "
     "of them. What is None stays. It holds from effective_from on (epoch seconds or a datetime, "
     "past or future; default: now). Raises InvalidDataError where that is inside a sum of pruned "
     "requests or runs."},
    {"get_price_history", CALL(price_history),
     "get_price_history($self, /, model_name)\n--\n\nThe tariffs of the model, a list of Tariff, "
     "oldest first; each holds until the next, the first since ever."},
    {"get_model_billing", CALL(billing_get),
     "get_model_billing($self, /, model_name)\n--\n\nHow the model is billed."},
    {"_usage", CALL(usage_get),
     "_usage($self, /, models, edges, periods, strategy, current_prices, counts_only=False)\n--\n\n"
     "A list of UsageRow and one of (model, since, CostSlice): what paid the prices of a tier; "
     "None where billing periods are needed and not given."},
    {"_export", CALL(requests_export),
     "_export($self, /, dest, overwrite, models, start, end, writer)\n--\n\n"
     "How many rows went through begin(path), take(model, columns, done, total) and end() of the "
     "writer."},
    {"_import", CALL(requests_import),
     "_import($self, /, model_name, columns)\n--\n\n"
     "How many rows of the columns, request_id among them, were new; None inside a batch."},
    {"_performance", CALL(performance_get),
     "_performance($self, /, models, edges)\n--\n\nA list of PerformanceRow."},
    {"_prune", CALL(prune),
     "_prune($self, /, models, before, edges, dry_run, progress)\n--\n\nA list of Pruned; sums are "
     "kept of the buckets that begin at edges (None: nothing is kept)."},
    {"_kept_runs", CALL(kept_runs),
     "_kept_runs($self, /, model_name)\n--\n\nWhat is kept of runs that were pruned, a list of "
     "(start, end, runs, seconds); of the program where model_name is None."},
    {"_time_span", CALL(time_span_get),
     "_time_span($self, /, models)\n--\n\nThe times of the first and the last record."},
    {"get_safe_model_name", CALL(safe_name_compute),
     "get_safe_model_name($self, /, model_name)\n--\n\nThe name of the model's tables, computed "
     "from its name."},
    {"get_model_safe_name", CALL(name_lookup),
     "get_model_safe_name($self, /, model_name)\n--\n\nA known model's safe name, or the model of "
     "a known safe name; None where it is neither."},
    {"get_models", models_get, METH_NOARGS,
     "get_models($self, /)\n--\n\nThe names of all models, in order of registration."},
    {"delete_model_tables", CALL(model_delete),
     "delete_model_tables($self, /, model_name)\n--\n\nDelete the model and all its records."},
    {"rename_model", CALL(model_rename),
     "rename_model($self, /, old_name, new_name, *, merge=True)\n--\n\nGive the model and all its "
     "records another name. Where that is known already, the records of both come together under "
     "it; its prices stay, unless it has none. Raises InvalidDataError where merge is false and "
     "the name is known, and where one of these prices would begin inside a sum of the other's "
     "pruned requests or runs."},
    {"batch", manager_batch, METH_NOARGS,
     "batch($self, /)\n--\n\nA context in which this thread's writes become one transaction, all "
     "or nothing, made when it ends."},
    {"backup", CALL(backup),
     "backup($self, /, dest, progress=None, *, overwrite=False)\n--\n\nWrite the database as it "
     "is at one moment to the file dest, while others write. It appears there when it is whole, "
     "checked and on the disk. Raises DestinationExistsError where there is a file and overwrite "
     "is not set, or a database that is open. progress(done_pages, total_pages) is called as it "
     "goes on; an exception in it "
     "stops everything, with nothing changed."},
    {"check", CALL(check),
     "check($self, /, quick=False, *, repair=False)\n--\n\nWhat is wrong in the database, a list "
     "of Finding; empty where all is well. quick leaves out indexes and the values in the rows. "
     "repair first mends what can be mended without losing anything."},
    {"stats", stats, METH_NOARGS,
     "stats($self, /)\n--\n\nWhat the store has done in this process, all handles together, as a "
     "dict: commits and the operations in them, waits, checkpoints, statements, connections."},
    {"get_storage_stats", storage_stats, METH_NOARGS,
     "get_storage_stats($self, /)\n--\n\nWhat takes how much room, as a dict: file_bytes, "
     "free_bytes, log_bytes, and for each model its requests, runs and bytes. Reads the whole "
     "file."},
    {"vacuum", CALL(vacuum),
     "vacuum($self, /, progress=None)\n--\n\nGive back what is free in the file, in steps between "
     "which others write. One that this package did not make is written anew instead, while other "
     "writers wait; the next time it goes in steps, too. Returns the size in bytes before and "
     "after. progress(done_pages, total_pages) is called after each step; an exception in it, or "
     "Ctrl-C, leaves the rest free."},
    {NULL, NULL, 0, NULL}};

static PyMemberDef manager_members[] = {
    {"db_path", T_OBJECT, offsetof(manager_object, path), READONLY, "the path given at opening"},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(manager_object, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyGetSetDef manager_getset[] = {
    {"closed", manager_closed, NULL, "whether the handle is closed", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot manager_slots[] = {
    {Py_tp_doc,
     "Manager(db_path=None, *, models=None, durability='full', pool_size=10, busy_timeout=30.0, "
     "read_only=False, cache_bytes=67108864, checksums=False)\n--\n\nA handle on the usage and "
     "billing store in one "
     "SQLite file."},
    {Py_tp_init, manager_init},
    {Py_tp_dealloc, manager_dealloc},
    {Py_tp_traverse, manager_traverse},
    {Py_tp_repr, manager_repr},
    {Py_tp_methods, manager_methods},
    {Py_tp_members, manager_members},
    {Py_tp_getset, manager_getset},
    {0, NULL}};

static PyType_Spec manager_spec = {
    .name = "datamanager._core.Manager",
    .basicsize = sizeof(manager_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = manager_slots,
};

int manager_add(PyObject *module, module_state *state)
{
    state->manager_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &manager_spec, NULL);
    return state->manager_type == NULL ? -1 : PyModule_AddType(module, state->manager_type);
}
