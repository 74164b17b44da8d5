/* SPDX-License-Identifier: MIT
 *
 * The four records: immutable, of C values. One implementation, driven by a table of fields. */
#include "module.h"

#include <stddef.h>
#include <string.h>

typedef union {
    double real;
    long long whole;
    char flag;
    PyObject *list;
} field_value;

typedef struct {
    PyObject_HEAD field_value fields[1]; /* as many as its kind has */
} record_object;

typedef enum {
    FIELD_REAL = T_DOUBLE,
    FIELD_WHOLE = T_LONGLONG,
    FIELD_FLAG = T_BOOL,
    FIELD_LIST = T_OBJECT_EX
} field_kind;

typedef struct {
    const char *name;
    int field_count;
    struct {
        const char *name;
        field_kind kind;
    } fields[7];
} record_spec;

static const record_spec specs[RECORD_COUNT] = {
    [RECORD_RUN] = {"ModelRunTime",
                    3,
                    {{"id", FIELD_WHOLE}, {"start_time", FIELD_REAL}, {"end_time", FIELD_REAL}}},
    [RECORD_REQUEST] = {"ModelRequest",
                        6,
                        {{"id", FIELD_WHOLE},
                         {"timestamp", FIELD_REAL},
                         {"input_tokens", FIELD_WHOLE},
                         {"output_tokens", FIELD_WHOLE},
                         {"cache_n", FIELD_WHOLE},
                         {"prompt_n", FIELD_WHOLE}}},
    [RECORD_TIER] = {"TierPricing",
                     7,
                     {{"tier_index", FIELD_WHOLE},
                      {"start_tokens", FIELD_WHOLE},
                      {"end_tokens", FIELD_WHOLE},
                      {"input_price_per_million", FIELD_REAL},
                      {"output_price_per_million", FIELD_REAL},
                      {"support_cache", FIELD_FLAG},
                      {"cache_hit_price_per_million", FIELD_REAL}}},
    [RECORD_BILLING] = {"ModelBilling",
                        3,
                        {{"use_tier_pricing", FIELD_FLAG},
                         {"hourly_price", FIELD_REAL},
                         {"tier_pricing", FIELD_LIST}}},
};

#define RECORD_SIZE(count) (offsetof(record_object, fields) + (count) * sizeof(field_value))

static const record_spec *spec_of(PyObject *self)
{
    module_state *state = state_of_type(Py_TYPE(self));
    int kind = 0;
    while (state->record_types[kind] != Py_TYPE(self))
        kind++;
    return &specs[kind];
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
        return Py_NewRef(self->fields[i].list);
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
    default:
        self->fields[i].list = PySequence_List(value);
    }
    return PyErr_Occurred() ? -1 : 0;
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
        PyObject *value =
            keywords == NULL ? NULL : PyDict_GetItemString(keywords, spec->fields[i].name);
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

static int billing_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((record_object *)self)->fields[2].list);
    return 0;
}

static int billing_clear(PyObject *self)
{
    Py_CLEAR(((record_object *)self)->fields[2].list);
    return 0;
}

static void billing_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)billing_clear(self);
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
    PyObject *values = record_fields(self, true);
    Py_hash_t hash = values == NULL ? -1 : PyObject_Hash(values);
    Py_XDECREF(values);
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

#define FIELD(kind, i, name, doc)                                                                  \
    {                                                                                              \
        name, kind, offsetof(record_object, fields) + (i) * sizeof(field_value), READONLY, doc     \
    }

static PyMemberDef members[RECORD_COUNT][8] = {
    [RECORD_RUN] = {FIELD(T_LONGLONG, 0, "id", "row id"),
                    FIELD(T_DOUBLE, 1, "start_time", "epoch seconds"),
                    FIELD(T_DOUBLE, 2, "end_time", "epoch seconds; the start while it runs")},
    [RECORD_REQUEST] = {FIELD(T_LONGLONG, 0, "id", "row id"),
                        FIELD(T_DOUBLE, 1, "timestamp", "epoch seconds"),
                        FIELD(T_LONGLONG, 2, "input_tokens", "tokens of the prompt"),
                        FIELD(T_LONGLONG, 3, "output_tokens", "tokens generated"),
                        FIELD(T_LONGLONG, 4, "cache_n", "input tokens served from the cache"),
                        FIELD(T_LONGLONG, 5, "prompt_n", "input tokens computed")},
    [RECORD_TIER] = {FIELD(T_LONGLONG, 0, "tier_index", "number of the tier"),
                     FIELD(T_LONGLONG, 1, "start_tokens", "tokens above this"),
                     FIELD(T_LONGLONG, 2, "end_tokens", "up to this; 0 or less: no upper bound"),
                     FIELD(T_DOUBLE, 3, "input_price_per_million", "price"),
                     FIELD(T_DOUBLE, 4, "output_price_per_million", "price"),
                     FIELD(T_BOOL, 5, "support_cache", "whether cache hits have their own price"),
                     FIELD(T_DOUBLE, 6, "cache_hit_price_per_million", "price")},
    [RECORD_BILLING] = {FIELD(T_BOOL, 0, "use_tier_pricing", "tiers, or else the hourly price"),
                        FIELD(T_DOUBLE, 1, "hourly_price", "price per hour of run time"),
                        FIELD(T_OBJECT_EX, 2, "tier_pricing", "list of TierPricing, by index")},
};

static const char *const docs[RECORD_COUNT] = {
    "ModelRunTime(id, start_time, end_time)\n--\n\nA run of the program or of a model; times are "
    "epoch seconds.",
    "ModelRequest(id, timestamp, input_tokens, output_tokens, cache_n, prompt_n)\n--\n\nOne "
    "finished request; the time is epoch seconds.",
    "TierPricing(tier_index, start_tokens, end_tokens, input_price_per_million, "
    "output_price_per_million, support_cache, cache_hit_price_per_million)\n--\n\nPrices per "
    "million tokens for start_tokens < n <= end_tokens; end_tokens of 0 or less is no upper bound.",
    "ModelBilling(use_tier_pricing, hourly_price, tier_pricing)\n--\n\nHow a model is billed.",
};

static PyTypeObject *type_new(PyObject *module, int kind)
{
    bool collected = kind == RECORD_BILLING;
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)docs[kind]},
        {Py_tp_new, record_new},
        {Py_tp_repr, record_repr},
        {Py_tp_hash, record_hash},
        {Py_tp_richcompare, record_compare},
        {Py_tp_members, members[kind]},
        {Py_tp_methods, record_methods},
        {Py_tp_getset, record_getset},
        {Py_tp_dealloc, collected ? billing_dealloc : plain_dealloc},
        {collected ? Py_tp_traverse : 0, billing_traverse},
        {Py_tp_clear, billing_clear},
        {0, NULL},
    };
    char name[40];
    PyOS_snprintf(name, sizeof name, "datamanager.%s", specs[kind].name);
    PyType_Spec type_spec = {
        .name = name,
        .basicsize = (int)RECORD_SIZE((size_t)specs[kind].field_count),
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
        state->record_types[kind] = type_new(module, kind);
        if (state->record_types[kind] == NULL ||
            match_args_add(state->record_types[kind], &specs[kind]) < 0 ||
            PyModule_AddType(module, state->record_types[kind]) < 0)
            return -1;
    }
    return 0;
}

/* ---- from and to the core ---- */

static record_object *record_alloc(module_state *state, int kind)
{
    PyTypeObject *type = state->record_types[kind];
    return (record_object *)type->tp_alloc(type, 0);
}

PyObject *run_new(module_state *state, const dm_run *run)
{
    record_object *self = record_alloc(state, RECORD_RUN);
    if (self != NULL) {
        self->fields[0].whole = run->id;
        self->fields[1].real = run->start_time_s;
        self->fields[2].real = run->end_time_s;
    }
    return (PyObject *)self;
}

PyObject *request_new(module_state *state, const dm_request_columns *columns, size_t at)
{
    record_object *self = record_alloc(state, RECORD_REQUEST);
    if (self != NULL) {
        self->fields[0].whole = columns->id[at];
        self->fields[1].real = columns->timestamp_s[at];
        self->fields[2].whole = columns->input_tokens[at];
        self->fields[3].whole = columns->output_tokens[at];
        self->fields[4].whole = columns->cache_n[at];
        self->fields[5].whole = columns->prompt_n[at];
    }
    return (PyObject *)self;
}

PyObject *tier_new(module_state *state, const dm_tier *tier)
{
    record_object *self = record_alloc(state, RECORD_TIER);
    if (self != NULL) {
        self->fields[0].whole = tier->tier_index;
        self->fields[1].whole = tier->start_tokens;
        self->fields[2].whole = tier->end_tokens;
        self->fields[3].real = tier->input_price_per_million;
        self->fields[4].real = tier->output_price_per_million;
        self->fields[5].flag = tier->support_cache;
        self->fields[6].real = tier->cache_hit_price_per_million;
    }
    return (PyObject *)self;
}

PyObject *billing_new(module_state *state, const dm_billing *billing)
{
    PyObject *tiers = PyList_New((Py_ssize_t)billing->tier_count);
    for (size_t i = 0; tiers != NULL && i < billing->tier_count; i++) {
        PyObject *tier = tier_new(state, &billing->tiers[i]);
        if (tier == NULL)
            Py_CLEAR(tiers);
        else
            PyList_SET_ITEM(tiers, (Py_ssize_t)i, tier);
    }
    record_object *self = tiers == NULL ? NULL : record_alloc(state, RECORD_BILLING);
    if (self == NULL) {
        Py_XDECREF(tiers);
        return NULL;
    }
    self->fields[0].flag = billing->use_tier_pricing;
    self->fields[1].real = billing->hourly_price;
    self->fields[2].list = tiers;
    return (PyObject *)self;
}

bool record_to_tier(module_state *state, PyObject *object, dm_tier *out)
{
    if (Py_TYPE(object) != state->record_types[RECORD_TIER])
        return false;
    const field_value *fields = ((record_object *)object)->fields;
    *out = (dm_tier){fields[0].whole, fields[1].whole,     fields[2].whole, fields[3].real,
                     fields[4].real,  fields[5].flag != 0, fields[6].real};
    return true;
}
