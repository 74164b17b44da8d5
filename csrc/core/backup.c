/* SPDX-License-Identifier: MIT
 *
 * A database as it is at one moment, written to a file of its own. SQLite's backup interface begins
 * again whenever another process has written, which under busy writers is for ever; so the source's
 * connection is in a read transaction from the first page to the last, and sees only its moment.
 * The file has an unfinished one's name until it is whole, checked and on the disk. It has a
 * rollback journal's header, so that it can be read where nothing can be written. */
#include "dm_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COPY_PAGES 256 /* a step: 1 MB of the usual pages, about a millisecond */

/* ---- pages ---- */

/* Just before the last pages go, and nothing can be undone any more, it says that all are done. */
static dm_status progress_tell(dm__copying *copying, int remaining, int count, dm_error *err)
{
    int done = remaining > COPY_PAGES ? count - remaining : count;
    const dm_progress *progress = copying->progress;
    bool stop = progress != NULL && progress->report(progress->argument, copying->before + done,
                                                     copying->before + count + copying->after);
    if (stop || dm__stop_asked(&copying->stop))
        return dm__fail(err, DM_INTERRUPTED, "interrupted while copying");
    return DM_OK;
}

dm_status dm__pages_copy(sqlite3_backup *backup, sqlite3 *to, dm__copying *copying, dm_error *err)
{
    int code = sqlite3_backup_step(backup, 0); /* counts the pages */
    int count = sqlite3_backup_pagecount(backup);
    while (code == SQLITE_OK) {
        dm_status rc = progress_tell(copying, sqlite3_backup_remaining(backup), count, err);
        if (rc != DM_OK)
            return rc;
        code = sqlite3_backup_step(backup, COPY_PAGES);
    }
    copying->before += count;
    return code == SQLITE_DONE ? DM_OK : dm__fail_sqlite(err, to, code, "copy the database");
}

static dm_status conn_copy(dm__conn *to, dm__conn *from, dm__copying *copying, dm_error *err)
{
    dm_status rc = dm__conn_read_once(from, err); /* or each step would read its own moment */
    if (rc != DM_OK)
        return rc;
    sqlite3_backup *backup = sqlite3_backup_init(to->db, "main", from->db, "main");
    if (backup == NULL)
        return dm__fail_sqlite(err, to->db, sqlite3_errcode(to->db), "copy the database");
    rc = dm__pages_copy(backup, to->db, copying, err);
    (void)sqlite3_backup_finish(backup); /* its error is that of the last step */
    return rc;
}

/* ---- a file ---- */

/* Nobody else has it, and until it is whole nobody needs it: only the end is worth a sync. */
dm_status dm__file_fill(const char *path, dm__conn *from, bool renew, dm__copying *copying,
                        dm_error *err)
{
    dm__conn *to = NULL;
    dm_status rc = dm__conn_open(path, false, 0, &to, err);
    if (rc == DM_OK)
        rc = dm__conn_exec(to, err,
                           "PRAGMA locking_mode=EXCLUSIVE; PRAGMA synchronous=OFF; "
                           "PRAGMA journal_mode=MEMORY");
    if (rc == DM_OK)
        rc = conn_copy(to, from, copying, err);
    if (rc == DM_OK && renew)
        rc = dm__eras_renew(to, 0, err);
    if (rc == DM_OK)
        rc = dm__conn_exec(to, err, "PRAGMA journal_mode=DELETE");
    dm__conn_close(to, true);
    return rc;
}

/* Through a new connection: what is in the file counts, not what was written to it. */
static dm_status file_check(const char *path, dm_error *err)
{
    dm__conn *conn = NULL;
    dm_status rc = dm__conn_open(path, true, 0, &conn, err);
    if (rc == DM_OK)
        rc = dm__integrity_verify(conn, true, err);
    dm__conn_close(conn, false);
    return rc;
}

/* Whoever has a database open for writing, or has one with a log open for reading, holds a lock on
 * it and has a log, which is empty until something is written; so is the one that a killed process,
 * or one that only read, has left. The latter goes here. */
static dm_status open_refuse(const char *dest, dm_error *err)
{
    dm__file_id id;
    dm__conn *conn = NULL;
    char *log = dm__path_beside(dest, "-wal");
    if (log == NULL)
        return dm__no_memory(err);
    bool found = dm__file_identify(dest, &id) == 0 && dm__file_identify(log, &id) == 0;
    free(log);
    if (!found)
        return DM_OK;
    dm_status rc = dm__conn_open(dest, false, 0, &conn, err);
    if (rc == DM_OK)
        rc = dm__conn_exec(conn, err, "PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; ROLLBACK");
    dm__conn_close(conn, rc == DM_OK);
    if (rc == DM_OK || rc == DM_NO_MEMORY)
        return rc;
    return dm__fail(err, DM_EXISTS, "%s is a database that is open, or was not closed", dest);
}

/* Is the file one of the databases that are open here, or `beside` one? By what it is: links may
 * give it any name. With the lock of the process's table held. */
static bool is_of_open(const dm__file_id *file, bool beside)
{
    bool found = false;
    for (dm__store *store = dm__stores; store != NULL; store = store->next) {
        dm__mutex_lock(&store->lock);
        if (!store->in_memory && store->state != DM__STORE_CLOSED)
            found |= beside ? dm__file_is_beside(file, store->path)
                            : store->device == file->device && store->inode == file->inode;
        dm__mutex_unlock(&store->lock);
    }
    return found;
}

static bool is_open_here(const char *path)
{
    dm__file_id id;
    return dm__file_identify(path, &id) == 0 && (is_of_open(&id, false) || is_of_open(&id, true));
}

bool dm__is_beside_open(const dm__file_id *file)
{
    dm__mutex_lock(&dm__stores_lock);
    bool open = is_of_open(file, true);
    dm__mutex_unlock(&dm__stores_lock);
    return open;
}

bool dm_database_is_open(const char *path)
{
    dm__mutex_lock(&dm__stores_lock);
    bool open = is_open_here(path);
    dm__mutex_unlock(&dm__stores_lock);
    return open;
}

/* Is there something at the name, or beside it? Where that cannot be told, too. */
static bool is_something_at(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-journal"};
    bool found = false;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        dm__file_id id;
        char *name = dm__path_beside(path, suffixes[i]);
        found |= name == NULL || dm__file_identify(name, &id) != ENOENT;
        free(name);
    }
    return found;
}

/* What could not be undone, either, is told. */
static dm_status put_failed(const char *dest, const dm__snapshot *how, int code, dm_error *err)
{
    if (how->aside == NULL || !is_something_at(how->aside))
        return dm__fail_system(err, dest, code);
    char *both = sqlite3_mprintf("%s (see %s* for what was there)", dest, how->aside);
    dm_status rc = both == NULL ? dm__no_memory(err) : dm__fail_system(err, both, code);
    sqlite3_free(both);
    return rc;
}

/* Closing any descriptor of a file drops the locks of all connections to it, so none may be opened
 * meanwhile; and one that is open must not be replaced. */
dm_status dm__file_put(dm__unfinished *file, const char *dest, const dm__snapshot *how,
                       dm_error *err)
{
    int code = 0;
    dm_status rc = how->replace ? open_refuse(dest, err) : DM_OK;
    if (rc != DM_OK)
        return rc;
    dm__mutex_lock(&dm__stores_lock);
    bool open = is_open_here(dest);
    if (!open && how->aside != NULL)
        code = dm__unfinished_exchange(file, dest, how->aside);
    else if (!open)
        code = dm__unfinished_finish(file, dest, how->replace);
    dm__mutex_unlock(&dm__stores_lock);
    if (open)
        return dm__fail(err, DM_EXISTS, "%s is open here: it cannot be replaced", dest);
    if (code == 0)
        code = dm__folder_sync(dest);
    return code == 0 ? DM_OK : put_failed(dest, how, code, err);
}

/* What failed in writing is the new file's; anything else is what it was copied from. */
static dm_status filled(dm_status rc, const char *dest, dm_error *err)
{
    bool written = rc == DM_DISK_FULL || rc == DM_CANNOT_OPEN ||
                   (rc == DM_IO && err != NULL && err->sqlite_code == SQLITE_IOERR_WRITE);
    return written ? dm__fail_at(err, rc, "", dest) : rc;
}

dm_status dm__snapshot_write(dm__conn *from, const char *dest, const dm__snapshot *how,
                             dm__copying *copying, dm_error *err)
{
    dm__unfinished file = {NULL, -1};
    dm__unfinished_sweep(dest);
    int code = dm__unfinished_create(dest, &file);
    if (code != 0)
        return dm__fail_system(err, dest, code);
    dm_status rc = dm__file_fill(file.path, from, how->check, copying, err);
    if (rc == DM_OK && how->check)
        rc = file_check(file.path, err);
    rc = filled(rc, dest, err);
    if (rc == DM_OK && (code = dm__file_sync(file.path)) != 0)
        rc = dm__fail_system(err, dest, code);
    if (rc == DM_OK)
        rc = dm__file_put(&file, dest, how, err);
    dm__unfinished_drop(&file);
    return rc;
}

/* ---- where to ---- */

/* What is in a log would be taken for that of whatever stands beside it. */
static dm_status log_refuse(const char *dest, dm_error *err)
{
    static const char *const suffixes[] = {"-wal", "-journal"};
    for (size_t i = 0; i < 2; i++) {
        dm__file_id id;
        char *name = dm__path_beside(dest, suffixes[i]);
        if (name == NULL)
            return dm__no_memory(err);
        bool found = dm__file_identify(name, &id) == 0 && id.size > 0;
        free(name);
        if (found)
            return dm__fail(err, DM_EXISTS,
                            "%s%s is a log: the database there is open, or was not closed", dest,
                            suffixes[i]);
    }
    return DM_OK;
}

dm_status dm__dest_name_check(const char *path, dm_error *err)
{
    const char *suffix = dm__path_suffix(path);
    if (suffix == NULL)
        return DM_OK;
    return dm__fail(err, DM_INVALID,
                    "%s cannot be written to: what ends in %s is a part of the database beside it,"
                    " which SQLite overwrites or deletes",
                    path, suffix);
}

dm_status dm__dest_resolve(const char *dest, bool replace, char **path_out, dm_error *err)
{
    dm__file_id id;
    int code = dm__file_identify(dest, &id);
    if (code == ENOENT && !replace && dm__link_identify(dest, &id) == 0)
        return dm__fail(err, DM_EXISTS, "%s is a link, to where nothing is", dest);
    if (code == 0 && !id.is_regular)
        return dm__fail(err, DM_CANNOT_OPEN, "%s is not a regular file", dest);
    if (code != 0 && code != ENOENT)
        return dm__fail_system(err, dest, code);
    char *path = code == 0 ? dm__path_resolve(dest) : strdup(dest);
    if (path == NULL)
        return dm__fail_system(err, dest, errno);
    dm_status rc = dm__dest_name_check(path, err);
    if (rc == DM_OK && code == 0 && !replace)
        rc = dm__fail(err, DM_EXISTS, "%s exists already", dest);
    if (rc == DM_OK)
        rc = log_refuse(path, err);
    if (rc == DM_OK && code == ENOENT && (code = dm__folders_create(dest)) != 0)
        rc = dm__fail_system(err, dest, code);
    if (rc == DM_OK)
        *path_out = path;
    else
        free(path);
    return rc;
}

/* ---- the call ---- */

static dm_status memory_copy(dm__conn *from, void *copy_out, dm_error *err)
{
    dm__conn **copy = copy_out;
    dm__copying untold = {0};
    dm_status rc = dm__conn_open(":memory:", false, 0, copy, err);
    return rc == DM_OK ? conn_copy(*copy, from, &untold, err) : rc;
}

dm_status dm__read_long(dm_manager *m, dm__read_fn read, void *argument, dm_error *err)
{
    if (!m->store->in_memory)
        return dm__read_aside(m, read, argument, err);
    dm__conn *copy = NULL;
    dm_status rc = dm__read(m, true, memory_copy, &copy, err);
    if (rc == DM_OK)
        rc = read(copy, argument, err);
    dm__conn_close(copy, false);
    return rc;
}

typedef struct {
    const char *dest;
    const dm__snapshot *how;
    dm__copying copying;
} backup_job;

static dm_status backup_write(dm__conn *from, void *argument, dm_error *err)
{
    backup_job *job = argument;
    return dm__snapshot_write(from, job->dest, job->how, &job->copying, err);
}

dm_status dm_backup(dm_manager *m, const char *dest, bool overwrite, const dm_progress *progress,
                    dm_error *err)
{
    dm__snapshot how = {.check = true, .replace = overwrite};
    backup_job job = {.how = &how, .copying.progress = progress};
    char *path = NULL;
    if (strcmp(dest, ":memory:") == 0)
        return dm__fail(err, DM_INVALID, "a backup is a file, not a database in memory");
    dm_status rc = dm__dest_resolve(dest, overwrite, &path, err);
    if (rc != DM_OK)
        return rc;
    job.dest = path;
    rc = dm__read_long(m, backup_write, &job, err);
    free(path);
    return rc;
}
