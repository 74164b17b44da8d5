/* SPDX-License-Identifier: MIT
 *
 * Copies of databases, and looking after one. */
#include "call.h"

/* ---- progress ---- */

/* The handle whose call this thread is in while it tells how far it is: closing it then would wait
 * for itself. */
static _Thread_local PyObject *telling;

bool care_is_telling(PyObject *manager)
{
    return telling == manager;
}

PyObject *care_telling_set(PyObject *manager)
{
    PyObject *outer = telling;
    telling = manager;
    return outer;
}

static bool progress_report(void *argument, int64_t done, int64_t total)
{
    const progress_call *progress = argument;
    core_leave();
    PyObject *outer = care_telling_set(progress->manager);
    PyObject *result =
        PyObject_CallFunction(progress->function, "LL", (long long)done, (long long)total);
    (void)care_telling_set(outer);
    Py_XDECREF(result);
    core_enter();
    return result == NULL;
}

int to_progress(PyObject *object, PyObject *manager, progress_call *call_out, dm_progress *out)
{
    *call_out = (progress_call){object, manager};
    *out = (dm_progress){is_given(object) ? progress_report : NULL, call_out};
    if (!is_given(object) || PyCallable_Check(object))
        return 0;
    PyErr_Format(PyExc_TypeError, "progress must be callable, not %.100s",
                 Py_TYPE(object)->tp_name);
    return -1;
}

/* ---- the calls ---- */

PyObject *backup(METHOD_ARGS)
{
    static const arg_spec spec = {"backup", {"dest", "progress", "overwrite"}, 1, 2};
    call c;
    bool overwrite = false;
    progress_call told;
    dm_progress progress;
    PyObject *dest = NULL;
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0 ||
        to_progress(c.args[1], self, &told, &progress) < 0 ||
        (c.args[2] != NULL && to_flag(c.state, c.args[2], "overwrite", &overwrite) < 0) ||
        to_path(c.state, c.args[0], "dest", &dest) < 0)
        return NULL;
    core_enter();
    dm_status rc = dm_backup(c.core, PyBytes_AS_STRING(dest), overwrite,
                             progress.report == NULL ? NULL : &progress, &c.err);
    core_leave();
    Py_DECREF(dest);
    return finish_none(&c, rc);
}

PyObject *restore(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const arg_spec spec = {"restore", {"src", "dest", "progress", "busy_timeout"}, 2, 3};
    call c = {.state = PyModule_GetState(module)};
    progress_call told;
    dm_progress progress;
    PyObject *src = NULL, *dest = NULL, *result = NULL;
    char *kept = NULL;
    int64_t timeout_ms = 0;
    if (args_parse(&spec, args, nargs, kwnames, c.args) < 0 ||
        to_progress(c.args[2], NULL, &told, &progress) < 0 ||
        to_timeout(c.state, c.args[3], &timeout_ms) < 0 ||
        to_path(c.state, c.args[0], "src", &src) < 0)
        return NULL;
    if (to_path(c.state, c.args[1], "dest", &dest) < 0)
        goto done;
    core_enter();
    dm_status rc = dm_restore(PyBytes_AS_STRING(src), PyBytes_AS_STRING(dest), timeout_ms,
                              progress.report == NULL ? NULL : &progress, &kept, &c.err);
    core_leave();
    if (!call_failed(&c, rc))
        result = kept == NULL ? Py_NewRef(Py_None) : PyUnicode_DecodeFSDefault(kept);
    dm_text_free(kept);
done:
    Py_XDECREF(dest);
    Py_DECREF(src);
    return result;
}

/* ---- check ---- */

static PyObject *finding_new(module_state *state, const dm_finding *finding)
{
    record_value values[] = {
        {.object =
             PyUnicode_FromString(finding->severity == DM_SEVERITY_ERROR ? "error" : "warning")},
        {.object = finding->table[0] == '\0'
                       ? Py_NewRef(Py_None)
                       : PyUnicode_DecodeUTF8(finding->table, (Py_ssize_t)strlen(finding->table),
                                              "replace")},
        {.object = finding->row_id == DM_NO_ROW ? Py_NewRef(Py_None)
                                                : PyLong_FromLongLong(finding->row_id)},
        {.object = PyUnicode_FromString(finding->text)},
        {.flag = finding->repaired}};
    return record_make(state, RECORD_FINDING, values);
}

PyObject *check(METHOD_ARGS)
{
    static const arg_spec spec = {"check", {"quick", "repair"}, 0, 1};
    call c;
    bool quick = false, repair = false;
    dm_findings found = {0};
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0 ||
        (c.args[0] != NULL && to_flag(c.state, c.args[0], "quick", &quick) < 0) ||
        (c.args[1] != NULL && to_flag(c.state, c.args[1], "repair", &repair) < 0))
        return NULL;
    core_enter();
    dm_status rc = dm_check(c.core, quick, repair, &found, &c.err);
    core_leave();
    PyObject *list = call_failed(&c, rc) ? NULL : PyList_New((Py_ssize_t)found.count);
    for (size_t i = 0; list != NULL && i < found.count; i++) {
        PyObject *finding = finding_new(c.state, &found.findings[i]);
        if (finding == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, finding);
    }
    dm_findings_reset(&found);
    return list;
}

/* ---- stats ---- */

static int stat_set(PyObject *dict, const char *name, PyObject *value)
{
    int rc = value == NULL ? -1 : PyDict_SetItemString(dict, name, value);
    Py_XDECREF(value);
    return rc;
}

static int stats_fill(PyObject *dict, const dm_stats *stats)
{
    const struct {
        const char *name;
        int64_t value;
    } counts[] = {{"commits", stats->commits},
                  {"operations", stats->operations},
                  {"failed_operations", stats->failed_operations},
                  {"largest_commit", stats->largest_commit},
                  {"write_waits", stats->write_waits},
                  {"read_waits", stats->read_waits},
                  {"busy_retries", stats->busy_retries},
                  {"checkpoints", stats->checkpoints},
                  {"checkpoints_skipped", stats->checkpoints_skipped},
                  {"checkpoint_held_pages", stats->checkpoint_held_pages},
                  {"statement_hits", stats->statement_hits},
                  {"statement_misses", stats->statement_misses},
                  {"handles", stats->handles},
                  {"pool_size", stats->pool_size},
                  {"connections", stats->connections},
                  {"reading", stats->reading},
                  {"cached_bytes", stats->cached_bytes},
                  {"cache_drops", stats->cache_drops}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (stat_set(dict, counts[i].name, PyLong_FromLongLong(counts[i].value)) < 0)
            return -1;
    dm_sqlite_info info;
    dm_sqlite_info_get(&info);
    bool read = stats->reading > 0;
    return stat_set(dict, "oldest_read_seconds",
                    read ? PyFloat_FromDouble(stats->oldest_read_s) : Py_NewRef(Py_None)) < 0 ||
                   stat_set(dict, "oldest_read_thread",
                            read ? PyLong_FromLongLong(stats->oldest_read_thread)
                                 : Py_NewRef(Py_None)) < 0
               ? -1
               : stat_set(dict, "wal_reset_race", PyBool_FromLong(info.wal_reset_race));
}

PyObject *stats(PyObject *self, PyObject *none)
{
    (void)none;
    call c = {.state = state_of_type(Py_TYPE(self)), .core = manager_core((manager_object *)self)};
    dm_stats found = {0};
    if (c.core == NULL)
        return NULL;
    core_enter();
    dm_status rc = dm_stats_get(c.core, &found, &c.err);
    core_leave();
    PyObject *dict = call_failed(&c, rc) ? NULL : PyDict_New();
    if (dict != NULL && stats_fill(dict, &found) < 0)
        Py_CLEAR(dict);
    return dict;
}

/* ---- storage ---- */

static PyObject *model_sizes_new(const dm_model_storage *size, bool bytes_known)
{
    return Py_BuildValue("{s:L,s:L,s:N}", "requests", (long long)size->requests, "runs",
                         (long long)size->runs, "bytes",
                         bytes_known ? PyLong_FromLongLong(size->bytes) : Py_NewRef(Py_None));
}

static PyObject *models_new(const dm_storage *storage)
{
    PyObject *models = PyDict_New();
    for (size_t i = 0; models != NULL && i < storage->models.count; i++) {
        const dm_model_name *model = &storage->models.models[i];
        PyObject *name =
            PyUnicode_FromStringAndSize(model->original_name, (Py_ssize_t)model->original_length);
        PyObject *sizes = model_sizes_new(&storage->sizes[i], storage->bytes_known);
        if (name == NULL || sizes == NULL || PyDict_SetItem(models, name, sizes) < 0)
            Py_CLEAR(models);
        Py_XDECREF(sizes);
        Py_XDECREF(name);
    }
    return models;
}

PyObject *storage_stats(PyObject *self, PyObject *none)
{
    (void)none;
    call c = {.state = state_of_type(Py_TYPE(self)), .core = manager_core((manager_object *)self)};
    dm_storage storage = {0};
    if (c.core == NULL)
        return NULL;
    core_enter();
    dm_status rc = dm_storage_get(c.core, &storage, &c.err);
    core_leave();
    PyObject *result = NULL;
    if (!call_failed(&c, rc))
        result = Py_BuildValue("{s:L,s:L,s:L,s:N}", "file_bytes", (long long)storage.file_bytes,
                               "free_bytes", (long long)storage.free_bytes, "log_bytes",
                               (long long)storage.log_bytes, "models", models_new(&storage));
    dm_storage_reset(&storage);
    return result;
}

PyObject *vacuum(METHOD_ARGS)
{
    static const arg_spec spec = {"vacuum", {"progress"}, 0, 1};
    call c;
    progress_call told;
    dm_progress progress;
    int64_t before = 0, after = 0;
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0 ||
        to_progress(c.args[0], self, &told, &progress) < 0)
        return NULL;
    core_enter();
    dm_status rc =
        dm_vacuum(c.core, progress.report == NULL ? NULL : &progress, &before, &after, &c.err);
    core_leave();
    return call_failed(&c, rc) ? NULL : Py_BuildValue("(LL)", (long long)before, (long long)after);
}
