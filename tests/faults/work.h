/* SPDX-License-Identifier: MIT
 *
 * What the harnesses do with a database: every operation of the core that changes something, and
 * what is in a database afterwards, as one number. */
#ifndef WORK_H
#define WORK_H

#include "dm.h"

#define WORK_PATH   128 /* room for a path */
#define WORK_BULK   40  /* requests that are added in one call */
#define WORK_MODELS 4

extern const dm_str work_models[WORK_MODELS];

typedef struct {
    char folder[WORK_PATH / 2], path[WORK_PATH], backup[WORK_PATH];
    dm_options options;
    dm_manager *m;        /* NULL: closed */
    uint64_t random;      /* the state of a generator */
    int64_t serial;       /* each request and price has its own */
    uint64_t backup_hash; /* 0: there is none */
    char *kept;           /* by the latest restore */
    dm_error err;
} work;

/* `folder` is there. Nothing is opened. */
void work_init(work *w, const char *folder, dm_durability durability, uint64_t seed);
/* The database alone: its content, its log; with the handle closed. */
void work_remove_files(work *w);
void work_end(work *w);
uint32_t work_random(work *w, uint32_t below);

/* A file of the layout of the class that this replaces, in the place of the database. */
void work_make_older(const work *w);

typedef struct {
    const char *name;
    unsigned weight; /* how often, among the others */
    dm_status (*run)(work *w);
    int64_t adds; /* requests, all or none; the next numbers of `serial` are theirs */
    /* Several transactions: stopped between two of them, work_hash is neither that of before nor
     * that of after, but work_usage_hash is both. */
    bool in_steps;
} work_operation;

extern const work_operation work_operations[];
extern const size_t work_operation_count;
/* DM_OK also where the operation was refused for a reason of its own, with nothing changed: a tier
 * that is there already, a model that is not. */
dm_status work_run(work *w, size_t operation);
size_t work_choose(work *w); /* one of them */
dm_status work_open(work *w);

/* Of all that the public calls return but the moments at which prices were changed. */
dm_status work_hash(dm_manager *m, uint64_t *hash_out, dm_error *err) DM_CHECKED;

/* Of what was used in all, however much of it was pruned. */
dm_status work_usage_hash(dm_manager *m, uint64_t *hash_out, dm_error *err) DM_CHECKED;

#define WORK_EMPTY_HASH ((uint64_t)14695981039346656037u)

#endif
