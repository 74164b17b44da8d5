/* SPDX-License-Identifier: MIT
 *
 * Giving room back. Files that we make can move their last pages into free ones and be cut off
 * (SQLite's incremental vacuum), which goes in steps. Others are written anew once, and can do so
 * from then on. */
#include "dm_store.h"

#define STEP_PAGES 8 /* between two looks at the clock */

typedef struct {
    bool in_steps;
    int64_t bytes, free_pages;
    int64_t deadline_ns;
} room;

static dm_status room_look(dm__conn *conn, void *argument, dm_error *err)
{
    enum { INCREMENTAL = 2 };
    room *found = argument;
    int64_t mode = 0;
    dm_status rc = dm__file_bytes_read(conn, &found->bytes, err);
    if (rc == DM_OK)
        rc = dm__conn_integer(conn, &found->free_pages, err, "PRAGMA freelist_count");
    if (rc == DM_OK)
        rc = dm__conn_integer(conn, &mode, err, "PRAGMA auto_vacuum");
    found->in_steps = mode == INCREMENTAL;
    return rc;
}

static dm_status pages_return(dm__conn *conn, void *argument, dm_error *err)
{
    dm__steps *steps = argument;
    dm_status rc;
    int64_t left = 0;
    do {
        rc = dm__conn_exec(conn, err, "PRAGMA incremental_vacuum(%d)", STEP_PAGES);
        if (rc == DM_OK)
            rc = dm__conn_integer(conn, &left, err, "PRAGMA freelist_count");
    } while (rc == DM_OK && left > 0 && dm__step_time_left(steps));
    steps->done = steps->total > left ? steps->total - left : 0;
    return rc;
}

/* One step at least: it says what keeps us from writing. */
static dm_status all_return(dm__steps *steps, dm_error *err)
{
    dm_status rc = dm__step_take(steps, pages_return, steps, err);
    while (rc == DM_OK && steps->done < steps->total) {
        rc = dm__step_pause(steps, "the rest is still free", err);
        if (rc == DM_OK)
            rc = dm__step_take(steps, pages_return, steps, err);
    }
    return rc == DM_OK ? dm__steps_end(steps, err) : rc;
}

static dm_status write_anew(dm__conn *conn, void *argument, dm_error *err)
{
    room *found = argument;
    dm_status rc;
    dm__conn_stoppable_set(conn, true);
    while ((rc = dm__conn_exec(conn, err, "PRAGMA auto_vacuum=INCREMENTAL; VACUUM")) == DM_BUSY) {
        conn->counters.busy_retries++;
        if ((rc = dm__busy_wait(&conn->stop, conn->db, found->deadline_ns, err)) != DM_OK)
            break;
    }
    dm__conn_stoppable_set(conn, false);
    return rc;
}

/* The file shrinks when the log is written back. */
static dm_status room_look_after(dm__conn *conn, void *found, dm_error *err)
{
    conn->log_frames = DM__CHECKPOINT_FRAMES;
    return room_look(conn, found, err);
}

dm_status dm_vacuum(dm_manager *m, const dm_progress *progress, int64_t *before_out,
                    int64_t *after_out, dm_error *err)
{
    dm__steps steps = {.m = m, .progress = progress};
    room before = {0}, after = {0};
    dm_status rc = dm__write_alone(m, room_look, &before, err);
    if (rc != DM_OK)
        return rc;
    steps.total = before.free_pages;
    before.deadline_ns = dm__deadline_ns(m);
    rc = before.in_steps ? all_return(&steps, err) : dm__write_alone(m, write_anew, &before, err);
    if (rc == DM_OK)
        rc = dm__write_alone(m, room_look_after, &after, err);
    if (rc == DM_OK) {
        *before_out = before.bytes;
        *after_out = after.bytes;
    }
    return rc;
}

dm_status dm__room_return(dm_manager *m, dm_error *err)
{
    dm__steps steps = {.m = m};
    room found = {0};
    dm_status rc = dm__write_alone(m, room_look, &found, err);
    steps.total = found.free_pages;
    if (rc != DM_OK || !found.in_steps || found.free_pages == 0)
        return rc;
    rc = all_return(&steps, err);
    return rc == DM_OK ? dm__write_alone(m, room_look_after, &found, err) : rc;
}
