/* SPDX-License-Identifier: MIT
 *
 * One column of a table: numbers in memory, exported through the buffer protocol and Arrow. */
#include "module.h"

typedef struct {
    PyObject_HEAD table_view view;
    const table_column *column;
    const char *first;
    Py_ssize_t stride;
    char format[2]; /* 'd' or 'q' */
} column_object;

PyObject *column_new(module_state *state, const table_view *view, const table_column *column)
{
    PyTypeObject *type = state->column_type;
    column_object *self = (column_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->view = *view;
    (void)counted_hold(&view->table->counted);
    self->column = column;
    self->first = (const char *)column->values + view->start * 8;
    self->stride = view->step * 8;
    self->format[0] = column->format[0] == 'g' ? 'd' : 'q';
    return (PyObject *)self;
}

static void column_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    counted_drop(&((column_object *)self)->view.table->counted);
    type->tp_free(self);
    Py_DECREF(type);
}

static Py_ssize_t column_length(PyObject *self)
{
    return ((column_object *)self)->view.length;
}

static PyObject *column_item(PyObject *self, Py_ssize_t i)
{
    column_object *column = (column_object *)self;
    if (i < 0 || i >= column->view.length) {
        PyErr_SetString(PyExc_IndexError, "Column index out of range");
        return NULL;
    }
    const void *at = column->first + i * column->stride;
    return column->format[0] == 'd' ? PyFloat_FromDouble(*(const double *)at)
                                    : PyLong_FromLongLong(*(const int64_t *)at);
}

static PyObject *column_repr(PyObject *self)
{
    column_object *column = (column_object *)self;
    return PyUnicode_FromFormat("<Column of %zd %s>", column->view.length,
                                column->format[0] == 'd' ? "float64" : "int64");
}

static int column_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    column_object *column = (column_object *)self;
    bool contiguous = column->stride == 8;
    if ((flags & PyBUF_WRITABLE) == PyBUF_WRITABLE ||
        (!contiguous && (flags & PyBUF_STRIDES) != PyBUF_STRIDES)) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError,
                        contiguous ? "a Column is read-only" : "this Column is not contiguous");
        return -1;
    }
    *view =
        (Py_buffer){.buf = (void *)column->first,
                    .obj = Py_NewRef(self),
                    .len = column->view.length * 8,
                    .itemsize = 8,
                    .readonly = 1,
                    .ndim = 1,
                    .format = flags & PyBUF_FORMAT ? column->format : NULL,
                    .shape = flags & PyBUF_ND ? &column->view.length : NULL,
                    .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? &column->stride : NULL};
    return 0;
}

static PyObject *column_arrow_schema(PyObject *self, PyObject *none)
{
    (void)none;
    column_object *column = (column_object *)self;
    return arrow_schema(&column->view, column->column);
}

static PyObject *column_arrow_array(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames)
{
    column_object *column = (column_object *)self;
    return arrow_array(&column->view, column->column, args, nargs, kwnames);
}

static PyMethodDef column_methods[] = {
    {"__arrow_c_schema__", column_arrow_schema, METH_NOARGS,
     "__arrow_c_schema__($self, /)\n--\n\nThe type, as a capsule of an ArrowSchema."},
    {"__arrow_c_array__", (PyCFunction)(void (*)(void))column_arrow_array,
     METH_FASTCALL | METH_KEYWORDS,
     "__arrow_c_array__($self, /, requested_schema=None)\n--\n\n"
     "The numbers, as capsules of an ArrowSchema and an ArrowArray."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot column_slots[] = {
    {Py_tp_doc, "A read-only column of int64 or float64 numbers; numpy.asarray(column), "
                "pyarrow.array(column) and memoryview(column) read it without a copy."},
    {Py_tp_methods, column_methods},
    {Py_tp_dealloc, column_dealloc},
    {Py_tp_repr, column_repr},
    {Py_tp_iter, PySeqIter_New},
    {Py_sq_length, column_length},
    {Py_sq_item, column_item},
    {Py_bf_getbuffer, column_getbuffer},
    {0, NULL}};

static PyType_Spec column_spec = {
    .name = "datamanager.Column",
    .basicsize = sizeof(column_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_SEQUENCE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = column_slots,
};

int column_add(PyObject *module, module_state *state)
{
    state->column_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &column_spec, NULL);
    return state->column_type == NULL ? -1 : PyModule_AddType(module, state->column_type);
}
