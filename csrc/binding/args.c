/* SPDX-License-Identifier: MIT
 *
 * Arguments of vectorcalls, by position and by name, with Python's own words for mistakes. */
#include "module.h"

static int spec_length(const arg_spec *spec)
{
    int count = 0;
    while (count < 8 && spec->names[count] != NULL)
        count++;
    return count;
}

static int keyword_place(const arg_spec *spec, int count, PyObject *name, PyObject *value,
                         PyObject **out)
{
    for (int i = 0; i < count; i++) {
        if (PyUnicode_CompareWithASCIIString(name, spec->names[i]) != 0)
            continue;
        if (out[i] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'",
                         spec->function, spec->names[i]);
            return -1;
        }
        out[i] = value;
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", spec->function,
                 name);
    return -1;
}

int args_parse(const arg_spec *spec, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
               PyObject **out)
{
    int count = spec_length(spec);
    if (nargs > spec->positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes %s%d positional argument%s but %zd were given",
                     spec->function, spec->required < spec->positional ? "at most " : "",
                     spec->positional, spec->positional == 1 ? "" : "s", nargs);
        return -1;
    }
    for (int i = 0; i < count; i++)
        out[i] = i < nargs ? args[i] : NULL;
    Py_ssize_t keywords = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < keywords; i++)
        if (keyword_place(spec, count, PyTuple_GET_ITEM(kwnames, i), args[nargs + i], out) < 0)
            return -1;
    for (int i = 0; i < spec->required; i++)
        if (out[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", spec->function,
                         spec->names[i]);
            return -1;
        }
    return 0;
}
