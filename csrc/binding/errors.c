/* SPDX-License-Identifier: MIT */
#include "module.h"

#include <stdarg.h>

#define SHOWN_MAX 1000 /* characters of a value in an error */

/* Each is also the built-in that a caller would expect. */
static const struct {
    dm_status status;
    const char *name, *built_in, *doc;
} error_table[] = {
    {DM_INVALID, "InvalidDataError", "ValueError",
     "A value was refused; the text names the field and the value. Nothing was stored."},
    {DM_MODEL_NOT_FOUND, "ModelNotFoundError", "ValueError", "No model has this name."},
    {DM_TIER_EXISTS, "TierExistsError", "ValueError", "The model has a tier of this index."},
    {DM_TIER_NOT_FOUND, "TierNotFoundError", "LookupError", "The model has no such tier."},
    {DM_RUN_NOT_FOUND, "RunNotFoundError", "LookupError", "There is no run to end."},
    {DM_BUSY, "BusyError", "TimeoutError",
     "The database, or a connection to it, was not free within busy_timeout. Nothing was stored."},
    {DM_DISK_FULL, "DiskFullError", "OSError", "No room on the disk. Nothing was stored."},
    {DM_IO, "StorageError", "OSError", "The disk failed. Nothing was stored."},
    {DM_CANNOT_OPEN, "CannotOpenError", "OSError", "The file cannot be opened or made."},
    {DM_EXISTS, "DestinationExistsError", "FileExistsError",
     "A file stands where a new one was to go, or a log that belongs to it."},
    {DM_CLOSED, "ClosedError", "RuntimeError", "The data manager is closed."},
    {DM_FORKED, "ForkedStoreError", "RuntimeError",
     "The process was forked with the store open and without Python's fork hooks."},
    {DM_CORRUPT_DATA, "CorruptDataError", "ValueError",
     "A value in the file breaks the rules; the text names table and row."},
    {DM_DAMAGED, "DamagedDatabaseError", "OSError", "The file is damaged, or no database."},
    {DM_FOREIGN, "ForeignDatabaseError", "ValueError", "The database is another program's."},
    {DM_NEWER, "NewerDatabaseError", "RuntimeError", "A newer version wrote the database."},
    {DM_READ_ONLY, "ReadOnlyError", "PermissionError", "Opened for reading only."},
    {DM_MOVED, "FileMovedError", "OSError", "The open file was moved, removed or replaced."},
};

static PyObject *error_new(PyObject *module, const char *name, const char *doc, PyObject *bases,
                           PyObject *attributes)
{
    char full[80];
    PyOS_snprintf(full, sizeof full, "datamanager.%s", name);
    PyObject *error = PyErr_NewExceptionWithDoc(full, doc, bases, attributes);
    if (error != NULL && PyModule_AddObjectRef(module, name, error) < 0)
        Py_CLEAR(error);
    return error;
}

int errors_add(PyObject *module, module_state *state)
{
    PyObject *unset =
        Py_BuildValue("{sOsO}", "sqlite_errorcode", Py_None, "sqlite_errorname", Py_None);
    if (unset != NULL)
        state->error = error_new(module, "DataManagerError",
                                 "The base of all errors of this package. sqlite_errorcode and "
                                 "sqlite_errorname are None where SQLite had no part in it.",
                                 NULL, unset);
    Py_XDECREF(unset);
    PyObject *builtins = PyImport_ImportModule("builtins");
    int rc = state->error == NULL || builtins == NULL ? -1 : 0;
    for (size_t i = 0; i < sizeof error_table / sizeof *error_table && rc == 0; i++) {
        PyObject *built_in = PyObject_GetAttrString(builtins, error_table[i].built_in);
        PyObject *bases = built_in ? PyTuple_Pack(2, state->error, built_in) : NULL;
        PyObject *error =
            bases ? error_new(module, error_table[i].name, error_table[i].doc, bases, NULL) : NULL;
        state->errors[error_table[i].status] = error;
        rc = error == NULL ? -1 : 0;
        Py_XDECREF(bases);
        Py_XDECREF(built_in);
    }
    Py_XDECREF(builtins);
    return rc;
}

static int sqlite_code_attach(PyObject *exception, int sqlite_code)
{
    const char *name = dm_sqlite_code_name(sqlite_code);
    PyObject *code = PyLong_FromLong(sqlite_code);
    PyObject *text = name != NULL ? PyUnicode_FromString(name) : PyUnicode_FromString("unknown");
    int rc = code == NULL || text == NULL ||
                     PyObject_SetAttrString(exception, "sqlite_errorcode", code) < 0 ||
                     PyObject_SetAttrString(exception, "sqlite_errorname", text) < 0
                 ? -1
                 : 0;
    Py_XDECREF(code);
    Py_XDECREF(text);
    return rc;
}

/* Without a strerror and a filename, with which str() would be another. */
static int errno_attach(PyObject *exception, int system_code)
{
    PyObject *code = PyLong_FromLong(system_code);
    int rc = code == NULL ? -1 : PyObject_SetAttrString(exception, "errno", code);
    Py_XDECREF(code);
    return rc;
}

void *raise_error(module_state *state, dm_status rc, const dm_error *err)
{
    if (PyErr_Occurred()) /* Ctrl-C came first */
        return NULL;
    if (rc == DM_NO_MEMORY)
        return PyErr_NoMemory();
    if (rc == DM_INTERRUPTED) {
        PyErr_SetNone(PyExc_KeyboardInterrupt);
        return NULL;
    }
    PyObject *type = state->errors[rc] != NULL ? state->errors[rc] : state->error;
    PyObject *exception = PyObject_CallFunction(type, "s", err->text);
    if (exception != NULL &&
        (err->sqlite_code == 0 || sqlite_code_attach(exception, err->sqlite_code) == 0) &&
        (err->system_code == 0 || errno_attach(exception, err->system_code) == 0))
        PyErr_SetObject(type, exception);
    Py_XDECREF(exception);
    return NULL;
}

bool error_is_refusal(void)
{
    if (PyErr_ExceptionMatches(PyExc_MemoryError) || !PyErr_ExceptionMatches(PyExc_Exception))
        return false;
    PyErr_Clear();
    return true;
}

int raise_invalid(module_state *state, const char *format, ...)
{
    if (PyErr_Occurred() && !error_is_refusal())
        return -1;
    va_list arguments;
    va_start(arguments, format);
    PyErr_FormatV(state->errors[DM_INVALID], format, arguments);
    va_end(arguments);
    return -1;
}

/* As its repr() says, if that is possible (of 10**5000 it is not) and to the point. */
static PyObject *shown(PyObject *value)
{
    PyObject *text = PyObject_Repr(value);
    if (text == NULL)
        return error_is_refusal()
                   ? PyUnicode_FromFormat("<%.100s that cannot be shown>", Py_TYPE(value)->tp_name)
                   : NULL;
    if (PyUnicode_GET_LENGTH(text) <= SHOWN_MAX)
        return text;
    PyObject *start = PyUnicode_Substring(text, 0, SHOWN_MAX);
    Py_DECREF(text);
    text = start == NULL ? NULL : PyUnicode_FromFormat("%U...", start);
    Py_XDECREF(start);
    return text;
}

int raise_invalid_value(module_state *state, PyObject *value, const char *format, ...)
{
    if (PyErr_Occurred() && !error_is_refusal())
        return -1;
    va_list arguments;
    va_start(arguments, format);
    PyObject *text = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    PyObject *what = text == NULL ? NULL : shown(value);
    if (what != NULL)
        (void)raise_invalid(state, "%U%U", text, what);
    Py_XDECREF(what);
    Py_XDECREF(text);
    return -1;
}
