/* SPDX-License-Identifier: MIT
 *
 * Giving back what reads return, and reading single values with the rules in mind. */
#include "dm_internal.h"

#include <string.h>

void dm_billing_reset(dm_billing *billing)
{
    if (billing == NULL)
        return;
    dm__free(billing->tiers);
    *billing = (dm_billing){0};
}

void dm_runs_reset(dm_runs *runs)
{
    if (runs == NULL)
        return;
    dm__free(runs->runs);
    *runs = (dm_runs){0};
}

void dm_model_names_reset(dm_model_names *names)
{
    if (names == NULL)
        return;
    for (size_t i = 0; i < names->count; i++)
        dm__free(names->models[i].original_name);
    dm__free(names->models);
    *names = (dm_model_names){0};
}

void *dm_array_new(size_t count)
{
    return dm__malloc(count * 8 + 1); /* never of size 0, which may be NULL */
}

void dm_text_free(char *text)
{
    dm__free(text);
}

bool dm__array_grow(void *array_pointer, size_t *capacity, size_t count, size_t element_size)
{
    if (count < *capacity)
        return true;
    size_t wanted = *capacity < 16 ? 16 : *capacity * 2;
    void **array = array_pointer;
    void *grown = dm__realloc(*array, wanted * element_size);
    if (grown == NULL)
        return false;
    *array = grown;
    *capacity = wanted;
    return true;
}

void *dm__array_copy(const void *array, size_t count, size_t element_size)
{
    void *copy = dm__malloc(count * element_size + 1);
    if (copy != NULL && count > 0)
        memcpy(copy, array, count * element_size);
    return copy;
}

/* ---- one value of a row ---- */

static dm_status refuse(const dm__row *row, int column, const char *wanted, dm_error *err)
{
    const char *value = (const char *)sqlite3_column_text(row->stmt, column);
    return dm__fail(err, DM_CORRUPT_DATA, "%s row %lld: %s must be %s, not %.60s", row->table,
                    (long long)row->row_id, sqlite3_column_name(row->stmt, column), wanted,
                    value != NULL ? value : "NULL");
}

static bool number_read(const dm__row *row, int column, double *out)
{
    int type = sqlite3_column_type(row->stmt, column);
    if (type != SQLITE_FLOAT && type != SQLITE_INTEGER)
        return false;
    *out = sqlite3_column_double(row->stmt, column);
    return isfinite(*out) && *out >= 0;
}

dm_status dm__row_time(const dm__row *row, int column, double *out, dm_error *err)
{
    return number_read(row, column, out)
               ? DM_OK
               : refuse(row, column, "a finite number of seconds since 1970", err);
}

dm_status dm__row_integer(const dm__row *row, int column, int64_t *out, dm_error *err)
{
    int type = sqlite3_column_type(row->stmt, column);
    if (type == SQLITE_FLOAT) { /* a whole number may have been written as one */
        double value = sqlite3_column_double(row->stmt, column);
        if (value != floor(value) || fabs(value) > (double)DM_TOKENS_MAX)
            return refuse(row, column, "a whole number", err);
    } else if (type != SQLITE_INTEGER) {
        return refuse(row, column, "a whole number", err);
    }
    *out = sqlite3_column_int64(row->stmt, column);
    return DM_OK;
}

dm_status dm__row_count(const dm__row *row, int column, int64_t *out, dm_error *err)
{
    int64_t value = 0;
    dm_status rc = dm__row_integer(row, column, &value, err);
    if (rc == DM_OK && (value < 0 || value > DM_TOKENS_MAX))
        rc = refuse(row, column, "from 0 to 9007199254740992", err);
    if (rc == DM_OK)
        *out = value;
    return rc;
}

dm_status dm__row_price(const dm__row *row, int column, double *out, dm_error *err)
{
    *out = 0;
    if (sqlite3_column_type(row->stmt, column) == SQLITE_NULL)
        return DM_OK;
    return number_read(row, column, out) ? DM_OK
                                         : refuse(row, column, "a finite price of at least 0", err);
}

dm_status dm__row_flag(const dm__row *row, int column, bool *out, dm_error *err)
{
    int type = sqlite3_column_type(row->stmt, column);
    if (type != SQLITE_INTEGER && type != SQLITE_FLOAT && type != SQLITE_NULL)
        return refuse(row, column, "0 or 1", err);
    *out = sqlite3_column_double(row->stmt, column) != 0;
    return DM_OK;
}
