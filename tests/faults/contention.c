/* SPDX-License-Identifier: MIT
 *
 * Many processes on one file, none of which is to wait long, or to fail because of the others:
 *
 *     eight that open a file at once which is not there yet;
 *     four that write as fast as they can, and then with a pause of 2 ms between;
 *     two that write while others read, each for most of a second: how long the log gets;
 *     one that writes while another prunes.
 *
 * In memory, where nothing is told but the price of waiting for each other; on a disk with
 * DM_FOLDER, where other users of it count as well.
 *
 * The controls are SQLite alone: opening without taking turns, its own handler of a busy file, a
 * log without a limit, and a prune in one transaction. */
#include "processes.h"
#include "work.h"

#include "../c/check.h"

#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char folder[64];
static char path[WORK_PATH];
static dm_error err;
static double seconds = 20; /* of each part with writers; of the log half as much again */

#define BULK_SHARE      4 /* of those seconds, with many rows in each write */
#define CONTROL_SECONDS 5 /* of each try */
#define CONTROL_TRIES   8

static double now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void pause_s(double duration_s)
{
    struct timespec time = {(time_t)duration_s, (long)(fmod(duration_s, 1) * 1e9)};
    (void)nanosleep(&time, NULL);
}

static int complain(const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", what, err.text);
    return 3;
}

static int complain_of(sqlite3 *db, const char *what)
{
    (void)snprintf(err.text, sizeof err.text, "%s", sqlite3_errmsg(db));
    (void)what;
    return 4;
}

/* ---- opening ---- */

#define OPENERS 8

static int open_ours(int number)
{
    dm_options options = {0};
    dm_request request = {5, number, 2, 3, 4};
    dm_manager *m = NULL;
    int64_t id;
    gate_wait(folder, number);
    if (dm_open(path, &options, &m, &err) != DM_OK ||
        dm_request_add(m, DM_STR("a"), &request, NULL, &id, &err) != DM_OK)
        return complain("open");
    dm_free(m);
    return 0;
}

static int open_plain(int number)
{
    sqlite3 *db = NULL;
    gate_wait(folder, number);
    if (sqlite3_open(path, &db) != SQLITE_OK ||
        sqlite3_exec(db,
                     "PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(x);"
                     "INSERT INTO t VALUES(1)",
                     NULL, NULL, NULL) != SQLITE_OK)
        return complain_of(db, "open");
    (void)sqlite3_close(db);
    return 0;
}

static int open_at_once(const char *role)
{
    pid_t openers[OPENERS];
    int failed = 0;
    gate_shut(folder);
    for (int i = 0; i < OPENERS; i++)
        openers[i] = process_start(role, i, folder);
    gate_await(OPENERS);
    gate_open();
    for (int i = 0; i < OPENERS; i++)
        failed += process_wait(openers[i]) != 0;
    return failed;
}

static size_t rows_in_it(void)
{
    dm_options options = {0};
    dm_manager *m = NULL;
    dm_window all = DM_WINDOW_ALL;
    dm_request_columns rows = {0};
    CHECK_OK(dm_open(path, &options, &m, &err));
    CHECK_OK(dm_requests_get(m, DM_STR("a"), &all, &rows, &err));
    size_t count = rows.count;
    dm_request_columns_reset(&rows);
    dm_free(m);
    return count;
}

static void test_fresh_files(int files)
{
    int failed = 0;
    for (int i = 0; i < files; i++) {
        failed += open_at_once("open");
        CHECK_INT(rows_in_it(), OPENERS);
        folder_empty(folder);
    }
    printf("%d fresh files, %d processes each: %d failed\n", files, OPENERS, failed);
    CHECK_INT(failed, 0);
    int control = 0, tried = 0;
    for (failed = 0; control < 100 + files && failed == 0; control++, tried += OPENERS) {
        failed = open_at_once("open plain");
        folder_empty(folder);
    }
    printf("without turns (control): %d of %d failed\n", failed, tried);
    CHECK_INT(failed > 0, 1);
}

/* ---- writing ---- */

#define WRITERS 4
#define CALLS   4000000
#define BULK    2000 /* rows of a call, so that the file is hardly ever free */
#define PAUSE_S 0.002

static float times_ms[CALLS * WRITERS];
static size_t time_count;

static void times_path(char *to, size_t size, int number)
{
    (void)snprintf(to, size, "%s/times-%d", folder, number);
}

static int times_write(int number)
{
    char name[WORK_PATH];
    times_path(name, sizeof name, number);
    FILE *file = fopen(name, "wb");
    bool written =
        file != NULL && fwrite(times_ms, sizeof *times_ms, time_count, file) == time_count;
    return file != NULL && fclose(file) == 0 && written ? 0 : 5;
}

static void times_read(int number)
{
    char name[WORK_PATH];
    times_path(name, sizeof name, number);
    FILE *file = fopen(name, "rb");
    if (file == NULL)
        return;
    time_count += fread(times_ms + time_count, sizeof *times_ms, CALLS, file);
    (void)fclose(file);
}

static void time_add(double begun_s)
{
    if (time_count < CALLS)
        times_ms[time_count++] = (float)((now_s() - begun_s) * 1000);
}

static int write_ours(int number, size_t rows_of_call, double pause)
{
    static const double at_s[BULK];
    static const int64_t zeros[BULK];
    const dm_request_rows rows = {rows_of_call, at_s, zeros, zeros, zeros, zeros, NULL, NULL};
    dm_options options = {0};
    dm_manager *m = NULL;
    dm_ids ids;
    gate_wait(folder, number);
    if (dm_open(path, &options, &m, &err) != DM_OK)
        return complain("open");
    for (double until_s = now_s() + seconds; now_s() < until_s;) {
        double begun_s = now_s();
        if (dm_requests_add(m, DM_STR("a"), &rows, &ids, &err) != DM_OK)
            return complain("write");
        time_add(begun_s);
        if (pause > 0)
            pause_s(pause);
    }
    dm_free(m);
    return times_write(number);
}

static int write_plain(int number, double pause)
{
    sqlite3 *db = NULL;
    char sql[160];
    int failed = 0;
    (void)snprintf(sql, sizeof sql,
                   "WITH c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<%d)"
                   "INSERT INTO t SELECT zeroblob(30) FROM c",
                   BULK);
    gate_wait(folder, number);
    (void)sqlite3_open(path, &db);
    (void)sqlite3_busy_timeout(db, 5000);
    for (double until_s = now_s() + seconds; now_s() < until_s;) {
        double begun_s = now_s();
        failed += sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK;
        time_add(begun_s);
        if (pause > 0)
            pause_s(pause);
    }
    (void)sqlite3_close(db);
    int code = times_write(number);
    return failed > 0 ? 6 : code;
}

static int ascending(const void *a, const void *b)
{
    float left = *(const float *)a, right = *(const float *)b;
    return (left > right) - (left < right);
}

typedef struct {
    size_t count;
    int failed;
    float p999_ms, worst_ms;
} times;

static times write_at_once(const char *role)
{
    pid_t writers[WRITERS];
    times result = {0};
    time_count = 0;
    gate_shut(folder);
    for (int i = 0; i < WRITERS; i++)
        writers[i] = process_start(role, i, folder);
    gate_await(WRITERS);
    gate_open();
    for (int i = 0; i < WRITERS; i++) {
        result.failed += process_wait(writers[i]) != 0;
        times_read(i);
    }
    qsort(times_ms, time_count, sizeof *times_ms, ascending);
    result.count = time_count;
    if (time_count > 0) {
        result.p999_ms = times_ms[(time_count - 1) * 999 / 1000];
        result.worst_ms = times_ms[time_count - 1];
    }
    printf("%-34s %6zu writes: p99.9 %.1f ms, worst %.0f ms, %d of %d failed\n", role, result.count,
           (double)result.p999_ms, (double)result.worst_ms, result.failed, WRITERS);
    return result;
}

static void seconds_of_others_set(double wanted)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%g", wanted);
    (void)setenv("DM_SECONDS", text, 1);
}

static void plain_file_make(void)
{
    sqlite3 *db = NULL;
    CHECK_INT(sqlite3_open(path, &db), SQLITE_OK);
    CHECK_INT(sqlite3_exec(db, "PRAGMA journal_mode=WAL; CREATE TABLE t(x)", NULL, NULL, NULL),
              SQLITE_OK);
    (void)sqlite3_close(db);
}

/* What is promised of writers that write as fast as they can, and of those that pause. */
static bool none_waits_long(const times *t)
{
    return t->failed == 0 && t->worst_ms < 2000;
}

static bool hardly_any_waits(const times *t)
{
    return t->failed == 0 && t->p999_ms < 20;
}

static void test_writers(void)
{
    times saturated = write_at_once("write");
    CHECK_INT(none_waits_long(&saturated), true);
    times pausing = write_at_once("write with pauses");
    CHECK_INT(hardly_any_waits(&pausing), true);
    seconds_of_others_set(seconds / BULK_SHARE);
    times bulk = write_at_once("write many");
    CHECK_INT(none_waits_long(&bulk), true);
    seconds_of_others_set(seconds);
    folder_empty(folder);
}

/* Neither holds of SQLite's own handler, which leaves to chance whose turn it is. */
static void test_plain_writers(void)
{
    bool waited_long = false, waited_often = false;
    plain_file_make();
    seconds_of_others_set(CONTROL_SECONDS);
    for (int i = 0; i < CONTROL_TRIES && !waited_long; i++) {
        times plain = write_at_once("write many plain (control)");
        waited_long = !none_waits_long(&plain);
    }
    for (int i = 0; i < CONTROL_TRIES && !waited_often; i++) {
        times plain = write_at_once("the same with pauses (control)");
        waited_often = !hardly_any_waits(&plain);
    }
    seconds_of_others_set(seconds);
    CHECK_INT(waited_long, true);
    CHECK_INT(waited_often, true);
    folder_empty(folder);
}

/* ---- the log ---- */

/* Reads of 0.3 to 0.9 s, one after the other. */
static int read_long(int number)
{
    sqlite3 *db = NULL;
    work w;
    work_init(&w, folder, DM_DURABILITY_FULL, (uint64_t)number + 1);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        return complain_of(db, "read");
    (void)sqlite3_busy_timeout(db, 5000);
    for (;;) {
        if (sqlite3_exec(db, "BEGIN; SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL) !=
            SQLITE_OK)
            return complain_of(db, "read");
        pause_s(0.3 + work_random(&w, 600) / 1000.0);
        (void)sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    }
}

static int fill_ours(void)
{
    dm_options options = {.durability = DM_DURABILITY_NORMAL};
    dm_manager *m = NULL;
    double times_s[1000] = {0};
    int64_t zeros[1000] = {0};
    dm_request_rows rows = {1000, times_s, zeros, zeros, zeros, zeros, NULL, NULL};
    dm_ids ids;
    if (dm_open(path, &options, &m, &err) != DM_OK)
        return complain("open");
    for (;;) {
        if (dm_requests_add(m, DM_STR("a"), &rows, &ids, &err) != DM_OK)
            return complain("fill");
        pause_s(0.001); /* 20 MB a second: more than any host will ever have to tell */
    }
}

static int fill_plain(void)
{
    sqlite3 *db = NULL;
    if (sqlite3_open(path, &db) != SQLITE_OK)
        return 1;
    (void)sqlite3_busy_timeout(db, 5000);
    (void)sqlite3_exec(db, "PRAGMA synchronous=NORMAL", NULL, NULL, NULL);
    for (;;) {
        (void)sqlite3_exec(db, "INSERT INTO t VALUES(zeroblob(30000))", NULL, NULL, NULL);
        pause_s(0.001);
    }
}

static double log_mb(void)
{
    char name[WORK_PATH + 8];
    struct stat status = {0};
    (void)snprintf(name, sizeof name, "%s-wal", path);
    return stat(name, &status) == 0 ? (double)status.st_size / (1 << 20) : 0;
}

#define READERS 3

#define LOG_MOST_MB     64
#define LOG_THEN_MB     4
#define LOG_AT_LENGTH_S 120 /* a control: of a slow machine */

/* How long the log gets, unless it is soon longer than it may be, and how long it is when the
 * readers have gone. */
static void log_watch(const char *role, double watched_s, double *most_mb, double *then_mb)
{
    pid_t writer, readers[READERS];
    *most_mb = 0;
    writer = process_start(role, 0, folder);
    pause_s(0.2);
    for (int i = 0; i < READERS; i++)
        readers[i] = process_start("read", i, folder);
    for (double until_s = now_s() + watched_s; now_s() < until_s && *most_mb < LOG_MOST_MB;
         pause_s(0.005))
        *most_mb = fmax(*most_mb, log_mb());
    for (int i = 0; i < READERS; i++)
        CHECK_INT(process_kill(readers[i]), -SIGKILL);
    for (double until_s = now_s() + 5; log_mb() >= LOG_THEN_MB && now_s() < until_s; pause_s(0.005))
        ;
    *then_mb = log_mb();
    CHECK_INT(process_kill(writer), -SIGKILL);
    printf("%-34s log at most %.1f MB, then %.1f MB\n", role, *most_mb, *then_mb);
}

static void test_log(void)
{
    double most_mb, then_mb;
    (void)open_at_once("open");
    log_watch("fill", seconds * 1.5, &most_mb, &then_mb);
    CHECK_INT(most_mb < LOG_MOST_MB, 1);
    CHECK_INT(then_mb < LOG_THEN_MB, 1);
    folder_empty(folder);
    plain_file_make();
    log_watch("fill plain (control)", LOG_AT_LENGTH_S, &most_mb, &then_mb);
    CHECK_INT(most_mb >= LOG_MOST_MB, 1);
    CHECK_INT(then_mb >= LOG_THEN_MB, 1);
    folder_empty(folder);
}

/* ---- a prune ---- */

#define OLD_ROWS    300000
#define OLD_ROWS_OF 50000 /* each call */
#define NEW_S       2e9   /* when the requests are that stay */
#define PRUNE_MS    50
#define PRUNE_TRIES 5

static void ended_path(char *to, size_t size)
{
    (void)snprintf(to, size, "%s/ended", folder);
}

static int write_beside(int number)
{
    char ended[WORK_PATH];
    dm_options options = {0};
    dm_manager *m = NULL;
    dm_request request = {NEW_S, number, 2, 3, 4};
    int64_t id;
    ended_path(ended, sizeof ended);
    if (dm_open(path, &options, &m, &err) != DM_OK ||
        dm_request_add(m, DM_STR("a"), &request, NULL, &id, &err) != DM_OK)
        return complain("open");
    gate_wait(folder, number);
    while (access(ended, F_OK) != 0) {
        double begun_s = now_s();
        if (dm_request_add(m, DM_STR("a"), &request, NULL, &id, &err) != DM_OK)
            return complain("write");
        time_add(begun_s);
        pause_s(0.001);
    }
    dm_free(m);
    return times_write(number);
}

static void old_rows_make(void)
{
    static double at_s[OLD_ROWS_OF];
    static const int64_t tokens[OLD_ROWS_OF];
    const dm_request_rows rows = {OLD_ROWS_OF, at_s, tokens, tokens, tokens, tokens, NULL, NULL};
    dm_options options = {.durability = DM_DURABILITY_NORMAL};
    dm_manager *m = NULL;
    dm_ids ids;
    CHECK_OK(dm_open(path, &options, &m, &err));
    for (int i = 0; i < OLD_ROWS; i += OLD_ROWS_OF) {
        for (int j = 0; j < OLD_ROWS_OF; j++)
            at_s[j] = i + j;
        CHECK_OK(dm_requests_add(m, DM_STR("a"), &rows, &ids, &err));
    }
    dm_free(m);
}

static int64_t prune_ours(void)
{
    static const double edges_s[] = {0};
    dm_prune_query query = {.before_s = OLD_ROWS, .edges_s = edges_s, .edge_count = 1};
    dm_prune_result result = {0};
    dm_options options = {0};
    dm_manager *m = NULL;
    CHECK_OK(dm_open(path, &options, &m, &err));
    CHECK_OK(dm_prune(m, &query, NULL, &result, &err));
    int64_t pruned = result.counts[0].requests;
    dm_prune_result_reset(&result);
    dm_free(m);
    return pruned;
}

/* In one transaction: the sums of each hour, and then the rows go. */
static int64_t prune_plain(void)
{
    sqlite3 *db = NULL;
    dm_manager *m = NULL;
    dm_options options = {0};
    char sql[512], *model = NULL;
    size_t length;
    CHECK_OK(dm_open(path, &options, &m, &err));
    CHECK_OK(dm_model_lookup(m, DM_STR("a"), &model, &length, &err));
    (void)snprintf(sql, sizeof sql,
                   "BEGIN IMMEDIATE; CREATE TABLE sums AS"
                   " SELECT strftime('%%Y-%%m-%%d %%H',timestamp,'unixepoch') AS hour,count(*),"
                   " sum(input_tokens) FROM \"%s_requests\" WHERE timestamp<%d GROUP BY hour;"
                   "DELETE FROM \"%s_requests\" WHERE timestamp<%d; COMMIT",
                   model, OLD_ROWS, model, OLD_ROWS);
    dm_text_free(model);
    dm_free(m);
    CHECK_INT(sqlite3_open(path, &db), SQLITE_OK);
    (void)sqlite3_busy_timeout(db, 5000);
    CHECK_INT(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    int64_t pruned = sqlite3_changes(db);
    (void)sqlite3_close(db);
    return pruned;
}

/* Of the calls of a process that writes meanwhile. */
static double worst_beside_ms(const char *what, int64_t (*prune)(void))
{
    char ended[WORK_PATH];
    ended_path(ended, sizeof ended);
    old_rows_make();
    gate_shut(folder);
    pid_t writer = process_start("write beside", 0, folder);
    gate_await(1);
    gate_open();
    double begun_s = now_s();
    CHECK_INT(prune(), OLD_ROWS);
    double took_s = now_s() - begun_s;
    FILE *file = fopen(ended, "wb");
    CHECK_INT(file != NULL && fclose(file) == 0, 1);
    CHECK_INT(process_wait(writer), 0);
    time_count = 0;
    times_read(0);
    CHECK_INT(time_count > 0, 1);
    qsort(times_ms, time_count, sizeof *times_ms, ascending);
    double worst_ms = time_count == 0 ? 0 : (double)times_ms[time_count - 1];
    printf("%-34s %d rows in %.2f s, %zu writes beside it: worst %.0f ms\n", what, OLD_ROWS, took_s,
           time_count, worst_ms);
    folder_empty(folder);
    return worst_ms;
}

static void test_prune(void)
{
    double best_ms = INFINITY;
    for (int i = 0; i < PRUNE_TRIES && best_ms >= PRUNE_MS; i++)
        best_ms = fmin(best_ms, worst_beside_ms("prune", prune_ours));
    CHECK_INT(best_ms < PRUNE_MS, 1);
    CHECK_INT(worst_beside_ms("in one transaction (control)", prune_plain) >= PRUNE_MS, 1);
}

/* ---- */

static int be(const char *role, int number)
{
    if (strcmp(role, "open") == 0)
        return open_ours(number);
    if (strcmp(role, "open plain") == 0)
        return open_plain(number);
    if (strcmp(role, "write") == 0)
        return write_ours(number, 1, 0);
    if (strcmp(role, "write with pauses") == 0)
        return write_ours(number, 1, PAUSE_S);
    if (strcmp(role, "write many") == 0)
        return write_ours(number, BULK, 0);
    if (strcmp(role, "write many plain (control)") == 0)
        return write_plain(number, 0);
    if (strcmp(role, "the same with pauses (control)") == 0)
        return write_plain(number, PAUSE_S);
    if (strcmp(role, "write beside") == 0)
        return write_beside(number);
    if (strcmp(role, "read") == 0)
        return read_long(number);
    return strcmp(role, "fill") == 0 ? fill_ours() : fill_plain();
}

int main(int argc, char **argv)
{
    const char *wanted = getenv("DM_SECONDS"), *files = getenv("DM_FILES");
    const char *place = getenv("DM_FOLDER");
    if (wanted != NULL)
        seconds = atof(wanted);
    if (argc == 4)
        (void)snprintf(folder, sizeof folder, "%s", argv[3]);
    else
        (void)snprintf(folder, sizeof folder, "%s/dm-contention-XXXXXX",
                       place == NULL ? "/dev/shm" : place);
    if (argc != 4 && mkdtemp(folder) == NULL)
        return 2;
    (void)snprintf(path, sizeof path, "%s/usage.db", folder);
    if (argc == 4)
        return be(argv[1], atoi(argv[2]));
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    test_fresh_files(files == NULL ? 100 : atoi(files));
    test_writers();
    test_plain_writers();
    test_log();
    test_prune();
    (void)rmdir(folder);
    return check_report();
}
