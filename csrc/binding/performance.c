/* SPDX-License-Identifier: MIT
 *
 * How fast requests were answered: the core's rows as records. */
#include "call.h"

#include <math.h>

static double ratio(double of, double by)
{
    return by > 0 ? of / by : NAN;
}

static double requests_per_second(const dm_performance_row *row, double start_s, double end_s)
{
    if (!isfinite(start_s) || !isfinite(end_s))
        start_s = row->first_request_s, end_s = row->last_request_s;
    return ratio((double)row->requests, end_s - start_s);
}

static PyObject *tokens_or_none(double value)
{
    return isnan(value) ? Py_NewRef(Py_None) : PyLong_FromDouble(value);
}

static record_value *percentiles_put(record_value *at, const dm_percentiles *seen,
                                     PyObject *(*to_object)(double))
{
    const double values[] = {seen->p50, seen->p90, seen->p95, seen->p99, seen->max};
    for (int i = 0; i < 5; i++)
        *at++ = (record_value){.object = to_object(values[i])};
    return at;
}

static PyObject *performance_row_new(module_state *state, const row_labels *labels,
                                     const double *edges_s, const dm_performance_row *row)
{
    double start_s = edges_s[row->bucket], end_s = edges_s[row->bucket + 1];
    record_value values[27] = {
        {.object = row_label(labels->models, row->model)},
        {.object = row_label(labels->edges, row->bucket)},
        {.object = row_label(labels->edges, row->bucket + 1)},
        {.whole = row->requests},
        {.object = number_or_none(requests_per_second(row, start_s, end_s))},
        {.object = number_or_none(ratio(row->prompt_tokens, row->prompt_s))},
        {.object = number_or_none(ratio(row->generation_tokens, row->generation_s))}};
    record_value *at = percentiles_put(values + 7, &row->duration_s, number_or_none);
    at = percentiles_put(at, &row->first_token_s, number_or_none);
    at = percentiles_put(at, &row->input_tokens, tokens_or_none);
    (void)percentiles_put(at, &row->output_tokens, tokens_or_none);
    return record_make(state, RECORD_PERFORMANCE, values);
}

static PyObject *performance_list(module_state *state, const dm_performance *performance,
                                  const double *edges_s, size_t edge_count)
{
    row_labels labels;
    PyObject *list = NULL;
    if (row_labels_make(&labels, &performance->models, edges_s, edge_count) == 0)
        list = PyList_New((Py_ssize_t)performance->row_count);
    for (size_t i = 0; list != NULL && i < performance->row_count; i++) {
        PyObject *row = performance_row_new(state, &labels, edges_s, &performance->rows[i]);
        if (row == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, row);
    }
    row_labels_reset(&labels);
    return list;
}

PyObject *performance_get(METHOD_ARGS)
{
    static const arg_spec spec = {"_performance", {"models", "edges"}, 2, 2};
    call c;
    PyObject *names = NULL, *result = NULL;
    double *edges = NULL;
    dm_str *models = NULL;
    size_t edge_count = 0, model_count = 0;
    dm_performance performance = {0};
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0 ||
        to_doubles(c.args[1], &edges, &edge_count) < 0)
        return NULL;
    if (is_given(c.args[0]) && to_names(c.state, c.args[0], &names, &models, &model_count) < 0)
        goto done;
    core_enter();
    dm_status rc =
        dm_performance_get(c.core, models, model_count, edges, edge_count, &performance, &c.err);
    core_leave();
    if (!call_failed(&c, rc))
        result = performance_list(c.state, &performance, edges, edge_count);
    dm_performance_reset(&performance);
done:
    PyMem_Free(models);
    PyMem_Free(edges);
    Py_XDECREF(names);
    return result;
}
