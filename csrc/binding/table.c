/* SPDX-License-Identifier: MIT
 *
 * Table: named columns of numbers and texts, made of Python's values once and then read through
 * the buffer protocol and Arrow. What the tables of results (datamanager/tables.py) stand on. */
#include "module.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    PyObject_HEAD table_view view;
} table_object;

/* Behind it, in memory of its own each: the columns, and what they point at. */
typedef struct {
    table table;
    table_column columns[];
} owned_table;

static void owned_table_free(counted *object)
{
    owned_table *owned = (owned_table *)object;
    for (size_t i = 0; i < owned->table.column_count; i++) {
        free((void *)owned->columns[i].values);
        free((void *)owned->columns[i].offsets);
        free((void *)owned->columns[i].valid);
        free((void *)owned->columns[i].name);
    }
    free(owned);
}

/* ---- one column ---- */

static int set_null(table_column *column, Py_ssize_t at, Py_ssize_t count)
{
    uint8_t *valid = (uint8_t *)column->valid;
    if (valid == NULL) {
        valid = malloc((size_t)count / 8 + 1);
        if (valid == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memset(valid, 0xff, (size_t)count / 8 + 1);
        column->valid = valid;
    }
    valid[at / 8] &= (uint8_t) ~(1u << (at % 8));
    return 0;
}

static int numbers_fill(table_column *column, PyObject *items, bool real)
{
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    union {
        double real;
        int64_t whole;
    } *values = malloc((size_t)count * 8 + 8);
    column->values = values;
    if (values == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        if (item == Py_None && set_null(column, i, count) < 0)
            return -1;
        if (real)
            values[i].real = item == Py_None ? NAN : PyFloat_AsDouble(item);
        else
            values[i].whole = item == Py_None ? 0 : PyLong_AsLongLong(item);
        if (PyErr_Occurred())
            return -1;
    }
    return 0;
}

/* The UTF-8 of an item; "" for None. */
static const char *text_of(PyObject *item, Py_ssize_t *length)
{
    *length = 0;
    return item == Py_None ? "" : PyUnicode_AsUTF8AndSize(item, length);
}

static int texts_fill(table_column *column, PyObject *items)
{
    Py_ssize_t count = PyTuple_GET_SIZE(items), length = 0, total = 0;
    for (Py_ssize_t i = 0; i < count; i++, total += length)
        if (text_of(PyTuple_GET_ITEM(items, i), &length) == NULL)
            return -1;
    if (total > INT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "the texts of a column exceed 2 GiB");
        return -1;
    }
    int32_t *offsets = malloc(((size_t)count + 1) * sizeof *offsets);
    char *bytes = malloc((size_t)total + 1);
    column->offsets = offsets;
    column->values = bytes;
    if (offsets == NULL || bytes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int32_t at = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        offsets[i] = at;
        if (item == Py_None && set_null(column, i, count) < 0)
            return -1;
        const char *text = text_of(item, &length);
        memcpy(bytes + at, text, (size_t)length);
        at += (int32_t)length;
    }
    offsets[count] = at;
    return 0;
}

/* `spec` is (name, format, values). */
static int column_fill(table_column *column, PyObject *spec, Py_ssize_t *count)
{
    static const char *const formats[] = {"g", "l", "u"};
    const char *name, *format;
    PyObject *values;
    if (!PyArg_ParseTuple(spec, "ssO:Table", &name, &format, &values))
        return -1;
    column->name = strdup(name);
    column->nullable = true; /* so that answers that are alike have one schema */
    for (size_t i = 0; i < 3; i++)
        if (strcmp(format, formats[i]) == 0)
            column->format = formats[i];
    if (column->name == NULL || column->format == NULL) {
        PyErr_Format(PyExc_ValueError, "format must be 'g', 'l' or 'u', not '%s'", format);
        return -1;
    }
    PyObject *items = PySequence_Tuple(values);
    if (items == NULL)
        return -1;
    int rc = -1;
    if (*count >= 0 && PyTuple_GET_SIZE(items) != *count)
        PyErr_Format(PyExc_ValueError, "column '%s' has %zd values, not %zd", name,
                     PyTuple_GET_SIZE(items), *count);
    else
        rc = *format == 'u' ? texts_fill(column, items)
                            : numbers_fill(column, items, *format == 'g');
    *count = PyTuple_GET_SIZE(items);
    Py_DECREF(items);
    return rc;
}

/* ---- the type ---- */

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"columns", NULL};
    PyObject *columns = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O:Table", names, &columns))
        return NULL;
    PyObject *specs = PySequence_Tuple(columns);
    if (specs == NULL)
        return NULL;
    size_t count = (size_t)PyTuple_GET_SIZE(specs);
    Py_ssize_t rows = -1;
    table_object *self = NULL;
    owned_table *owned = calloc(1, sizeof *owned + count * sizeof *owned->columns);
    if (owned == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    owned->table = (table){{1, owned_table_free}, owned->columns, count};
    for (size_t i = 0; i < count; i++)
        if (column_fill(&owned->columns[i], PyTuple_GET_ITEM(specs, (Py_ssize_t)i), &rows) < 0)
            goto done;
    self = (table_object *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->view = (table_view){counted_hold(&owned->table.counted), 0, 1, rows < 0 ? 0 : rows};
done:
    if (owned != NULL)
        counted_drop(&owned->table.counted);
    Py_DECREF(specs);
    return (PyObject *)self;
}

static const table_view *view_of(PyObject *self)
{
    return &((table_object *)self)->view;
}

static void table_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    counted_drop(&view_of(self)->table->counted);
    type->tp_free(self);
    Py_DECREF(type);
}

static Py_ssize_t table_length(PyObject *self)
{
    return view_of(self)->length;
}

static PyObject *table_column_get(PyObject *self, PyObject *name)
{
    const table_view *view = view_of(self);
    for (size_t i = 0; PyUnicode_Check(name) && i < view->table->column_count; i++) {
        const table_column *column = &view->table->columns[i];
        if (column->offsets == NULL && PyUnicode_CompareWithASCIIString(name, column->name) == 0)
            return column_new(state_of_type(Py_TYPE(self)), view, column);
    }
    PyErr_SetObject(PyExc_KeyError, name);
    return NULL;
}

static PyObject *table_arrow_schema(PyObject *self, PyObject *none)
{
    (void)none;
    return arrow_schema(view_of(self), NULL);
}

static PyObject *table_arrow_stream(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames)
{
    return arrow_stream(view_of(self), args, nargs, kwnames);
}

static PyMethodDef table_methods[] = {
    {"column", table_column_get, METH_O,
     "column($self, name, /)\n--\n\nThe column of numbers of this name, as a Column."},
    {"__arrow_c_schema__", table_arrow_schema, METH_NOARGS,
     "__arrow_c_schema__($self, /)\n--\n\nThe columns, as a capsule of an ArrowSchema."},
    {"__arrow_c_stream__", (PyCFunction)(void (*)(void))table_arrow_stream,
     METH_FASTCALL | METH_KEYWORDS,
     "__arrow_c_stream__($self, /, requested_schema=None)\n--\n\n"
     "The rows, as a capsule of an ArrowArrayStream."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot table_slots[] = {
    {Py_tp_doc,
     "Table(columns)\n--\n\nColumns of equal length, each (name, format, values): format "
     "'g' float64, 'l' int64, 'u' text; None is a null."},
    {Py_tp_new, table_new},
    {Py_tp_dealloc, table_dealloc},
    {Py_sq_length, table_length},
    {Py_tp_methods, table_methods},
    {0, NULL}};

static PyType_Spec table_spec = {
    .name = "datamanager._core.Table",
    .basicsize = sizeof(table_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = table_slots,
};

int table_add(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &table_spec, NULL);
    int rc = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return rc;
}
