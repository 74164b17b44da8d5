/* SPDX-License-Identifier: MIT */
#include "dm_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SHOWN_MAX 200 /* bytes */

bool (*dm__allocation_fails)(void);

void *dm__malloc(size_t size)
{
    return dm__allocation_fails != NULL && dm__allocation_fails() ? NULL : malloc(size);
}

void *dm__calloc(size_t count, size_t size)
{
    return dm__allocation_fails != NULL && dm__allocation_fails() ? NULL : calloc(count, size);
}

void *dm__realloc(void *memory, size_t size)
{
    return dm__allocation_fails != NULL && dm__allocation_fails() ? NULL : realloc(memory, size);
}

void dm__free(void *memory)
{
    free(memory);
}

static const struct {
    const char *name, *message;
} statuses[] = {
#define STATUS_ROW(name, message) {#name, message},
    DM_STATUS_LIST(STATUS_ROW)
#undef STATUS_ROW
};

const char *dm_status_name(dm_status status)
{
    return (unsigned)status < DM_STATUS_COUNT ? statuses[status].name : "DM_?";
}

/* The length of the valid UTF-8 sequence at `text`, 0 where there is none. RFC 3629. */
static size_t utf8_sequence(const unsigned char *text, size_t left)
{
    unsigned char lead = text[0];
    size_t length = lead < 0x80   ? 1
                    : lead < 0xC2 ? 0
                    : lead < 0xE0 ? 2
                    : lead < 0xF0 ? 3
                    : lead < 0xF5 ? 4
                                  : 0;
    if (length == 0 || length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    if ((lead == 0xE0 && text[1] < 0xA0) || (lead == 0xED && text[1] > 0x9F) ||
        (lead == 0xF0 && text[1] < 0x90) || (lead == 0xF4 && text[1] > 0x8F))
        return 0;
    return length;
}

bool dm__is_utf8(dm_str text)
{
    const unsigned char *bytes = (const unsigned char *)text.bytes;
    for (size_t i = 0, length; i < text.length; i += length)
        if ((length = utf8_sequence(bytes + i, text.length - i)) == 0)
            return false;
    return true;
}

/* Messages of SQLite may quote bytes of a damaged file; a cut may split a character. */
void dm__make_utf8(char *text, size_t size)
{
    size_t end = strlen(text);
    for (size_t i = 0; i < end;) {
        size_t length = utf8_sequence((unsigned char *)text + i, end - i);
        if (length == 0 && i + 4 > end && end + 1 >= size) {
            text[i] = '\0';
            return;
        }
        if (length == 0)
            text[i] = '?';
        i += length == 0 ? 1 : length;
    }
}

dm_status dm__fail(dm_error *err, dm_status code, const char *format, ...)
{
    if (err == NULL)
        return code;
    err->code = code;
    err->sqlite_code = 0;
    err->system_code = code == DM_DISK_FULL ? ENOSPC : code == DM_EXISTS ? EEXIST : 0;
    err->names_file = false;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(err->text, sizeof err->text, format, arguments);
    va_end(arguments);
    dm__make_utf8(err->text, sizeof err->text);
    return code;
}

dm_status dm__no_memory(dm_error *err)
{
    return dm__fail(err, DM_NO_MEMORY, "%s", statuses[DM_NO_MEMORY].message);
}

static dm_status status_of_sqlite(int sqlite_code)
{
    if (sqlite_code == SQLITE_IOERR_NOMEM)
        return DM_NO_MEMORY;
    if (sqlite_code == SQLITE_ERROR_MISSING_COLLSEQ)
        return DM_CORRUPT_DATA;
    switch (sqlite_code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return DM_BUSY;
    case SQLITE_FULL:
        return DM_DISK_FULL;
    case SQLITE_IOERR:
        return DM_IO;
    case SQLITE_NOMEM:
        return DM_NO_MEMORY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return DM_DAMAGED;
    case SQLITE_READONLY:
        return DM_READ_ONLY;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return DM_CANNOT_OPEN;
    case SQLITE_INTERRUPT:
        return DM_INTERRUPTED;
    /* What our statements do is allowed by our tables; these are others'. */
    case SQLITE_TOOBIG:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
        return DM_CORRUPT_DATA;
    default:
        return DM_INTERNAL;
    }
}

/* Of what SQLite keeps beside the file. */
static bool is_of_shared_memory(int sqlite_code)
{
    return sqlite_code == SQLITE_IOERR_SHMOPEN || sqlite_code == SQLITE_IOERR_SHMSIZE ||
           sqlite_code == SQLITE_IOERR_SHMMAP;
}

/* Why a file could not be opened or made longer; 0 where that is not certain. What it could not
 * make SQLite tries to open as it is, so that it is not there is no reason. */
static int system_code_of(sqlite3 *db, int sqlite_code)
{
    if (sqlite_code == SQLITE_READONLY_DIRECTORY)
        return EACCES;
    bool kept = (sqlite_code & 0xff) == SQLITE_CANTOPEN || is_of_shared_memory(sqlite_code);
    int code = kept && db != NULL ? sqlite3_system_errno(db) : 0;
    return code == ENOENT ? 0 : code;
}

static bool is_full(int system_code)
{
    return system_code == ENOSPC || system_code == EDQUOT;
}

/* In better words than SQLite's; NULL where there are none. */
static const char *reason_of(sqlite3 *db, int sqlite_code, int system_code)
{
    const char *path = db == NULL ? NULL : sqlite3_db_filename(db, "main");
    if (is_full(system_code))
        return "disk is full: no room for what SQLite keeps beside the file";
    switch (sqlite_code) {
    case SQLITE_READONLY:
        return "opened for reading only: the file cannot be written to";
    case SQLITE_READONLY_ROLLBACK:
        return "a process ended in the middle of writing: open it once for writing, to undo that";
    case SQLITE_READONLY_DIRECTORY:
    case SQLITE_READONLY_CANTINIT:
    case SQLITE_READONLY_CANTLOCK:
    case SQLITE_READONLY_RECOVERY:
        return "SQLite keeps a log beside it, for reading too, and can make or write none there";
    case SQLITE_CANTOPEN:
        return path == NULL || *path == '\0' ? statuses[DM_CANNOT_OPEN].message
                                             : "cannot open what SQLite keeps beside it";
    default:
        return NULL;
    }
}

dm_status dm__fail_sqlite(dm_error *err, sqlite3 *db, int sqlite_code, const char *doing)
{
    int system_code = system_code_of(db, sqlite_code);
    dm_status code = is_full(system_code) ? DM_DISK_FULL : status_of_sqlite(sqlite_code);
    if (err == NULL)
        return code;
    /* A copy of pages tells the connection only at its end. */
    bool told = db != NULL && (sqlite3_errcode(db) & 0xff) == (sqlite_code & 0xff);
    const char *said = told ? sqlite3_errmsg(db) : sqlite3_errstr(sqlite_code);
    const char *reason = reason_of(db, sqlite_code, system_code);
    if (reason == NULL)
        reason = statuses[code].message;
    else
        said = system_code == 0 || is_full(system_code) ? "" : strerror(system_code);
    (void)dm__fail(err, code, "%s%s%s%s%.120s%s", reason, *said == '\0' ? "" : ": ", said,
                   *doing == '\0' ? "" : " (", doing, *doing == '\0' ? "" : ")");
    err->sqlite_code = sqlite_code;
    if (system_code != 0)
        err->system_code = system_code;
    return code;
}

bool dm__is_suspect(dm_status code, const dm_error *err)
{
    return code == DM_IO || code == DM_DAMAGED ||
           (code == DM_DISK_FULL && is_of_shared_memory(err->sqlite_code));
}

/* Those that begin with a path name the file; so do those of the calls that take it as it is. */
static bool names(const dm_error *err, const char *role, const char *path)
{
    size_t length = strlen(path);
    return err->names_file || err->text[0] == '/' ||
           (*role != '\0' && strncmp(err->text, path, length) == 0 &&
            strchr(": -", err->text[length]) != NULL);
}

/* A long path by its end. */
dm_status dm__fail_at(dm_error *err, dm_status code, const char *role, const char *path)
{
    bool of_a_file = code == DM_BUSY || code == DM_DISK_FULL || code == DM_IO ||
                     code == DM_CANNOT_OPEN || code == DM_CORRUPT_DATA || code == DM_DAMAGED ||
                     code == DM_FOREIGN || code == DM_NEWER || code == DM_READ_ONLY;
    if (err == NULL || !of_a_file)
        return code;
    bool named = names(err, role, path);
    if (named && *role == '\0')
        return code;
    dm_error unnamed = *err;
    size_t length = strlen(path), skipped = length > PATH_SHOWN_MAX ? length - PATH_SHOWN_MAX : 0;
    (void)dm__fail(err, code, "%s%s%s%s%s%s", role, *role == '\0' || named ? "" : " ",
                   named || skipped == 0 ? "" : "...", named ? "" : path + skipped, ": ",
                   unnamed.text);
    err->sqlite_code = unnamed.sqlite_code;
    err->system_code = unnamed.system_code;
    err->names_file = true;
    return code;
}

dm_status dm__fail_system(dm_error *err, const char *path, int code)
{
    dm_status status = code == ENOSPC || code == EDQUOT ? DM_DISK_FULL
                       : code == EIO                    ? DM_IO
                       : code == ENOMEM                 ? DM_NO_MEMORY
                       : code == EEXIST                 ? DM_EXISTS
                                                        : DM_CANNOT_OPEN;
    (void)dm__fail(err, status, "%s: %s", path, strerror(code));
    if (err != NULL)
        err->system_code = code, err->names_file = true;
    return status;
}

#define CODE(name)                                                                                 \
    {                                                                                              \
        name, #name                                                                                \
    }
static const struct {
    int code;
    const char *name;
} sqlite_codes[] = {
    CODE(SQLITE_ERROR),
    CODE(SQLITE_INTERNAL),
    CODE(SQLITE_PERM),
    CODE(SQLITE_ABORT),
    CODE(SQLITE_BUSY),
    CODE(SQLITE_LOCKED),
    CODE(SQLITE_NOMEM),
    CODE(SQLITE_READONLY),
    CODE(SQLITE_INTERRUPT),
    CODE(SQLITE_IOERR),
    CODE(SQLITE_CORRUPT),
    CODE(SQLITE_NOTFOUND),
    CODE(SQLITE_FULL),
    CODE(SQLITE_CANTOPEN),
    CODE(SQLITE_PROTOCOL),
    CODE(SQLITE_SCHEMA),
    CODE(SQLITE_TOOBIG),
    CODE(SQLITE_CONSTRAINT),
    CODE(SQLITE_MISMATCH),
    CODE(SQLITE_MISUSE),
    CODE(SQLITE_NOLFS),
    CODE(SQLITE_AUTH),
    CODE(SQLITE_RANGE),
    CODE(SQLITE_NOTADB),
    CODE(SQLITE_BUSY_RECOVERY),
    CODE(SQLITE_BUSY_SNAPSHOT),
    CODE(SQLITE_LOCKED_SHAREDCACHE),
    CODE(SQLITE_IOERR_READ),
    CODE(SQLITE_IOERR_SHORT_READ),
    CODE(SQLITE_IOERR_WRITE),
    CODE(SQLITE_IOERR_FSYNC),
    CODE(SQLITE_IOERR_DIR_FSYNC),
    CODE(SQLITE_IOERR_TRUNCATE),
    CODE(SQLITE_IOERR_FSTAT),
    CODE(SQLITE_IOERR_UNLOCK),
    CODE(SQLITE_IOERR_RDLOCK),
    CODE(SQLITE_IOERR_DELETE),
    CODE(SQLITE_IOERR_NOMEM),
    CODE(SQLITE_IOERR_ACCESS),
    CODE(SQLITE_IOERR_LOCK),
    CODE(SQLITE_IOERR_CLOSE),
    CODE(SQLITE_IOERR_SHMOPEN),
    CODE(SQLITE_IOERR_SHMSIZE),
    CODE(SQLITE_IOERR_SHMLOCK),
    CODE(SQLITE_IOERR_SHMMAP),
    CODE(SQLITE_CORRUPT_VTAB),
    CODE(SQLITE_READONLY_ROLLBACK),
    CODE(SQLITE_READONLY_RECOVERY),
    CODE(SQLITE_READONLY_CANTLOCK),
    CODE(SQLITE_READONLY_DBMOVED),
    CODE(SQLITE_READONLY_CANTINIT),
    CODE(SQLITE_READONLY_DIRECTORY),
    CODE(SQLITE_CANTOPEN_ISDIR),
    CODE(SQLITE_CANTOPEN_FULLPATH),
};

const char *dm_sqlite_code_name(int sqlite_code)
{
    for (size_t i = 0; i < sizeof sqlite_codes / sizeof *sqlite_codes; i++)
        if (sqlite_codes[i].code == sqlite_code)
            return sqlite_codes[i].name;
    return sqlite_code > 0xff ? dm_sqlite_code_name(sqlite_code & 0xff) : NULL;
}
