/* SPDX-License-Identifier: MIT
 *
 * The content of one database into another that others have open. It is written into the live file,
 * as one transaction of pages, so that every connection sees all of the old or all of the new; a
 * file put in its place would not be seen by those that have the old one open. From the first look
 * at the old content to the commit the write lock is held: no write can fall between the two. */
#include "dm_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    dm_manager *from, *to;
    const char *dest;
    char *path; /* where that is */
    dm__conn *source, *target;
    char *kept;
    dm__copying copying;
    dm_status rc;
} restore_job;

/* ---- the file that keeps what was there ---- */

static char *kept_name(const char *dest, int number)
{
    char stamp[32], more[16] = "";
    time_t now = (time_t)dm__realtime_s();
    struct tm utc;
    (void)strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &utc));
    if (number > 1)
        (void)snprintf(more, sizeof more, "-%d", number);
    size_t size = strlen(dest) + sizeof ".before-restore-" + sizeof stamp + sizeof more;
    char *name = dm__malloc(size);
    if (name != NULL)
        (void)snprintf(name, size, "%s.before-restore-%s%s", dest, stamp, more);
    return name;
}

/* A name that is free. */
static dm_status kept_choose(restore_job *job, dm_error *err)
{
    dm__file_id id;
    for (int number = 1;; number++) {
        job->kept = kept_name(job->path, number);
        if (job->kept == NULL)
            return dm__no_memory(err);
        if (dm__file_identify(job->kept, &id) != 0)
            return DM_OK;
        dm__free(job->kept);
    }
}

/* Nothing was replaced: there is nothing to keep. What was put aside is there no more. */
static void kept_drop(restore_job *job)
{
    if (job->kept != NULL && job->to != NULL)
        (void)dm__file_remove(job->kept);
    dm__free(job->kept);
}

/* Unchecked: it may well be because it is damaged that it is to be replaced. */
static dm_status old_keep(restore_job *job, dm_error *err)
{
    static const dm__snapshot how = {.check = false};
    dm__conn *old = NULL;
    dm_status rc = kept_choose(job, err);
    if (rc == DM_OK)
        rc = dm__conn_open(job->path, false, 0, &old, err);
    if (rc == DM_OK)
        rc = dm__stmt_exec(old, DM__STMT_BEGIN, err);
    if (rc == DM_OK)
        rc = dm__snapshot_write(old, job->kept, &how, &job->copying, err);
    dm__conn_close(old, false);
    return rc;
}

/* ---- into the live file ---- */

static dm_status dest_lock(restore_job *job, sqlite3_backup *backup, sqlite3 *to, dm_error *err)
{
    int64_t deadline_ns = dm__deadline_ns(job->to);
    for (;;) {
        int code = sqlite3_backup_step(backup, 0);
        if (code == SQLITE_OK)
            return DM_OK;
        dm_status rc = dm__fail_sqlite(err, to, code, "restore the database");
        if (rc == DM_BUSY)
            rc = dm__busy_wait(&job->copying.stop, to, deadline_ns, err);
        if (rc != DM_OK)
            return rc;
    }
}

static dm_status replace(restore_job *job, dm_error *err)
{
    dm__conn *to = job->target;
    sqlite3_backup *backup = sqlite3_backup_init(to->db, "main", job->source->db, "main");
    if (backup == NULL)
        return dm__fail_sqlite(err, to->db, sqlite3_errcode(to->db), "restore the database");
    dm_status rc = dest_lock(job, backup, to->db, err);
    job->copying.after = sqlite3_backup_pagecount(backup);
    if (rc == DM_OK)
        rc = old_keep(job, err);
    job->copying.after = 0;
    if (rc == DM_OK)
        rc = dm__pages_copy(backup, to->db, &job->copying, err);
    (void)sqlite3_backup_finish(backup); /* undoes what is not whole */
    if (rc == DM_OK)
        to->log_frames = DM__CHECKPOINT_FRAMES; /* SQLite does not tell: write it back now */
    return rc;
}

/* A live file's pages keep their size: a source of another goes through a file of that size. */
static dm_status stage(restore_job *job, dm__unfinished *file, int64_t page_size, dm_error *err)
{
    dm__copying untold = {0};
    int code = dm__unfinished_create(job->path, file);
    if (code != 0)
        return dm__fail_system(err, job->path, code);
    dm_status rc = dm__file_fill(file->path, job->source, false, &untold, err);
    if (rc == DM_OK)
        rc = dm__conn_open(file->path, false, 0, &job->source, err);
    if (rc != DM_OK)
        return rc;
    dm__conn_stoppable_set(job->source, true);
    return dm__conn_exec(job->source, err, "PRAGMA page_size=%lld; VACUUM", page_size);
}

static dm_status replace_staged(restore_job *job, dm_error *err)
{
    dm__conn *source = job->source;
    dm__unfinished file = {NULL, -1};
    int64_t from = 0, to = 0;
    dm_status rc = dm__conn_integer(source, &from, err, "PRAGMA page_size");
    if (rc == DM_OK)
        rc = dm__conn_integer(job->target, &to, err, "PRAGMA page_size");
    if (rc == DM_OK && from != to)
        rc = stage(job, &file, to, err);
    if (rc == DM_OK)
        rc = replace(job, err);
    if (job->source != source)
        dm__conn_close(job->source, false);
    dm__unfinished_drop(&file);
    return rc;
}

/* ---- from where ---- */

static dm_status source_verify(dm__conn *source, void *argument, dm_error *err)
{
    (void)argument;
    dm_status rc = dm__conn_read_once(source, err);
    return rc == DM_OK ? dm__integrity_verify(source, false, err) : rc;
}

/* Not the reader's result: that one would be tried again where the writer was busy. */
static dm_status source_replace(dm__conn *source, void *argument, dm_error *err)
{
    restore_job *job = argument;
    job->source = source;
    dm_status rc = dm__conn_read_once(source, err);
    if (rc == DM_OK)
        job->rc = replace_staged(job, err);
    return rc;
}

/* Another restore from the same file would go on by the same words. Where this fails it does so:
 * what was asked for is done. */
static void go_on_apart(restore_job *job)
{
    dm_status rc = dm__eras_renew(job->target, dm__deadline_ns(job->to), NULL);
    (void)rc;
}

/* In the writers' turn, and from there into the source: a writer's turn cannot be waited for from
 * inside a store for which a fork waits. */
static dm_status restore_live(dm__conn *target, void *argument, dm_error *err)
{
    restore_job *job = argument;
    job->target = target;
    job->from->within = true;
    dm_status rc = dm__read_aside(job->from, source_replace, job, err);
    job->from->within = false;
    if (rc == DM_OK)
        rc = job->rc;
    if (rc == DM_OK)
        go_on_apart(job);
    return rc;
}

static dm_status restore_new(dm__conn *source, void *argument, dm_error *err)
{
    restore_job *job = argument;
    dm__snapshot how = {.check = true, .aside = job->kept};
    dm_status rc = dm__conn_read_once(source, err);
    if (rc == DM_OK)
        job->rc = dm__snapshot_write(source, job->path, &how, &job->copying, err);
    return rc;
}

static bool same_file(const char *a, const char *b)
{
    dm__file_id ia, ib;
    return dm__file_identify(a, &ia) == 0 && dm__file_identify(b, &ib) == 0 &&
           ia.device == ib.device && ia.inode == ib.inode;
}

/* A read-only handle: what must be converted first is refused by it. */
static dm_status source_open(const char *src, const char *dest, int64_t busy_timeout_ms,
                             dm_manager **from_out, dm_error *err)
{
    dm_options options = {.read_only = true, .busy_timeout_ms = busy_timeout_ms};
    if (strcmp(src, ":memory:") == 0 || strcmp(dest, ":memory:") == 0)
        return dm__fail(err, DM_INVALID, "a database in memory cannot be restored");
    if (same_file(src, dest))
        return dm__fail(err, DM_INVALID, "src and dest are the same file: %s", src);
    dm_status rc = dm_open(src, &options, from_out, err);
    dm__file_id id;
    if (rc == DM_READ_ONLY && dm__file_identify(src, &id) == 0 && id.size == 0)
        return dm__fail(err, rc, "%s is empty: there is nothing to restore", src);
    return rc;
}

/* ---- to where ---- */

static dm_status encoding_read(dm__conn *conn, int64_t *out, dm_error *err)
{
    return dm__conn_integer(conn, out, err,
                            "SELECT (encoding='UTF-16le')+2*(encoding='UTF-16be') FROM"
                            " pragma_encoding");
}

/* Opening the older layout would convert it, though nothing may come of the restore. And SQLite
 * does not expect the encoding of a database to change under its connections: they would fail. */
static dm_status dest_admit(restore_job *job, dm__conn *source, dm__conn *dest, dm_error *err)
{
    dm__file_kind kind;
    int64_t from = 0, to = 0;
    dm_status rc = dm__schema_probe(dest, &kind, err);
    if (rc == DM_OK && kind == DM__FILE_OLDER)
        return dm__fail(err, DM_READ_ONLY, "%s has the older layout: open it once for writing",
                        job->dest);
    if (rc == DM_OK)
        rc = encoding_read(dest, &to, err);
    if (rc == DM_OK)
        rc = encoding_read(source, &from, err);
    if (rc == DM_OK && from != to)
        rc = dm__fail(err, DM_INVALID,
                      "src is in %s and dest in %s, which those who have it open could not follow: "
                      "restore to where no file is",
                      from == 0 ? "UTF-8" : "UTF-16", to == 0 ? "UTF-8" : "UTF-16");
    return rc;
}

/* What opening it will tell is left to that. */
static dm_status dest_look(dm__conn *source, void *argument, dm_error *err)
{
    restore_job *job = argument;
    dm__conn *dest = NULL;
    dm_status rc = dm__conn_open(job->path, false, dm__deadline_ns(job->from), &dest, err);
    if (rc == DM_OK)
        rc = dest_admit(job, source, dest, err);
    dm__conn_close(dest, false);
    rc = dm__fail_at(err, rc, "", job->dest); /* or it would be said of the source */
    return rc == DM_FOREIGN || rc == DM_NEWER || rc == DM_DAMAGED || rc == DM_CANNOT_OPEN ? DM_OK
                                                                                          : rc;
}

/* Where there is something: open it, or, where its damage forbids that, name where it goes. */
static dm_status dest_open(restore_job *job, int64_t busy_timeout_ms, dm_error *err)
{
    dm__file_id id;
    if (dm__file_identify(job->dest, &id) != 0)
        return dm__dest_resolve(job->dest, false, &job->path, err);
    job->path = dm__path_resolve(job->dest);
    if (job->path == NULL)
        return dm__fail_system(err, job->dest, errno);
    dm_options options = {.busy_timeout_ms = busy_timeout_ms};
    dm_status rc = dm__dest_name_check(job->path, err);
    if (rc == DM_OK && id.is_regular && id.links == 1) /* a fork waits for what reads the source */
        rc = dm__read_aside(job->from, dest_look, job, err);
    if (rc == DM_OK)
        rc = dm_open(job->path, &options, &job->to, err);
    return rc == DM_DAMAGED ? kept_choose(job, err) : rc;
}

static dm_status dest_fill(restore_job *job, int64_t busy_timeout_ms, dm_error *err)
{
    dm_status rc = dest_open(job, busy_timeout_ms, err); /* for writing: an empty one gets tables */
    if (rc == DM_OK && job->to != NULL)
        rc = dm__write_alone(job->to, restore_live, job, err);
    else if (rc == DM_OK && (rc = dm__read_aside(job->from, restore_new, job, err)) == DM_OK)
        rc = job->rc;
    return rc;
}

dm_status dm_restore(const char *src, const char *dest, int64_t busy_timeout_ms,
                     const dm_progress *progress, char **kept_out, dm_error *err)
{
    restore_job job = {.dest = dest, .copying.progress = progress};
    dm_status rc = source_open(src, dest, busy_timeout_ms, &job.from, err);
    if (rc == DM_OK)
        rc = dm__read_aside(job.from, source_verify, &job, err);
    if (rc != DM_OK)
        rc = dm__fail_at(err, rc, "src", src);
    else if ((rc = dest_fill(&job, busy_timeout_ms, err)) != DM_OK)
        rc = dm__fail_at(err, rc, "dest", dest);
    dm_free(job.to);
    dm_free(job.from);
    free(job.path);
    if (rc == DM_OK)
        *kept_out = job.kept;
    else
        kept_drop(&job);
    return rc;
}
