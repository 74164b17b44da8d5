/* SPDX-License-Identifier: MIT */
#include "calls.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DESCRIPTORS 1024

const char *const call_names[CALL_KINDS] = {
#define CALL_NAME(name, text) [name] = text,
    CALL_LIST(CALL_NAME)
#undef CALL_NAME
};

int (*calls_before)(const file_call *call);
void (*calls_after)(const file_call *call);
bool calls_hurried;

static const char *watched;
static struct {
    char *path; /* NULL: not watched */
    ino_t inode;
} opened[DESCRIPTORS];

void calls_watch(const char *folder)
{
    watched = folder;
}

/* The C library's own, of the name of the function that asks. */
#define REAL(result, name, ...)                                                                    \
    static result (*real)(__VA_ARGS__);                                                            \
    if (real == NULL)                                                                              \
    *(void **)&real = dlsym(RTLD_NEXT, name)

static bool path_watched(const char *path)
{
    return watched != NULL && strncmp(path, watched, strlen(watched)) == 0;
}

static bool descriptor_watched(int descriptor)
{
    return watched != NULL && descriptor >= 0 && descriptor < DESCRIPTORS &&
           opened[descriptor].path != NULL;
}

static file_call of_path(call_kind kind, const char *path)
{
    return (file_call){.kind = kind, .path = path};
}

static file_call of_descriptor(call_kind kind, int descriptor)
{
    return (file_call){
        .kind = kind, .path = opened[descriptor].path, .inode = opened[descriptor].inode};
}

/* Whether to make the call; where not, what it returns instead, with errno set. */
static bool proceeds(const file_call *call, int *result)
{
    int verdict = calls_before == NULL ? 0 : calls_before(call);
    *result = 0;
    if (verdict > 0) {
        errno = verdict;
        *result = -1;
    }
    return verdict == 0;
}

static void tell(const file_call *call)
{
    int code = errno;
    if (calls_after != NULL)
        calls_after(call);
    errno = code;
}

/* ---- open and close ---- */

static int open_real(const char *path, int flags, mode_t mode)
{
    REAL(int, "open", const char *, int, ...);
    return real(path, flags, mode);
}

static int fstat_real(int descriptor, struct stat *status)
{
    REAL(int, "fstat", int, struct stat *);
    return real(descriptor, status);
}

static int open_watched(const char *path, int flags, mode_t mode)
{
    if (!path_watched(path))
        return open_real(path, flags, mode);
    bool creates = (flags & O_CREAT) != 0 && access(path, F_OK) != 0;
    file_call this = of_path(creates ? CALL_CREATE : CALL_OPEN, path);
    int result;
    if (!proceeds(&this, &result))
        return result == 0 ? open_real("/dev/null", O_RDWR | O_CLOEXEC, 0) : result;
    int descriptor = open_real(path, flags, mode);
    if (descriptor < 0 || descriptor >= DESCRIPTORS)
        return descriptor;
    struct stat status;
    (void)fstat_real(descriptor, &status);
    opened[descriptor].path = strdup(path);
    opened[descriptor].inode = this.inode = status.st_ino;
    if (creates)
        tell(&this);
    return descriptor;
}

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_watched(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_watched(path, flags, mode);
}

int close(int descriptor)
{
    REAL(int, "close", int);
    if (descriptor >= 0 && descriptor < DESCRIPTORS) {
        free(opened[descriptor].path);
        opened[descriptor].path = NULL;
    }
    return real(descriptor);
}

/* ---- bytes ---- */

static ssize_t pread_real(int descriptor, void *to, size_t size, off_t at)
{
    REAL(ssize_t, "pread", int, void *, size_t, off_t);
    return real(descriptor, to, size, at);
}

static ssize_t pwrite_real(int descriptor, const void *from, size_t size, off_t at)
{
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return real(descriptor, from, size, at);
}

/* The bytes to transfer; 0 with `*result` set where nothing is to be. */
static size_t transfer_size(const file_call *call, ssize_t *result)
{
    int verdict = calls_before == NULL ? 0 : calls_before(call);
    *result = verdict == CALL_LIE ? (ssize_t)call->size : -1;
    if (verdict > 0)
        errno = verdict;
    if (verdict == CALL_SHORT)
        return call->size > 1 ? call->size / 2 : call->size;
    return verdict == 0 ? call->size : 0;
}

ssize_t pread64(int descriptor, void *to, size_t size, off64_t at)
{
    if (!descriptor_watched(descriptor))
        return pread_real(descriptor, to, size, at);
    file_call this = of_descriptor(CALL_READ, descriptor);
    this.size = size;
    this.at = at;
    ssize_t result;
    size_t wanted = transfer_size(&this, &result);
    if (wanted == 0 && result > 0)
        memset(to, 0, size);
    return wanted == 0 ? result : pread_real(descriptor, to, wanted, at);
}

ssize_t pwrite64(int descriptor, const void *from, size_t size, off64_t at)
{
    if (!descriptor_watched(descriptor))
        return pwrite_real(descriptor, from, size, at);
    file_call this = of_descriptor(CALL_WRITE, descriptor);
    this.bytes = from;
    this.size = size;
    this.at = at;
    ssize_t result;
    size_t wanted = transfer_size(&this, &result);
    if (wanted == 0)
        return result;
    result = pwrite_real(descriptor, from, wanted, at);
    this.size = result < 0 ? 0 : (size_t)result;
    tell(&this);
    return result;
}

int ftruncate64(int descriptor, off64_t size)
{
    REAL(int, "ftruncate", int, off_t);
    if (!descriptor_watched(descriptor))
        return real(descriptor, size);
    file_call this = of_descriptor(CALL_TRUNCATE, descriptor);
    this.at = size;
    int result;
    if (!proceeds(&this, &result))
        return result;
    result = real(descriptor, size);
    if (result == 0)
        tell(&this);
    return result;
}

static int sync_watched(int descriptor, int (*real)(int))
{
    if (!descriptor_watched(descriptor))
        return real(descriptor);
    file_call this = of_descriptor(CALL_SYNC, descriptor);
    int result;
    if (proceeds(&this, &result)) {
        tell(&this); /* the disk itself is not what is tested: there is no need to wait for it */
        result = 0;
    }
    return result;
}

int fsync(int descriptor)
{
    REAL(int, "fsync", int);
    return sync_watched(descriptor, real);
}

int fdatasync(int descriptor)
{
    REAL(int, "fdatasync", int);
    return sync_watched(descriptor, real);
}

void *mmap64(void *where, size_t size, int protection, int flags, int descriptor, off64_t at)
{
    REAL(void *, "mmap", void *, size_t, int, int, int, off_t);
    if (descriptor_watched(descriptor)) {
        file_call this = of_descriptor(CALL_MAP, descriptor);
        int result;
        if (!proceeds(&this, &result))
            return MAP_FAILED; /* to say that it was mapped would help nobody */
    }
    return real(where, size, protection, flags, descriptor, at);
}

/* ---- what is known of files, and locks ---- */

static int stat_watched(const char *path, struct stat *status,
                        int (*real)(const char *, struct stat *))
{
    int result;
    file_call this = of_path(CALL_STAT, path);
    if (!path_watched(path) || proceeds(&this, &result) || result == 0)
        return real(path, status);
    return result;
}

int stat(const char *restrict path, struct stat *restrict status)
{
    REAL(int, "stat", const char *, struct stat *);
    return stat_watched(path, status, real);
}

int lstat(const char *restrict path, struct stat *restrict status)
{
    REAL(int, "lstat", const char *, struct stat *);
    return stat_watched(path, status, real);
}

int stat64(const char *restrict path, struct stat64 *restrict status)
{
    REAL(int, "stat", const char *, struct stat *);
    return stat_watched(path, (struct stat *)status, real);
}

int lstat64(const char *restrict path, struct stat64 *restrict status)
{
    REAL(int, "lstat", const char *, struct stat *);
    return stat_watched(path, (struct stat *)status, real);
}

static int fstat_watched(int descriptor, struct stat *status)
{
    int result;
    if (descriptor_watched(descriptor)) {
        file_call this = of_descriptor(CALL_STAT, descriptor);
        if (!proceeds(&this, &result) && result < 0)
            return result;
    }
    return fstat_real(descriptor, status);
}

int fstat(int descriptor, struct stat *status)
{
    return fstat_watched(descriptor, status);
}

int fstat64(int descriptor, struct stat64 *status)
{
    return fstat_watched(descriptor, (struct stat *)status);
}

int fchmod(int descriptor, mode_t mode)
{
    REAL(int, "fchmod", int, mode_t);
    int result;
    if (descriptor_watched(descriptor)) {
        file_call this = of_descriptor(CALL_MODE, descriptor);
        if (!proceeds(&this, &result))
            return result;
    }
    return real(descriptor, mode);
}

static bool lock_allowed(int descriptor, int *result)
{
    file_call this = of_descriptor(CALL_LOCK, descriptor);
    return proceeds(&this, result);
}

int fcntl64(int descriptor, int command, ...)
{
    REAL(int, "fcntl", int, int, ...);
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *); /* each that SQLite uses fits */
    va_end(arguments);
    bool locks = command == F_SETLK || command == F_SETLKW;
    int result;
    /* A lock that cannot be given back is not a thing that happens. */
    if (locks && ((struct flock *)argument)->l_type != F_UNLCK && descriptor_watched(descriptor) &&
        !lock_allowed(descriptor, &result))
        return result;
    return real(descriptor, command, argument);
}

int flock(int descriptor, int operation)
{
    REAL(int, "flock", int, int);
    int result;
    if (descriptor_watched(descriptor) && !lock_allowed(descriptor, &result))
        return result;
    return real(descriptor, operation);
}

/* ---- names ---- */

int unlink(const char *path)
{
    REAL(int, "unlink", const char *);
    file_call this = of_path(CALL_UNLINK, path);
    int result;
    if (!path_watched(path))
        return real(path);
    if (!proceeds(&this, &result))
        return result;
    result = real(path);
    if (result == 0)
        tell(&this);
    return result;
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, "mkdir", const char *, mode_t);
    file_call this = of_path(CALL_MKDIR, path);
    int result;
    if (!path_watched(path))
        return real(path, mode);
    if (!proceeds(&this, &result))
        return result;
    result = real(path, mode);
    if (result == 0)
        tell(&this);
    return result;
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    file_call this = of_path(CALL_RENAME, from);
    this.to = to;
    int result;
    if (!path_watched(from))
        return real(from_folder, from, to_folder, to, flags);
    if (!proceeds(&this, &result))
        return result;
    result = real(from_folder, from, to_folder, to, flags);
    if (result == 0)
        tell(&this);
    return result;
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

DIR *opendir(const char *path)
{
    REAL(DIR *, "opendir", const char *);
    file_call this = of_path(CALL_LIST_FOLDER, path);
    int result;
    if (path_watched(path) && !proceeds(&this, &result))
        return NULL;
    return real(path);
}

char *realpath(const char *restrict path, char *restrict resolved)
{
    REAL(char *, "realpath", const char *, char *);
    file_call this = of_path(CALL_RESOLVE, path);
    int result;
    if (path_watched(path) && !proceeds(&this, &result))
        return NULL;
    return real(path, resolved);
}

int usleep(useconds_t duration)
{
    REAL(int, "usleep", useconds_t);
    return calls_hurried ? 0 : real(duration);
}
