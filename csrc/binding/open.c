/* SPDX-License-Identifier: MIT
 *
 * Opening a Manager: its options, its path, the call of the core. */
#include "module.h"

#define DEFAULT_PATH "webui/monitoring.db"

static int models_read(module_state *state, PyObject *models, PyObject **kept, dm_str **names,
                       size_t *count)
{
    if (models == NULL || models == Py_None)
        return 0;
    if (PyUnicode_Check(models))
        return raise_invalid(state, "models must be an iterable of names, not one str");
    *kept = PySequence_Tuple(models);
    if (*kept == NULL)
        return -1;
    *count = (size_t)PyTuple_GET_SIZE(*kept);
    *names = PyMem_Calloc(*count + 1, sizeof **names);
    if (*names == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < *count; i++)
        if (to_name(state, PyTuple_GET_ITEM(*kept, (Py_ssize_t)i), &(*names)[i]) < 0)
            return -1;
    return 0;
}

static int durability_read(module_state *state, PyObject *object, dm_durability *out)
{
    *out = DM_DURABILITY_FULL;
    if (object == NULL ||
        (PyUnicode_Check(object) && PyUnicode_CompareWithASCIIString(object, "full") == 0))
        return 0;
    *out = DM_DURABILITY_NORMAL;
    if (PyUnicode_Check(object) && PyUnicode_CompareWithASCIIString(object, "normal") == 0)
        return 0;
    return raise_invalid_value(state, object, "durability must be 'full' or 'normal', not ");
}

static int options_read(module_state *state, PyObject *const *given, dm_options *options)
{
    int64_t pool_size = 10, cache_bytes = 0;
    if (durability_read(state, given[0], &options->durability) < 0 ||
        (given[1] != NULL && to_count(state, given[1], "pool_size", &pool_size) < 0) ||
        to_timeout(state, given[2], &options->busy_timeout_ms) < 0 ||
        (given[3] != NULL && to_flag(state, given[3], "read_only", &options->read_only) < 0) ||
        (given[4] != NULL && to_count(state, given[4], "cache_bytes", &cache_bytes) < 0) ||
        (given[5] != NULL && to_flag(state, given[5], "checksums", &options->checksums) < 0))
        return -1;
    if (pool_size < 1 || pool_size > 1000)
        return raise_invalid_value(state, given[1],
                                   "pool_size must be a whole number from 1 to 1000, not ");
    if (cache_bytes < 0)
        return raise_invalid_value(state, given[4],
                                   "cache_bytes must be a whole number of at least 0, not ");
    options->pool_size = (int)pool_size;
    options->cache_bytes = given[4] != NULL && cache_bytes == 0 ? -1 : cache_bytes;
    return 0;
}

static bool is_open_already(const manager_object *self, const module_state *state)
{
    if (self->core != NULL)
        PyErr_SetString(state->error, "the data manager is open already");
    return self->core != NULL;
}

static int core_open(manager_object *self, module_state *state, const char *path,
                     const dm_options *options)
{
    dm_manager *core = NULL;
    dm_error err;
    core_enter();
    dm_status rc = dm_open(path, options, &core, &err);
    core_leave();
    if (rc == DM_OK && (PyErr_Occurred() || is_open_already(self, state))) {
        core_enter();
        dm_free(core);
        core_leave();
        return -1;
    }
    if (rc != DM_OK) {
        (void)raise_error(state, rc, &err);
        return -1;
    }
    self->core = core;
    return 0;
}

static int manager_open(manager_object *self, module_state *state, PyObject *path,
                        const dm_options *options)
{
    PyObject *bytes = NULL;
    if (to_path(state, path, "db_path", &bytes) < 0)
        return -1;
    const char *name = PyBytes_AS_STRING(bytes);
    PyObject *text =
        PyUnicode_DecodeFSDefault(name); /* str() of a PathLike is not always its path */
    int rc = text == NULL ? -1 : core_open(self, state, name, options);
    if (rc == 0)
        self->path = Py_NewRef(text);
    Py_XDECREF(text);
    Py_DECREF(bytes);
    return rc;
}

int manager_init(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"db_path",   "models",      "durability", "pool_size", "busy_timeout",
                            "read_only", "cache_bytes", "checksums",  NULL};
    manager_object *self = (manager_object *)object;
    module_state *state = state_of_type(Py_TYPE(object));
    PyObject *path = Py_None, *models = NULL, *given[6] = {0}, *kept = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O$OOOOOOO:DataManager", names, &path,
                                     &models, &given[0], &given[1], &given[2], &given[3], &given[4],
                                     &given[5]))
        return -1;
    if (is_open_already(self, state))
        return -1;
    dm_options options = {0};
    dm_str *model_names = NULL;
    int rc = options_read(state, given, &options);
    if (rc == 0)
        rc = models_read(state, models, &kept, &model_names, &options.model_count);
    options.models = model_names;
    PyObject *chosen = path == Py_None ? PyUnicode_FromString(DEFAULT_PATH) : Py_NewRef(path);
    if (rc == 0)
        rc = chosen == NULL ? -1 : manager_open(self, state, chosen, &options);
    Py_XDECREF(chosen);
    PyMem_Free(model_names);
    Py_XDECREF(kept);
    return rc;
}
