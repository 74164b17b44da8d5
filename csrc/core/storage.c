/* SPDX-License-Identifier: MIT
 *
 * What takes how much room. */
#include "dm_store.h"

#include <stdlib.h>
#include <string.h>

void dm_storage_reset(dm_storage *storage)
{
    if (storage == NULL)
        return;
    dm_model_names_reset(&storage->models);
    dm__free(storage->sizes);
    *storage = (dm_storage){0};
}

/* ---- by model ---- */

static dm_status rows_count(dm__conn *conn, const char *safe, const char *suffix, int64_t *count,
                            dm_error *err)
{
    return dm__conn_integer(conn, count, err, "SELECT count(*) FROM \"%w%s\"", safe, suffix);
}

static int by_safe_name(const void *a, const void *b)
{
    const dm_model_name *const *x = a, *const *y = b;
    return sqlite3_stricmp((*x)->safe_name, (*y)->safe_name);
}

/* The model whose table or index this is; NULL where it is nobody's. */
static dm_model_storage *size_find(dm_storage *storage, const dm_model_name **sorted,
                                   const char *table)
{
    static const char *const suffixes[] = {"_runtime", "_requests",    "_billing",  "_tier_pricing",
                                           "_timings", "_request_ids", "_checksums"};
    static const char index[] = "sqlite_autoindex_"; /* then the table's name and "_1" */
    size_t length = strlen(table), prefix = sizeof index - 1;
    if (length > prefix + 2 && memcmp(table, index, prefix) == 0) {
        table += prefix;
        length -= prefix + 2;
    }
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        dm_model_name key = {0};
        const dm_model_name *wanted = &key;
        size_t suffix = strlen(suffixes[i]);
        if (length <= suffix || length - suffix >= sizeof key.safe_name ||
            sqlite3_strnicmp(table + length - suffix, suffixes[i], (int)suffix) != 0)
            continue;
        memcpy(key.safe_name, table, length - suffix);
        const dm_model_name **found =
            bsearch(&wanted, sorted, storage->models.count, sizeof *sorted, by_safe_name);
        return found == NULL ? NULL : &storage->sizes[*found - storage->models.models];
    }
    return NULL;
}

/* Through SQLite's dbstat, which some copies of SQLite lack: then it stays unknown. */
static dm_status bytes_read(dm__conn *conn, dm_storage *storage, const dm_model_name **sorted,
                            dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row = true;
    if (sqlite3_prepare_v2(conn->db, "SELECT name,pgsize FROM dbstat WHERE aggregate=1", -1, &stmt,
                           NULL) != SQLITE_OK)
        return DM_OK;
    storage->bytes_known = true;
    dm_status rc = DM_OK;
    while (rc == DM_OK && (rc = dm__stmt_step(conn, stmt, &row, err)) == DM_OK && row) {
        const char *table = (const char *)sqlite3_column_text(stmt, 0);
        dm_model_storage *size = table == NULL ? NULL : size_find(storage, sorted, table);
        if (size != NULL)
            size->bytes += sqlite3_column_int64(stmt, 1);
    }
    (void)sqlite3_finalize(stmt);
    return rc;
}

static dm_status models_read(dm__conn *conn, dm_storage *storage, dm_error *err)
{
    size_t count = storage->models.count;
    storage->sizes = dm__calloc(count + 1, sizeof *storage->sizes);
    const dm_model_name **sorted = dm__calloc(count + 1, sizeof *sorted);
    dm_status rc = storage->sizes == NULL || sorted == NULL ? dm__no_memory(err) : DM_OK;
    for (size_t i = 0; i < count && rc == DM_OK; i++) {
        const char *safe = storage->models.models[i].safe_name;
        sorted[i] = &storage->models.models[i];
        rc = rows_count(conn, safe, "_requests", &storage->sizes[i].requests, err);
        if (rc == DM_OK)
            rc = rows_count(conn, safe, "_runtime", &storage->sizes[i].runs, err);
    }
    if (rc == DM_OK) {
        qsort(sorted, count, sizeof *sorted, by_safe_name);
        rc = bytes_read(conn, storage, sorted, err);
    }
    dm__free(sorted);
    return rc;
}

/* ---- the file ---- */

static dm_status pages_read(dm__conn *conn, const char *sql, int64_t *bytes, dm_error *err)
{
    int64_t pages = 0, size = 0;
    dm_status rc = dm__conn_integer(conn, &pages, err, "%s", sql);
    if (rc == DM_OK)
        rc = dm__conn_integer(conn, &size, err, "PRAGMA page_size");
    *bytes = pages * size;
    return rc;
}

dm_status dm__file_bytes_read(dm__conn *conn, int64_t *bytes, dm_error *err)
{
    return pages_read(conn, "PRAGMA page_count", bytes, err);
}

static dm_status storage_read(dm__conn *conn, void *argument, dm_error *err)
{
    dm_storage *storage = argument;
    dm_storage_reset(storage);
    dm__conn_stoppable_set(conn, true);
    dm_status rc = dm__file_bytes_read(conn, &storage->file_bytes, err);
    if (rc == DM_OK)
        rc = pages_read(conn, "PRAGMA freelist_count", &storage->free_bytes, err);
    if (rc == DM_OK)
        rc = dm__model_names_read(conn, &storage->models, err);
    if (rc == DM_OK)
        rc = models_read(conn, storage, err);
    dm__conn_stoppable_set(conn, false);
    return rc;
}

static int64_t log_bytes(const dm__store *store)
{
    dm__file_id id = {0};
    char *name = store->in_memory ? NULL : dm__path_beside(store->path, "-wal");
    if (name != NULL)
        (void)dm__file_identify(name, &id);
    free(name);
    return id.size;
}

dm_status dm_storage_get(dm_manager *m, dm_storage *storage_out, dm_error *err)
{
    dm_storage storage = {0};
    dm_status rc = dm__read_aside(m, storage_read, &storage, err);
    if (rc == DM_OK) {
        *storage_out = storage;
        storage_out->log_bytes = log_bytes(m->store);
    } else {
        dm_storage_reset(&storage);
    }
    return rc;
}
