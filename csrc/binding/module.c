/* SPDX-License-Identifier: MIT
 *
 * datamanager._core: the module and its state. */
#include "module.h"

PyMODINIT_FUNC PyInit__core(void);

module_state *state_of_type(PyTypeObject *type)
{
    return PyModule_GetState(PyType_GetModuleByDef(type, &module_def));
}

static PyObject *sqlite_info(PyObject *module, PyObject *none)
{
    (void)module, (void)none;
    dm_sqlite_info info;
    dm_sqlite_info_get(&info);
    return Py_BuildValue("{s:s,s:s,s:N,s:L}", "version", info.version, "source_id", info.source_id,
                         "wal_reset_race", PyBool_FromLong(info.wal_reset_race), "memory_used",
                         (long long)info.memory_used);
}

static PyMethodDef module_methods[] = {
    {"sqlite_info", sqlite_info, METH_NOARGS,
     "sqlite_info($module, /)\n--\n\nThe SQLite library in use, as a dict."},
    {"cost", (PyCFunction)(void (*)(void))cost_get, METH_FASTCALL | METH_KEYWORDS,
     "cost($module, /, tiers, input_tokens, output_tokens, cache_n=0, *, strategy='graduated', "
     "input_before=0, output_before=0)\n--\n\nWhat a request costs on these tiers: a Cost. "
     "cache_n of the input tokens are cache hits. The tokens before it in the billing period count "
     "where the strategy is 'cumulative'."},
    {"_is_open", is_open, METH_O,
     "_is_open($module, path, /)\n--\n\nWhether a handle of this process has the file open, as a "
     "database or beside one."},
    {"_check_request", (PyCFunction)(void (*)(void))request_check, METH_FASTCALL | METH_KEYWORDS,
     "_check_request($module, /, model_name, row, duration, first_token, request_id)\n--\n\n"
     "Raises what adding it would."},
    {"restore", (PyCFunction)(void (*)(void))restore, METH_FASTCALL | METH_KEYWORDS,
     "restore($module, /, src, dest, progress=None, *, busy_timeout=30.0)\n--\n\nPut what is in "
     "the database src in the place of what is in dest, in one transaction, while others have it "
     "open: they see all of the old or all of the new. What was there is kept in a file beside it, "
     "whose path is returned (None where there was none). progress(done_pages, total_pages) is "
     "called as it goes on; an exception in it stops everything, with nothing changed."},
    {NULL, NULL, 0, NULL}};

static int module_exec(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    if (errors_add(module, state) < 0 || records_add(module, state) < 0 ||
        column_add(module, state) < 0 || table_add(module) < 0 || requests_add(module, state) < 0 ||
        batch_add(module, state) < 0 || manager_add(module, state) < 0)
        return -1;
    return hooks_install();
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    Py_VISIT(state->error);
    for (int i = 0; i < DM_STATUS_COUNT; i++)
        Py_VISIT(state->errors[i]);
    for (int i = 0; i < RECORD_COUNT; i++)
        Py_VISIT(state->record_types[i]);
    Py_VISIT(state->decimal_type);
    Py_VISIT(state->decimal_zero);
    Py_VISIT(state->column_type);
    Py_VISIT(state->requests_type);
    Py_VISIT(state->batch_type);
    Py_VISIT(state->manager_type);
    return 0;
}

static int module_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->error);
    for (int i = 0; i < DM_STATUS_COUNT; i++)
        Py_CLEAR(state->errors[i]);
    for (int i = 0; i < RECORD_COUNT; i++)
        Py_CLEAR(state->record_types[i]);
    Py_CLEAR(state->decimal_type);
    Py_CLEAR(state->decimal_zero);
    Py_CLEAR(state->column_type);
    Py_CLEAR(state->requests_type);
    Py_CLEAR(state->batch_type);
    Py_CLEAR(state->manager_type);
    return 0;
}

static void module_free(void *module)
{
    (void)module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL}};

PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "datamanager._core",
    .m_doc = "The C engine of datamanager.",
    .m_size = sizeof(module_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&module_def);
}
