/* SPDX-License-Identifier: MIT
 *
 * Allocations that fail on purpose: the core's own, and those of SQLite. */
#ifndef FAILING_H
#define FAILING_H

#include "dm_internal.h"

#include "check.h"

typedef struct {
    bool armed, for_ever;
    long left;    /* allocations before the one that fails */
    bool reached; /* it has come to that */
    long again;   /* as many more until another fails, too; below 0: none does */
} trap;

static trap ours, sqlites;

static bool fails(trap *set)
{
    if (!set->armed)
        return false;
    if (set->reached)
        return set->for_ever || set->again-- == 0;
    set->reached = set->left-- == 0;
    return set->reached;
}

static bool ours_fails(void)
{
    return fails(&ours);
}

static bool sqlites_fails(void)
{
    return fails(&sqlites);
}

static sqlite3_mem_methods real_memory;

static void *failing_malloc(int size)
{
    return sqlites_fails() ? NULL : real_memory.xMalloc(size);
}

static void *failing_realloc(void *memory, int size)
{
    return sqlites_fails() ? NULL : real_memory.xRealloc(memory, size);
}

static void failing_install(void)
{
    sqlite3_mem_methods failing;
    (void)sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory);
    failing = real_memory;
    failing.xMalloc = failing_malloc;
    failing.xRealloc = failing_realloc;
    CHECK_INT(sqlite3_config(SQLITE_CONFIG_MALLOC, &failing), SQLITE_OK);
    (void)sqlite3_initialize();
    dm__allocation_fails = ours_fails;
}

static void disarm(void)
{
    ours.armed = sqlites.armed = false;
}

#endif
