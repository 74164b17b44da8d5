/* SPDX-License-Identifier: MIT
 *
 * kill -9, at random moments, of processes that share a database, whatever they are doing. Each
 * writes into a ledger what it is about to add, and again when that was acknowledged; a ledger
 * survives its process. Afterwards each row that was acknowledged is there, once, and of what was
 * only begun all or nothing. A reader looks on, which nobody kills: in each of its snapshots what
 * was added together is whole.
 *
 * The controls: processes that acknowledge before they commit, that add each row again, and that
 * add what belongs together one by one. Rows must be found lost, there twice, and torn. */
#include "processes.h"
#include "work.h"

#include "../c/check.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WORKERS       3
#define CONTROL_KILLS 50
#define NOT_WHOLE     4  /* the exit code of who has seen it */
#define ROUND         50 /* kills, then all is verified and a new database begun */

static char folder[64] = "/dev/shm/dm-kills-XXXXXX";
static work w; /* of this process */
static dm_error err;

/* ---- the ledger ---- */

typedef struct {
    int64_t first, count;
    bool acknowledged;
} entry;

static int ledger = -1;

static void ledger_write(int64_t first, int64_t count, bool acknowledged)
{
    entry added = {first, count, acknowledged};
    if (write(ledger, &added, sizeof added) != (ssize_t)sizeof added)
        abort();
}

/* ---- the processes that are killed ---- */

static void complain(const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", what, err.text);
    _exit(3);
}

/* Those that would take away what others have added are left out. */
static size_t choose_harmless(void)
{
    for (;;) {
        size_t chosen = work_choose(&w);
        const char *name = work_operations[chosen].name;
        if (strcmp(name, "delete") != 0 && strcmp(name, "restore") != 0 &&
            strcmp(name, "prune") != 0)
            return chosen;
    }
}

static void operate(bool too_early)
{
    for (;;) {
        size_t chosen = choose_harmless();
        int64_t first = w.serial + 1, count = work_operations[chosen].adds;
        if (count > 0)
            ledger_write(first, count, too_early);
        dm_status rc = work_run(&w, chosen);
        err = w.err;
        if (rc != DM_OK)
            complain(work_operations[chosen].name);
        if (count > 0)
            ledger_write(first, count, true);
    }
}

/* A control: it is not sure of its first try, and has given no id. */
static void add_twice(void)
{
    for (;;) {
        int64_t first = w.serial + 1;
        ledger_write(first, 1, false);
        for (int i = 0; i < 2; i++) {
            w.serial = first - 1;
            if (work_run(&w, 0) != DM_OK)
                complain("request");
        }
        ledger_write(first, 1, true);
    }
}

/* A control: what is to be there together. */
static void add_in_pieces(void)
{
    for (;;) {
        int64_t id, first = w.serial + 1;
        ledger_write(first, WORK_BULK, false);
        for (int i = 0; i < WORK_BULK; i++) {
            dm_request request = {1000, ++w.serial, first, WORK_BULK, 7};
            if (dm_request_add(w.m, work_models[0], &request, NULL, &id, &err) != DM_OK)
                complain("request");
        }
        ledger_write(first, WORK_BULK, true);
    }
}

/* Adds some, and prunes all of before: what is left of them is in the sums, unless none are kept,
 * which is a control. */
static void add_and_prune(bool keeps)
{
    static const double edges_s[] = {0};
    dm_prune_query query = {
        .before_s = INFINITY, .edges_s = keeps ? edges_s : NULL, .edge_count = keeps};
    for (;;) {
        for (int i = 0; i < 20; i++) {
            int64_t first = w.serial + 1;
            ledger_write(first, 1, false);
            if (work_run(&w, 0) != DM_OK)
                complain("request");
            ledger_write(first, 1, true);
        }
        dm_prune_result result = {0};
        if (dm_prune(w.m, &query, NULL, &result, &err) != DM_OK)
            complain("prune");
        dm_prune_result_reset(&result);
    }
}

#define COPY_ROWS(copy) ((copy) == 0 ? 60 : 90)

/* Both copies in turn: see rows_are_of_one. */
static void restore_in_turn(void)
{
    char copies[2][WORK_PATH];
    for (int i = 0; i < 2; i++)
        (void)snprintf(copies[i], sizeof copies[i], "%s/copy-%d.db", folder, i);
    for (int i = 0;; i = !i) {
        char *kept = NULL;
        if (dm_restore(copies[i], w.path, 0, NULL, &kept, &err) != DM_OK)
            complain("restore");
        (void)unlink(kept);
        dm_text_free(kept);
    }
}

/* A control: the same with rows that are taken and put one by one. */
static void replace_in_turn(void)
{
    for (int copy = 0;; copy = !copy) {
        int64_t id;
        dm_status rc = dm_model_delete(w.m, work_models[0], &err);
        if (rc != DM_OK && rc != DM_MODEL_NOT_FOUND) /* the last was killed there */
            complain("delete");
        for (int i = 0; i < COPY_ROWS(copy); i++) {
            dm_request request = {5, i, copy, 3, 7};
            if (dm_request_add(w.m, work_models[0], &request, NULL, &id, &err) != DM_OK)
                complain("request");
        }
    }
}

/* ---- who looks on ---- */

/* Of rows that say how many they are and which is the first, none may be missing. */
static bool rows_are_whole(const dm_request_columns *rows)
{
    int64_t left = 0, first = 0;
    for (size_t i = 0; i < rows->count; i++) {
        if (rows->cache_n[i] != WORK_BULK)
            continue;
        if (left == 0)
            left = WORK_BULK, first = rows->output_tokens[i];
        if (rows->output_tokens[i] != first)
            return false;
        left--;
    }
    return left == 0;
}

/* All are of the one copy or all of the other. */
static bool rows_are_of_one(const dm_request_columns *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        if (rows->output_tokens[i] != rows->output_tokens[0])
            return false;
    return rows->count > 0 && rows->count == (size_t)COPY_ROWS(rows->output_tokens[0]);
}

static bool look_once(bool (*is_right)(const dm_request_columns *rows))
{
    dm_window all = DM_WINDOW_ALL;
    bool right = true;
    for (size_t i = 0; i < WORK_MODELS; i++) {
        dm_request_columns rows = {0};
        dm_status rc = dm_requests_get(w.m, work_models[i], &all, &rows, &err);
        if (rc == DM_MODEL_NOT_FOUND)
            continue;
        if (rc != DM_OK)
            complain("read");
        right &= is_right(&rows);
        dm_request_columns_reset(&rows);
    }
    return right;
}

static void look_on(bool (*is_right)(const dm_request_columns *rows))
{
    while (look_once(is_right))
        ;
    _exit(NOT_WHOLE);
}

/* ---- one process: kills ROLE NUMBER ---- */

static int be(const char *role, int number)
{
    char path[WORK_PATH];
    w.serial = (int64_t)number << 22; /* a time too, of before the year 10000 */
    w.random = (uint64_t)number * 2654435761u + 1;
    (void)snprintf(w.backup, sizeof w.backup, "%s/backup-%d.db", folder, number % WORKERS);
    (void)snprintf(path, sizeof path, "%s/ledger-%d", folder, number);
    ledger = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (strcmp(role, "restore") == 0)
        restore_in_turn();
    if (work_open(&w) != DM_OK) {
        err = w.err;
        complain("open");
    }
    if (strcmp(role, "replace") == 0)
        replace_in_turn();
    if (strcmp(role, "look") == 0)
        look_on(rows_are_whole);
    if (strcmp(role, "look at copies") == 0)
        look_on(rows_are_of_one);
    if (strcmp(role, "prune") == 0 || strcmp(role, "forget") == 0)
        add_and_prune(strcmp(role, "prune") == 0);
    if (strcmp(role, "twice") == 0)
        add_twice();
    if (strcmp(role, "in pieces") == 0)
        add_in_pieces();
    operate(strcmp(role, "too early") == 0);
    return 0;
}

static pid_t start(const char *role, int number)
{
    return process_start(role, number, folder);
}

/* It must not have ended by itself. */
static void stop(pid_t pid)
{
    CHECK_INT(process_kill(pid), -SIGKILL);
}

/* Nor may who looks on, unless it has seen something. */
static long snapshots_torn;

static void stop_looking(pid_t pid)
{
    int code = process_kill(pid);
    snapshots_torn += code == NOT_WHOLE;
    CHECK_INT(code == NOT_WHOLE ? -SIGKILL : code, -SIGKILL);
}

/* The moment of a kill, not a synchronisation. */
static void wait_us(uint32_t least, uint32_t most)
{
    struct timespec time = {0, (long)(least + work_random(&w, most - least)) * 1000};
    (void)nanosleep(&time, NULL);
}

/* ---- what is there ---- */

static long kills, rows_lost, groups_torn, rows_twice, rows_unknown;
static int64_t rows_acknowledged;
static int64_t *serials;
static size_t serial_count, serial_room;

static void each_file(void (*call)(const char *name))
{
    DIR *found = opendir(folder);
    for (struct dirent *next; found != NULL && (next = readdir(found)) != NULL;)
        if (strcmp(next->d_name, ".") != 0 && strcmp(next->d_name, "..") != 0)
            call(next->d_name);
    if (found != NULL)
        (void)closedir(found);
}

static int ascending(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void serials_read(void)
{
    dm_window all = DM_WINDOW_ALL;
    serial_count = 0;
    for (size_t i = 0; i < WORK_MODELS; i++) {
        dm_request_columns rows = {0};
        dm_status rc = dm_requests_get(w.m, work_models[i], &all, &rows, &err);
        CHECK_STATUS(rc == DM_MODEL_NOT_FOUND ? DM_OK : rc, DM_OK);
        if (serial_count + rows.count > serial_room) {
            serial_room = (serial_count + rows.count) * 2;
            serials = realloc(serials, serial_room * sizeof *serials);
        }
        for (size_t j = 0; j < rows.count; j++)
            serials[serial_count++] = rows.input_tokens[j];
        dm_request_columns_reset(&rows);
    }
    qsort(serials, serial_count, sizeof *serials, ascending);
    for (size_t i = 1; i < serial_count; i++)
        rows_twice += serials[i] == serials[i - 1];
}

static int64_t serials_between(int64_t first, int64_t count)
{
    int64_t found = 0;
    for (int64_t serial = first; serial < first + count; serial++)
        found += bsearch(&serial, serials, serial_count, sizeof serial, ascending) != NULL;
    return found;
}

static int64_t rows_known;

/* What was acknowledged is there twice in a ledger: when it was begun, and then. */
static void ledger_verify(const char *name)
{
    char path[512];
    entry read_now, begun = {0, 0, false};
    if (strncmp(name, "ledger-", 7) != 0)
        return;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    while (file != NULL && fread(&read_now, sizeof read_now, 1, file) == 1) {
        int64_t found = serials_between(read_now.first, read_now.count);
        if (read_now.first != begun.first)
            rows_known += found;
        if (read_now.first != begun.first && found != 0 && found != read_now.count)
            groups_torn++;
        if (read_now.acknowledged && (read_now.first != begun.first || !begun.acknowledged)) {
            rows_acknowledged += read_now.count;
            rows_lost += read_now.count - found;
        }
        begun = read_now;
    }
    if (file != NULL)
        (void)fclose(file);
}

static void verify_sound(void)
{
    dm_findings findings = {0};
    CHECK_OK(dm_check(w.m, false, false, &findings, &err));
    for (size_t i = 0; i < findings.count; i++)
        if (findings.findings[i].severity == DM_SEVERITY_ERROR)
            CHECK_TEXT(findings.findings[i].text, "");
    dm_findings_reset(&findings);
}

static int64_t rows_begun;

static void ledger_count(const char *name)
{
    char path[512];
    entry read_now;
    if (strncmp(name, "ledger-", 7) != 0)
        return;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    while (file != NULL && fread(&read_now, sizeof read_now, 1, file) == 1)
        *(read_now.acknowledged ? &rows_acknowledged : &rows_begun) += read_now.count;
    if (file != NULL)
        (void)fclose(file);
}

/* Rows and sums together are what was acknowledged, and what was begun may be among them. */
static void verify_pruned(void)
{
    static const double edges_s[] = {-INFINITY, INFINITY};
    dm_usage_query query = {.edges_s = edges_s, .edge_count = 2};
    dm_usage usage = {0};
    int64_t found = 0;
    CHECK_OK(work_open(&w));
    CHECK_OK(dm_usage_get(w.m, &query, &usage, &err));
    for (size_t i = 0; i < usage.row_count; i++)
        found += usage.rows[i].requests;
    dm_usage_reset(&usage);
    rows_begun = rows_acknowledged = 0;
    each_file(ledger_count);
    rows_lost += found < rows_acknowledged ? rows_acknowledged - found : 0;
    rows_twice += found > rows_begun ? found - rows_begun : 0;
    serials_read();
    verify_sound();
    work_end(&w);
}

/* The next database begins with the verified one's files gone. */
static void verify_and_begin_anew(void)
{
    CHECK_OK(work_open(&w));
    serials_read();
    rows_known = 0;
    each_file(ledger_verify);
    rows_unknown += (long)serial_count - (long)rows_known;
    verify_sound();
    work_end(&w);
    folder_empty(folder);
}

static void report(const char *what)
{
    printf("%-24s %5ld kills, %8ld rows acknowledged: %ld lost, %ld twice, %ld unknown, %ld "
           "groups and %ld snapshots torn\n",
           what, kills, (long)rows_acknowledged, rows_lost, rows_twice, rows_unknown, groups_torn,
           snapshots_torn);
}

static void nothing_seen(void)
{
    kills = rows_acknowledged = 0;
    rows_lost = rows_twice = rows_unknown = groups_torn = snapshots_torn = 0;
}

/* ---- rounds ---- */

static void kill_workers(const char *role, long count)
{
    int number = 0;
    nothing_seen();
    while (kills < count) {
        pid_t workers[WORKERS], reader;
        for (int i = 0; i < WORKERS; i++)
            workers[i] = start(role, ++number);
        reader = start("look", 0);
        for (int i = 0; i < ROUND && kills < count; i++, kills++) {
            wait_us(2000, 40000);
            int victim = (int)work_random(&w, WORKERS);
            stop(workers[victim]);
            workers[victim] = start(role, ++number);
        }
        for (int i = 0; i < WORKERS; i++)
            stop(workers[i]);
        stop_looking(reader);
        verify_and_begin_anew();
    }
    report(role);
}

/* Two processes adopt an older file, and go on. */
static void kill_adopters(long count)
{
    nothing_seen();
    for (int number = 1; kills < count; kills += 2, number += 2) {
        work_make_older(&w);
        pid_t one = start("operate", number), two = start("operate", number + 1);
        wait_us(1000, 12000);
        stop(one);
        wait_us(0, 5000);
        stop(two);
        verify_and_begin_anew();
    }
    CHECK_INT(rows_unknown, count); /* two rows of each older file */
    report("adoption");
}

static void kill_pruners(const char *role, long count)
{
    int number = 0;
    pid_t workers[WORKERS];
    nothing_seen();
    for (int i = 0; i < WORKERS; i++)
        workers[i] = start(role, ++number);
    for (kills = 0; kills < count; kills++) {
        wait_us(2000, 40000);
        int victim = (int)work_random(&w, WORKERS);
        stop(workers[victim]);
        workers[victim] = start(role, ++number);
    }
    for (int i = 0; i < WORKERS; i++)
        stop(workers[i]);
    verify_pruned();
    folder_empty(folder);
    report(role);
    CHECK_INT((int64_t)serial_count < rows_acknowledged, 1); /* some have gone */
}

static void copy_make(int number)
{
    CHECK_OK(work_open(&w));
    for (int i = 0; i < COPY_ROWS(number); i++) {
        dm_request request = {5, i, number, 3, 7};
        int64_t id;
        CHECK_OK(dm_request_add(w.m, work_models[0], &request, NULL, &id, &err));
    }
    char path[WORK_PATH];
    (void)snprintf(path, sizeof path, "%s/copy-%d.db", folder, number);
    CHECK_OK(dm_backup(w.m, path, true, NULL, &err));
    work_end(&w);
}

static long copies_torn;

static void kill_restorers(const char *role, long count)
{
    nothing_seen();
    copies_torn = 0;
    copy_make(0);
    work_remove_files(&w);
    copy_make(1);
    pid_t reader = start("look at copies", 0);
    for (kills = 0; kills < count; kills++) {
        pid_t restorer = start(role, 1);
        wait_us(1000, 30000);
        stop(restorer);
        if (kills % 10 == 9) {
            CHECK_OK(work_open(&w));
            copies_torn += !look_once(rows_are_of_one);
            verify_sound();
            work_end(&w);
        }
    }
    stop_looking(reader);
    folder_empty(folder);
    printf("%-24s %5ld kills: %ld times neither one copy nor the other, %ld snapshots torn\n", role,
           kills, copies_torn, snapshots_torn);
}

int main(int argc, char **argv)
{
    const char *wanted = getenv("DM_KILLS");
    long count = wanted == NULL ? 500 : atol(wanted);
    if (argc == 4) {
        (void)snprintf(folder, sizeof folder, "%s", argv[3]);
        work_init(&w, folder, DM_DURABILITY_FULL, 1);
        return be(argv[1], atoi(argv[2]));
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (mkdtemp(folder) == NULL && mkdtemp(strcpy(folder, "/tmp/dm-kills-XXXXXX")) == NULL)
        return 2;
    work_init(&w, folder, DM_DURABILITY_FULL, 1);
    kill_workers("operate", count * 4 / 10);
    CHECK_INT(rows_lost + rows_twice + rows_unknown + groups_torn + snapshots_torn, 0);
    CHECK_INT(rows_acknowledged > 0, 1);
    kill_adopters(count * 2 / 10);
    CHECK_INT(rows_lost + rows_twice + groups_torn, 0);
    kill_restorers("restore", count * 2 / 10);
    CHECK_INT(copies_torn + snapshots_torn, 0);
    kill_pruners("prune", count * 2 / 10);
    CHECK_INT(rows_lost + rows_twice, 0);
    kill_workers("too early", CONTROL_KILLS);
    CHECK_INT(rows_lost > 0, 1);
    kill_workers("twice", CONTROL_KILLS);
    CHECK_INT(rows_twice > 0, 1);
    kill_workers("in pieces", CONTROL_KILLS);
    CHECK_INT(groups_torn > 0, 1);
    CHECK_INT(snapshots_torn > 0, 1);
    kill_restorers("replace", CONTROL_KILLS);
    CHECK_INT(copies_torn > 0, 1);
    CHECK_INT(snapshots_torn > 0, 1);
    kill_pruners("forget", CONTROL_KILLS);
    CHECK_INT(rows_lost > 0, 1);
    (void)rmdir(folder);
    return check_report();
}
