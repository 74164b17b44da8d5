/* SPDX-License-Identifier: MIT
 *
 * Tables handed to others through the Arrow C data interface, in the capsules of its Python
 * protocol. The structs are those of https://arrow.apache.org/docs/format/CDataInterface.html
 * and CStreamInterface.html.
 *
 * A consumer may move a child out of an array and release the parent, in any order and on any
 * thread. So an array and its children lie in one block, which each of them counts on:
 *
 *     array, children  -->  export  -->  table  <--  Python's objects, other exports
 *
 * Memory is malloc's: a release may come when there is no interpreter any more. */
#include "module.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ARROW_FLAG_NULLABLE 2

/* The names of the capsules. */
#define SCHEMA "arrow_schema"
#define ARRAY  "arrow_array"
#define STREAM "arrow_array_stream"

struct ArrowSchema {
    const char *format;
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct ArrowSchema **children;
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
    int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
    const char *(*get_last_error)(struct ArrowArrayStream *);
    void (*release)(struct ArrowArrayStream *);
    void *private_data;
};

void *counted_hold(counted *object)
{
    atomic_fetch_add_explicit(&object->references, 1, memory_order_relaxed);
    return object;
}

void counted_drop(counted *object)
{
    if (atomic_fetch_sub_explicit(&object->references, 1, memory_order_acq_rel) == 1)
        object->free(object);
}

/* ---- rows that do not lie side by side are copied: Arrow has no strides ---- */

typedef struct {
    table table;
    table_column columns[];
} packed_table;

static void packed_free(counted *object)
{
    packed_table *packed = (packed_table *)object;
    for (size_t i = 0; i < packed->table.column_count; i++) {
        free((void *)packed->columns[i].values);
        free((void *)packed->columns[i].offsets);
        free((void *)packed->columns[i].valid);
    }
    free(packed);
}

static bool numbers_pack(const table_view *view, const table_column *from, table_column *to)
{
    char *values = malloc((size_t)view->length * 8);
    to->values = values;
    for (Py_ssize_t i = 0; values != NULL && i < view->length; i++)
        memcpy(values + i * 8, (const char *)from->values + (view->start + i * view->step) * 8, 8);
    return values != NULL;
}

static bool texts_pack(const table_view *view, const table_column *from, table_column *to)
{
    int32_t *offsets = calloc((size_t)view->length + 1, sizeof *offsets);
    to->offsets = offsets;
    if (offsets == NULL)
        return false;
    for (Py_ssize_t i = 0; i < view->length; i++) {
        const int32_t *at = from->offsets + view->start + i * view->step;
        offsets[i + 1] = offsets[i] + (at[1] - at[0]);
    }
    char *values = malloc((size_t)offsets[view->length] + 1);
    to->values = values;
    for (Py_ssize_t i = 0; values != NULL && i < view->length; i++)
        memcpy(values + offsets[i],
               (const char *)from->values + from->offsets[view->start + i * view->step],
               (size_t)(offsets[i + 1] - offsets[i]));
    return values != NULL;
}

static bool valid_pack(const table_view *view, const table_column *from, table_column *to)
{
    if (from->valid == NULL)
        return true;
    uint8_t *valid = calloc((size_t)view->length / 8 + 1, 1);
    to->valid = valid;
    for (Py_ssize_t i = 0; valid != NULL && i < view->length; i++) {
        Py_ssize_t at = view->start + i * view->step;
        valid[i / 8] |= (uint8_t)((from->valid[at / 8] >> at % 8 & 1) << i % 8);
    }
    return valid != NULL;
}

/* A table, without names, of the rows of the view side by side; NULL: no memory. */
static table *view_pack(const table_view *view, const table_column *columns, size_t count)
{
    packed_table *packed = calloc(1, sizeof *packed + count * sizeof *packed->columns);
    if (packed == NULL)
        return NULL;
    packed->table = (table){{1, packed_free}, packed->columns, count};
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        const table_column *from = &columns[i];
        table_column *to = &packed->columns[i];
        ok = (from->offsets == NULL ? numbers_pack : texts_pack)(view, from, to) &&
             valid_pack(view, from, to);
    }
    if (ok)
        return &packed->table;
    packed_free(&packed->table.counted);
    return NULL;
}

/* ---- schemas ---- */

typedef struct {
    counted counted;
    table *table; /* has the names */
    struct ArrowSchema **pointers;
    struct ArrowSchema children[];
} schema_export;

static void schema_export_free(counted *object)
{
    counted_drop(&((schema_export *)object)->table->counted);
    free(object);
}

static void schema_release(struct ArrowSchema *schema)
{
    for (int64_t i = 0; i < schema->n_children; i++)
        if (schema->children[i]->release != NULL)
            schema->children[i]->release(schema->children[i]);
    schema->release = NULL;
    counted_drop(schema->private_data);
}

/* False: no memory, and `out` is untouched. */
static bool schema_build(const table_view *view, const table_column *only, struct ArrowSchema *out)
{
    const table_column *columns = only != NULL ? only : view->table->columns;
    size_t count = only != NULL ? 1 : view->table->column_count;
    size_t child_size = sizeof(struct ArrowSchema) + sizeof(struct ArrowSchema *);
    schema_export *export = malloc(sizeof *export + count * child_size);
    if (export == NULL)
        return false;
    *export = (schema_export){{only != NULL ? 1 : 1 + count, schema_export_free},
                              counted_hold(&view->table->counted),
                              (struct ArrowSchema **)(export->children + count)};
    for (size_t i = 0; i < count; i++) {
        export->pointers[i] = &export->children[i];
        export->children[i] = (struct ArrowSchema){
            .format = columns[i].format,
            .name = columns[i].name,
            .flags = columns[i].nullable || columns[i].valid != NULL ? ARROW_FLAG_NULLABLE : 0,
            .release = schema_release,
            .private_data = export};
    }
    struct ArrowSchema all = {.format = "+s",
                              .name = "",
                              .n_children = (int64_t)count,
                              .children = export->pointers,
                              .release = schema_release,
                              .private_data = export};
    *out = only != NULL ? export->children[0] : all;
    return true;
}

/* ---- arrays ---- */

typedef struct {
    struct ArrowArray array;
    const void *buffers[3];
} array_child;

typedef struct {
    counted counted;
    table *table;
    const void *buffers[1]; /* of the struct: all of its rows are there */
    struct ArrowArray **pointers;
    array_child children[];
} array_export;

static void array_export_free(counted *object)
{
    counted_drop(&((array_export *)object)->table->counted);
    free(object);
}

static void array_release(struct ArrowArray *array)
{
    for (int64_t i = 0; i < array->n_children; i++)
        if (array->children[i]->release != NULL)
            array->children[i]->release(array->children[i]);
    array->release = NULL;
    counted_drop(array->private_data);
}

static void array_child_fill(array_export *export, size_t i, const table_column *column,
                             Py_ssize_t start, Py_ssize_t length)
{
    array_child *child = &export->children[i];
    bool is_text = column->offsets != NULL;
    child->buffers[0] = column->valid;
    child->buffers[1] = is_text ? column->offsets : column->values;
    child->buffers[2] = is_text ? column->values : NULL;
    child->array = (struct ArrowArray){.length = length,
                                       .null_count = column->valid != NULL ? -1 : 0,
                                       .offset = start,
                                       .n_buffers = is_text ? 3 : 2,
                                       .buffers = child->buffers,
                                       .release = array_release,
                                       .private_data = export};
    export->pointers[i] = &child->array;
}

/* False: no memory, and `out` is untouched. */
static bool array_build(const table_view *view, const table_column *only, struct ArrowArray *out)
{
    const table_column *columns = only != NULL ? only : view->table->columns;
    size_t count = only != NULL ? 1 : view->table->column_count;
    size_t child_size = sizeof(array_child) + sizeof(struct ArrowArray *);
    array_export *export = malloc(sizeof *export + count * child_size);
    if (export == NULL)
        return false;
    bool packs = view->step != 1;
    table *source = packs ? view_pack(view, columns, count) : counted_hold(&view->table->counted);
    if (source == NULL) {
        free(export);
        return false;
    }
    *export = (array_export){{only != NULL ? 1 : 1 + count, array_export_free},
                             source,
                             {NULL},
                             (struct ArrowArray **)(export->children + count)};
    for (size_t i = 0; i < count; i++)
        array_child_fill(export, i, packs ? &source->columns[i] : &columns[i],
                         packs ? 0 : view->start, view->length);
    struct ArrowArray all = {.length = view->length,
                             .n_buffers = 1,
                             .n_children = (int64_t)count,
                             .buffers = export->buffers,
                             .children = export->pointers,
                             .release = array_release,
                             .private_data = export};
    *out = only != NULL ? export->children[0].array : all;
    return true;
}

/* ---- a stream of one batch ---- */

typedef struct {
    table_view view;
    bool is_over;
} stream_state;

static int stream_schema(struct ArrowArrayStream *stream, struct ArrowSchema *out)
{
    stream_state *state = stream->private_data;
    return schema_build(&state->view, NULL, out) ? 0 : ENOMEM;
}

static int stream_next(struct ArrowArrayStream *stream, struct ArrowArray *out)
{
    stream_state *state = stream->private_data;
    if (state->is_over)
        out->release = NULL;
    else if (!array_build(&state->view, NULL, out))
        return ENOMEM;
    state->is_over = true;
    return 0;
}

static const char *stream_error(struct ArrowArrayStream *stream)
{
    (void)stream;
    return "out of memory"; /* nothing else can fail */
}

static void stream_release(struct ArrowArrayStream *stream)
{
    stream_state *state = stream->private_data;
    counted_drop(&state->view.table->counted);
    free(state);
    stream->release = NULL;
}

static bool stream_build(const table_view *view, struct ArrowArrayStream *out)
{
    stream_state *state = malloc(sizeof *state);
    if (state == NULL)
        return false;
    *state = (stream_state){*view, false};
    (void)counted_hold(&view->table->counted);
    *out =
        (struct ArrowArrayStream){stream_schema, stream_next, stream_error, stream_release, state};
    return true;
}

/* ---- capsules: one that nobody consumes releases what it holds ---- */

#define CAPSULE_FREE(function, type, name)                                                         \
    static void function(PyObject *capsule)                                                        \
    {                                                                                              \
        type *content = PyCapsule_GetPointer(capsule, name);                                       \
        if (content->release != NULL)                                                              \
            content->release(content);                                                             \
        free(content);                                                                             \
    }

CAPSULE_FREE(schema_capsule_free, struct ArrowSchema, SCHEMA)
CAPSULE_FREE(array_capsule_free, struct ArrowArray, ARRAY)
CAPSULE_FREE(stream_capsule_free, struct ArrowArrayStream, STREAM)

/* A capsule of `size` zeroed bytes, which its destructor takes for something released. */
static PyObject *capsule_new(size_t size, const char *name, PyCapsule_Destructor capsule_free)
{
    void *content = calloc(1, size);
    if (content == NULL)
        return PyErr_NoMemory();
    PyObject *capsule = PyCapsule_New(content, name, capsule_free);
    if (capsule == NULL)
        free(content);
    return capsule;
}

static PyObject *capsule_finish(PyObject *capsule, bool built)
{
    if (built)
        return capsule;
    Py_DECREF(capsule);
    return PyErr_NoMemory();
}

PyObject *arrow_schema(const table_view *view, const table_column *only)
{
    PyObject *capsule = capsule_new(sizeof(struct ArrowSchema), SCHEMA, schema_capsule_free);
    if (capsule == NULL)
        return NULL;
    return capsule_finish(capsule, schema_build(view, only, PyCapsule_GetPointer(capsule, SCHEMA)));
}

static PyObject *array_capsule(const table_view *view, const table_column *only)
{
    PyObject *capsule = capsule_new(sizeof(struct ArrowArray), ARRAY, array_capsule_free);
    if (capsule == NULL)
        return NULL;
    return capsule_finish(capsule, array_build(view, only, PyCapsule_GetPointer(capsule, ARRAY)));
}

/* A request to represent the data otherwise may be passed over, as it is here; one for other data
 * than there is must be refused. */
static int requested_check(PyObject *requested, int64_t field_count)
{
    if (requested == NULL || requested == Py_None)
        return 0;
    const struct ArrowSchema *schema =
        PyCapsule_IsValid(requested, SCHEMA) ? PyCapsule_GetPointer(requested, SCHEMA) : NULL;
    if (schema == NULL || schema->release == NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "requested_schema must be None or a capsule of an ArrowSchema");
        return -1;
    }
    if (schema->n_children == field_count)
        return 0;
    PyErr_Format(PyExc_ValueError, "requested_schema has %lld fields, not %lld",
                 (long long)schema->n_children, (long long)field_count);
    return -1;
}

static int requested_parse(const char *function, int64_t field_count, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames)
{
    arg_spec spec = {function, {"requested_schema"}, 0, 1};
    PyObject *requested;
    if (args_parse(&spec, args, nargs, kwnames, &requested) < 0)
        return -1;
    return requested_check(requested, field_count);
}

PyObject *arrow_array(const table_view *view, const table_column *only, PyObject *const *args,
                      Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t field_count = only != NULL ? 0 : (int64_t)view->table->column_count;
    if (requested_parse("__arrow_c_array__", field_count, args, nargs, kwnames) < 0)
        return NULL;
    PyObject *schema = arrow_schema(view, only);
    PyObject *array = schema == NULL ? NULL : array_capsule(view, only);
    if (array != NULL)
        return Py_BuildValue("(NN)", schema, array);
    Py_XDECREF(schema);
    return NULL;
}

PyObject *arrow_stream(const table_view *view, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    int64_t field_count = (int64_t)view->table->column_count;
    if (requested_parse("__arrow_c_stream__", field_count, args, nargs, kwnames) < 0)
        return NULL;
    PyObject *capsule = capsule_new(sizeof(struct ArrowArrayStream), STREAM, stream_capsule_free);
    if (capsule == NULL)
        return NULL;
    return capsule_finish(capsule, stream_build(view, PyCapsule_GetPointer(capsule, STREAM)));
}
