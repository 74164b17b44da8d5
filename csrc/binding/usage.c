/* SPDX-License-Identifier: MIT
 *
 * Questions about usage. Where days and months begin is Python's to know (datamanager/windows.py);
 * here come edges. */
#include "call.h"

#include <math.h>

/* ---- rows ---- */

static double tokens_per_second(const dm_usage_row *row, double start_s, double end_s)
{
    if (!isfinite(start_s) || !isfinite(end_s))
        start_s = row->first_request_s, end_s = row->last_request_s;
    double seconds = end_s - start_s;
    return seconds > 0 ? ((double)row->input_tokens + (double)row->output_tokens) / seconds : NAN;
}

/* Of rows that are not billed by the hour, tokens are all that is paid. */
static PyObject *cost_object(module_state *state, const dm_usage_row *row, dm_amount cost,
                             PyObject *token_cost)
{
    return row->runtime_cost == 0 ? Py_XNewRef(token_cost) : decimal_new(state, cost);
}

static PyObject *usage_row_new(module_state *state, const row_labels *labels, const double *edges_s,
                               const dm_usage_row *row)
{
    double start_s = edges_s[row->bucket], end_s = edges_s[row->bucket + 1];
    dm_amount cost = row->token_cost;
    dm_error err;
    dm_status rc = dm_amount_add(&cost, row->runtime_cost, 1, &err);
    if (rc != DM_OK)
        return raise_error(state, rc, &err);
    double share = row->input_tokens > 0 ? (double)row->cache_n / (double)row->input_tokens : NAN;
    PyObject *token_cost = decimal_new(state, row->token_cost);
    record_value values[] = {{.object = row_label(labels->models, row->model)},
                             {.object = row_label(labels->edges, row->bucket)},
                             {.object = row_label(labels->edges, row->bucket + 1)},
                             {.whole = row->requests},
                             {.whole = row->input_tokens},
                             {.whole = row->output_tokens},
                             {.whole = row->cache_n},
                             {.whole = row->prompt_n},
                             {.object = number_or_none(share)},
                             {.object = number_or_none(tokens_per_second(row, start_s, end_s))},
                             {.object = number_or_none(row->first_request_s)},
                             {.object = number_or_none(row->last_request_s)},
                             {.real = row->runtime_s},
                             {.real = dm_amount_to_double(row->token_cost)},
                             {.real = dm_amount_to_double(row->runtime_cost)},
                             {.real = dm_amount_to_double(cost)},
                             {.object = token_cost},
                             {.object = decimal_new(state, row->runtime_cost)},
                             {.object = cost_object(state, row, cost, token_cost)}};
    return record_make(state, RECORD_USAGE, values);
}

static PyObject *usage_list(module_state *state, const dm_usage *usage, const row_labels *labels,
                            const double *edges_s)
{
    PyObject *list = PyList_New((Py_ssize_t)usage->row_count);
    for (size_t i = 0; list != NULL && i < usage->row_count; i++) {
        PyObject *row = usage_row_new(state, labels, edges_s, &usage->rows[i]);
        if (row == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, row);
    }
    return list;
}

/* ---- parts ---- */

/* A CostSlice, or (seconds, hourly price, exact cost). */
static PyObject *part_new(module_state *state, const dm_usage_part *part)
{
    if (!part->by_hour)
        return cost_slice_new(state, &part->slice, &part->tokens, part->cost);
    return Py_BuildValue("(ddN)", part->runtime_s, dm_price_to_double(part->hourly_price),
                         decimal_new(state, part->cost));
}

/* A list of (model, since when its tariff held or None, what was paid). */
static PyObject *part_list(module_state *state, const dm_usage *usage, const row_labels *labels)
{
    PyObject *list = PyList_New((Py_ssize_t)usage->part_count);
    for (size_t i = 0; list != NULL && i < usage->part_count; i++) {
        const dm_usage_part *part = &usage->parts[i];
        PyObject *row = Py_BuildValue("(NNN)", row_label(labels->models, part->model),
                                      number_or_none(part->from_s), part_new(state, part));
        if (row == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, row);
    }
    return list;
}

/* ---- the methods ---- */

static PyObject *answer(call *c, dm_status rc, const dm_usage_query *query, const dm_usage *usage)
{
    if (rc == DM_MISUSE && !PyErr_Occurred())
        return Py_NewRef(Py_None);
    if (call_failed(c, rc))
        return NULL;
    row_labels labels;
    PyObject *result = NULL;
    if (row_labels_make(&labels, &usage->models, query->edges_s, query->edge_count) == 0)
        result = Py_BuildValue("(NN)", usage_list(c->state, usage, &labels, query->edges_s),
                               part_list(c->state, usage, &labels));
    row_labels_reset(&labels);
    return result;
}

PyObject *usage_get(METHOD_ARGS)
{
    static const arg_spec spec = {
        "_usage",
        {"models", "edges", "periods", "strategy", "current_prices", "counts_only"},
        5,
        6};
    call c;
    PyObject *names = NULL, *result = NULL;
    double *edges = NULL, *periods = NULL;
    dm_str *models = NULL;
    dm_strategy strategy;
    dm_usage_query query = {0};
    dm_usage usage = {0};
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0 ||
        to_doubles(c.args[1], &edges, &query.edge_count) < 0)
        return NULL;
    if ((is_given(c.args[0]) &&
         to_names(c.state, c.args[0], &names, &models, &query.model_count) < 0) ||
        (is_given(c.args[2]) && to_doubles(c.args[2], &periods, &query.period_count) < 0) ||
        (is_given(c.args[3]) && to_strategy(c.state, c.args[3], &strategy) < 0) ||
        to_flag(c.state, c.args[4], "current_prices", &query.current_prices) < 0 ||
        (c.args[5] != NULL && to_flag(c.state, c.args[5], "counts_only", &query.counts_only) < 0))
        goto done;
    query.models = models;
    query.edges_s = edges;
    query.periods_s = periods;
    query.strategy = is_given(c.args[3]) ? &strategy : NULL;
    core_enter();
    dm_status rc = dm_usage_get(c.core, &query, &usage, &c.err);
    core_leave();
    result = answer(&c, rc, &query, &usage);
    dm_usage_reset(&usage);
done:
    PyMem_Free(models);
    PyMem_Free(edges);
    PyMem_Free(periods);
    Py_XDECREF(names);
    return result;
}

PyObject *time_span_get(METHOD_ARGS)
{
    static const arg_spec spec = {"_time_span", {"models"}, 1, 1};
    call c;
    PyObject *names = NULL, *result = NULL;
    dm_str *models = NULL;
    size_t count = 0;
    double first_s = NAN, last_s = NAN;
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0)
        return NULL;
    if (is_given(c.args[0]) && to_names(c.state, c.args[0], &names, &models, &count) < 0)
        goto done;
    core_enter();
    dm_status rc = dm_time_span_get(c.core, models, count, &first_s, &last_s, &c.err);
    core_leave();
    if (!call_failed(&c, rc))
        result = Py_BuildValue("(NN)", number_or_none(first_s), number_or_none(last_s));
done:
    PyMem_Free(models);
    Py_XDECREF(names);
    return result;
}
