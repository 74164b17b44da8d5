/* SPDX-License-Identifier: MIT
 *
 * {safe}_checksums(request_id, checksum): SQLite has no checksums of its own, so a value that
 * turned into another possible one looks sound. Of a database that was made with them, each request
 * has one, written in the transaction of its row from what the row then holds. Whether a model has
 * them is whether it has that table; it is made with the model's others. */
#include "dm_store.h"

#include <string.h>

/* FNV-1a, 64 bit: each byte that changes changes it. */
static uint64_t mix(uint64_t hash, const void *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
    return hash;
}

static uint64_t mix_number(uint64_t hash, uint64_t number)
{
    unsigned char bytes[8]; /* the lowest first, on any machine */
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(number >> (8 * i));
    return mix(hash, bytes, sizeof bytes);
}

static uint64_t mix_value(uint64_t hash, sqlite3_value *value)
{
    int type = sqlite3_value_type(value);
    hash = mix_number(hash, (uint64_t)type);
    if (type == SQLITE_INTEGER)
        return mix_number(hash, (uint64_t)sqlite3_value_int64(value));
    if (type == SQLITE_FLOAT) {
        double number = sqlite3_value_double(value);
        uint64_t bits = 0;
        memcpy(&bits, &number, sizeof bits);
        return mix_number(hash, bits);
    }
    const void *bytes = sqlite3_value_blob(value);
    return bytes == NULL ? hash : mix(hash, bytes, (size_t)sqlite3_value_bytes(value));
}

static void checksum_of(sqlite3_context *context, int value_count, sqlite3_value **values)
{
    uint64_t hash = 14695981039346656037u;
    for (int i = 0; i < value_count; i++)
        hash = mix_value(hash, values[i]);
    sqlite3_result_int64(context, (int64_t)hash);
}

dm_status dm__checksums_install(dm__conn *conn, dm_error *err)
{
    int code = sqlite3_create_function_v2(conn->db, "datamanager_checksum", 5,
                                          SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY,
                                          NULL, checksum_of, NULL, NULL, NULL);
    return code == SQLITE_OK ? DM_OK : dm__fail_sqlite(err, conn->db, code, "open the database");
}

bool dm__checksums_exist(dm__conn *conn, const char *safe)
{
    char table[DM_SAFE_NAME_SIZE + 16];
    (void)sqlite3_snprintf((int)sizeof table, table, "%s_checksums", safe);
    return dm__table_has_column(conn, table, "checksum");
}

dm_status dm__checksums_create(dm__conn *conn, const char *safe, dm_error *err)
{
    return dm__conn_exec(conn, err,
                         "CREATE TABLE IF NOT EXISTS \"%w_checksums\" (\n"
                         "    request_id INTEGER PRIMARY KEY,\n"
                         "    checksum INTEGER NOT NULL\n)",
                         safe);
}

dm_status dm__checksums_add(dm__conn *conn, dm__model *model, int64_t first_id, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_CHECKSUMS_ADD, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_int64(stmt, 1, first_id);
        dm__conn_stoppable_set(conn, true);
        rc = dm__stmt_run(conn, stmt, err);
        dm__conn_stoppable_set(conn, false);
    }
    dm__stmt_put(stmt);
    return rc == (dm_status)DM__STALE ? DM_OK : rc; /* the rows are in: not to be added again */
}

void dm__checksums_look(dm__conn *conn, dm__model *model, sqlite3_stmt *insert)
{
    int prepared = sqlite3_stmt_status(insert, SQLITE_STMTSTATUS_REPREPARE, 0);
    if (prepared == model->insert_prepared)
        return;
    model->insert_prepared = prepared;
    model->has_checksums = dm__checksums_exist(conn, model->safe);
}

/* ---- comparing ---- */

dm_status dm__checksum_differs(dm__conn *conn, dm__model *model, int64_t row_id, bool *differs,
                               dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, DM__STMT_CHECKSUM_DIFFERS, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_int64(stmt, 1, row_id);
        rc = dm__stmt_step(conn, stmt, differs, err);
    }
    dm__stmt_put(stmt);
    return rc;
}

double dm__sql_time(double time_s)
{
    return fmin(fmax(time_s, -9e307), 9e307);
}

dm_status dm__checksums_differing(dm__conn *conn, const char *safe, double start_s, double end_s,
                                  int64_t *count, dm_error *err)
{
    *count = 0;
    if (!dm__checksums_exist(conn, safe))
        return DM_OK;
    dm__conn_stoppable_set(conn, true);
    dm_status rc = dm__conn_integer(
        conn, count, err,
        "SELECT count(*) FROM \"%w_requests\" NOT INDEXED JOIN \"%w_checksums\" ON request_id=id"
        " WHERE timestamp>=%!.17g AND timestamp<%!.17g AND checksum IS NOT"
        " datamanager_checksum(timestamp,input_tokens,output_tokens,cache_n,prompt_n)",
        safe, safe, dm__sql_time(start_s), dm__sql_time(end_s));
    dm__conn_stoppable_set(conn, false);
    return rc;
}

/* ---- of a database ---- */

dm_status dm__checksums_wanted(dm__conn *conn, bool *wanted, dm_error *err)
{
    char value[DM__STORE_VALUE_SIZE];
    dm_status rc = dm__store_value_read(conn, "checksums", value, err);
    *wanted = rc == DM_OK && strcmp(value, "1") == 0;
    return rc;
}

/* Only where there is no model yet: requests without checksums would look damaged. */
dm_status dm__checksums_begin(dm__conn *conn, const char *path, dm_error *err)
{
    bool wanted = false;
    int64_t models = 0;
    dm_status rc = dm__checksums_wanted(conn, &wanted, err);
    if (rc != DM_OK || wanted)
        return rc;
    rc = dm__conn_integer(conn, &models, err, "SELECT count(*) FROM model_name_mapping");
    if (rc == DM_OK && models > 0)
        return dm__fail(err, DM_INVALID, "checksums: %s was made without them", path);
    if (rc == DM_OK)
        rc = dm__store_table_create(conn, err);
    return rc == DM_OK ? dm__conn_exec(conn, err,
                                       "INSERT OR REPLACE INTO datamanager_store"
                                       " VALUES('checksums','1')")
                       : rc;
}
