/* SPDX-License-Identifier: MIT
 *
 * A fork waits for calls inside SQLite, and only for those that the store has counted as inside. So
 * SQLite must not be used outside: what a thread has of its locks at a fork, the child waits for in
 * vain. Here one thread does all operations, and at each allocation of SQLite's, and each memory
 * that it frees, it is asked whether a fork would wait now.
 *
 * The control: an allocation of SQLite's outside. It must be found. */
#include "work.h"

#include "../c/check.h"
#include "dm_store.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define ROUNDS 200

static sqlite3_mem_methods real_memory;
static const char *doing = "start";
static bool watched;
static long seen, outside;
static dm_error err;

/* Of one thread alone: a lock that is taken is its own. */
static bool is_inside(const dm__store *store)
{
    dm__mutex *lock = (dm__mutex *)&store->lock;
    if (pthread_mutex_trylock(lock) != 0)
        return true;
    bool inside = store->inside_sqlite > 0;
    dm__mutex_unlock(lock);
    return inside;
}

static bool fork_would_wait(void)
{
    if (pthread_mutex_trylock(&dm__stores_lock) != 0)
        return true;
    bool waits = false;
    for (dm__store *store = dm__stores; store != NULL; store = store->next)
        waits |= is_inside(store);
    dm__mutex_unlock(&dm__stores_lock);
    return waits;
}

static void look(void)
{
    if (!watched)
        return;
    seen++;
    if (!fork_would_wait() && outside++ == 0)
        printf("SQLite is used where no fork waits for it, by %s\n", doing);
}

static void *watched_malloc(int size)
{
    look();
    return real_memory.xMalloc(size);
}

static void *watched_realloc(void *memory, int size)
{
    look();
    return real_memory.xRealloc(memory, size);
}

static void watched_free(void *memory)
{
    look();
    real_memory.xFree(memory);
}

static void watch_install(void)
{
    (void)sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory);
    sqlite3_mem_methods watching = real_memory;
    watching.xMalloc = watched_malloc;
    watching.xRealloc = watched_realloc;
    watching.xFree = watched_free;
    CHECK_INT(sqlite3_config(SQLITE_CONFIG_MALLOC, &watching), SQLITE_OK);
    (void)sqlite3_initialize();
}

static void ask_all(dm_manager *m)
{
    static const double edges_s[] = {-INFINITY, INFINITY};
    uint64_t hash;
    dm_stats stats;
    dm_performance performance = {0};
    dm_findings findings = {0};
    dm_storage storage = {0};
    doing = "questions";
    CHECK_OK(work_hash(m, &hash, &err));
    CHECK_OK(work_usage_hash(m, &hash, &err));
    CHECK_OK(dm_performance_get(m, NULL, 0, edges_s, 2, &performance, &err));
    CHECK_OK(dm_stats_get(m, &stats, &err));
    CHECK_OK(dm_check(m, false, true, &findings, &err));
    CHECK_OK(dm_storage_get(m, &storage, &err));
    dm_performance_reset(&performance);
    dm_findings_reset(&findings);
    dm_storage_reset(&storage);
}

/* What is refused is refused outside, or before anything is used. */
static void fail_all(const work *w)
{
    dm_manager *m = NULL;
    dm_options read_only = {.read_only = true};
    char path[WORK_PATH];
    doing = "failures";
    (void)snprintf(path, sizeof path, "%s/missing.db", w->folder);
    CHECK_STATUS(dm_open(path, &read_only, &m, &err), DM_CANNOT_OPEN);
    CHECK_STATUS(dm_backup(w->m, w->path, true, NULL, &err), DM_EXISTS);
    CHECK_STATUS(dm_backup(w->m, w->folder, true, NULL, &err), DM_CANNOT_OPEN);
}

int main(void)
{
    char folder[64] = "/dev/shm/dm-gate-XXXXXX";
    work w;
    if (mkdtemp(folder) == NULL && mkdtemp(strcpy(folder, "/tmp/dm-gate-XXXXXX")) == NULL)
        return 2;
    watch_install();
    work_init(&w, folder, DM_DURABILITY_NORMAL, 1);
    work_make_older(&w);
    watched = true;
    doing = "open";
    CHECK_OK((err = w.err, work_open(&w)));
    for (size_t i = 0; i < ROUNDS; i++) {
        size_t chosen = i < work_operation_count ? i : work_choose(&w);
        doing = work_operations[chosen].name;
        dm_status rc = work_run(&w, chosen);
        err = w.err;
        CHECK_OK(rc);
        doing = "open";
        CHECK_OK((err = w.err, work_open(&w)));
        if (w.kept != NULL)
            (void)unlink(w.kept);
    }
    ask_all(w.m);
    fail_all(&w);
    doing = "end";
    work_end(&w);
    CHECK_INT(outside, 0);
    CHECK_INT(seen > 1000, 1);
    doing = "the control";
    outside = 0;
    sqlite3_free(sqlite3_mprintf("%s", folder));
    CHECK_INT(outside, 2);
    watched = false;
    (void)unlink(w.backup);
    work_remove_files(&w);
    CHECK_INT(rmdir(folder), 0);
    printf("%ld uses of SQLite's memory, each where a fork waits\n", seen);
    return check_report();
}
