/* SPDX-License-Identifier: MIT
 *
 * Many rows at once: an iterable of rows, a mapping of columns or a table of named columns, which
 * are borrowed where their memory is already what the core reads. */
#include "module.h"

#include <string.h>

#define ROW_LENGTH 5 /* a row has no timing; columns may */

static const char *const column_names[ROW_COLUMNS] = {
    "timestamp", "input_tokens", "output_tokens", "cache_n", "prompt_n", "duration", "first_token"};

static bool column_is_real(int i)
{
    return i == 0 || i >= ROW_LENGTH;
}

void row_columns_reset(row_columns *columns)
{
    for (int i = 0; i < ROW_COLUMNS; i++) {
        PyMem_Free(columns->owned[i]);
        if (columns->has_view[i])
            PyBuffer_Release(&columns->views[i]);
    }
    PyMem_Free(columns->request_ids);
    Py_XDECREF(columns->texts);
    memset(columns, 0, sizeof *columns);
}

static void column_set(row_columns *columns, int i, const void *data)
{
    dm_request_rows *rows = &columns->rows;
    const void **places[ROW_COLUMNS] = {
        (const void **)&rows->timestamp_s,   (const void **)&rows->input_tokens,
        (const void **)&rows->output_tokens, (const void **)&rows->cache_n,
        (const void **)&rows->prompt_n,      (const void **)&rows->duration_s,
        (const void **)&rows->first_token_s};
    *places[i] = data;
}

/* "row N: " before the text of the InvalidDataError that is set. */
static int prefix_row(module_state *state, size_t row)
{
    if (!PyErr_ExceptionMatches(state->errors[DM_INVALID]))
        return -1;
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    (void)raise_invalid(state, "row %zu: %S", row, value);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return -1;
}

/* ---- tables of others ---- */

/* A new reference; NULL where there is none, with an error set where that could not be told. */
static PyObject *attribute_find(PyObject *object, const char *name)
{
    PyObject *found = PyObject_GetAttrString(object, name);
    if (found == NULL)
        (void)error_is_refusal();
    return found;
}

/* The names of the columns of what is no mapping: a new list; NULL as above where it is no table.
 * Arrow's have their columns themselves as `columns`. Without this, what iterates by its columns
 * (Arrow's and polars' tables do) would be taken for rows. */
static PyObject *table_names(PyObject *object)
{
    if (PyList_Check(object) || PyTuple_Check(object) || !PyMapping_Check(object))
        return NULL;
    PyObject *names = attribute_find(object, "column_names");
    if (names == NULL && !PyErr_Occurred())
        names = attribute_find(object, "columns");
    PyObject *list = names == NULL ? NULL : PySequence_List(names);
    if (names != NULL && list == NULL)
        (void)error_is_refusal(); /* a method, as some have */
    Py_XDECREF(names);
    return list;
}

static bool is_table(PyObject *object)
{
    PyObject *names = table_names(object);
    Py_XDECREF(names);
    return names != NULL;
}

/* The values of rows one after the other: a new tuple; NULL, maybe with no error set, where it is
 * none. A set has an order of its own, another in each process, and so would say nothing about
 * which value is of which row; what a mapping or a table holds stands by its keys. What pandas
 * marks as missing, in one of several ways, is None; Arrow's scalars are no numbers or texts. */
static PyObject *values_of_rows(PyObject *object)
{
    if (PyUnicode_Check(object) || PyAnySet_Check(object) ||
        PyType_HasFeature(Py_TYPE(object), Py_TPFLAGS_MAPPING) || is_table(object) ||
        PyErr_Occurred())
        return NULL;
    PyObject *list = NULL;
    if (PyObject_HasAttrString(object, "isna"))
        list = PyObject_CallMethod(object, "to_numpy", "sOO", "O", Py_False, Py_None);
    else if (PyObject_HasAttrString(object, "to_pylist"))
        list = PyObject_CallMethod(object, "to_pylist", NULL);
    else
        list = Py_NewRef(object);
    PyObject *values = list == NULL ? NULL : PySequence_Tuple(list);
    Py_XDECREF(list);
    return values;
}

/* ---- rows ---- */

static int rows_reserve(row_columns *columns, size_t *capacity)
{
    if (columns->rows.count < *capacity)
        return 0;
    size_t wanted = *capacity == 0 ? 256 : *capacity * 2;
    for (int i = 0; i < ROW_LENGTH; i++) {
        void *grown = PyMem_Realloc(columns->owned[i], wanted * 8);
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        columns->owned[i] = grown;
    }
    *capacity = wanted;
    return 0;
}

static int row_append(module_state *state, PyObject *row, row_columns *columns)
{
    dm_request request;
    size_t at = columns->rows.count;
    if (to_request(state, row, &request) < 0)
        return prefix_row(state, at);
    ((double *)columns->owned[0])[at] = request.timestamp_s;
    ((int64_t *)columns->owned[1])[at] = request.input_tokens;
    ((int64_t *)columns->owned[2])[at] = request.output_tokens;
    ((int64_t *)columns->owned[3])[at] = request.cache_n;
    ((int64_t *)columns->owned[4])[at] = request.prompt_n;
    columns->rows.count++;
    return 0;
}

static int rows_of_iterable(module_state *state, PyObject *object, row_columns *columns)
{
    size_t capacity = 0;
    PyObject *iterator = PyAnySet_Check(object) ? NULL : PyObject_GetIter(object), *row = NULL;
    if (iterator == NULL) {
        return raise_invalid_value(
            state, object,
            "rows must be an iterable of rows in order, or a mapping of columns, not ");
    }
    int rc = 0;
    while (rc == 0 && (row = PyIter_Next(iterator)) != NULL) {
        rc = rows_reserve(columns, &capacity);
        if (rc == 0)
            rc = row_append(state, row, columns);
        if (rc == 0 && columns->rows.count % 4096 == 0)
            rc = PyErr_CheckSignals();
        Py_DECREF(row);
    }
    Py_DECREF(iterator);
    for (int i = 0; i < ROW_LENGTH; i++)
        column_set(columns, i, columns->owned[i]);
    return rc < 0 || PyErr_Occurred() ? -1 : 0;
}

/* ---- columns ---- */

/* Element `at` of a buffer as a number; false where its format is no real number's. */
static bool element_read(const char *at, char format, Py_ssize_t size, bool *is_real_out,
                         double *real, int64_t *whole)
{
    *is_real_out = format == 'd' || format == 'f';
    if (format == 'd') {
        memcpy(real, at, sizeof *real);
    } else if (format == 'f') {
        float single;
        memcpy(&single, at, sizeof single);
        *real = single;
    } else if (strchr("bhilqn", format) != NULL) {
        int8_t i8;
        int16_t i16;
        int32_t i32;
        if (size == 8)
            memcpy(whole, at, 8);
        else if (size == 4)
            memcpy(&i32, at, 4), *whole = i32;
        else if (size == 2)
            memcpy(&i16, at, 2), *whole = i16;
        else
            memcpy(&i8, at, 1), *whole = i8;
    } else if (strchr("BHILQN", format) != NULL) {
        uint64_t value = 0;
        uint16_t u16;
        uint32_t u32;
        if (size == 8)
            memcpy(&value, at, 8);
        else if (size == 4)
            memcpy(&u32, at, 4), value = u32;
        else if (size == 2)
            memcpy(&u16, at, 2), value = u16;
        else
            value = (unsigned char)*at;
        *is_real_out = value > INT64_MAX; /* too large for a count, but not for a time */
        *real = (double)value;
        *whole = *is_real_out ? 0 : (int64_t)value;
    } else {
        return false;
    }
    return true;
}

static int element_store(module_state *state, row_columns *columns, int i, size_t row, bool real_in,
                         double real, int64_t whole)
{
    if (column_is_real(i)) {
        ((double *)columns->owned[i])[row] = real_in ? real : (double)whole;
        return 0;
    }
    if (real_in && !(real >= -(double)DM_TOKENS_MAX && real <= (double)DM_TOKENS_MAX &&
                     real == (double)(int64_t)real)) {
        PyObject *value = PyFloat_FromDouble(real);
        if (value != NULL)
            (void)raise_invalid_value(state, value,
                                      "row %zu: %s must be a whole number from 0 to "
                                      "9007199254740992, not ",
                                      row, column_names[i]);
        Py_XDECREF(value);
        return -1;
    }
    ((int64_t *)columns->owned[i])[row] = real_in ? (int64_t)real : whole;
    return 0;
}

static int refuse_format(module_state *state, int i, const char *format)
{
    return raise_invalid(state, "column %s must hold numbers, not format '%s'", column_names[i],
                         format);
}

static int column_of_view(module_state *state, row_columns *columns, int i)
{
    Py_buffer *view = &columns->views[i];
    const char *format = view->format == NULL ? "B" : view->format;
    if (*format == '@' || *format == '=' || *format == (PY_BIG_ENDIAN ? '>' : '<'))
        format++;
    if (view->ndim != 1)
        return raise_invalid(state, "column %s must have one dimension of numbers",
                             column_names[i]);
    if (format[0] == '\0' || format[1] != '\0')
        return refuse_format(state, i, view->format);
    size_t count = (size_t)view->shape[0];
    /* ctypes gives no strides, though they were asked for. */
    Py_ssize_t stride = view->strides == NULL ? view->itemsize : view->strides[0];
    if (stride == 8 && view->itemsize == 8 && (uintptr_t)view->buf % 8 == 0 &&
        (column_is_real(i) ? *format == 'd' : strchr("lqn", *format) != NULL)) {
        column_set(columns, i, view->buf);
        return 0;
    }
    columns->owned[i] = PyMem_Malloc(count * 8 + 1);
    if (columns->owned[i] == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t row = 0; row < count; row++) {
        bool is_real_value = false;
        double real = 0;
        int64_t whole = 0;
        if (!element_read((const char *)view->buf + (Py_ssize_t)row * stride, *format,
                          view->itemsize, &is_real_value, &real, &whole))
            return refuse_format(state, i, view->format);
        if (element_store(state, columns, i, row, is_real_value, real, whole) < 0)
            return -1;
    }
    column_set(columns, i, columns->owned[i]);
    return 0;
}

static int item_store(module_state *state, PyObject *item, row_columns *columns, int i, size_t row)
{
    double *reals = columns->owned[i];
    if (i >= ROW_LENGTH && item == Py_None) {
        reals[row] = Py_NAN;
        return 0;
    }
    if (i >= ROW_LENGTH)
        return to_seconds(state, item, column_names[i], reals + row);
    return i == 0 ? to_time(state, item, column_names[i], reals + row)
                  : to_count(state, item, column_names[i], (int64_t *)columns->owned[i] + row);
}

static int column_of_sequence(module_state *state, PyObject *object, row_columns *columns, int i,
                              size_t *count)
{
    PyObject *items = values_of_rows(object);
    if (items == NULL) {
        return raise_invalid(state, "column %s must be a sequence of numbers, not %.100s",
                             column_names[i], Py_TYPE(object)->tp_name);
    }
    *count = (size_t)PyTuple_GET_SIZE(items);
    columns->owned[i] = PyMem_Malloc(*count * 8 + 1);
    int rc = columns->owned[i] == NULL ? (PyErr_NoMemory(), -1) : 0;
    for (size_t row = 0; row < *count && rc == 0; row++) {
        PyObject *item = PyTuple_GET_ITEM(items, (Py_ssize_t)row);
        rc = item_store(state, item, columns, i, row);
        if (rc < 0)
            rc = prefix_row(state, row);
        else if (row % 4096 == 4095)
            rc = PyErr_CheckSignals();
    }
    Py_DECREF(items);
    column_set(columns, i, columns->owned[i]);
    return rc;
}

/* NumPy's masked arrays give away what is behind the mask as a buffer; as a list, None. */
static int column_of_masked(module_state *state, PyObject *object, row_columns *columns, int i,
                            size_t *count)
{
    PyObject *items = PyObject_CallMethod(object, "tolist", NULL);
    int rc = items == NULL ? -1 : column_of_sequence(state, items, columns, i, count);
    Py_XDECREF(items);
    return rc;
}

static int column_read(module_state *state, PyObject *object, row_columns *columns, int i,
                       size_t *count)
{
    if (!PyObject_CheckBuffer(object) || PyBytes_Check(object))
        return column_of_sequence(state, object, columns, i, count);
    if (PyObject_HasAttrString(object, "mask"))
        return column_of_masked(state, object, columns, i, count);
    if (PyObject_GetBuffer(object, &columns->views[i], PyBUF_FORMAT | PyBUF_STRIDES) < 0)
        return raise_invalid_value(state, object, "column %s must hold numbers, not ",
                                   column_names[i]);
    columns->has_view[i] = true;
    int rc = column_of_view(state, columns, i);
    *count = rc == 0 ? (size_t)columns->views[i].shape[0] : 0;
    return rc;
}

/* The column, a new reference; NULL where there is none, with an error set where it is named but
 * cannot be had, or is named twice. */
static PyObject *column_get(module_state *state, PyObject *mapping, PyObject *names,
                            const char *name)
{
    PyObject *column = PyMapping_GetItemString(mapping, name);
    if (column != NULL || !error_is_refusal())
        return column;
    PyObject *wanted = PyUnicode_FromString(name);
    Py_ssize_t named = wanted == NULL ? -1 : PySequence_Count(names, wanted);
    Py_XDECREF(wanted);
    if (named > 1)
        (void)raise_invalid(state, "rows has %zd columns %s", named, name);
    else if (named == 1)
        (void)raise_invalid(state, "column %s of %.100s cannot be read", name,
                            Py_TYPE(mapping)->tp_name);
    return NULL;
}

/* 1: read; 0: there is none. */
static int column_find(module_state *state, PyObject *mapping, PyObject *names,
                       row_columns *columns, int i)
{
    PyObject *column = column_get(state, mapping, names, column_names[i]);
    if (column == NULL) {
        if (PyErr_Occurred() || i >= ROW_LENGTH)
            return PyErr_Occurred() ? -1 : 0;
        return raise_invalid(state, "rows has no column %s", column_names[i]);
    }
    size_t count = 0;
    int rc = column_read(state, column, columns, i, &count);
    Py_DECREF(column);
    if (rc < 0)
        return -1;
    if (i > 0 && count != columns->rows.count)
        return raise_invalid(state, "column %s has %zu values, but timestamp has %zu",
                             column_names[i], count, columns->rows.count);
    columns->rows.count = count;
    return 1;
}

/* ---- request ids ---- */

static int request_ids_read(module_state *state, PyObject *object, row_columns *columns)
{
    columns->texts = values_of_rows(object);
    if (columns->texts == NULL) {
        return raise_invalid(state, "request_ids must be a sequence of str or None, not %.100s",
                             Py_TYPE(object)->tp_name);
    }
    size_t count = (size_t)PyTuple_GET_SIZE(columns->texts);
    if (count != columns->rows.count)
        return raise_invalid(state, "request_ids has %zu values, but there are %zu rows", count,
                             columns->rows.count);
    columns->request_ids = PyMem_New(dm_str, count + 1);
    if (columns->request_ids == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t row = 0; row < count; row++) {
        PyObject *text = PyTuple_GET_ITEM(columns->texts, (Py_ssize_t)row);
        columns->request_ids[row] = (dm_str){NULL, 0};
        if (text != Py_None && to_request_id(state, text, &columns->request_ids[row]) < 0)
            return prefix_row(state, row);
    }
    return 0;
}

/* 1: read; 0: there is none. */
static int request_ids_find(module_state *state, PyObject *mapping, PyObject *names,
                            row_columns *columns)
{
    PyObject *column = column_get(state, mapping, names, "request_id");
    if (column == NULL)
        return PyErr_Occurred() ? -1 : 0;
    int rc = request_ids_read(state, column, columns);
    Py_DECREF(column);
    return rc < 0 ? -1 : 1;
}

/* Those that are there are `found`; of `names` more would be unknown, or there twice. */
static int refuse_others(module_state *state, PyObject *names, Py_ssize_t found)
{
    Py_ssize_t count = PyList_GET_SIZE(names);
    if (count == found)
        return 0;
    return raise_invalid_value(state, names,
                               "rows must have the columns timestamp, input_tokens, "
                               "output_tokens, cache_n and prompt_n, may have duration, "
                               "first_token and request_id, and no others: %zd given, ",
                               count);
}

static int rows_of_columns(module_state *state, PyObject *object, PyObject *names,
                           row_columns *columns)
{
    Py_ssize_t found = 0;
    for (int i = 0; i < ROW_COLUMNS; i++) {
        int rc = column_find(state, object, names, columns, i);
        if (rc < 0)
            return -1;
        found += rc;
    }
    int rc = request_ids_find(state, object, names, columns);
    return rc < 0 ? -1 : refuse_others(state, names, found + rc);
}

int to_rows(module_state *state, PyObject *object, PyObject *request_ids, row_columns *out)
{
    bool mapping =
        PyDict_Check(object) || (PyMapping_Check(object) && PyObject_HasAttrString(object, "keys"));
    PyObject *names = mapping ? PyMapping_Keys(object) : table_names(object);
    if (names == NULL && PyErr_Occurred())
        return raise_invalid(state, "rows must name its columns, which %.100s does not",
                             Py_TYPE(object)->tp_name);
    int rc = names != NULL ? rows_of_columns(state, object, names, out)
                           : rows_of_iterable(state, object, out);
    Py_XDECREF(names);
    if (rc < 0 || !is_given(request_ids))
        return rc;
    if (out->request_ids != NULL)
        return raise_invalid(state, "rows has a column request_id, and request_ids is given too");
    return request_ids_read(state, request_ids, out);
}
