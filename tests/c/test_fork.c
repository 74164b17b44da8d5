/* SPDX-License-Identifier: MIT
 *
 * A fork while a long call is inside SQLite: the call must be able to end, or the fork would wait
 * in vain and the child could not use the store. */
#include "dm_store.h"

#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#define LONG_MS 60000

static char folder[] = "/tmp/dm-fork-XXXXXX";
static char path[64], copy[64];
static dm_manager *m;
static dm_error err;
static pthread_t forker;
static bool forking;
static unsigned still_inside;

static void *fork_now(void *unused)
{
    (void)unused;
    dm_fork_before(LONG_MS);
    still_inside = m->store->inside_sqlite;
    dm_fork_parent();
    return NULL;
}

/* The first report of the call begins a fork, and goes on when that has shut the gate. */
static bool fork_once(void *unused, int64_t done, int64_t total)
{
    (void)unused, (void)done, (void)total;
    if (forking)
        return false;
    forking = true;
    CHECK_INT(pthread_create(&forker, NULL, fork_now, NULL), 0);
    for (bool shut = false; !shut;) {
        dm__mutex_lock(&m->store->lock);
        shut = m->store->gate_shut;
        dm__mutex_unlock(&m->store->lock);
        (void)sched_yield();
    }
    return false;
}

static const dm_progress progress = {fork_once, NULL};

static void check_quiet(int64_t begun_ns)
{
    CHECK_INT(forking, true);
    CHECK_INT(pthread_join(forker, NULL), 0);
    CHECK_INT(still_inside, 0);
    CHECK_INT(dm__monotonic_ns() - begun_ns < LONG_MS * DM__MS, 1);
    forking = false;
}

static void test_backup(void)
{
    int64_t begun_ns = dm__monotonic_ns();
    CHECK_OK(dm_backup(m, copy, false, &progress, &err));
    check_quiet(begun_ns);
}

static void test_restore(void)
{
    char *kept = NULL;
    int64_t begun_ns = dm__monotonic_ns();
    CHECK_OK(dm_restore(copy, path, 0, &progress, &kept, &err));
    check_quiet(begun_ns);
    (void)unlink(kept);
    dm_text_free(kept);
}

int main(void)
{
    dm_options options = {0};
    if (mkdtemp(folder) == NULL)
        return 2;
    (void)snprintf(path, sizeof path, "%s/usage.db", folder);
    (void)snprintf(copy, sizeof copy, "%s/copy.db", folder);
    CHECK_OK(dm_open(path, &options, &m, &err));
    test_backup();
    test_restore();
    dm_free(m);
    (void)unlink(copy);
    (void)unlink(path);
    CHECK_INT(rmdir(folder), 0);
    return check_report();
}
