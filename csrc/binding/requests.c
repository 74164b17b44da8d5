/* SPDX-License-Identifier: MIT
 *
 * ModelRequests: a read-only sequence over columns, which slices share. A record is made only when
 * one is looked at. */
#include "module.h"

#include <stdlib.h>

enum { COLUMN_COUNT = 6 };

typedef struct {
    table table;
    dm_request_columns rows;
    table_column columns[COLUMN_COUNT];
} request_table;

typedef struct {
    PyObject_HEAD table_view view;
} requests_object;

static const table_view *view_of(PyObject *self)
{
    return &((requests_object *)self)->view;
}

static void request_table_free(counted *object)
{
    request_table *requests = (request_table *)object;
    dm_request_columns_reset(&requests->rows);
    free(requests);
}

/* Takes over what `rows` holds, also when it fails. */
static table *request_table_new(dm_request_columns *rows)
{
    static const int64_t nothing; /* a place for columns of no rows */
    request_table *requests = malloc(sizeof *requests);
    if (requests == NULL) {
        dm_request_columns_reset(rows);
        (void)PyErr_NoMemory();
        return NULL;
    }
    *requests = (request_table){{{1, request_table_free}, requests->columns, COLUMN_COUNT},
                                *rows,
                                {{"id", "l", rows->id, NULL, NULL, false},
                                 {"timestamp", "g", rows->timestamp_s, NULL, NULL, false},
                                 {"input_tokens", "l", rows->input_tokens, NULL, NULL, false},
                                 {"output_tokens", "l", rows->output_tokens, NULL, NULL, false},
                                 {"cache_n", "l", rows->cache_n, NULL, NULL, false},
                                 {"prompt_n", "l", rows->prompt_n, NULL, NULL, false}}};
    for (int i = 0; i < COLUMN_COUNT; i++)
        if (requests->columns[i].values == NULL)
            requests->columns[i].values = &nothing;
    *rows = (dm_request_columns){0};
    return &requests->table;
}

static PyObject *view_new(PyTypeObject *type, table_view view)
{
    requests_object *self = (requests_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->view = view;
    (void)counted_hold(&view.table->counted);
    return (PyObject *)self;
}

PyObject *requests_new(module_state *state, dm_request_columns *columns)
{
    Py_ssize_t length = (Py_ssize_t)columns->count;
    table *source = request_table_new(columns);
    if (source == NULL)
        return NULL;
    PyObject *self = view_new(state->requests_type, (table_view){source, 0, 1, length});
    counted_drop(&source->counted);
    return self;
}

static void requests_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    counted_drop(&view_of(self)->table->counted);
    type->tp_free(self);
    Py_DECREF(type);
}

static Py_ssize_t requests_length(PyObject *self)
{
    return view_of(self)->length;
}

static PyObject *requests_item(PyObject *self, Py_ssize_t i)
{
    const table_view *view = view_of(self);
    if (i < 0 || i >= view->length) {
        PyErr_SetString(PyExc_IndexError, "ModelRequests index out of range");
        return NULL;
    }
    return request_new(state_of_type(Py_TYPE(self)), &((request_table *)view->table)->rows,
                       (size_t)(view->start + i * view->step));
}

static PyObject *requests_subscript(PyObject *self, PyObject *key)
{
    const table_view *view = view_of(self);
    if (PySlice_Check(key)) {
        Py_ssize_t start, stop, step;
        if (PySlice_Unpack(key, &start, &stop, &step) < 0)
            return NULL;
        Py_ssize_t length = PySlice_AdjustIndices(view->length, &start, &stop, step);
        return view_new(Py_TYPE(self),
                        (table_view){view->table, length > 0 ? view->start + start * view->step : 0,
                                     length > 1 ? step * view->step : 1, length});
    }
    Py_ssize_t i = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (i == -1 && PyErr_Occurred())
        return NULL;
    return requests_item(self, i < 0 ? i + view->length : i);
}

static PyObject *requests_list(PyObject *self, PyObject *none)
{
    (void)none;
    return PySequence_List(self);
}

/* A new list, as of lists. Only what it begins with is ours to say: a list that is extended in
 * place by these (`rows += requests`) would otherwise be replaced by another one. */
static PyObject *requests_concat(PyObject *self, PyObject *other)
{
    if (!PyList_Check(other) && Py_TYPE(other) != Py_TYPE(self))
        return PyErr_Format(PyExc_TypeError, "can only add a list or ModelRequests, not %.100s",
                            Py_TYPE(other)->tp_name);
    PyObject *records = requests_list(self, NULL);
    if (records != NULL && PyList_SetSlice(records, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, other) < 0)
        Py_CLEAR(records);
    return records;
}

/* As a list would: with any sequence that is no text, element by element. */
static PyObject *requests_compare(PyObject *self, PyObject *other, int op)
{
    bool comparable =
        PyList_Check(other) || PyTuple_Check(other) || Py_TYPE(other) == Py_TYPE(self);
    if ((op != Py_EQ && op != Py_NE) || !comparable)
        Py_RETURN_NOTIMPLEMENTED;
    bool equal = PySequence_Size(other) == view_of(self)->length;
    for (Py_ssize_t i = 0; equal && i < view_of(self)->length; i++) {
        PyObject *mine = requests_item(self, i), *theirs = PySequence_GetItem(other, i);
        int same = mine && theirs ? PyObject_RichCompareBool(mine, theirs, Py_EQ) : -1;
        Py_XDECREF(mine);
        Py_XDECREF(theirs);
        if (same < 0)
            return NULL;
        equal = same == 1;
    }
    return PyBool_FromLong(equal == (op == Py_EQ));
}

static PyObject *requests_repr(PyObject *self)
{
    Py_ssize_t length = view_of(self)->length;
    if (length == 0)
        return PyUnicode_FromString("ModelRequests([])");
    PyObject *first = requests_item(self, 0);
    PyObject *text =
        first == NULL ? NULL
        : length == 1 ? PyUnicode_FromFormat("ModelRequests([%R])", first)
                      : PyUnicode_FromFormat("ModelRequests([%R, ...], %zd in all)", first, length);
    Py_XDECREF(first);
    return text;
}

static PyObject *requests_index(PyObject *self, PyObject *value)
{
    Py_ssize_t at = PySequence_Index(self, value);
    return at < 0 ? NULL : PyLong_FromSsize_t(at);
}

static PyObject *requests_count(PyObject *self, PyObject *value)
{
    Py_ssize_t count = PySequence_Count(self, value);
    return count < 0 ? NULL : PyLong_FromSsize_t(count);
}

/* A pickle holds plain records: it needs this package, not its memory. */
static PyObject *requests_reduce(PyObject *self, PyObject *none)
{
    PyObject *records = requests_list(self, none);
    return records == NULL ? NULL : Py_BuildValue("(O(N))", Py_TYPE(self), records);
}

static void record_store(dm_request_columns *columns, size_t at, const long long whole[5],
                         double timestamp_s)
{
    columns->id[at] = whole[0];
    columns->timestamp_s[at] = timestamp_s;
    columns->input_tokens[at] = whole[1];
    columns->output_tokens[at] = whole[2];
    columns->cache_n[at] = whole[3];
    columns->prompt_n[at] = whole[4];
}

static int columns_alloc(dm_request_columns *columns, size_t count)
{
    void **arrays[] = {(void **)&columns->id,           (void **)&columns->timestamp_s,
                       (void **)&columns->input_tokens, (void **)&columns->output_tokens,
                       (void **)&columns->cache_n,      (void **)&columns->prompt_n};
    for (size_t i = 0; i < 6; i++) {
        *arrays[i] = dm_array_new(count);
        if (*arrays[i] == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    columns->count = count;
    return 0;
}

/* ModelRequests(records): what a pickle calls. */
static PyObject *requests_tp_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"records", NULL};
    PyObject *iterable = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O:ModelRequests", names, &iterable))
        return NULL;
    module_state *state = state_of_type(type);
    PyObject *records = PySequence_Tuple(iterable);
    dm_request_columns columns = {0};
    int rc = records == NULL ? -1 : columns_alloc(&columns, (size_t)PyTuple_GET_SIZE(records));
    for (size_t i = 0; rc == 0 && i < columns.count; i++) {
        PyObject *record = PyTuple_GET_ITEM(records, (Py_ssize_t)i);
        PyObject *values = Py_TYPE(record) == state->record_types[RECORD_REQUEST]
                               ? PyObject_CallMethod(record, "__reduce__", NULL)
                               : NULL;
        long long whole[5];
        double timestamp_s;
        if (values == NULL && !PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "ModelRequests() takes ModelRequest records");
        if (values == NULL ||
            !PyArg_ParseTuple(PyTuple_GET_ITEM(values, 1), "LdLLLL", &whole[0], &timestamp_s,
                              &whole[1], &whole[2], &whole[3], &whole[4]))
            rc = -1;
        else
            record_store(&columns, i, whole, timestamp_s);
        Py_XDECREF(values);
    }
    Py_XDECREF(records);
    if (rc == 0)
        return requests_new(state, &columns);
    dm_request_columns_reset(&columns);
    return NULL;
}

/* ---- columns ---- */

static PyObject *requests_column(PyObject *self, void *which)
{
    const table_view *view = view_of(self);
    return column_new(state_of_type(Py_TYPE(self)), view, &view->table->columns[(intptr_t)which]);
}

static PyObject *requests_columns(PyObject *self, void *none)
{
    (void)none;
    PyObject *columns = PyDict_New();
    for (intptr_t i = 0; columns != NULL && i < COLUMN_COUNT; i++) {
        const char *name = view_of(self)->table->columns[i].name;
        PyObject *column = requests_column(self, (void *)i);
        if (column == NULL || PyDict_SetItemString(columns, name, column) < 0)
            Py_CLEAR(columns);
        Py_XDECREF(column);
    }
    return columns;
}

static PyObject *requests_arrow_schema(PyObject *self, PyObject *none)
{
    (void)none;
    return arrow_schema(view_of(self), NULL);
}

static PyObject *requests_arrow_array(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                      PyObject *kwnames)
{
    return arrow_array(view_of(self), NULL, args, nargs, kwnames);
}

static PyObject *requests_arrow_stream(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                       PyObject *kwnames)
{
    return arrow_stream(view_of(self), args, nargs, kwnames);
}

static PyObject *requests_repr_html(PyObject *self, PyObject *none)
{
    (void)none;
    PyObject *tables = PyImport_ImportModule("datamanager.tables");
    PyObject *text = tables == NULL ? NULL : PyObject_CallMethod(tables, "html_of", "O", self);
    Py_XDECREF(tables);
    return text;
}

static PyGetSetDef requests_getset[] = {
    {"id", requests_column, NULL, "row ids, int64", (void *)0},
    {"timestamp", requests_column, NULL, "epoch seconds, float64", (void *)1},
    {"input_tokens", requests_column, NULL, "tokens of the prompts, int64", (void *)2},
    {"output_tokens", requests_column, NULL, "tokens generated, int64", (void *)3},
    {"cache_n", requests_column, NULL, "input tokens served from the cache, int64", (void *)4},
    {"prompt_n", requests_column, NULL, "input tokens computed, int64", (void *)5},
    {"columns", requests_columns, NULL, "dict of all columns by name, without a copy", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMethodDef requests_methods[] = {
    {"copy", requests_list, METH_NOARGS, "copy($self, /)\n--\n\nA list of the records."},
    {"index", requests_index, METH_O, "index($self, value, /)\n--\n\nThe first place of a record."},
    {"count", requests_count, METH_O, "count($self, value, /)\n--\n\nHow often a record occurs."},
    {"__reduce__", requests_reduce, METH_NOARGS, "How to pickle the sequence."},
    {"_repr_html_", requests_repr_html, METH_NOARGS,
     "_repr_html_($self, /)\n--\n\nThe newest rows as a table, for notebooks."},
    {"__arrow_c_schema__", requests_arrow_schema, METH_NOARGS,
     "__arrow_c_schema__($self, /)\n--\n\nThe columns, as a capsule of an ArrowSchema."},
    {"__arrow_c_array__", (PyCFunction)(void (*)(void))requests_arrow_array,
     METH_FASTCALL | METH_KEYWORDS,
     "__arrow_c_array__($self, /, requested_schema=None)\n--\n\n"
     "The rows, as capsules of an ArrowSchema and an ArrowArray."},
    {"__arrow_c_stream__", (PyCFunction)(void (*)(void))requests_arrow_stream,
     METH_FASTCALL | METH_KEYWORDS,
     "__arrow_c_stream__($self, /, requested_schema=None)\n--\n\n"
     "The rows, as a capsule of an ArrowArrayStream of one batch."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot requests_slots[] = {
    {Py_tp_doc,
     "ModelRequests(records)\n--\n\nA read-only sequence of ModelRequest, newest first, over "
     "columns in memory. A slice shares them; .timestamp, .input_tokens and so on are columns "
     "that NumPy, Arrow and memoryview read without a copy."},
    {Py_tp_new, requests_tp_new},
    {Py_tp_dealloc, requests_dealloc},
    {Py_tp_repr, requests_repr},
    {Py_tp_richcompare, requests_compare},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_methods, requests_methods},
    {Py_tp_getset, requests_getset},
    {Py_tp_iter, PySeqIter_New},
    {Py_sq_length, requests_length},
    {Py_sq_item, requests_item},
    {Py_sq_concat, requests_concat},
    {Py_mp_length, requests_length},
    {Py_mp_subscript, requests_subscript},
    {0, NULL}};

static PyType_Spec requests_spec = {
    .name = "datamanager.ModelRequests",
    .basicsize = sizeof(requests_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_SEQUENCE,
    .slots = requests_slots,
};

int requests_add(PyObject *module, module_state *state)
{
    state->requests_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &requests_spec, NULL);
    return state->requests_type == NULL ? -1 : PyModule_AddType(module, state->requests_type);
}
