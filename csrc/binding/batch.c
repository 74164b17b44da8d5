/* SPDX-License-Identifier: MIT
 *
 * What `with manager.batch() as b` gives. */
#include "module.h"

#include <stddef.h>

typedef struct {
    PyObject_HEAD manager_object *manager;
    PyObject *ids; /* None until the batch has been stored */
    bool entered;
    uint64_t level; /* what it has begun; while it is entered */
} batch_object;

PyObject *batch_new(module_state *state, manager_object *manager)
{
    batch_object *self = (batch_object *)state->batch_type->tp_alloc(state->batch_type, 0);
    if (self != NULL) {
        self->manager = (manager_object *)Py_NewRef(manager);
        self->ids = Py_NewRef(Py_None);
    }
    return (PyObject *)self;
}

/* The ids of rows without request ids follow each other. */
PyObject *ids_range(const dm_ids *ids)
{
    return PyObject_CallFunction((PyObject *)&PyRange_Type, "LL", (long long)ids->first_id,
                                 (long long)(ids->first_id + ids->count));
}

static PyObject *batch_enter(PyObject *object, PyObject *none)
{
    (void)none;
    batch_object *self = (batch_object *)object;
    dm_error err;
    dm_manager *core = manager_core(self->manager);
    module_state *state = state_of_type(Py_TYPE(object));
    if (core == NULL)
        return NULL;
    if (self->entered) {
        PyErr_SetString(state->error, "the batch is entered already: each `with` needs its own");
        return NULL;
    }
    self->entered = true; /* before another thread can come */
    core_enter();
    dm_status rc = dm_batch_begin(core, &self->level, &err);
    core_leave();
    self->entered = rc == DM_OK;
    if (rc != DM_OK)
        return raise_error(state, rc, &err);
    return Py_NewRef(object);
}

PyObject *row_ids_list(const int64_t *row_ids, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *id = PyLong_FromLongLong(row_ids[i]);
        if (id == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, id);
    }
    return list;
}

static PyObject *ids_item(const dm_ids *ids)
{
    if (ids->row_ids != NULL)
        return row_ids_list(ids->row_ids, (size_t)ids->count);
    if (ids->count == 0)
        return Py_NewRef(Py_None);
    return ids->count == 1 ? PyLong_FromLongLong(ids->first_id) : ids_range(ids);
}

/* Per write: the id of a row, the range or list of many, None for a write that adds none. */
static PyObject *ids_list(const dm_ids *ids, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *item = ids_item(&ids[i]);
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

static PyObject *batch_exit(PyObject *object, PyObject *args)
{
    batch_object *self = (batch_object *)object;
    PyObject *type = Py_None, *value = Py_None, *trace = Py_None;
    dm_ids *ids = NULL;
    size_t count = 0;
    dm_error err;
    dm_manager *core = manager_core(self->manager);
    if (core == NULL || !PyArg_ParseTuple(args, "|OOO:__exit__", &type, &value, &trace))
        return NULL;
    bool commit = type == Py_None;
    uint64_t level = self->entered ? self->level : 0; /* 0 is none */
    self->entered = false;
    core_enter();
    dm_status rc = dm_batch_end(core, level, commit, &ids, &count, &err);
    core_leave();
    if (rc == DM_OK && commit) {
        PyObject *list = ids_list(ids, count);
        if (list != NULL)
            Py_SETREF(self->ids, list);
    }
    dm_ids_free(ids);
    if ((rc != DM_OK && commit) || PyErr_Occurred())
        return raise_error(state_of_type(Py_TYPE(object)), rc, &err);
    Py_RETURN_FALSE; /* an exception goes on, whatever happened to the batch */
}

static int batch_traverse(PyObject *object, visitproc visit, void *arg)
{
    batch_object *self = (batch_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->manager);
    Py_VISIT(self->ids);
    return 0;
}

static void batch_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_XDECREF(((batch_object *)object)->manager);
    Py_XDECREF(((batch_object *)object)->ids);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMethodDef batch_methods[] = {
    {"__enter__", batch_enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", batch_exit, METH_VARARGS, "Store the batch; after an exception drop it."},
    {NULL, NULL, 0, NULL}};

static PyMemberDef batch_members[] = {
    {"ids", T_OBJECT, offsetof(batch_object, ids), READONLY,
     "per write in order: an int, a range, a list, or None; None until the batch is stored"},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot batch_slots[] = {
    {Py_tp_doc, "The writes of one thread that become one transaction."},
    {Py_tp_dealloc, batch_dealloc},
    {Py_tp_traverse, batch_traverse}, /* cycles are broken where the handle's dict is cleared */
    {Py_tp_methods, batch_methods},
    {Py_tp_members, batch_members},
    {0, NULL}};

static PyType_Spec batch_spec = {
    .name = "datamanager.Batch",
    .basicsize = sizeof(batch_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC,
    .slots = batch_slots,
};

int batch_add(PyObject *module, module_state *state)
{
    state->batch_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &batch_spec, NULL);
    return state->batch_type == NULL ? -1 : PyModule_AddType(module, state->batch_type);
}
