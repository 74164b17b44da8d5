/* SPDX-License-Identifier: MIT
 *
 * The cost of a request, and how it came about. */
#include "module.h"

/* ---- from the core ---- */

static int decimal_import(module_state *state)
{
    PyObject *module = PyImport_ImportModule("decimal");
    PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "Decimal");
    PyObject *zero = type == NULL ? NULL : PyObject_CallFunction(type, "i", 0);
    Py_XDECREF(module);
    if (zero == NULL) {
        Py_XDECREF(type);
        return -1;
    }
    Py_XSETREF(state->decimal_zero, zero); /* importing may have run this already */
    Py_XSETREF(state->decimal_type, type);
    return 0;
}

PyObject *decimal_new(module_state *state, dm_amount amount)
{
    if (PyErr_Occurred()) /* another of the same record has failed */
        return NULL;
    if (state->decimal_type == NULL && decimal_import(state) < 0)
        return NULL;
    if (amount == 0)
        return Py_NewRef(state->decimal_zero);
    char text[DM_AMOUNT_TEXT_SIZE];
    dm_amount_to_text(amount, text);
    return PyObject_CallFunction(state->decimal_type, "s", text);
}

PyObject *cost_slice_new(module_state *state, const dm_price_slice *slice,
                         const dm_slice_tokens *tokens, dm_amount cost)
{
    record_value values[] = {{.whole = slice->tier_index},
                             {.whole = slice->start_tokens},
                             {.whole = slice->end_tokens == INT64_MAX ? 0 : slice->end_tokens},
                             {.whole = (long long)tokens->input},
                             {.whole = (long long)tokens->cache_hit},
                             {.whole = (long long)tokens->output},
                             {.real = dm_price_to_double(slice->input_price)},
                             {.real = dm_price_to_double(slice->output_price)},
                             {.real = dm_price_to_double(slice->cache_hit_price)},
                             {.real = dm_amount_to_double(cost)},
                             {.object = decimal_new(state, cost)}};
    return record_make(state, RECORD_COST_SLICE, values);
}

/* A tuple of the slices that have tokens. */
static PyObject *slices_new(module_state *state, const dm_price_slice *slices, size_t count,
                            const dm_slice_tokens *tokens, dm_amount *total)
{
    dm_error err;
    PyObject *list = PyList_New(0), *result = NULL;
    for (size_t i = 0; i < count && list != NULL; i++) {
        if (tokens[i].input + tokens[i].cache_hit + tokens[i].output == 0)
            continue;
        dm_amount cost = 0;
        dm_status rc = dm_cost_sum(&slices[i], 1, &tokens[i], &cost, &err);
        if (rc == DM_OK)
            rc = dm_amount_add(total, cost, 1, &err);
        PyObject *slice = rc == DM_OK ? cost_slice_new(state, &slices[i], &tokens[i], cost)
                                      : raise_error(state, rc, &err);
        if (slice == NULL || PyList_Append(list, slice) < 0)
            Py_CLEAR(list);
        Py_XDECREF(slice);
    }
    if (list != NULL)
        result = PyList_AsTuple(list);
    Py_XDECREF(list);
    return result;
}

PyObject *cost_new(module_state *state, dm_strategy strategy, const dm_price_slice *slices,
                   size_t slice_count, const dm_slice_tokens *counts)
{
    dm_amount total = 0;
    PyObject *parts = slices_new(state, slices, slice_count, counts, &total);
    if (parts == NULL)
        return NULL;
    record_value values[] = {{.real = dm_amount_to_double(total)},
                             {.object = decimal_new(state, total)},
                             {.object = PyUnicode_FromString(dm_strategy_name(strategy))},
                             {.object = parts}};
    return record_make(state, RECORD_COST, values);
}

/* ---- cost() ---- */

static int to_before(module_state *state, PyObject *object, const char *field, int64_t *out)
{
    *out = 0;
    if (object != NULL && to_count(state, object, field, out) < 0)
        return -1;
    if (*out < 0 || *out > DM_TOKENS_MAX)
        return raise_invalid_value(
            state, object, "%s must be a whole number from 0 to 9007199254740992, not ", field);
    return 0;
}

static int to_tokens(module_state *state, PyObject *const *args, dm_request *request,
                     dm_tokens_before *before, dm_strategy *strategy)
{
    if (to_count(state, args[1], "input_tokens", &request->input_tokens) < 0 ||
        to_count(state, args[2], "output_tokens", &request->output_tokens) < 0 ||
        (args[3] != NULL && to_count(state, args[3], "cache_n", &request->cache_n) < 0) ||
        (args[4] != NULL && to_strategy(state, args[4], strategy) < 0) ||
        to_before(state, args[5], "input_before", &before->input) < 0 ||
        to_before(state, args[6], "output_before", &before->output) < 0)
        return -1;
    dm_error err;
    dm_status rc = dm_request_check(request, &err);
    if (rc != DM_OK)
        (void)raise_error(state, rc, &err);
    return rc == DM_OK ? 0 : -1;
}

static PyObject *cost_of(module_state *state, const dm_tier *tiers, size_t count,
                         dm_strategy strategy, const dm_request *request, dm_tokens_before *before)
{
    dm_error err;
    dm_price_slice *slices = PyMem_New(dm_price_slice, count + 1);
    dm_slice_tokens *counts = PyMem_New(dm_slice_tokens, count + 1);
    PyObject *result = NULL;
    if (slices == NULL || counts == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    dm_status rc = dm_price_slices(tiers, count, slices, &err);
    if (rc != DM_OK) {
        (void)raise_error(state, rc, &err);
        goto done;
    }
    for (size_t i = 0; i < count; i++)
        counts[i] = (dm_slice_tokens){0};
    dm_request_rows rows = {.count = 1,
                            .input_tokens = &request->input_tokens,
                            .output_tokens = &request->output_tokens,
                            .cache_n = &request->cache_n};
    dm_cost_count(slices, count, strategy, &rows, before, counts);
    result = cost_new(state, strategy, slices, count, counts);
done:
    PyMem_Free(slices);
    PyMem_Free(counts);
    return result;
}

PyObject *cost_get(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const arg_spec spec = {"cost",
                                  {"tiers", "input_tokens", "output_tokens", "cache_n", "strategy",
                                   "input_before", "output_before"},
                                  3,
                                  4};
    module_state *state = PyModule_GetState(module);
    PyObject *given[8];
    dm_tier *tiers = NULL;
    size_t count = 0;
    dm_request request = {0};
    dm_tokens_before before = {0};
    dm_strategy strategy = DM_STRATEGY_GRADUATED;
    if (args_parse(&spec, args, nargs, kwnames, given) < 0 ||
        to_tokens(state, given, &request, &before, &strategy) < 0 ||
        to_tiers(state, given[0], &tiers, &count) < 0)
        return NULL;
    PyObject *result = cost_of(state, tiers, count, strategy, &request, &before);
    PyMem_Free(tiers);
    return result;
}
