/* SPDX-License-Identifier: MIT */
#include "platform.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void dm__mutex_init(dm__mutex *mutex)
{
    (void)pthread_mutex_init(mutex, NULL); /* cannot fail with default attributes */
}

void dm__mutex_destroy(dm__mutex *mutex)
{
    (void)pthread_mutex_destroy(mutex);
}

void dm__mutex_lock(dm__mutex *mutex)
{
    (void)pthread_mutex_lock(mutex);
}

void dm__mutex_unlock(dm__mutex *mutex)
{
    (void)pthread_mutex_unlock(mutex);
}

void dm__cond_init(dm__cond *cond)
{
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(cond, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

void dm__cond_destroy(dm__cond *cond)
{
    (void)pthread_cond_destroy(cond);
}

void dm__cond_wait(dm__cond *cond, dm__mutex *mutex)
{
    (void)pthread_cond_wait(cond, mutex);
}

bool dm__cond_wait_until(dm__cond *cond, dm__mutex *mutex, int64_t until_ns)
{
    struct timespec until = {(time_t)(until_ns / 1000000000), (long)(until_ns % 1000000000)};
    return pthread_cond_timedwait(cond, mutex, &until) != ETIMEDOUT;
}

void dm__cond_signal(dm__cond *cond)
{
    (void)pthread_cond_signal(cond);
}

void dm__cond_broadcast(dm__cond *cond)
{
    (void)pthread_cond_broadcast(cond);
}

uint64_t dm__thread_serial(void)
{
    static _Atomic uint64_t latest;
    static _Thread_local uint64_t serial;
    if (serial == 0)
        serial = atomic_fetch_add(&latest, 1) + 1;
    return serial;
}

typedef struct {
    void (*run)(void *);
    void *argument;
} thread_work;

static void *thread_run(void *argument)
{
    thread_work work = *(thread_work *)argument;
    free(argument);
    work.run(work.argument);
    return NULL;
}

int dm__thread_start(dm__thread *thread_out, void (*run)(void *), void *argument)
{
    thread_work *work = malloc(sizeof *work);
    if (work == NULL)
        return ENOMEM;
    *work = (thread_work){run, argument};
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(thread_out, NULL, thread_run, work);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0)
        free(work);
    return code;
}

void dm__thread_join(dm__thread thread)
{
    (void)pthread_join(thread, NULL);
}

int64_t dm__thread_number(void)
{
    static _Thread_local int64_t number; /* asked once: not a call of the kernel for each read */
    static _Thread_local unsigned generation;
    if (number == 0 || generation != dm__fork_generation()) {
        number = (int64_t)syscall(SYS_gettid);
        generation = dm__fork_generation();
    }
    return number;
}

int64_t dm__monotonic_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

double dm__realtime_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void dm__time_show(double time_s, char text[DM__TIME_SHOWN])
{
    if (fabs(time_s) >= 1e11) { /* beyond the year 5000 */
        (void)snprintf(text, DM__TIME_SHOWN, "%g s", time_s);
        return;
    }
    struct tm utc;
    const time_t second = (time_t)floor(time_s);
    (void)strftime(text, DM__TIME_SHOWN, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&second, &utc));
}

void dm__sleep_ns(int64_t duration_ns)
{
    struct timespec left = {(time_t)(duration_ns / 1000000000), (long)(duration_ns % 1000000000)};
    (void)nanosleep(&left, NULL); /* a signal ends it early: the caller looks at its stop hook */
}

/* A handler of pthread_atfork and not getpid(): a call of the kernel for each of ours would show
 * in the cost of a write. It also sees the forks that Python's hooks are not told of. */
static atomic_uint fork_generation;
static pthread_once_t fork_watch = PTHREAD_ONCE_INIT;

static void fork_count(void)
{
    atomic_fetch_add_explicit(&fork_generation, 1, memory_order_relaxed);
}

static void fork_watch_start(void)
{
    (void)pthread_atfork(NULL, NULL, fork_count);
}

unsigned dm__fork_generation(void)
{
    (void)pthread_once(&fork_watch, fork_watch_start);
    return atomic_load_explicit(&fork_generation, memory_order_relaxed);
}

static dm__file_id file_id(const struct stat *status)
{
    return (dm__file_id){.device = (uint64_t)status->st_dev,
                         .inode = (uint64_t)status->st_ino,
                         .links = (uint64_t)status->st_nlink,
                         .size = (int64_t)status->st_size,
                         .is_regular = S_ISREG(status->st_mode)};
}

int dm__file_identify(const char *path, dm__file_id *id_out)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return errno;
    *id_out = file_id(&status);
    return 0;
}

int dm__link_identify(const char *path, dm__file_id *id_out)
{
    struct stat status;
    if (lstat(path, &status) != 0)
        return errno;
    *id_out = file_id(&status);
    return 0;
}

int dm__file_create(const char *path)
{
    int descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (descriptor < 0)
        return errno;
    int rc =
        fchmod(descriptor, 0600) == 0 ? 0 : errno; /* a umask may have taken the owner's bits */
    (void)close(descriptor);                       /* new and empty: it holds no locks yet */
    return rc;
}

char *dm__path_resolve(const char *path)
{
    return realpath(path, NULL);
}

static int descriptor_sync(const char *path, int flags)
{
    int descriptor = open(path, flags | O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return errno;
    int rc = fsync(descriptor) == 0 ? 0 : errno;
    (void)close(descriptor);
    return rc;
}

int dm__file_sync(const char *path)
{
    return descriptor_sync(path, 0);
}

/* The folder of `path`, with a slash at its end, for free(). */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? strdup("./") : strndup(path, (size_t)(slash - path) + 1);
}

int dm__folder_sync(const char *path)
{
    char *folder = folder_of(path);
    if (folder == NULL)
        return ENOMEM;
    int rc = descriptor_sync(folder, O_DIRECTORY);
    free(folder);
    return rc == EINVAL ? 0 : rc; /* a file system that cannot sync a folder */
}

/* 0700, whatever the umask; of one that is there, EEXIST. */
static int folder_make(const char *path)
{
    struct stat made;
    if (mkdir(path, 0700) != 0)
        return errno;
    /* By its name, as one without the owner's bits cannot be opened; but of no other: a link that
     * has taken its place is not followed. */
    if (lstat(path, &made) == 0 && (made.st_mode & 0777) != 0700 &&
        fchmodat(AT_FDCWD, path, 0700, AT_SYMLINK_NOFOLLOW) != 0) {
        int rc = errno;
        (void)rmdir(path);
        return rc;
    }
    return 0;
}

int dm__folders_create(const char *path)
{
    size_t length = strlen(path);
    if (length > 0 && path[length - 1] == '/') /* there will never be a file of this name */
        return EISDIR;
    char *copy = strdup(path);
    if (copy == NULL)
        return ENOMEM;
    int rc = 0;
    for (char *slash = strchr(copy + (*copy == '/'), '/'); slash != NULL && rc == 0;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        rc = folder_make(copy);
        if (rc == 0)
            rc = dm__folder_sync(copy); /* or a power cut takes it away with all that is in it */
        else if (rc == EEXIST)
            rc = 0;
        *slash = '/';
    }
    free(copy);
    return rc;
}

char *dm__path_beside(const char *path, const char *suffix)
{
    char *name = NULL;
    return asprintf(&name, "%s%s", path, suffix) < 0 ? NULL : name;
}

int dm__file_remove(const char *path)
{
    return unlink(path) == 0 ? 0 : errno;
}

/* What SQLite may put beside a file, and the file itself last: the others are known by it. */
static const char *const suffixes[] = {"-wal", "-shm", "-journal", ""};
enum { SHARED = 1 }; /* memory, of no use to anybody later */

const char *dm__path_suffix(const char *path)
{
    size_t length = strlen(path);
    for (size_t i = 0; *suffixes[i] != '\0'; i++) {
        size_t suffix = strlen(suffixes[i]);
        if (length > suffix && strcmp(path + length - suffix, suffixes[i]) == 0)
            return suffixes[i];
    }
    return NULL;
}

bool dm__file_is_beside(const dm__file_id *file, const char *path)
{
    bool found = false;
    for (size_t i = 0; *suffixes[i] != '\0'; i++) {
        dm__file_id id = {0};
        char *name = dm__path_beside(path, suffixes[i]);
        found |= name == NULL || (dm__file_identify(name, &id) == 0 && id.device == file->device &&
                                  id.inode == file->inode);
        free(name);
    }
    return found;
}

static int file_rename(const char *from, const char *to, bool replace)
{
    if (replace)
        return rename(from, to) == 0 ? 0 : errno;
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return errno;
    struct stat status; /* a file system that cannot: the next best */
    if (lstat(to, &status) == 0)
        return EEXIST;
    return rename(from, to) == 0 ? 0 : errno;
}

/* ---- unfinished files ---- */

#define UNFINISHED ".datamanager-unfinished-"

static void unfinished_remove(const char *path)
{
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char *name = dm__path_beside(path, suffixes[i]);
        if (name == NULL)
            return;
        (void)unlink(name);
        free(name);
    }
}

static bool unfinished_name_ok(const char *name)
{
    return dm__path_suffix(name) == NULL && strncmp(name, UNFINISHED, sizeof UNFINISHED - 1) == 0;
}

/* A name that nobody else takes; O_EXCL is there for who does. */
static char *unfinished_name(const char *beside)
{
    static atomic_uint count;
    char *folder = folder_of(beside), *name = NULL;
    unsigned number = atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    if (folder == NULL ||
        asprintf(&name, "%s" UNFINISHED "%llx-%lx-%x", folder,
                 (unsigned long long)(dm__realtime_s() * 1e6), (long)getpid(), number) < 0)
        name = NULL;
    free(folder);
    return name;
}

/* Between making and locking it a sweep may have taken the file away: EAGAIN. A file system without
 * locks has to do without. */
static int unfinished_lock(int lock)
{
    struct stat status;
    if (fchmod(lock, 0600) != 0)
        return errno;
    if (flock(lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return EAGAIN;
    if (fstat(lock, &status) != 0)
        return errno;
    return status.st_nlink == 1 ? 0 : EAGAIN;
}

/* EAGAIN and EEXIST: another name is wanted. */
static int unfinished_try(char *name, dm__unfinished *file_out)
{
    int lock = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (lock < 0)
        return errno;
    int rc = unfinished_lock(lock);
    if (rc == 0) {
        *file_out = (dm__unfinished){name, lock};
        return 0;
    }
    if (rc != EAGAIN)
        (void)unlink(name);
    (void)close(lock);
    return rc;
}

int dm__unfinished_create(const char *beside, dm__unfinished *file_out)
{
    int rc;
    do {
        char *name = unfinished_name(beside);
        if (name == NULL)
            return ENOMEM;
        rc = unfinished_try(name, file_out);
        if (rc != 0)
            free(name);
    } while (rc == EAGAIN || rc == EEXIST);
    return rc;
}

static void unfinished_forget(dm__unfinished *file)
{
    (void)close(file->lock);
    free(file->path);
    *file = (dm__unfinished){NULL, -1};
}

int dm__unfinished_finish(dm__unfinished *file, const char *to, bool replace)
{
    int rc = file_rename(file->path, to, replace);
    if (rc == 0)
        unfinished_forget(file);
    return rc;
}

/* What SQLite has put beside a database goes to beside another name. */
static int beside_move(const char *from, const char *to)
{
    int rc = 0;
    for (size_t i = 0; *suffixes[i] != '\0' && rc == 0; i++) {
        char *old = dm__path_beside(from, suffixes[i]), *new = dm__path_beside(to, suffixes[i]);
        if (old == NULL || new == NULL)
            rc = ENOMEM;
        else
            rc = i == SHARED ? dm__file_remove(old) : file_rename(old, new, false);
        rc = rc == ENOENT ? 0 : rc;
        free(old);
        free(new);
    }
    return rc;
}

/* The new file takes the name `aside` first, and not the old one an unfinished file's: a sweep
 * would remove it if we were killed before it had its own. */
static int names_exchange(const char *new, const char *to, const char *aside)
{
    int rc = file_rename(new, aside, false);
    if (rc != 0)
        return rc;
    if (renameat2(AT_FDCWD, aside, AT_FDCWD, to, RENAME_EXCHANGE) == 0)
        return 0;
    rc = errno;
    int back = file_rename(aside, new, false);
    if (back != 0)
        (void)dm__file_remove(aside);
    if (back != 0 || (rc != EINVAL && rc != ENOSYS))
        return rc;
    rc = file_rename(to, aside, false); /* a file system that cannot: the next best */
    if (rc == 0 && (rc = file_rename(new, to, false)) != 0)
        (void)file_rename(aside, to, false);
    return rc;
}

int dm__unfinished_exchange(dm__unfinished *file, const char *to, const char *aside)
{
    int rc = beside_move(to, aside);
    if (rc == 0)
        rc = names_exchange(file->path, to, aside);
    if (rc == 0)
        unfinished_forget(file);
    else
        (void)beside_move(aside, to);
    return rc;
}

void dm__unfinished_drop(dm__unfinished *file)
{
    if (file->path == NULL)
        return;
    unfinished_remove(file->path);
    unfinished_forget(file);
}

void dm__unfinished_sweep(const char *beside)
{
    char *folder = folder_of(beside);
    DIR *entries = folder == NULL ? NULL : opendir(folder);
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        char *name = NULL;
        if (!unfinished_name_ok(entry->d_name) ||
            asprintf(&name, "%s%s", folder, entry->d_name) < 0)
            continue;
        int lock = open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0)
            unfinished_remove(name);
        if (lock >= 0)
            (void)close(lock);
        free(name);
    }
    if (entries != NULL)
        (void)closedir(entries);
    free(folder);
}
