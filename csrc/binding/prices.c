/* SPDX-License-Identifier: MIT
 *
 * The methods on prices. */
#include "call.h"

#include <math.h>

/* ---- tiers, one at a time ---- */

static PyObject *tier_put(PyObject *self, const arg_spec *spec, dm_tier_mode mode,
                          PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    call c;
    dm_str model;
    dm_tier tier;
    double from_s;
    if (call_begin_model(&c, &model, self, spec, args, nargs, kwnames) < 0 ||
        to_tier(c.state, c.args[1], &tier) < 0 ||
        to_moment(c.state, c.args[2], "effective_from", NAN, &from_s) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_tier_put(c.core, model, &tier, mode, from_s, &c.err);
    core_leave();
    if (mode == DM_TIER_UPDATE)
        return finish_none(&c, rc);
    return call_failed(&c, rc) ? NULL : PyLong_FromLongLong(tier.tier_index);
}

PyObject *tier_add(METHOD_ARGS)
{
    static const arg_spec spec = {
        "add_tier_pricing", {"model_name", "tier_data", "effective_from"}, 2, 2};
    return tier_put(self, &spec, DM_TIER_ADD, args, nargs, kwnames);
}

PyObject *tier_update(METHOD_ARGS)
{
    static const arg_spec spec = {
        "update_tier_pricing", {"model_name", "tier_data", "effective_from"}, 2, 2};
    return tier_put(self, &spec, DM_TIER_UPDATE, args, nargs, kwnames);
}

PyObject *tier_set(METHOD_ARGS)
{
    static const arg_spec spec = {
        "set_tier_pricing", {"model_name", "tier_data", "effective_from"}, 2, 2};
    return tier_put(self, &spec, DM_TIER_SET, args, nargs, kwnames);
}

PyObject *tier_delete(METHOD_ARGS)
{
    static const arg_spec spec = {
        "delete_tier_pricing", {"model_name", "tier_index", "effective_from"}, 2, 2};
    call c;
    dm_str model;
    int64_t tier_index;
    double from_s;
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0 ||
        to_count(c.state, c.args[1], "tier_index", &tier_index) < 0 ||
        to_moment(c.state, c.args[2], "effective_from", NAN, &from_s) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_tier_delete(c.core, model, tier_index, from_s, &c.err);
    core_leave();
    return finish_none(&c, rc);
}

/* ---- everything else is a dm_price_change ---- */

static PyObject *change_apply(call *c, dm_str model, PyObject *effective_from,
                              dm_price_change *change)
{
    if (to_moment(c->state, effective_from, "effective_from", NAN, &change->effective_from_s) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_pricing_set(c->core, model, change, &c->err);
    core_leave();
    return finish_none(c, rc);
}

PyObject *hourly_price_set(METHOD_ARGS)
{
    static const arg_spec spec = {
        "update_hourly_price", {"model_name", "hourly_price", "effective_from"}, 2, 2};
    call c;
    dm_str model;
    dm_price_change change = {.sets = DM_PRICE_HOURLY};
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0 ||
        to_price(c.state, c.args[1], "hourly_price", &change.hourly_price) < 0)
        return NULL;
    return change_apply(&c, model, c.args[2], &change);
}

PyObject *billing_method_set(METHOD_ARGS)
{
    static const arg_spec spec = {
        "update_billing_method", {"model_name", "use_tier_pricing", "effective_from"}, 2, 2};
    call c;
    dm_str model;
    dm_price_change change = {.sets = DM_PRICE_METHOD};
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0 ||
        to_flag(c.state, c.args[1], "use_tier_pricing", &change.use_tier_pricing) < 0)
        return NULL;
    return change_apply(&c, model, c.args[2], &change);
}

PyObject *billing_strategy_set(METHOD_ARGS)
{
    static const arg_spec spec = {
        "set_billing_strategy", {"model_name", "strategy", "effective_from"}, 2, 2};
    call c;
    dm_str model;
    dm_price_change change = {.sets = DM_PRICE_STRATEGY};
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0 ||
        to_strategy(c.state, c.args[1], &change.strategy) < 0)
        return NULL;
    return change_apply(&c, model, c.args[2], &change);
}

int to_tiers(module_state *state, PyObject *object, dm_tier **tiers_out, size_t *count_out)
{
    PyObject *items = PySequence_Tuple(object); /* converting may run code that changes a list */
    if (items == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError))
            return -1;
        return raise_invalid_value(state, object, "tiers must be an iterable of tiers, not ");
    }
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    dm_tier *tiers = PyMem_New(dm_tier, (size_t)count + 1);
    int rc = tiers == NULL ? -1 : 0;
    if (tiers == NULL)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count && rc == 0; i++)
        rc = to_tier(state, PyTuple_GET_ITEM(items, i), &tiers[i]);
    Py_DECREF(items);
    if (rc < 0) {
        PyMem_Free(tiers);
        return -1;
    }
    *tiers_out = tiers;
    *count_out = (size_t)count;
    return 0;
}

static int change_parse(call *c, dm_price_change *change, dm_tier **tiers)
{
    PyObject *hourly = c->args[2], *method = c->args[3], *strategy = c->args[4];
    if (is_given(c->args[1])) {
        change->sets |= DM_PRICE_TIERS;
        if (to_tiers(c->state, c->args[1], tiers, &change->tier_count) < 0)
            return -1;
        change->tiers = *tiers;
    }
    if (is_given(hourly)) {
        change->sets |= DM_PRICE_HOURLY;
        if (to_price(c->state, hourly, "hourly_price", &change->hourly_price) < 0)
            return -1;
    }
    if (is_given(method)) {
        change->sets |= DM_PRICE_METHOD;
        if (to_flag(c->state, method, "use_tier_pricing", &change->use_tier_pricing) < 0)
            return -1;
    }
    if (is_given(strategy)) {
        change->sets |= DM_PRICE_STRATEGY;
        if (to_strategy(c->state, strategy, &change->strategy) < 0)
            return -1;
    }
    if (change->sets == 0)
        return raise_invalid(c->state, "set_pricing() needs tiers, hourly_price, use_tier_pricing "
                                       "or strategy");
    return 0;
}

PyObject *pricing_set(METHOD_ARGS)
{
    static const arg_spec spec = {
        "set_pricing",
        {"model_name", "tiers", "hourly_price", "use_tier_pricing", "strategy", "effective_from"},
        1,
        1};
    call c;
    dm_str model;
    dm_price_change change = {0};
    dm_tier *tiers = NULL;
    PyObject *result = NULL;
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) == 0 &&
        change_parse(&c, &change, &tiers) == 0)
        result = change_apply(&c, model, c.args[5], &change);
    PyMem_Free(tiers);
    return result;
}

/* ---- reading ---- */

PyObject *billing_get(METHOD_ARGS)
{
    static const arg_spec spec = {"get_model_billing", {"model_name"}, 1, 1};
    call c;
    dm_str model;
    dm_billing billing = {0};
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_billing_get(c.core, model, &billing, &c.err);
    core_leave();
    PyObject *result = call_failed(&c, rc) ? NULL : billing_new(c.state, &billing);
    dm_billing_reset(&billing);
    return result;
}

PyObject *price_history(METHOD_ARGS)
{
    static const arg_spec spec = {"get_price_history", {"model_name"}, 1, 1};
    call c;
    dm_str model;
    dm_tariffs tariffs = {0};
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_price_history(c.core, model, &tariffs, &c.err);
    core_leave();
    PyObject *list = call_failed(&c, rc) ? NULL : PyList_New((Py_ssize_t)tariffs.count);
    for (size_t i = 0; list != NULL && i < tariffs.count; i++) {
        PyObject *tariff = tariff_new(c.state, &tariffs.tariffs[i]);
        if (tariff == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, tariff);
    }
    dm_tariffs_reset(&tariffs);
    return list;
}
