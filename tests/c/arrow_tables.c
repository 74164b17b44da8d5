/* SPDX-License-Identifier: MIT
 *
 * A Python module around arrow.c, with a table of every kind of column; test_arrow.py builds it. */
#include "module.h"

#include <pthread.h>
#include <stdlib.h>

PyMODINIT_FUNC PyInit_arrow_tables(void);

enum { ROW_COUNT = 12 }; /* more than the bits of a byte */

static const int64_t numbers[ROW_COUNT] = {0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110};
static const double reals[ROW_COUNT] = {0, .5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5};
static const char letters[] = "abbccc\xe4\xb8\xad"; /* "a", "bb", "ccc", "中", "" … */
static const int32_t offsets[ROW_COUNT + 1] = {0, 1, 3, 6, 9, 9, 9, 9, 9, 9, 9, 9, 9};
static const uint8_t valid[] = {0xad, 0x0a}; /* rows 0, 2, 3, 5, 7, 9, 11 */

static const table_column columns[] = {{"number", "l", numbers, NULL, NULL, false},
                                       {"real", "g", reals, NULL, NULL, false},
                                       {"time", "tsu:UTC", numbers, NULL, NULL, false},
                                       {"text", "u", letters, offsets, NULL, false},
                                       {"maybe", "l", numbers, NULL, valid, true},
                                       {"maybe_text", "u", letters, offsets, valid, true}};

static int freed;

static void counting_free(counted *object)
{
    free(object);
    freed++;
}

static table *table_new(void)
{
    table *source = malloc(sizeof *source);
    if (source == NULL)
        return (void *)PyErr_NoMemory();
    *source = (table){{1, counting_free}, columns, sizeof columns / sizeof *columns};
    return source;
}

/* call(start, step, length, column): what the three methods of such a view return; column is -1
 * for all of them. */
static PyObject *call(PyObject *module, PyObject *args)
{
    (void)module;
    table *source = table_new();
    if (source == NULL)
        return NULL;
    table_view view = {.table = source};
    int column;
    if (!PyArg_ParseTuple(args, "nnni", &view.start, &view.step, &view.length, &column)) {
        counted_drop(&source->counted);
        return NULL;
    }
    const table_column *only = column < 0 ? NULL : &columns[column];
    PyObject *schema = arrow_schema(&view, only);
    PyObject *array = arrow_array(&view, only, NULL, 0, NULL);
    PyObject *stream = arrow_stream(&view, NULL, 0, NULL);
    counted_drop(&source->counted);
    if (schema != NULL && array != NULL && stream != NULL)
        return Py_BuildValue("(NNN)", schema, array, stream);
    Py_XDECREF(schema);
    Py_XDECREF(array);
    Py_XDECREF(stream);
    return NULL;
}

typedef struct {
    counted *object;
    int rounds;
} counting;

static void *hold_and_drop(void *argument)
{
    counting *work = argument;
    for (int i = 0; i < work->rounds; i++)
        counted_drop(counted_hold(work->object));
    return NULL;
}

/* count_in_threads(threads, rounds): the references after each thread took and dropped as many. */
static PyObject *count_in_threads(PyObject *module, PyObject *args)
{
    (void)module;
    int thread_count, started = 0;
    counting work;
    pthread_t threads[16];
    if (!PyArg_ParseTuple(args, "ii", &thread_count, &work.rounds))
        return NULL;
    table *source = table_new();
    if (source == NULL)
        return NULL;
    work.object = &source->counted;
    while (started < thread_count && started < 16 &&
           pthread_create(&threads[started], NULL, hold_and_drop, &work) == 0)
        started++;
    for (int i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL);
    size_t references = atomic_load(&source->counted.references);
    counted_drop(&source->counted);
    return PyLong_FromSize_t(references);
}

/* How many tables are gone. */
static PyObject *freed_count(PyObject *module, PyObject *none)
{
    (void)module, (void)none;
    return PyLong_FromLong(freed);
}

static PyMethodDef methods[] = {{"call", call, METH_VARARGS, NULL},
                                {"count_in_threads", count_in_threads, METH_VARARGS, NULL},
                                {"freed", freed_count, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "arrow_tables",
                                 .m_methods = methods};

PyMODINIT_FUNC PyInit_arrow_tables(void)
{
    return PyModule_Create(&definition);
}
