/* SPDX-License-Identifier: MIT */
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

dm__thread dm__thread_self(void)
{
    return pthread_self();
}

bool dm__thread_equal(dm__thread a, dm__thread b)
{
    return pthread_equal(a, b) != 0;
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

int dm__file_identify(const char *path, dm__file_id *id_out)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return errno;
    *id_out = (dm__file_id){.device = (uint64_t)status.st_dev,
                            .inode = (uint64_t)status.st_ino,
                            .links = (uint64_t)status.st_nlink,
                            .is_regular = S_ISREG(status.st_mode)};
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

int dm__folders_create(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return ENOMEM;
    int rc = 0;
    for (char *slash = strchr(copy + 1, '/'); slash != NULL && rc == 0;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            rc = errno;
        *slash = '/';
    }
    free(copy);
    return rc;
}

char *dm__path_resolve(const char *path)
{
    return realpath(path, NULL);
}
