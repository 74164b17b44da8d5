/* SPDX-License-Identifier: MIT
 *
 * Python's values to the core's. The rules on ranges are the core's (check.c); here is what only
 * Python can get wrong: types. */
#include "module.h"

#include <math.h>
#include <string.h>

#define WHOLE_NUMBER "a whole number from 0 to 9007199254740992"
#define SECONDS      "a finite number of seconds of at least 0"

/* NumPy's bool is a number to Python's C API, but a flag is no count. */
static bool is_flag(PyObject *object)
{
    return PyBool_Check(object) || strncmp(Py_TYPE(object)->tp_name, "numpy.bool", 10) == 0;
}

static bool is_real(PyObject *object)
{
    const PyNumberMethods *number = Py_TYPE(object)->tp_as_number;
    return number != NULL && (number->nb_float != NULL || number->nb_index != NULL) &&
           !is_flag(object);
}

static int to_text(module_state *state, PyObject *object, const char *field, dm_str *out)
{
    if (!PyUnicode_Check(object))
        return raise_invalid_value(state, object, "%s must be a str, not ", field);
    Py_ssize_t length = 0;
    out->bytes = PyUnicode_AsUTF8AndSize(object, &length);
    out->length = (size_t)length;
    if (out->bytes != NULL)
        return 0;
    return raise_invalid_value(state, object, "%s must not hold lone surrogates: ", field);
}

int to_name(module_state *state, PyObject *object, dm_str *out)
{
    return to_text(state, object, "model_name", out);
}

int to_new_name(module_state *state, PyObject *object, dm_str *out)
{
    return to_text(state, object, "new_name", out);
}

int to_request_id(module_state *state, PyObject *object, dm_str *out)
{
    return to_text(state, object, "request_id", out);
}

static int to_real(module_state *state, PyObject *object, const char *field, const char *wanted,
                   double *out)
{
    if (PyFloat_CheckExact(object)) {
        *out = PyFloat_AS_DOUBLE(object);
        return 0;
    }
    if (!is_real(object))
        return raise_invalid_value(state, object, "%s must be %s, not ", field, wanted);
    *out = PyFloat_AsDouble(object);
    if (*out != -1.0 || !PyErr_Occurred())
        return 0;
    return raise_invalid_value(state, object, "%s must be %s, not ", field, wanted);
}

int to_time(module_state *state, PyObject *object, const char *field, double *out)
{
    return to_real(state, object, field, "a finite number of seconds since 1970", out);
}

int to_seconds(module_state *state, PyObject *object, const char *field, double *out)
{
    int rc = to_real(state, object, field, SECONDS, out);
    if (rc == 0 && isnan(*out)) /* to the core that is: not known */
        rc = raise_invalid_value(state, object, "%s must be " SECONDS ", not ", field);
    return rc;
}

int to_price(module_state *state, PyObject *object, const char *field, double *out)
{
    return to_real(state, object, field, "a finite price of at least 0", out);
}

static int refuse_count(module_state *state, PyObject *object, const char *field)
{
    return raise_invalid_value(state, object, "%s must be " WHOLE_NUMBER ", not ", field);
}

static int count_of_float(module_state *state, PyObject *object, const char *field, int64_t *out)
{
    double value = PyFloat_AsDouble(object);
    if (PyErr_Occurred() || value != floor(value) || fabs(value) > (double)DM_TOKENS_MAX)
        return refuse_count(state, object, field);
    *out = (int64_t)value;
    return 0;
}

/* As an int, a new reference. A Decimal or a Fraction may be next to a whole number, or above what
 * a double can tell apart, so it is compared as what it is; but only below that, since the int of
 * Decimal("1E+1000000") takes a minute. */
static PyObject *whole_of(PyObject *object)
{
    if (PyLong_Check(object))
        return Py_NewRef(object);
    if (PyIndex_Check(object))
        return PyNumber_Index(object);
    double near = PyFloat_AsDouble(object);
    if (near == -1.0 && PyErr_Occurred())
        return NULL;
    PyObject *whole =
        fabs(near) <= (double)DM_TOKENS_MAX ? PyNumber_Long(object) : Py_NewRef(Py_None);
    int same = whole == NULL ? -1 : PyObject_RichCompareBool(whole, object, Py_EQ);
    if (same == 0)
        PyErr_SetNone(PyExc_ValueError); /* the caller says what is wrong */
    if (same != 1)
        Py_CLEAR(whole);
    return whole;
}

int to_count(module_state *state, PyObject *object, const char *field, int64_t *out)
{
    if (!is_real(object))
        return refuse_count(state, object, field);
    if (PyFloat_Check(object))
        return count_of_float(state, object, field, out);
    PyObject *whole = whole_of(object);
    int overflow = 0;
    long long value = whole == NULL ? -1 : PyLong_AsLongLongAndOverflow(whole, &overflow);
    Py_XDECREF(whole);
    if (overflow != 0 || (value == -1 && PyErr_Occurred()))
        return refuse_count(state, object, field);
    *out = value;
    return 0;
}

int to_flag(module_state *state, PyObject *object, const char *field, bool *out)
{
    long value = -1;
    if (is_flag(object)) {
        value = PyObject_IsTrue(object);
    } else if (PyLong_Check(object) || PyIndex_Check(object)) {
        int64_t whole = -1;
        if (to_count(state, object, field, &whole) == 0 && whole <= 1)
            value = (long)whole;
    }
    if (value != 0 && value != 1)
        return raise_invalid_value(state, object, "%s must be True or False, not ", field);
    *out = value == 1;
    return 0;
}

/* A list or tuple of exactly `count` items: a new reference. */
static PyObject *to_items(module_state *state, PyObject *object, const char *what,
                          const char *fields, Py_ssize_t count)
{
    bool text = PyUnicode_Check(object) || PyBytes_Check(object) || PyByteArray_Check(object);
    PyObject *items = NULL;
    if (PyTuple_CheckExact(object))
        items = Py_NewRef(object);
    else if (!text && PySequence_Check(object) && !PyDict_Check(object))
        items = PySequence_Tuple(object); /* a copy: converting may run code that changes a list */
    if (items == NULL) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError))
            return NULL;
        (void)raise_invalid_value(state, object, "%s must be a sequence of %zd values (%s), not ",
                                  what, count, fields);
        return NULL;
    }
    if (PyTuple_GET_SIZE(items) != count) {
        (void)raise_invalid(state, "%s must have %zd values (%s), not %zd", what, count, fields,
                            PyTuple_GET_SIZE(items));
        Py_CLEAR(items);
    }
    return items;
}

int to_request(module_state *state, PyObject *object, dm_request *out)
{
    PyObject *items = to_items(state, object, "request_data",
                               "timestamp, input_tokens, output_tokens, cache_n, prompt_n", 5);
    if (items == NULL)
        return -1;
    int rc = to_time(state, PyTuple_GET_ITEM(items, 0), "timestamp", &out->timestamp_s);
    if (rc == 0)
        rc = to_count(state, PyTuple_GET_ITEM(items, 1), "input_tokens", &out->input_tokens);
    if (rc == 0)
        rc = to_count(state, PyTuple_GET_ITEM(items, 2), "output_tokens", &out->output_tokens);
    if (rc == 0)
        rc = to_count(state, PyTuple_GET_ITEM(items, 3), "cache_n", &out->cache_n);
    if (rc == 0)
        rc = to_count(state, PyTuple_GET_ITEM(items, 4), "prompt_n", &out->prompt_n);
    Py_DECREF(items);
    return rc;
}

int to_tier(module_state *state, PyObject *object, dm_tier *out)
{
    if (record_to_tier(state, object, out))
        return 0;
    PyObject *items = to_items(state, object, "tier_data",
                               "tier_index, start_tokens, end_tokens, input_price_per_million, "
                               "output_price_per_million, support_cache, "
                               "cache_hit_price_per_million",
                               7);
    if (items == NULL)
        return -1;
    int rc = to_count(state, PyTuple_GET_ITEM(items, 0), "tier_index", &out->tier_index);
    if (rc == 0)
        rc = to_count(state, PyTuple_GET_ITEM(items, 1), "start_tokens", &out->start_tokens);
    if (rc == 0)
        rc = to_count(state, PyTuple_GET_ITEM(items, 2), "end_tokens", &out->end_tokens);
    if (rc == 0)
        rc = to_price(state, PyTuple_GET_ITEM(items, 3), "input_price_per_million",
                      &out->input_price_per_million);
    if (rc == 0)
        rc = to_price(state, PyTuple_GET_ITEM(items, 4), "output_price_per_million",
                      &out->output_price_per_million);
    if (rc == 0)
        rc = to_flag(state, PyTuple_GET_ITEM(items, 5), "support_cache", &out->support_cache);
    PyObject *hit = PyTuple_GET_ITEM(items, 6);
    out->cache_hit_price_per_million = 0;
    if (rc == 0 && (out->support_cache || hit != Py_None))
        rc = to_price(state, hit, "cache_hit_price_per_million", &out->cache_hit_price_per_million);
    Py_DECREF(items);
    return rc;
}

bool is_given(PyObject *object)
{
    return object != NULL && object != Py_None;
}

int to_moment(module_state *state, PyObject *object, const char *field, double otherwise,
              double *out)
{
    *out = otherwise;
    if (!is_given(object))
        return 0;
    if (is_real(object) || !PyObject_HasAttrString(object, "timestamp"))
        return to_real(state, object, field, "seconds since 1970 or a datetime", out);
    PyObject *seconds = PyObject_CallMethod(object, "timestamp", NULL);
    if (seconds == NULL)
        return raise_invalid_value(state, object, "%s is too near an end of the calendar: ", field);
    int rc = to_time(state, seconds, field, out);
    Py_DECREF(seconds);
    return rc;
}

int to_path(module_state *state, PyObject *object, const char *field, PyObject **bytes_out)
{
    if (PyUnicode_FSConverter(object, bytes_out)) {
        if (PyBytes_GET_SIZE(*bytes_out) > 0)
            return 0;
        Py_CLEAR(*bytes_out);
        return raise_invalid(state, "%s must not be empty", field);
    }
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str, bytes or os.PathLike, not %.100s", field,
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    if (!PyErr_ExceptionMatches(PyExc_ValueError))
        return -1;
    return raise_invalid_value(state, object,
                               "%s must not hold NUL characters or lone surrogates: ", field);
}

int to_timeout(module_state *state, PyObject *object, int64_t *timeout_ms_out)
{
    double timeout_s = 0;
    *timeout_ms_out = 0;
    if (object == NULL)
        return 0;
    if (to_seconds(state, object, "busy_timeout", &timeout_s) < 0)
        return -1;
    if (timeout_s < 0 || isinf(timeout_s))
        return raise_invalid_value(state, object, "busy_timeout must be " SECONDS ", not ");
    double timeout_ms = ceil(timeout_s * 1000);
    *timeout_ms_out = timeout_ms == 0     ? -1
                      : timeout_ms > 1e15 ? 1000000000000000
                                          : (int64_t)timeout_ms;
    return 0;
}

int to_strategy(module_state *state, PyObject *object, dm_strategy *out)
{
    dm_error err = {0};
    const char *name = PyUnicode_Check(object) ? PyUnicode_AsUTF8(object) : NULL;
    if (name != NULL && dm_strategy_parse(name, out, &err) == DM_OK)
        return 0;
    return raise_invalid_value(state, object,
                               "strategy must be 'graduated', 'volume' or 'cumulative', not ");
}

int to_window(module_state *state, PyObject *minutes, PyObject *start, PyObject *end,
              PyObject *limit, dm_window *out)
{
    *out = DM_WINDOW_ALL;
    double length_min = 0;
    if (is_given(minutes) &&
        to_real(state, minutes, "minutes", "a finite number of at least 0", &length_min) < 0)
        return -1;
    if (!isfinite(length_min) || length_min < 0)
        return raise_invalid_value(state, minutes,
                                   "minutes must be a finite number of at least 0, not ");
    if (length_min > 0 && (is_given(start) || is_given(end)))
        return raise_invalid(state, "minutes and start or end exclude each other");
    if (length_min > 0)
        out->start_s = dm_now_s() - length_min * 60;
    if (to_moment(state, start, "start", out->start_s, &out->start_s) < 0 ||
        to_moment(state, end, "end", INFINITY, &out->end_s) < 0)
        return -1;
    return is_given(limit) ? to_count(state, limit, "limit", &out->limit) : 0;
}

/* ---- lists to arrays ---- */

int to_doubles(PyObject *object, double **values_out, size_t *count_out)
{
    PyObject *items = PySequence_Tuple(object);
    if (items == NULL)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    double *values = PyMem_New(double, (size_t)count + 1);
    if (values == NULL)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; values != NULL && i < count; i++) {
        values[i] = PyFloat_AsDouble(PyTuple_GET_ITEM(items, i));
        if (values[i] == -1.0 && PyErr_Occurred()) {
            PyMem_Free(values);
            values = NULL;
        }
    }
    Py_DECREF(items);
    *values_out = values;
    *count_out = (size_t)count;
    return values == NULL ? -1 : 0;
}

int to_names(module_state *state, PyObject *object, PyObject **items, dm_str **names_out,
             size_t *count_out)
{
    *items = PySequence_Tuple(object);
    if (*items == NULL)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(*items);
    dm_str *names = PyMem_New(dm_str, (size_t)count + 1);
    if (names == NULL)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; names != NULL && i < count; i++)
        if (to_name(state, PyTuple_GET_ITEM(*items, i), &names[i]) < 0) {
            PyMem_Free(names);
            names = NULL;
        }
    *names_out = names;
    *count_out = (size_t)count;
    return names == NULL ? -1 : 0;
}
