/* SPDX-License-Identifier: MIT
 *
 * All operations at once, from many threads, on handles that are shared and handles that come and
 * go, with forks in between: a ledger of what was acknowledged is compared with the file. Written
 * for ThreadSanitizer as much as for the results. */
#include "dm.h"

#include "check.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8
#define ROUNDS  150 /* 15 under valgrind */
#define BULK    40

static char folder[] = "/tmp/dm-threads-XXXXXX";
static char path[64];
static const dm_options options = {.durability = DM_DURABILITY_NORMAL, .pool_size = 3};
static dm_manager *shared, *closed_midway;
static atomic_long requests_stored, runs_stored, wrong, refused_by_close;
static unsigned rounds = ROUNDS;
static atomic_int at_work;
static pthread_barrier_t after_close;

static void expect(dm_status rc, dm_status also, const dm_error *err)
{
    if (rc == DM_OK || rc == also)
        return;
    atomic_fetch_add(&wrong, 1);
    (void)fprintf(stderr, "%s: %s\n", dm_status_name(rc), err->text);
}

static void add_requests(dm_manager *m, unsigned i)
{
    dm_error err;
    int64_t id = 0;
    dm_request one = {1000.0 + i, i, 2, 3, 4};
    dm_status rc = dm_request_add(m, DM_STR("m"), &one, NULL, &id, &err);
    expect(rc, DM_OK, &err);
    atomic_fetch_add(&requests_stored, rc == DM_OK);
    double times[BULK] = {0};
    int64_t zeros[BULK] = {0};
    dm_request_rows rows = {BULK, times, zeros, zeros, zeros, zeros, NULL, NULL};
    dm_ids ids = {0};
    rc = dm_requests_add(m, DM_STR("m"), &rows, &ids, &err);
    expect(rc, DM_OK, &err);
    atomic_fetch_add(&requests_stored, rc == DM_OK ? ids.count : 0);
}

static void add_batch(dm_manager *m, bool commit)
{
    dm_error err;
    int64_t id = 0;
    dm_request one = {5, 1, 2, 3, 4};
    dm_ids *ids = NULL;
    size_t count = 0;
    uint64_t level = 0;
    expect(dm_batch_begin(m, &level, &err), DM_OK, &err);
    expect(dm_request_add(m, DM_STR("m"), &one, NULL, &id, &err), DM_OK, &err);
    expect(dm_model_start(m, DM_STR("m"), 5, &id, &err), DM_OK, &err);
    dm_status rc = dm_batch_end(m, level, commit, &ids, &count, &err);
    expect(rc, DM_OK, &err);
    if (rc == DM_OK && commit) {
        atomic_fetch_add(&requests_stored, 1);
        atomic_fetch_add(&runs_stored, 1);
    }
    dm_ids_free(ids);
}

static void change_prices(dm_manager *m, unsigned i)
{
    dm_error err;
    dm_tier tier = {i % 5 + 1, (i % 5) * 100, (i % 5 + 1) * 100, 1.5, 2.5, true, 0.5};
    expect(dm_tier_put(m, DM_STR("m"), &tier, DM_TIER_SET, NAN, &err), DM_OK, &err);
    expect(dm_tier_delete(m, DM_STR("m"), i % 7, NAN, &err), DM_TIER_NOT_FOUND, &err);
    dm_price_change change = {.sets = DM_PRICE_HOURLY, .hourly_price = i, .effective_from_s = NAN};
    expect(dm_pricing_set(m, DM_STR("m"), &change, &err), DM_OK, &err);
}

static void come_and_go(dm_manager *m)
{
    dm_error err;
    dm_str scratch = DM_STR("scratch");
    dm_request one = {5, 1, 2, 3, 4};
    int64_t id = 0;
    expect(dm_model_register(m, &scratch, 1, &err), DM_OK, &err);
    expect(dm_request_add(m, scratch, &one, NULL, &id, &err), DM_OK, &err);
    expect(dm_model_delete(m, scratch, &err), DM_MODEL_NOT_FOUND, &err);
}

static void read_all(dm_manager *m)
{
    dm_error err;
    dm_window all = DM_WINDOW_ALL, some = {-INFINITY, INFINITY, 10};
    dm_request_columns columns = {0};
    dm_runs runs = {0};
    dm_billing billing = {0};
    dm_tariffs tariffs = {0};
    dm_model_names names = {0};
    expect(dm_requests_get(m, DM_STR("m"), &some, &columns, &err), DM_OK, &err);
    expect(dm_model_runs(m, DM_STR("m"), &all, &runs, &err), DM_OK, &err);
    expect(dm_billing_get(m, DM_STR("m"), &billing, &err), DM_OK, &err);
    expect(dm_price_history(m, DM_STR("m"), &tariffs, &err), DM_OK, &err);
    expect(dm_models_get(m, &names, &err), DM_OK, &err);
    dm_request_columns_reset(&columns);
    dm_runs_reset(&runs);
    dm_billing_reset(&billing);
    dm_tariffs_reset(&tariffs);
    dm_model_names_reset(&names);
}

/* So many that a partner takes some of them. */
#define QUIET_MODELS 6
#define QUIET_ROWS   6000

static void quiet_models_fill(void)
{
    dm_error err;
    double *times = calloc(QUIET_ROWS, sizeof *times);
    int64_t *ones = calloc(QUIET_ROWS, sizeof *ones);
    for (size_t i = 0; i < QUIET_ROWS; i++)
        times[i] = (double)i, ones[i] = 1;
    for (int i = 0; i < QUIET_MODELS; i++) {
        char name[] = "quiet 0";
        name[6] = (char)('0' + i);
        dm_request_rows rows = {QUIET_ROWS, times, ones, ones, ones, ones, times, NULL};
        dm_ids ids;
        CHECK_OK(dm_requests_add(shared, (dm_str){name, 7}, &rows, &ids, &err));
    }
    free(times);
    free(ones);
}

static void ask(dm_manager *m)
{
    dm_error err;
    static const double edges[] = {0, 1000, 4000, 1e9};
    dm_usage_query query = {.edges_s = edges, .edge_count = 4};
    dm_usage usage = {0};
    dm_performance performance = {0};
    expect(dm_usage_get(m, &query, &usage, &err), DM_OK, &err);
    expect(dm_performance_get(m, NULL, 0, edges, 4, &performance, &err), DM_OK, &err);
    int64_t quiet = 0, timed = 0;
    for (size_t i = 0; i < usage.row_count; i++)
        if (usage.models.models[usage.rows[i].model].original_name[0] == 'q')
            quiet += usage.rows[i].input_tokens;
    for (size_t i = 0; i < performance.row_count; i++)
        timed += performance.rows[i].duration_s.count;
    atomic_fetch_add(&wrong, quiet != QUIET_MODELS * QUIET_ROWS || timed != quiet);
    dm_usage_reset(&usage);
    dm_performance_reset(&performance);
}

/* Whatever a call meets on the handle that is closed under it, it is that and nothing else. */
static void use_closing_handle(void)
{
    dm_error err;
    int64_t id = 0;
    dm_request one = {5, 1, 2, 3, 4};
    dm_status rc = dm_request_add(closed_midway, DM_STR("m"), &one, NULL, &id, &err);
    expect(rc, DM_CLOSED, &err);
    atomic_fetch_add(rc == DM_OK ? &requests_stored : &refused_by_close, 1);
}

static void *work(void *number)
{
    unsigned i = (unsigned)(size_t)number * rounds;
    dm_error err;
    for (unsigned end = i + rounds; i < end; i++) {
        dm_manager *own = NULL;
        expect(dm_open(path, &options, &own, &err), DM_OK, &err);
        dm_manager *m = i % 3 == 0 ? shared : own;
        add_requests(m, i);
        add_batch(m, i % 2 == 0);
        read_all(m);
        use_closing_handle();
        if (i % 4 == 0)
            change_prices(m, i);
        if (i % 8 == 0)
            come_and_go(m);
        if (i % 8 == 1)
            ask(m);
        dm_free(own);
    }
    atomic_fetch_sub(&at_work, 1);
    (void)pthread_barrier_wait(&after_close);
    use_closing_handle();
    return NULL;
}

/* In the child of a fork beside threads the allocator of AddressSanitizer may be locked for ever:
 * the runtimes of gcc 12 and clang 14 do not see to that. */
#if defined(__SANITIZE_ADDRESS__)
#define FORKS false
#else
#define FORKS true
#endif

/* A child writes one row through a handle of its parent and leaves. */
static void fork_once(void)
{
    dm_fork_before(5000);
    pid_t child = fork();
    if (child == 0) {
        dm_fork_child();
        dm_request one = {5, 1, 2, 3, 4};
        int64_t id = 0;
        if (dm_request_add(shared, DM_STR("m"), &one, NULL, &id, NULL) != DM_OK)
            _exit(1);
        /* Not an exit, where valgrind would miss what the threads held that are not here. */
        (void)kill(getpid(), SIGKILL);
    }
    dm_fork_parent();
    int status = -1;
    (void)waitpid(child, &status, 0);
    CHECK_INT(WIFSIGNALED(status), 1);
    atomic_fetch_add(&requests_stored, 1);
}

/* By two connections at once: see ahead.c. */
static void long_table_read(void)
{
    enum { ROWS = 300000 };
    dm_error err;
    dm_manager *m = NULL;
    dm_ids ids = {0};
    double *times = calloc(ROWS, sizeof *times);
    int64_t *ones = calloc(ROWS, sizeof *ones);
    for (size_t i = 0; i < ROWS; i++)
        ones[i] = 1;
    dm_request_rows rows = {ROWS, times, ones, ones, ones, ones, NULL, NULL};
    CHECK_OK(dm_open(path, &options, &m, &err));
    CHECK_OK(dm_requests_add(m, DM_STR("long"), &rows, &ids, &err));
    dm_str name = DM_STR("long");
    const double edges_s[] = {0, 1};
    dm_usage_query query = {.models = &name, .model_count = 1, .edges_s = edges_s, .edge_count = 2};
    dm_usage usage = {0};
    CHECK_OK(dm_usage_get(m, &query, &usage, &err));
    CHECK_INT(usage.rows[0].requests, ROWS);
    CHECK_INT(usage.rows[0].prompt_n, ROWS);
    dm_usage_reset(&usage);
    dm_free(m);
    free(times);
    free(ones);
}

int main(void)
{
    dm_error err;
    if (mkdtemp(folder) == NULL)
        return 2;
    if (getenv("DM_TEST_STRIDE") != NULL)
        rounds = ROUNDS / 10;
    (void)snprintf(path, sizeof path, "%s/a.db", folder);
    CHECK_OK(dm_open(path, &options, &shared, &err));
    CHECK_OK(dm_open(path, &options, &closed_midway, &err));
    dm_str name = DM_STR("m");
    CHECK_OK(dm_model_register(shared, &name, 1, &err));
    quiet_models_fill();
    pthread_t threads[THREADS];
    at_work = THREADS;
    (void)pthread_barrier_init(&after_close, NULL, THREADS + 1);
    for (size_t i = 0; i < THREADS; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, work, (void *)i), 0);
    long seen = 0;
    if (!FORKS)
        printf("without forks: not under AddressSanitizer\n");
    while (FORKS && atomic_load(&at_work) > 0 && seen < THREADS * rounds * BULK / 2) {
        fork_once();
        seen = atomic_load(&requests_stored);
    }
    dm_close(closed_midway);
    (void)pthread_barrier_wait(&after_close);
    for (size_t i = 0; i < THREADS; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(wrong, 0);
    CHECK_INT(refused_by_close >= THREADS, 1);
    dm_free(closed_midway);
    dm_free(shared);

    dm_manager *m = NULL;
    dm_window all = DM_WINDOW_ALL;
    dm_request_columns columns = {0};
    dm_runs runs = {0};
    CHECK_OK(dm_open(path, &options, &m, &err));
    CHECK_OK(dm_requests_get(m, DM_STR("m"), &all, &columns, &err));
    CHECK_OK(dm_model_runs(m, DM_STR("m"), &all, &runs, &err));
    CHECK_INT(columns.count, requests_stored);
    CHECK_INT(runs.count, runs_stored);
    dm_request_columns_reset(&columns);
    dm_runs_reset(&runs);
    dm_free(m);
    long_table_read();
    (void)unlink(path);
    (void)rmdir(folder);
    return check_report();
}
