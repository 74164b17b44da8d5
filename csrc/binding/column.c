/* SPDX-License-Identifier: MIT
 *
 * One column of ModelRequests: numbers in memory, exported through the buffer protocol. */
#include "module.h"

typedef struct {
    PyObject_HEAD PyObject *owner;
    const char *data;
    Py_ssize_t length, stride;
    char format[2]; /* 'd' or 'q' */
} column_object;

PyObject *column_new(module_state *state, requests_object *requests, const void *data, char format)
{
    PyTypeObject *type = state->column_type;
    column_object *self = (column_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->owner = Py_NewRef(requests->owner);
    self->data = data == NULL ? "" : (const char *)data + requests->start * 8;
    self->length = requests->length;
    self->stride = requests->step * 8;
    self->format[0] = format;
    return (PyObject *)self;
}

static void column_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((column_object *)self)->owner);
    type->tp_free(self);
    Py_DECREF(type);
}

static Py_ssize_t column_length(PyObject *self)
{
    return ((column_object *)self)->length;
}

static PyObject *column_item(PyObject *self, Py_ssize_t i)
{
    column_object *column = (column_object *)self;
    if (i < 0 || i >= column->length) {
        PyErr_SetString(PyExc_IndexError, "Column index out of range");
        return NULL;
    }
    const void *at = column->data + i * column->stride;
    return column->format[0] == 'd' ? PyFloat_FromDouble(*(const double *)at)
                                    : PyLong_FromLongLong(*(const int64_t *)at);
}

static PyObject *column_repr(PyObject *self)
{
    column_object *column = (column_object *)self;
    return PyUnicode_FromFormat("<Column of %zd %s>", column->length,
                                column->format[0] == 'd' ? "float64" : "int64");
}

static int column_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    column_object *column = (column_object *)self;
    bool contiguous = column->stride == 8 || column->length <= 1;
    if ((flags & PyBUF_WRITABLE) == PyBUF_WRITABLE ||
        (!contiguous && (flags & PyBUF_STRIDES) != PyBUF_STRIDES)) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError,
                        contiguous ? "a Column is read-only" : "this Column is not contiguous");
        return -1;
    }
    *view =
        (Py_buffer){.buf = (void *)column->data,
                    .obj = Py_NewRef(self),
                    .len = column->length * 8,
                    .itemsize = 8,
                    .readonly = 1,
                    .ndim = 1,
                    .format = flags & PyBUF_FORMAT ? column->format : NULL,
                    .shape = flags & PyBUF_ND ? &column->length : NULL,
                    .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? &column->stride : NULL};
    return 0;
}

static PyType_Slot column_slots[] = {
    {Py_tp_doc, "A read-only column of int64 or float64 numbers; numpy.asarray(column) and "
                "memoryview(column) read it without a copy."},
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
