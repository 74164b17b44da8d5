/* SPDX-License-Identifier: MIT
 *
 * Checks for the C tests: they print both sides, count, and work without assert(). */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <string.h>

static int check_passed, check_failed;

#define CHECK_INT(seen, wanted)                                                                    \
    do {                                                                                           \
        long long seen_ = (long long)(seen), wanted_ = (long long)(wanted);                        \
        if (seen_ == wanted_) {                                                                    \
            check_passed++;                                                                        \
        } else {                                                                                   \
            check_failed++;                                                                        \
            printf("%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #seen, seen_, wanted_);    \
        }                                                                                          \
    } while (0)

#define CHECK_TEXT(seen, wanted)                                                                   \
    do {                                                                                           \
        const char *seen_ = (seen), *wanted_ = (wanted);                                           \
        if (strcmp(seen_, wanted_) == 0) {                                                         \
            check_passed++;                                                                        \
        } else {                                                                                   \
            check_failed++;                                                                        \
            printf("%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #seen, seen_,          \
                   wanted_);                                                                       \
        }                                                                                          \
    } while (0)

/* A call of the core: prints its error text when it fails. Needs `dm_error err` in scope. */
#define CHECK_OK(call) CHECK_STATUS(call, DM_OK)
#define CHECK_STATUS(call, wanted)                                                                 \
    do {                                                                                           \
        dm_status status_ = (call);                                                                \
        if (status_ == (wanted)) {                                                                 \
            check_passed++;                                                                        \
        } else {                                                                                   \
            check_failed++;                                                                        \
            printf("%s:%d: %s is %s, not %s (%s)\n", __FILE__, __LINE__, #call,                    \
                   dm_status_name(status_), dm_status_name(wanted),                                \
                   status_ == DM_OK ? "" : err.text);                                              \
        }                                                                                          \
    } while (0)

static inline int check_report(void)
{
    printf("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed != 0;
}

#endif
