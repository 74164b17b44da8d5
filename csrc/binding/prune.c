/* SPDX-License-Identifier: MIT
 *
 * Removing old requests and runs, and what is kept of them. Where days begin is Python's to know.
 */
#include "call.h"

#include <math.h>

/* ---- what has gone ---- */

/* `name` NULL: the program. */
static PyObject *pruned_new(module_state *state, const dm_model_name *name, const dm_pruned *count)
{
    record_value values[] = {
        {.object = name == NULL
                       ? Py_NewRef(Py_None)
                       : PyUnicode_DecodeUTF8(name->original_name,
                                              (Py_ssize_t)name->original_length, "replace")},
        {.whole = count->requests},
        {.whole = count->runs}};
    return record_make(state, RECORD_PRUNED, values);
}

static PyObject *pruned_list(module_state *state, const dm_prune_result *result, bool program)
{
    const size_t models = result->models.count, count = models + program;
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *row =
            pruned_new(state, i < models ? &result->models.models[i] : NULL, &result->counts[i]);
        if (row == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, row);
    }
    return list;
}

PyObject *prune(METHOD_ARGS)
{
    static const arg_spec spec = {
        "_prune", {"models", "before", "edges", "dry_run", "progress"}, 5, 5};
    call c;
    progress_call told;
    dm_progress progress;
    dm_prune_query query = {0};
    dm_prune_result pruned = {0};
    PyObject *names = NULL, *result = NULL;
    double *edges = NULL;
    dm_str *models = NULL;
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0 ||
        to_moment(c.state, c.args[1], "before", NAN, &query.before_s) < 0 ||
        to_flag(c.state, c.args[3], "dry_run", &query.dry_run) < 0 ||
        to_progress(c.args[4], self, &told, &progress) < 0)
        return NULL;
    if ((is_given(c.args[0]) &&
         to_names(c.state, c.args[0], &names, &models, &query.model_count) < 0) ||
        (is_given(c.args[2]) && to_doubles(c.args[2], &edges, &query.edge_count) < 0))
        goto done;
    query.models = models;
    query.edges_s = edges;
    core_enter();
    dm_status rc =
        dm_prune(c.core, &query, progress.report == NULL ? NULL : &progress, &pruned, &c.err);
    core_leave();
    if (!call_failed(&c, rc))
        result = pruned_list(c.state, &pruned, query.models == NULL);
    dm_prune_result_reset(&pruned);
done:
    PyMem_Free(models);
    PyMem_Free(edges);
    Py_XDECREF(names);
    return result;
}

/* ---- what is kept of runs ---- */

PyObject *kept_runs(METHOD_ARGS)
{
    static const arg_spec spec = {"_kept_runs", {"model_name"}, 1, 1};
    call c;
    dm_str model;
    dm_kept_runs runs = {0};
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0 ||
        (is_given(c.args[0]) && to_name(c.state, c.args[0], &model) < 0))
        return NULL;
    core_enter();
    dm_status rc = dm_kept_runs_get(c.core, is_given(c.args[0]) ? &model : NULL, &runs, &c.err);
    core_leave();
    PyObject *list = call_failed(&c, rc) ? NULL : PyList_New((Py_ssize_t)runs.count);
    for (size_t i = 0; list != NULL && i < runs.count; i++) {
        const dm_kept_run *run = &runs.runs[i];
        PyObject *row = Py_BuildValue("(ddLd)", run->start_time_s, run->end_time_s,
                                      (long long)run->runs, run->seconds);
        if (row == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, row);
    }
    dm_kept_runs_reset(&runs);
    return list;
}
