/* SPDX-License-Identifier: MIT
 *
 * Rows in memory and snapshots of different ages: none sees what is younger than itself. */
#include "dm_internal.h"

#include "check.h"

#include <stdlib.h>
#include <unistd.h>

#define LIMIT ((size_t)1 << 20)

static char folder[] = "/tmp/dm-test-XXXXXX";
static char path[64];
static dm_error err;
static dm_manager *m;
static dm__cache *cache;

static void add(size_t count)
{
    dm_request *request = calloc(1, sizeof *request);
    for (size_t i = 0; i < count && request != NULL; i++) {
        int64_t id;
        *request = (dm_request){.timestamp_s = (double)i, .input_tokens = 1};
        CHECK_OK(dm_request_add(m, DM_STR("m"), request, NULL, &id, &err));
    }
    free(request);
}

static dm_status rows_read(dm__conn *conn, dm__model *model, dm__model_read *read, dm_error *error)
{
    dm_request_columns *rows = read->out;
    dm_request_columns_reset(rows);
    return dm__rows_all(conn, model, -INFINITY, INFINITY, rows, error);
}

static size_t rows_seen(dm__conn *conn)
{
    dm_request_columns rows = {0};
    dm__model_read read = {.name = DM_STR("m"), .from = rows_read, .out = &rows};
    CHECK_OK(dm__read_model(conn, &read, &err));
    for (size_t i = 0; i < rows.count; i++)
        if (rows.id[i] != (int64_t)i + 1 || rows.input_tokens[i] != 1)
            check_failed++;
    size_t count = rows.count;
    dm_request_columns_reset(&rows);
    return count;
}

static dm__conn *snapshot(uint64_t epoch)
{
    dm__conn *conn = NULL;
    CHECK_OK(dm__conn_open(path, false, 0, &conn, &err));
    CHECK_OK(dm__stmt_exec(conn, DM__STMT_BEGIN, &err));
    CHECK_OK(dm__conn_read_once(conn, &err));
    conn->recall = (dm__recall){cache, epoch};
    return conn;
}

static size_t chunks_kept(uint64_t epoch)
{
    char safe[DM_SAFE_NAME_SIZE];
    dm_safe_name(DM_STR("m"), safe);
    dm__recall recall = {cache, epoch};
    dm__view view = {0};
    CHECK_INT(dm__cache_view(&recall, safe, INT64_MAX, &view), true);
    size_t count = view.count;
    dm__view_reset(&view);
    return count;
}

/* Through the part of a chunk, its end, and the chunk after it. */
static void test_snapshots_of_all_ages(void)
{
    static const size_t steps[] = {10, 5, DM__CHUNK_ROWS - 15, 1, 100};
    enum { COUNT = sizeof steps / sizeof *steps };
    dm__conn *snapshots[COUNT];
    size_t rows[COUNT], sum = 0;
    for (size_t i = 0; i < COUNT; i++) {
        add(steps[i]);
        rows[i] = sum += steps[i];
        snapshots[i] = snapshot(1);
    }
    for (size_t first = 0; first < COUNT; first++) {
        dm__cache_empty(cache);
        for (size_t turn = 0; turn < 2; turn++)
            for (size_t i = 0; i < COUNT; i++) {
                size_t at = (first + i) % COUNT;
                CHECK_INT(rows_seen(snapshots[at]), rows[at]);
            }
        CHECK_INT(chunks_kept(1), 2);
    }
    for (size_t i = 0; i < COUNT; i++)
        dm__conn_close(snapshots[i], false);
}

/* Who still reads in an epoch that has ended neither finds anything nor leaves anything. */
static void test_epochs(void)
{
    dm__conn *old = snapshot(1), *young = snapshot(2);
    size_t rows = rows_seen(old);
    CHECK_INT(chunks_kept(1), 2);
    CHECK_INT(chunks_kept(2), 0); /* the new one has begun */
    CHECK_INT(rows_seen(old), rows);
    CHECK_INT(chunks_kept(2), 0);
    CHECK_INT(rows_seen(young), rows);
    CHECK_INT(chunks_kept(2), 2);
    CHECK_INT(rows_seen(old), rows);
    CHECK_INT(chunks_kept(1), 0);
    CHECK_INT(chunks_kept(2), 2);
    dm__conn_close(old, false);
    dm__conn_close(young, false);
}

int main(void)
{
    if (mkdtemp(folder) == NULL)
        return 1;
    (void)snprintf(path, sizeof path, "%s/usage.db", folder);
    dm_options options = {.durability = DM_DURABILITY_NORMAL};
    CHECK_OK(dm_open(path, &options, &m, &err));
    cache = dm__cache_new();
    dm__cache_limit_raise(cache, LIMIT);
    test_snapshots_of_all_ages();
    test_epochs();
    dm__cache_free(cache);
    dm_free(m);
    (void)unlink(path);
    (void)rmdir(folder);
    return check_report();
}
