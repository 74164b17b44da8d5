/* SPDX-License-Identifier: MIT
 *
 * All that the core asks of the operating system: locks, clocks, threads, files, fork. */
#ifndef DM_PLATFORM_H
#define DM_PLATFORM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef pthread_mutex_t dm__mutex;
typedef pthread_cond_t dm__cond; /* waits count on the monotonic clock */
typedef pthread_t dm__thread;

#define DM__MUTEX_INITIALIZER PTHREAD_MUTEX_INITIALIZER

void dm__mutex_init(dm__mutex *mutex);
void dm__mutex_destroy(dm__mutex *mutex);
void dm__mutex_lock(dm__mutex *mutex);
void dm__mutex_unlock(dm__mutex *mutex);

void dm__cond_init(dm__cond *cond);
void dm__cond_destroy(dm__cond *cond);
void dm__cond_wait(dm__cond *cond, dm__mutex *mutex);
/* False when `until_ns` (of dm__monotonic_ns) has passed. May wake early. */
bool dm__cond_wait_until(dm__cond *cond, dm__mutex *mutex, int64_t until_ns);
void dm__cond_signal(dm__cond *cond);
void dm__cond_broadcast(dm__cond *cond);

int64_t dm__thread_number(void);  /* the system's, of this thread: another's when this has ended */
uint64_t dm__thread_serial(void); /* of this thread alone, as long as the process lives */
/* One that no signal is delivered to. 0, or an errno. */
int dm__thread_start(dm__thread *thread_out, void (*run)(void *), void *argument);
void dm__thread_join(dm__thread thread);

#define DM__MS ((int64_t)1000000) /* nanoseconds in a millisecond */
int64_t dm__monotonic_ns(void);
double dm__realtime_s(void);
enum { DM__TIME_SHOWN = 32 };
/* A time of `dm__realtime_s` for people: the second in UTC, or as it is where that is no date. */
void dm__time_show(double time_s, char text[DM__TIME_SHOWN]);
/* Returns early when a signal arrives. */
void dm__sleep_ns(int64_t duration_ns);

/* Counts the forks between the first process and this one, also those that no hook announced. */
unsigned dm__fork_generation(void);

/* A file as the process's store table knows it. */
typedef struct {
    uint64_t device;
    uint64_t inode;
    uint64_t links;
    int64_t size; /* bytes */
    bool is_regular;
} dm__file_id;

/* 0, or an errno. None of these opens an existing file: closing any descriptor of a database drops
 * the process's locks on it. */
int dm__file_identify(const char *path, dm__file_id *id_out);
int dm__link_identify(const char *path, dm__file_id *id_out); /* a link itself, not what it is to */
int dm__file_create(const char *path); /* 0600, exclusively; EEXIST where it exists */
/* The parents of `path`, as mkdir -p, those that are missing 0700; EISDIR, and none, where it is a
 * name of a folder itself. */
int dm__folders_create(const char *path);
/* The absolute path without links, for free(); NULL with errno set. */
char *dm__path_resolve(const char *path);
/* `path` with `suffix` behind it, for free(); NULL without memory. Names are made by this and not
 * by SQLite: what a thread has of its locks at a fork, a child waits for in vain, and a fork waits
 * only for calls inside SQLite that are known as such. */
char *dm__path_beside(const char *path, const char *suffix);
/* What `path` ends in, where SQLite gives such names to what it puts beside a database; or NULL. */
const char *dm__path_suffix(const char *path);
/* Whether the file is one of those beside `path`; where that cannot be told, too. */
bool dm__file_is_beside(const dm__file_id *file, const char *path);

/* The rest are for files that no connection of this process has open. */
int dm__file_sync(const char *path);
int dm__folder_sync(const char *path); /* the folder that holds `path` */
int dm__file_remove(const char *path);

/* A new empty file (0600) in the folder of another, to be renamed when it is whole. Its maker holds
 * a lock on it as long as it lives, so that what a killed process left can be told and removed. */
typedef struct {
    char *path; /* NULL: none */
    int lock;   /* a descriptor */
} dm__unfinished;

int dm__unfinished_create(const char *beside, dm__unfinished *file_out);
/* Rename it to `to`. Without `replace`, EEXIST where that exists, even if only just now. No
 * connection of this process may have it open, nor open it meanwhile. */
int dm__unfinished_finish(dm__unfinished *file, const char *to, bool replace);
/* The same where a database is, which gets the free name `aside`, with its logs. Where the file
 * system can exchange two names there is a file at `to` at every moment. */
int dm__unfinished_exchange(dm__unfinished *file, const char *to, const char *aside);
/* Remove it, and what SQLite put beside it; nothing where it was finished. */
void dm__unfinished_drop(dm__unfinished *file);
/* Removes those in the folder whose makers are gone. */
void dm__unfinished_sweep(const char *beside);

#endif
