/* SPDX-License-Identifier: MIT
 *
 * Requests out of and into files; what the files are like is Python's affair. */
#include "call.h"

/* ---- out ---- */

typedef struct {
    PyObject *writer, *manager; /* borrowed */
} export_call;

/* Between core_leave and core_enter; takes the reference to `arguments` over. */
static bool call_end(const export_call *told, const char *method, PyObject *arguments)
{
    PyObject *outer = care_telling_set(told->manager);
    PyObject *function = arguments == NULL ? NULL : PyObject_GetAttrString(told->writer, method);
    PyObject *result = function == NULL ? NULL : PyObject_CallObject(function, arguments);
    bool failed = result == NULL;
    (void)care_telling_set(outer);
    Py_XDECREF(result);
    Py_XDECREF(function);
    Py_XDECREF(arguments);
    core_enter();
    return failed;
}

static bool export_begin(void *argument, const char *path)
{
    core_leave();
    return call_end(argument, "begin", Py_BuildValue("(N)", PyUnicode_DecodeFSDefault(path)));
}

static bool export_end(void *argument)
{
    core_leave();
    return call_end(argument, "end", PyTuple_New(0));
}

/* What stands at `i` of a column, as a new reference. */
typedef PyObject *(*item_maker)(const void *column, size_t i);

static PyObject *real_item(const void *column, size_t i)
{
    return number_or_none(((const double *)column)[i]);
}

static PyObject *whole_item(const void *column, size_t i)
{
    return PyLong_FromLongLong(((const int64_t *)column)[i]);
}

static PyObject *text_item(const void *column, size_t i)
{
    const dm_str *text = (const dm_str *)column + i;
    return PyUnicode_FromStringAndSize(text->bytes, (Py_ssize_t)text->length);
}

static PyObject *part_columns(const dm_export_part *part)
{
    const struct {
        const void *column;
        item_maker item;
    } columns[] = {{part->rows.timestamp_s, real_item},    {part->rows.input_tokens, whole_item},
                   {part->rows.output_tokens, whole_item}, {part->rows.cache_n, whole_item},
                   {part->rows.prompt_n, whole_item},      {part->rows.duration_s, real_item},
                   {part->rows.first_token_s, real_item},  {part->request_ids, text_item}};
    const Py_ssize_t width = sizeof columns / sizeof *columns;
    PyObject *lists = PyTuple_New(width);
    for (Py_ssize_t c = 0; lists != NULL && c < width; c++) {
        PyObject *list = PyList_New((Py_ssize_t)part->rows.count);
        for (size_t i = 0; list != NULL && i < part->rows.count; i++) {
            PyObject *item = columns[c].item(columns[c].column, i);
            if (item == NULL)
                Py_CLEAR(list);
            else
                PyList_SET_ITEM(list, (Py_ssize_t)i, item);
        }
        if (list == NULL)
            Py_CLEAR(lists);
        else
            PyTuple_SET_ITEM(lists, c, list);
    }
    return lists;
}

static bool export_take(void *argument, const dm_export_part *part)
{
    core_leave();
    PyObject *model =
        PyUnicode_FromStringAndSize(part->model.bytes, (Py_ssize_t)part->model.length);
    return call_end(argument, "take",
                    Py_BuildValue("(NNLL)", model, part_columns(part), (long long)part->done,
                                  (long long)part->total));
}

PyObject *requests_export(METHOD_ARGS)
{
    static const arg_spec spec = {
        "_export", {"dest", "overwrite", "models", "start", "end", "writer"}, 6, 6};
    call c;
    dm_export query = {0};
    export_call told;
    int64_t count = 0;
    bool overwrite = false;
    PyObject *dest = NULL, *names = NULL, *result = NULL;
    dm_str *models = NULL;
    if (call_begin(&c, self, &spec, args, nargs, kwnames) < 0 ||
        to_flag(c.state, c.args[1], "overwrite", &overwrite) < 0 ||
        to_moment(c.state, c.args[3], "start", -INFINITY, &query.start_s) < 0 ||
        to_moment(c.state, c.args[4], "end", INFINITY, &query.end_s) < 0 ||
        to_path(c.state, c.args[0], "dest", &dest) < 0)
        return NULL;
    if (c.args[2] != Py_None &&
        to_names(c.state, c.args[2], &names, &models, &query.model_count) < 0)
        goto done;
    query.models = models;
    told = (export_call){c.args[5], self};
    const dm_export_writer writer = {export_begin, export_take, export_end, &told};
    core_enter();
    dm_status rc = dm_requests_export(c.core, PyBytes_AS_STRING(dest), overwrite, &query, &writer,
                                      &count, &c.err);
    core_leave();
    if (!call_failed(&c, rc))
        result = PyLong_FromLongLong(count);
done:
    PyMem_Free(models);
    Py_XDECREF(names);
    Py_DECREF(dest);
    return result;
}

/* ---- in ---- */

PyObject *requests_import(METHOD_ARGS)
{
    static const arg_spec spec = {"_import", {"model_name", "columns"}, 2, 2};
    call c;
    dm_str model;
    row_columns columns = {0};
    int64_t added = 0, *row_ids = NULL;
    PyObject *result = NULL;
    if (call_begin_model(&c, &model, self, &spec, args, nargs, kwnames) < 0 ||
        to_rows(c.state, c.args[1], NULL, &columns) < 0)
        goto done;
    row_ids = PyMem_Calloc(columns.rows.count + 1, sizeof *row_ids);
    if (row_ids == NULL) {
        (void)PyErr_NoMemory();
        goto done;
    }
    core_enter();
    bool in_batch = dm_in_batch(c.core);
    core_leave();
    if (in_batch) { /* how many are new could not be told */
        PyErr_SetString(c.state->errors[DM_INVALID], "import_requests cannot be a part of a batch");
        goto done;
    }
    core_enter();
    dm_status rc = dm_requests_add_once(c.core, model, &columns.rows, columns.request_ids, row_ids,
                                        &added, &c.err);
    core_leave();
    if (!call_failed(&c, rc))
        result = PyLong_FromLongLong(added);
done:
    PyMem_Free(row_ids);
    row_columns_reset(&columns);
    return result;
}

PyObject *is_open(PyObject *module, PyObject *path)
{
    PyObject *bytes = NULL;
    if (to_path(PyModule_GetState(module), path, "path", &bytes) < 0)
        return NULL;
    core_enter();
    bool open = dm_database_is_open(PyBytes_AS_STRING(bytes));
    core_leave();
    Py_DECREF(bytes);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(open);
}

/* Would it be accepted? */
PyObject *request_check(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    static const arg_spec spec = {
        "_check_request", {"model_name", "row", "duration", "first_token", "request_id"}, 5, 5};
    call c = {.state = PyModule_GetState(module)};
    dm_str model, id = {NULL, 0};
    dm_request request;
    dm_timing timing = DM_TIMING_UNKNOWN;
    if (args_parse(&spec, args, nargs, kwnames, c.args) < 0 ||
        to_name(c.state, c.args[0], &model) < 0 || to_request(c.state, c.args[1], &request) < 0 ||
        (c.args[2] != Py_None &&
         to_seconds(c.state, c.args[2], "duration", &timing.duration_s) < 0) ||
        (c.args[3] != Py_None &&
         to_seconds(c.state, c.args[3], "first_token", &timing.first_token_s) < 0) ||
        (c.args[4] != Py_None && to_request_id(c.state, c.args[4], &id) < 0))
        return NULL;
    dm_status rc = dm_model_name_check(model, &c.err);
    if (rc == DM_OK)
        rc = dm_request_check(&request, &c.err);
    if (rc == DM_OK)
        rc = dm_timing_check(&timing, &c.err);
    if (rc == DM_OK && id.bytes != NULL)
        rc = dm_request_id_check(id, &c.err);
    return finish_none(&c, rc);
}
