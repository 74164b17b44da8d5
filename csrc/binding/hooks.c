/* SPDX-License-Identifier: MIT
 *
 * Where the core meets the interpreter: the GIL, Ctrl-C, fork. */
#include "module.h"

#include <signal.h>
#include <stdatomic.h>

#define FORK_QUIET_MS 5000

static _Thread_local PyThreadState *released;

/* Signals are handled on the main thread only; the others need not ask for the GIL. */
static _Atomic(unsigned long) main_thread;

void core_enter(void)
{
    released = PyEval_SaveThread();
}

void core_leave(void)
{
    PyThreadState *thread = released;
    released = NULL;
    PyEval_RestoreThread(thread);
}

/* Whether Python's own handler is there, which does nothing but raise KeyboardInterrupt. */
static bool ctrl_c_raises(void)
{
    PyObject *module = PyImport_ImportModule("_signal");
    PyObject *own = module ? PyObject_GetAttrString(module, "default_int_handler") : NULL;
    PyObject *handler = own ? PyObject_CallMethod(module, "getsignal", "i", SIGINT) : NULL;
    bool raises = handler != NULL && handler == own;
    PyErr_Clear();
    Py_XDECREF(handler);
    Py_XDECREF(own);
    Py_XDECREF(module);
    return raises;
}

/* No handler runs in here: one that wrote or closed would wait for the call that it interrupts. */
static bool stop_on_ctrl_c(void)
{
    if (released == NULL || PyThread_get_thread_ident() != atomic_load(&main_thread))
        return false;
    core_leave();
    if (PyErr_Occurred() == NULL && ctrl_c_raises() && PyOS_InterruptOccurred())
        PyErr_SetNone(PyExc_KeyboardInterrupt);
    bool stop = PyErr_Occurred() != NULL;
    core_enter();
    return stop;
}

/* Other programs' hooks run between ours, while this thread holds the core's locks. A collection
 * there may free a handle, which takes them. Under the core's lock, as everything between is. */
static int collects;

static PyObject *fork_before(PyObject *module, PyObject *none)
{
    (void)module, (void)none;
    core_enter(); /* those who must finish may need the GIL to get on */
    dm_fork_before(FORK_QUIET_MS);
    core_leave();
    collects = PyGC_Disable();
    Py_RETURN_NONE;
}

static PyObject *fork_parent(PyObject *module, PyObject *none)
{
    (void)module, (void)none;
    int restore = collects;
    dm_fork_parent();
    if (restore)
        PyGC_Enable();
    Py_RETURN_NONE;
}

static PyObject *fork_child(PyObject *module, PyObject *none)
{
    (void)module, (void)none;
    dm_fork_child();
    if (collects)
        PyGC_Enable();
    atomic_store(&main_thread, PyThread_get_thread_ident());
    Py_RETURN_NONE;
}

static PyMethodDef fork_methods[] = {
    {"before", fork_before, METH_NOARGS, NULL},
    {"after_in_parent", fork_parent, METH_NOARGS, NULL},
    {"after_in_child", fork_child, METH_NOARGS, NULL},
};

static int fork_hooks_register(void)
{
    int rc = -1;
    PyObject *os = PyImport_ImportModule("os"), *register_function = NULL, *result = NULL;
    PyObject *keywords = PyDict_New(), *none = PyTuple_New(0);
    if (os == NULL || keywords == NULL || none == NULL)
        goto done;
    register_function = PyObject_GetAttrString(os, "register_at_fork");
    if (register_function == NULL) { /* Windows has no fork */
        PyErr_Clear();
        rc = 0;
        goto done;
    }
    for (size_t i = 0; i < 3; i++) {
        PyObject *function = PyCFunction_New(&fork_methods[i], NULL);
        int set = function == NULL
                      ? -1
                      : PyDict_SetItemString(keywords, fork_methods[i].ml_name, function);
        Py_XDECREF(function);
        if (set < 0)
            goto done;
    }
    result = PyObject_Call(register_function, none, keywords);
    rc = result == NULL ? -1 : 0;
done:
    Py_XDECREF(result);
    Py_XDECREF(register_function);
    Py_XDECREF(none);
    Py_XDECREF(keywords);
    Py_XDECREF(os);
    return rc;
}

/* Only the main interpreter's main thread gets signals; another's is what imported `threading`. */
static int main_thread_find(void)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main())
        return 0;
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *thread = threading ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
    PyObject *ident = thread ? PyObject_GetAttrString(thread, "ident") : NULL;
    if (ident != NULL && ident != Py_None)
        atomic_store(&main_thread, PyLong_AsUnsignedLong(ident));
    Py_XDECREF(ident);
    Py_XDECREF(thread);
    Py_XDECREF(threading);
    return PyErr_Occurred() ? -1 : 0;
}

/* Once for each interpreter, since any may fork, even where the module is imported anew. */
int hooks_install(void)
{
    static const char installed[] = "datamanager._core hooks";
    PyObject *known = PyInterpreterState_GetDict(PyInterpreterState_Get()); /* borrowed */
    if (known == NULL)
        return PyErr_NoMemory(), -1;
    if (PyDict_GetItemString(known, installed) != NULL)
        return 0;
    if (main_thread_find() < 0 || fork_hooks_register() < 0)
        return -1;
    dm_set_stop_hook(stop_on_ctrl_c);
    return PyDict_SetItemString(known, installed, Py_True);
}
