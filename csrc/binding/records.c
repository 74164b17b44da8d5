/* SPDX-License-Identifier: MIT
 *
 * Records: immutable, of C values. One implementation, driven by the table of record_table.c. */
#include "module.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

typedef struct {
    PyObject_HEAD record_value fields[1]; /* as many as its kind has */
} record_object;

#define RECORD_SIZE(count) (offsetof(record_object, fields) + (count) * sizeof(record_value))

static const record_spec *spec_of(PyObject *self)
{
    module_state *state = state_of_type(Py_TYPE(self));
    int kind = 0;
    while (state->record_types[kind] != Py_TYPE(self))
        kind++;
    return &record_specs[kind];
}

static PyObject *field_get(const record_spec *spec, record_object *self, int i)
{
    switch (spec->fields[i].kind) {
    case FIELD_REAL:
        return PyFloat_FromDouble(self->fields[i].real);
    case FIELD_WHOLE:
        return PyLong_FromLongLong(self->fields[i].whole);
    case FIELD_FLAG:
        return PyBool_FromLong(self->fields[i].flag);
    default:
        return Py_NewRef(self->fields[i].object);
    }
}

static int field_set(const record_spec *spec, record_object *self, int i, PyObject *value)
{
    switch (spec->fields[i].kind) {
    case FIELD_REAL:
        self->fields[i].real = PyFloat_AsDouble(value);
        break;
    case FIELD_WHOLE:
        self->fields[i].whole = PyLong_AsLongLong(value);
        break;
    case FIELD_FLAG:
        self->fields[i].flag = (char)PyObject_IsTrue(value);
        break;
    case FIELD_LIST:
        self->fields[i].object = PySequence_List(value);
        break;
    default:
        self->fields[i].object = Py_NewRef(value);
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* Borrowed; NULL where there is none. Not PyDict_GetItemString, to which no memory is none. */
static int keyword_get(PyObject *keywords, const char *name, PyObject **value_out)
{
    *value_out = NULL;
    if (keywords == NULL)
        return 0;
    PyObject *key = PyUnicode_FromString(name);
    *value_out = key == NULL ? NULL : PyDict_GetItemWithError(keywords, key);
    Py_XDECREF(key);
    return *value_out == NULL && PyErr_Occurred() ? -1 : 0;
}

static PyObject *record_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    record_object *self = (record_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    const record_spec *spec = spec_of((PyObject *)self);
    Py_ssize_t given = PyTuple_GET_SIZE(args), used = 0;
    if (given > spec->field_count) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d arguments but %zd were given",
                     spec->name, spec->field_count, given);
        goto failed;
    }
    for (int i = 0; i < spec->field_count; i++) {
        PyObject *value;
        if (keyword_get(keywords, spec->fields[i].name, &value) < 0)
            goto failed;
        used += value != NULL;
        if (value != NULL && i < given) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'", spec->name,
                         spec->fields[i].name);
            goto failed;
        }
        if (i < given)
            value = PyTuple_GET_ITEM(args, i);
        if (value == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", spec->name,
                         spec->fields[i].name);
            goto failed;
        }
        if (field_set(spec, self, i, value) < 0)
            goto failed;
    }
    if (keywords != NULL && used != PyDict_GET_SIZE(keywords)) {
        PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument", spec->name);
        goto failed;
    }
    return (PyObject *)self;
failed:
    Py_DECREF(self);
    return NULL;
}

/* Plain values hold nothing that the collector must see. */
static void plain_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static bool holds_object(const record_spec *spec, int i)
{
    return spec->fields[i].kind == FIELD_LIST || spec->fields[i].kind == FIELD_OBJECT;
}

/* The first place from `member` on of an object in `self`; NULL after the last. The type knows them
 * without the module's state, which the collector may have cleared before its records. */
static PyObject **object_next(PyObject *self, const PyMemberDef **member)
{
    while ((*member)->name != NULL && (*member)->type != T_OBJECT_EX)
        (*member)++;
    return (*member)->name == NULL ? NULL : (PyObject **)((char *)self + (*member)++->offset);
}

static int collected_traverse(PyObject *self, visitproc visit, void *arg)
{
    const PyMemberDef *member = Py_TYPE(self)->tp_members;
    Py_VISIT(Py_TYPE(self));
    for (PyObject **object; (object = object_next(self, &member)) != NULL;)
        Py_VISIT(*object);
    return 0;
}

static int collected_clear(PyObject *self)
{
    const PyMemberDef *member = Py_TYPE(self)->tp_members;
    for (PyObject **object; (object = object_next(self, &member)) != NULL;)
        Py_CLEAR(*object);
    return 0;
}

static void collected_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)collected_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- what records have in common with dataclasses ---- */

static PyObject *record_fields(PyObject *self, bool as_list_tuple)
{
    const record_spec *spec = spec_of(self);
    PyObject *values = PyTuple_New(spec->field_count);
    for (int i = 0; values != NULL && i < spec->field_count; i++) {
        PyObject *value = field_get(spec, (record_object *)self, i);
        if (value != NULL && as_list_tuple && spec->fields[i].kind == FIELD_LIST)
            Py_SETREF(value, PyList_AsTuple(value)); /* a list has no hash */
        if (value == NULL)
            Py_CLEAR(values);
        else
            PyTuple_SET_ITEM(values, i, value);
    }
    return values;
}

static PyObject *record_repr(PyObject *self)
{
    const record_spec *spec = spec_of(self);
    PyObject *text = PyUnicode_FromFormat("%s(", spec->name);
    for (int i = 0; text != NULL && i < spec->field_count; i++) {
        PyObject *value = field_get(spec, (record_object *)self, i);
        PyObject *part = value == NULL ? NULL
                                       : PyUnicode_FromFormat("%s%s=%R", i == 0 ? "" : ", ",
                                                              spec->fields[i].name, value);
        Py_XDECREF(value);
        PyUnicode_AppendAndDel(&text, part);
    }
    PyUnicode_AppendAndDel(&text, text == NULL ? NULL : PyUnicode_FromString(")"));
    return text;
}

static Py_hash_t record_hash(PyObject *self)
{
    /* A list of records may hold the record itself; comparing and repr() are guarded by CPython. */
    if (Py_EnterRecursiveCall(" while hashing a record"))
        return -1;
    PyObject *values = record_fields(self, true);
    Py_hash_t hash = values == NULL ? -1 : PyObject_Hash(values);
    Py_XDECREF(values);
    Py_LeaveRecursiveCall();
    return hash;
}

static PyObject *record_compare(PyObject *self, PyObject *other, int op)
{
    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(self) != Py_TYPE(other))
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *mine = record_fields(self, false), *theirs = record_fields(other, false);
    PyObject *result = mine && theirs ? PyObject_RichCompare(mine, theirs, op) : NULL;
    Py_XDECREF(mine);
    Py_XDECREF(theirs);
    return result;
}

static PyObject *record_reduce(PyObject *self, PyObject *none)
{
    (void)none;
    PyObject *values = record_fields(self, false);
    return values == NULL ? NULL : Py_BuildValue("(ON)", Py_TYPE(self), values);
}

static PyObject *record_vars(PyObject *self, void *none)
{
    (void)none;
    const record_spec *spec = spec_of(self);
    PyObject *vars = PyDict_New();
    for (int i = 0; vars != NULL && i < spec->field_count; i++) {
        PyObject *value = field_get(spec, (record_object *)self, i);
        if (value == NULL || PyDict_SetItemString(vars, spec->fields[i].name, value) < 0)
            Py_CLEAR(vars);
        Py_XDECREF(value);
    }
    return vars;
}

static PyObject *record_replace(PyObject *self, PyObject *args, PyObject *changes)
{
    if (PyTuple_GET_SIZE(args) != 0) {
        PyErr_SetString(PyExc_TypeError, "__replace__() takes no positional arguments");
        return NULL;
    }
    PyObject *vars = record_vars(self, NULL), *none = PyTuple_New(0), *result = NULL;
    if (vars != NULL && none != NULL && (changes == NULL || PyDict_Update(vars, changes) == 0))
        result = PyObject_Call((PyObject *)Py_TYPE(self), none, vars);
    Py_XDECREF(vars);
    Py_XDECREF(none);
    return result;
}

static PyMethodDef record_methods[] = {
    {"__reduce__", record_reduce, METH_NOARGS, "How to pickle and copy the record."},
    {"__replace__", (PyCFunction)(void (*)(void))record_replace, METH_VARARGS | METH_KEYWORDS,
     "__replace__($self, /, **changes)\n--\n\nA copy with other values, for copy.replace()."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef record_getset[] = {{"__dict__", record_vars, NULL, NULL, NULL},
                                      {NULL, NULL, NULL, NULL, NULL}};

/* ---- types ---- */

static const int member_kinds[] = {[FIELD_REAL] = T_DOUBLE,
                                   [FIELD_WHOLE] = T_LONGLONG,
                                   [FIELD_FLAG] = T_BOOL,
                                   [FIELD_LIST] = T_OBJECT_EX,
                                   [FIELD_OBJECT] = T_OBJECT_EX};

static PyTypeObject *type_new(PyObject *module, const record_spec *spec)
{
    PyMemberDef members[RECORD_FIELDS_MAX + 1] = {{NULL, 0, 0, 0, NULL}}; /* copied by CPython */
    bool collected = false;
    for (int i = 0; i < spec->field_count; i++) {
        collected |= holds_object(spec, i);
        members[i] =
            (PyMemberDef){spec->fields[i].name, member_kinds[spec->fields[i].kind],
                          (Py_ssize_t)RECORD_SIZE((size_t)i), READONLY, spec->fields[i].doc};
    }
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)spec->doc},
        {Py_tp_new, record_new},
        {Py_tp_repr, record_repr},
        {Py_tp_hash, record_hash},
        {Py_tp_richcompare, record_compare},
        {Py_tp_members, members},
        {Py_tp_methods, record_methods},
        {Py_tp_getset, record_getset},
        {Py_tp_dealloc, collected ? collected_dealloc : plain_dealloc},
        {collected ? Py_tp_traverse : 0, collected_traverse},
        {Py_tp_clear, collected_clear},
        {0, NULL},
    };
    char name[40];
    PyOS_snprintf(name, sizeof name, "datamanager.%s", spec->name);
    PyType_Spec type_spec = {
        .name = name,
        .basicsize = (int)RECORD_SIZE((size_t)spec->field_count),
        .flags = Py_TPFLAGS_DEFAULT | (collected ? Py_TPFLAGS_HAVE_GC : 0),
        .slots = slots,
    };
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &type_spec, NULL);
}

static int match_args_add(PyTypeObject *type, const record_spec *spec)
{
    PyObject *names = PyTuple_New(spec->field_count);
    for (int i = 0; names != NULL && i < spec->field_count; i++) {
        PyObject *name = PyUnicode_InternFromString(spec->fields[i].name);
        if (name == NULL)
            Py_CLEAR(names);
        else
            PyTuple_SET_ITEM(names, i, name);
    }
    int rc = names == NULL ? -1 : PyObject_SetAttrString((PyObject *)type, "__match_args__", names);
    Py_XDECREF(names);
    return rc;
}

int records_add(PyObject *module, module_state *state)
{
    for (int kind = 0; kind < RECORD_COUNT; kind++) {
        state->record_types[kind] = type_new(module, &record_specs[kind]);
        if (state->record_types[kind] == NULL ||
            match_args_add(state->record_types[kind], &record_specs[kind]) < 0 ||
            PyModule_AddType(module, state->record_types[kind]) < 0)
            return -1;
    }
    return 0;
}

/* ---- from and to the core ---- */

/* Such a record can be in no cycle, and is spared the collector's visits, as such a tuple is. */
static bool holds_no_container(const record_spec *spec, const record_object *self)
{
    for (int i = 0; i < spec->field_count; i++)
        if (holds_object(spec, i) && PyObject_IS_GC(self->fields[i].object))
            return false;
    return true;
}

PyObject *record_make(module_state *state, int kind, const record_value *values)
{
    const record_spec *spec = &record_specs[kind];
    PyTypeObject *type = state->record_types[kind];
    record_object *self = NULL;
    bool whole = true;
    for (int i = 0; i < spec->field_count; i++)
        whole &= !holds_object(spec, i) || values[i].object != NULL;
    if (whole)
        self = (record_object *)type->tp_alloc(type, 0);
    for (int i = 0; i < spec->field_count; i++) {
        if (self != NULL)
            self->fields[i] = values[i];
        else if (holds_object(spec, i))
            Py_XDECREF(values[i].object);
    }
    if (self != NULL && PyObject_IS_GC((PyObject *)self) && holds_no_container(spec, self))
        PyObject_GC_UnTrack(self);
    return (PyObject *)self;
}

PyObject *run_new(module_state *state, const dm_run *run)
{
    record_value values[] = {
        {.whole = run->id}, {.real = run->start_time_s}, {.real = run->end_time_s}};
    return record_make(state, RECORD_RUN, values);
}

PyObject *request_new(module_state *state, const dm_request_columns *columns, size_t at)
{
    record_value values[] = {
        {.whole = columns->id[at]},           {.real = columns->timestamp_s[at]},
        {.whole = columns->input_tokens[at]}, {.whole = columns->output_tokens[at]},
        {.whole = columns->cache_n[at]},      {.whole = columns->prompt_n[at]}};
    return record_make(state, RECORD_REQUEST, values);
}

PyObject *tier_new(module_state *state, const dm_tier *tier)
{
    record_value values[] = {{.whole = tier->tier_index},
                             {.whole = tier->start_tokens},
                             {.whole = tier->end_tokens},
                             {.real = tier->input_price_per_million},
                             {.real = tier->output_price_per_million},
                             {.flag = tier->support_cache},
                             {.real = tier->cache_hit_price_per_million}};
    return record_make(state, RECORD_TIER, values);
}

PyObject *tiers_new(module_state *state, const dm_tier *tiers, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *tier = tier_new(state, &tiers[i]);
        if (tier == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, tier);
    }
    return list;
}

PyObject *billing_new(module_state *state, const dm_billing *billing)
{
    record_value values[] = {{.flag = billing->use_tier_pricing},
                             {.real = billing->hourly_price},
                             {.object = tiers_new(state, billing->tiers, billing->tier_count)}};
    return record_make(state, RECORD_BILLING, values);
}

PyObject *tariff_new(module_state *state, const dm_tariff *tariff)
{
    record_value values[] = {
        {.object = isinf(tariff->from_s) ? Py_NewRef(Py_None) : PyFloat_FromDouble(tariff->from_s)},
        {.flag = tariff->use_tier_pricing},
        {.real = tariff->hourly_price},
        {.object = PyUnicode_FromString(dm_strategy_name(tariff->strategy))},
        {.object = tiers_new(state, tariff->tiers, tariff->tier_count)}};
    return record_make(state, RECORD_TARIFF, values);
}

bool record_to_tier(module_state *state, PyObject *object, dm_tier *out)
{
    if (Py_TYPE(object) != state->record_types[RECORD_TIER])
        return false;
    const record_value *fields = ((record_object *)object)->fields;
    *out = (dm_tier){fields[0].whole, fields[1].whole,     fields[2].whole, fields[3].real,
                     fields[4].real,  fields[5].flag != 0, fields[6].real};
    return true;
}

PyObject *number_or_none(double value)
{
    return isfinite(value) ? PyFloat_FromDouble(value) : Py_NewRef(Py_None);
}

/* ---- labels ---- */

static PyObject *names_tuple(const dm_model_names *models)
{
    PyObject *names = PyTuple_New((Py_ssize_t)models->count);
    for (size_t i = 0; names != NULL && i < models->count; i++) {
        const dm_model_name *model = &models->models[i];
        PyObject *name = PyUnicode_DecodeUTF8(model->original_name,
                                              (Py_ssize_t)model->original_length, "replace");
        if (name == NULL)
            Py_CLEAR(names);
        else
            PyTuple_SET_ITEM(names, (Py_ssize_t)i, name);
    }
    return names;
}

static PyObject *numbers_tuple(const double *values, size_t count)
{
    PyObject *numbers = PyTuple_New((Py_ssize_t)count);
    for (size_t i = 0; numbers != NULL && i < count; i++) {
        PyObject *number = number_or_none(values[i]);
        if (number == NULL)
            Py_CLEAR(numbers);
        else
            PyTuple_SET_ITEM(numbers, (Py_ssize_t)i, number);
    }
    return numbers;
}

int row_labels_make(row_labels *labels, const dm_model_names *models, const double *edges_s,
                    size_t edge_count)
{
    labels->models = names_tuple(models);
    labels->edges = labels->models == NULL ? NULL : numbers_tuple(edges_s, edge_count);
    return labels->edges == NULL ? -1 : 0;
}

void row_labels_reset(row_labels *labels)
{
    Py_CLEAR(labels->models);
    Py_CLEAR(labels->edges);
}

PyObject *row_label(PyObject *labels, size_t at)
{
    return Py_NewRef(PyTuple_GET_ITEM(labels, (Py_ssize_t)at));
}
