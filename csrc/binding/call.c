/* SPDX-License-Identifier: MIT */
#include "call.h"

dm_manager *manager_core(manager_object *self)
{
    if (self->core == NULL) {
        module_state *state = state_of_type(Py_TYPE(self));
        PyErr_SetString(state->errors[DM_CLOSED], "the data manager is not open");
    }
    return self->core;
}

int call_begin(call *c, PyObject *self, const arg_spec *spec, PyObject *const *args,
               Py_ssize_t nargs, PyObject *kwnames)
{
    c->state = state_of_type(Py_TYPE(self));
    c->core = manager_core((manager_object *)self);
    return c->core == NULL ? -1 : args_parse(spec, args, nargs, kwnames, c->args);
}

int call_begin_model(call *c, dm_str *model, PyObject *self, const arg_spec *spec,
                     PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (call_begin(c, self, spec, args, nargs, kwnames) < 0)
        return -1;
    return to_name(c->state, c->args[0], model);
}

bool call_failed(call *c, dm_status rc)
{
    if (rc == DM_OK && !PyErr_Occurred())
        return false;
    (void)raise_error(c->state, rc, &c->err);
    return true;
}

PyObject *finish_none(call *c, dm_status rc)
{
    return call_failed(c, rc) ? NULL : Py_NewRef(Py_None);
}

PyObject *finish_id(call *c, dm_status rc, int64_t id)
{
    if (call_failed(c, rc))
        return NULL;
    return id == 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(id);
}
