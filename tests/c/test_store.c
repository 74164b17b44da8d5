/* SPDX-License-Identifier: MIT
 *
 * The store through its public header: what is written is read, handles share, batches are whole.
 */
#include "dm.h"

#include "check.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/dm-test-XXXXXX";
static char path[64];
static dm_error err;

static dm_manager *open_store(void)
{
    dm_manager *m = NULL;
    dm_options options = {0};
    CHECK_OK(dm_open(path, &options, &m, &err));
    return m;
}

static size_t request_count(dm_manager *m, dm_str model)
{
    dm_request_columns columns = {0};
    dm_window all = DM_WINDOW_ALL;
    CHECK_OK(dm_requests_get(m, model, &all, &columns, &err));
    size_t count = columns.count;
    dm_request_columns_reset(&columns);
    return count;
}

static void test_sharing(void)
{
    dm_manager *a = open_store(), *b = open_store();
    dm_request request = {.timestamp_s = 1.5, .input_tokens = 10, .output_tokens = 20};
    int64_t id = 0;
    CHECK_OK(dm_request_add(a, DM_STR("m"), &request, NULL, &id, &err));
    CHECK_INT(id, 1);
    CHECK_INT(request_count(b, DM_STR("m")), 1);
    dm_request_columns untouched = {.count = 77};
    dm_window all = DM_WINDOW_ALL;
    CHECK_STATUS(dm_requests_get(b, DM_STR("none"), &all, &untouched, &err), DM_MODEL_NOT_FOUND);
    CHECK_INT(untouched.count, 77);
    dm_close(a);
    CHECK_STATUS(dm_request_add(a, DM_STR("m"), &request, NULL, &id, &err), DM_CLOSED);
    CHECK_OK(dm_request_add(b, DM_STR("m"), &request, NULL, &id, &err));
    CHECK_INT(id, 2);
    dm_free(a);
    dm_free(b);
    char log[80];
    (void)snprintf(log, sizeof log, "%s-wal", path);
    CHECK_INT(access(log, F_OK), -1); /* the last close leaves one file */
}

static void test_batches(void)
{
    dm_manager *m = open_store();
    dm_request request = {.timestamp_s = 2};
    int64_t id = -1;
    dm_ids *ids = NULL;
    size_t count = 0;
    uint64_t level = 0, inner = 0;
    size_t before = request_count(m, DM_STR("m"));
    CHECK_STATUS(dm_batch_end(m, level, true, &ids, &count, &err), DM_MISUSE);
    CHECK_OK(dm_batch_begin(m, &level, &err));
    CHECK_OK(dm_request_add(m, DM_STR("m"), &request, NULL, &id, &err));
    CHECK_INT(id, 0);
    CHECK_OK(dm_batch_begin(m, &inner, &err));
    CHECK_OK(dm_request_add(m, DM_STR("m"), &request, NULL, &id, &err));
    CHECK_OK(dm_batch_end(m, inner, false, &ids, &count, &err)); /* drops its own only */
    CHECK_INT(request_count(m, DM_STR("m")), before);
    CHECK_OK(dm_batch_end(m, level, true, &ids, &count, &err));
    CHECK_INT(count, 1);
    CHECK_INT(ids[0].count, 1);
    dm_ids_free(ids);
    CHECK_INT(request_count(m, DM_STR("m")), before + 1);
    /* One that fails at the end takes the whole batch with it. */
    CHECK_OK(dm_batch_begin(m, &level, &err));
    CHECK_OK(dm_request_add(m, DM_STR("m"), &request, NULL, &id, &err));
    CHECK_OK(dm_tier_delete(m, DM_STR("m"), 9, NAN, &err));
    CHECK_STATUS(dm_batch_end(m, level, true, &ids, &count, &err), DM_TIER_NOT_FOUND);
    CHECK_INT(request_count(m, DM_STR("m")), before + 1);
    /* One that ends before what is inside it goes as a whole, and nothing is left open. */
    CHECK_OK(dm_batch_begin(m, &level, &err));
    CHECK_OK(dm_request_add(m, DM_STR("m"), &request, NULL, &id, &err));
    CHECK_OK(dm_batch_begin(m, &inner, &err));
    CHECK_STATUS(dm_batch_end(m, level, true, &ids, &count, &err), DM_MISUSE);
    CHECK_STATUS(dm_batch_end(m, inner, true, &ids, &count, &err), DM_MISUSE);
    CHECK_OK(dm_request_add(m, DM_STR("m"), &request, NULL, &id, &err));
    CHECK_INT(request_count(m, DM_STR("m")), before + 2);
    CHECK_OK(dm_batch_begin(m, &level, &err));
    CHECK_OK(dm_request_add(m, DM_STR("m"), &request, NULL, &id, &err));
    CHECK_INT(dm_close(m), 1);
    dm_free(m);
}

enum { THREADS = 8, ROUNDS = 200 };

static void *add_many(void *argument)
{
    dm_manager *m = argument;
    dm_request request = {.timestamp_s = 3};
    dm_error thread_err;
    for (int i = 0; i < ROUNDS; i++) {
        int64_t id = 0;
        if (dm_request_add(m, DM_STR("threads"), &request, NULL, &id, &thread_err) != DM_OK ||
            id == 0)
            return (void *)1;
    }
    return NULL;
}

static void test_threads(void)
{
    dm_manager *m = open_store();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, add_many, m), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed = NULL;
        (void)pthread_join(threads[i], &failed);
        CHECK_INT(failed == NULL, 1);
    }
    CHECK_INT(request_count(m, DM_STR("threads")), THREADS * ROUNDS);
    dm_free(m);
}

static int child_writes(dm_manager *m, dm_status wanted)
{
    dm_request request = {.timestamp_s = 4};
    int64_t id = 0;
    dm_status rc = dm_request_add(m, DM_STR("fork"), &request, NULL, &id, &err);
    if (rc != wanted)
        printf("child: %s, not %s (%s)\n", dm_status_name(rc), dm_status_name(wanted), err.text);
    (void)fflush(stdout);
    return rc != wanted;
}

static void test_fork(void)
{
    static dm_manager *m; /* so that a leak checker finds it in the child */
    m = open_store();
    int status = -1;
    CHECK_INT(child_writes(m, DM_OK), 0);
    dm_fork_before(5000);
    pid_t child = fork();
    if (child == 0) {
        dm_fork_child();
        int failed = child_writes(m, DM_OK);
        dm_free(m);
        _exit(failed);
    }
    dm_fork_parent();
    CHECK_INT(child_writes(m, DM_OK), 0);
    (void)waitpid(child, &status, 0);
    CHECK_INT(status, 0);
    CHECK_INT(request_count(m, DM_STR("fork")), 3);
    child = fork(); /* nobody was told */
    if (child == 0)
        _exit(child_writes(m, DM_FORKED));
    (void)waitpid(child, &status, 0);
    CHECK_INT(status, 0);
    dm_free(m);
}

static bool stop_always(void)
{
    return true;
}

/* Holds the lock through a second, read-write SQLite connection of its own process. */
static void test_interrupt(void)
{
    dm_manager *m = open_store();
    dm_request request = {.timestamp_s = 5};
    int64_t id = 0;
    size_t rows = 4000000; /* far more than can be written before the hook is asked first */
    int64_t *zeros = calloc(rows, 8);
    dm_request_rows many = {rows, (const double *)zeros, zeros, zeros, zeros, zeros, NULL, NULL};
    dm_ids ids = {.first_id = -1, .count = -1};
    CHECK_OK(dm_request_add(m, DM_STR("stop"), &request, NULL, &id, &err));
    dm_set_stop_hook(stop_always);
    CHECK_STATUS(dm_requests_add(m, DM_STR("stop"), &many, &ids, &err), DM_INTERRUPTED);
    dm_set_stop_hook(NULL);
    CHECK_INT(ids.count, -1);
    CHECK_INT(request_count(m, DM_STR("stop")), 1);
    free(zeros);
    dm_free(m);
}

/* Under a sanitizer or valgrind: nothing beside the path's bytes is looked at. */
static void test_paths_without_a_file(void)
{
    static const char *const paths[] = {"", "/", "//", "."};
    dm_options options = {0};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        dm_manager *m = NULL;
        CHECK_STATUS(dm_open(paths[i], &options, &m, &err), DM_CANNOT_OPEN);
        CHECK_INT(m == NULL, 1);
    }
}

int main(void)
{
    if (mkdtemp(folder) == NULL)
        return 2;
    (void)snprintf(path, sizeof path, "%s/a.db", folder);
    test_sharing();
    test_batches();
    test_threads();
    test_fork();
    test_interrupt();
    test_paths_without_a_file();
    (void)unlink(path);
    (void)rmdir(folder);
    return check_report();
}
