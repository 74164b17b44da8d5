/* SPDX-License-Identifier: MIT
 *
 * A Python module whose allocators fail when they are told to: test_nomemory.py builds it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>
#include <stdbool.h>

PyMODINIT_FUNC PyInit_nomemory(void);

static PyMemAllocatorEx real[3]; /* by domain */
static atomic_long taken;        /* since fail() */
static atomic_long first = -1, second = -1;
static atomic_bool for_ever;

static bool fails(void)
{
    long now = atomic_fetch_add(&taken, 1), begin = atomic_load(&first);
    return now == begin || now == atomic_load(&second) ||
           (begin >= 0 && now > begin && atomic_load(&for_ever));
}

static void *failing_malloc(void *domain, size_t size)
{
    PyMemAllocatorEx *to = domain;
    return fails() ? NULL : to->malloc(to->ctx, size);
}

static void *failing_calloc(void *domain, size_t count, size_t size)
{
    PyMemAllocatorEx *to = domain;
    return fails() ? NULL : to->calloc(to->ctx, count, size);
}

static void *failing_realloc(void *domain, void *old, size_t size)
{
    PyMemAllocatorEx *to = domain;
    return fails() ? NULL : to->realloc(to->ctx, old, size);
}

static void real_free(void *domain, void *memory)
{
    PyMemAllocatorEx *to = domain;
    to->free(to->ctx, memory);
}

static PyObject *fail(PyObject *module, PyObject *args)
{
    (void)module;
    long begin, again;
    int ever;
    if (!PyArg_ParseTuple(args, "llp:fail", &begin, &again, &ever))
        return NULL;
    atomic_store(&for_ever, ever);
    atomic_store(&taken, 0);
    atomic_store(&second, again);
    atomic_store(&first, begin);
    Py_RETURN_NONE;
}

static PyObject *heal(PyObject *module, PyObject *ignored)
{
    (void)module, (void)ignored;
    atomic_store(&first, -1);
    atomic_store(&second, -1);
    return PyLong_FromLong(atomic_load(&taken));
}

static PyMethodDef methods[] = {
    {"fail", fail, METH_VARARGS,
     "fail(first, second, for_ever): let the allocations of these numbers, from 0 on, fail, and all"
     " after the first if it is for ever; -1 is none."},
    {"heal", heal, METH_NOARGS, "Let none fail any more: how many there were since fail()."},
    {0},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "nomemory", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_nomemory(void)
{
    static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM,
                                                   PYMEM_DOMAIN_OBJ};
    for (int i = 0; i < 3; i++) {
        PyMem_GetAllocator(domains[i], &real[i]);
        PyMem_SetAllocator(domains[i], &(PyMemAllocatorEx){&real[i], failing_malloc, failing_calloc,
                                                           failing_realloc, real_free});
    }
    return PyModule_Create(&definition);
}
