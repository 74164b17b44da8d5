/* SPDX-License-Identifier: MIT
 *
 * All operations at once on one database, from many threads with handles of their own and one that
 * is everybody's, for DM_SECONDS: for ThreadSanitizer, see scripts/races. Some threads write, some
 * ask, one forks again and again, and one closes and opens. Every call succeeds, and in the end the
 * database is sound. */
#include "work.h"

#include "../c/check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WRITERS 4
#define READERS 2

static char folder[64] = "/dev/shm/dm-races-XXXXXX";
static double until_s;
static dm_manager *shared;
static atomic_long calls, failed;
static dm_error err;

static double now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void note(const char *what, dm_status rc, const dm_error *why)
{
    atomic_fetch_add(&calls, 1);
    if (rc == DM_OK || rc == DM_MODEL_NOT_FOUND) /* it was deleted, or renamed, by another */
        return;
    atomic_fetch_add(&failed, 1);
    (void)fprintf(stderr, "%s: %s: %s\n", what, dm_status_name(rc), why->text);
}

/* `number` keeps backups and serials apart. */
static void *write_all(void *number)
{
    work w;
    work_init(&w, folder, DM_DURABILITY_NORMAL, (uint64_t)(uintptr_t)number + 1);
    (void)snprintf(w.backup, sizeof w.backup, "%s/backup-%u.db", folder,
                   (unsigned)(uintptr_t)number);
    w.serial = (int64_t)(uintptr_t)number << 32;
    note("open", work_open(&w), &w.err);
    while (now_s() < until_s) {
        size_t chosen = work_choose(&w);
        note(work_operations[chosen].name, work_run(&w, chosen), &w.err);
        if (w.kept != NULL)
            (void)unlink(w.kept);
    }
    (void)unlink(w.backup);
    work_end(&w);
    return NULL;
}

static void ask(dm_manager *m)
{
    static const double edges_s[] = {-INFINITY, INFINITY};
    dm_error why;
    uint64_t hash;
    dm_stats stats;
    dm_performance performance = {0};
    dm_findings findings = {0};
    dm_storage storage = {0};
    note("hash", work_hash(m, &hash, &why), &why);
    note("usage", work_usage_hash(m, &hash, &why), &why);
    note("performance", dm_performance_get(m, NULL, 0, edges_s, 2, &performance, &why), &why);
    note("stats", dm_stats_get(m, &stats, &why), &why);
    note("check", dm_check(m, true, false, &findings, &why), &why);
    note("storage", dm_storage_get(m, &storage, &why), &why);
    dm_performance_reset(&performance);
    dm_findings_reset(&findings);
    dm_storage_reset(&storage);
}

static void *ask_all(void *unused)
{
    dm_options options = {.read_only = true, .pool_size = 2};
    char path[WORK_PATH];
    (void)unused;
    (void)snprintf(path, sizeof path, "%s/usage.db", folder);
    while (now_s() < until_s) {
        dm_manager *own = NULL;
        dm_error why;
        dm_status rc = dm_open(path, &options, &own, &why);
        note("open to read", rc, &why);
        if (rc == DM_OK)
            ask(own);
        ask(shared);
        dm_free(own);
    }
    return NULL;
}

/* What the hooks around a fork do; the child would be another program. */
static void *fork_all(void *unused)
{
    struct timespec pause = {0, 20000000};
    (void)unused;
    while (now_s() < until_s) {
        dm_fork_before(10000);
        dm_fork_parent();
        (void)nanosleep(&pause, NULL);
    }
    return NULL;
}

static void check_sound(void)
{
    dm_findings findings = {0};
    CHECK_OK(dm_check(shared, false, false, &findings, &err));
    for (size_t i = 0; i < findings.count; i++)
        if (findings.findings[i].severity == DM_SEVERITY_ERROR)
            CHECK_TEXT(findings.findings[i].text, "");
    dm_findings_reset(&findings);
}

int main(void)
{
    const char *wanted = getenv("DM_SECONDS");
    pthread_t threads[WRITERS + READERS + 1];
    work w;
    if (mkdtemp(folder) == NULL && mkdtemp(strcpy(folder, "/tmp/dm-races-XXXXXX")) == NULL)
        return 2;
    work_init(&w, folder, DM_DURABILITY_NORMAL, 1);
    CHECK_OK(work_open(&w));
    shared = w.m;
    until_s = now_s() + (wanted == NULL ? 60 : atof(wanted));
    for (size_t i = 0; i < WRITERS + READERS + 1; i++) {
        void *(*role)(void *) = i < WRITERS             ? write_all
                                : i < WRITERS + READERS ? ask_all
                                                        : fork_all;
        CHECK_INT(pthread_create(&threads[i], NULL, role, (void *)(uintptr_t)i), 0);
    }
    for (size_t i = 0; i < WRITERS + READERS + 1; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(atomic_load(&failed), 0);
    check_sound();
    work_end(&w);
    work_remove_files(&w);
    CHECK_INT(rmdir(folder), 0);
    printf("%ld calls\n", atomic_load(&calls));
    return check_report();
}
