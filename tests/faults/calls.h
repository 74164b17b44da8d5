/* SPDX-License-Identifier: MIT
 *
 * Between the process and the kernel: the file calls of our core and of SQLite, as far as they are
 * about files below one folder, are shown to a hook before and after, which may make them fail.
 * The functions of the same names in calls.c take the place of the C library's, in SQLite's shared
 * library too; what is tested is therefore the real thing, its VFS and ours included. */
#ifndef CALLS_H
#define CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CALL_LIST(X)                                                                               \
    X(CALL_OPEN, "open")                                                                           \
    X(CALL_CREATE, "create")                                                                       \
    X(CALL_READ, "read")                                                                           \
    X(CALL_WRITE, "write")                                                                         \
    X(CALL_TRUNCATE, "truncate")                                                                   \
    X(CALL_SYNC, "sync")                                                                           \
    X(CALL_UNLINK, "unlink")                                                                       \
    X(CALL_RENAME, "rename")                                                                       \
    X(CALL_MKDIR, "mkdir")                                                                         \
    X(CALL_STAT, "stat")                                                                           \
    X(CALL_LOCK, "lock")                                                                           \
    X(CALL_MODE, "mode")                                                                           \
    X(CALL_MAP, "map")                                                                             \
    X(CALL_LIST_FOLDER, "list folder")                                                             \
    X(CALL_RESOLVE, "resolve")

typedef enum {
#define CALL_ENUM(name, text) name,
    CALL_LIST(CALL_ENUM)
#undef CALL_ENUM
        CALL_KINDS
} call_kind;

extern const char *const call_names[CALL_KINDS];

typedef struct {
    call_kind kind;
    const char *path; /* of the file when it was opened; of a rename, the old one */
    const char *to;   /* of a rename */
    ino_t inode;      /* of what is open */
    const void *bytes;
    size_t size;
    off_t at; /* of a truncate: the new size */
} file_call;

/* What becomes of a call: 0, it is made; an errno, it fails; or one of these. */
#define CALL_SHORT (-1) /* a read or write of half of it */
#define CALL_LIE   (-2) /* it is not made, and says that it was: a caller that ignores errors */

/* Both may come from any thread. NULL: nothing is watched. */
extern int (*calls_before)(const file_call *call);
extern void (*calls_after)(const file_call *call); /* those that changed something, or synced */

/* SQLite does not sleep: where a lock fails that should not, it would for ten seconds in all. */
extern bool calls_hurried;

/* Only files below it, and those that were opened since. Not copied; NULL: none. */
void calls_watch(const char *folder);

#endif
