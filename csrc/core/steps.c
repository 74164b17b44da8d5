/* SPDX-License-Identifier: MIT
 *
 * A long job as short transactions, between which others write:
 *
 *     job      work commit . pause . work commit . pause . work
 *     others                 write                 write
 *
 * What a commit took beyond its time is taken off the work before the next. */
#include "dm_store.h"

#define STEP_NS  (12 * DM__MS) /* with the commit */
#define PAUSE_NS (6 * DM__MS)  /* longer than another process sleeps between two tries */
#define WORK_MIN (DM__MS / 2)

bool dm__step_time_left(const dm__steps *steps)
{
    return dm__monotonic_ns() < steps->until_ns;
}

static dm_status step_run(dm__conn *conn, void *argument, dm_error *err)
{
    dm__steps *steps = argument;
    dm_status rc = dm__begin_waiting(conn, steps->deadline_ns, err);
    steps->until_ns = dm__monotonic_ns() + steps->work_ns;
    if (rc == DM_OK)
        rc = steps->work(conn, steps->argument, err);
    int64_t worked_ns = dm__monotonic_ns();
    if (rc == DM_OK)
        rc = dm__stmt_exec(conn, DM__STMT_COMMIT, err);
    dm__rollback(conn);
    int64_t beyond_ns = dm__monotonic_ns() - worked_ns;
    if (worked_ns > steps->until_ns)
        beyond_ns += worked_ns - steps->until_ns;
    steps->work_ns = STEP_NS - beyond_ns > WORK_MIN ? STEP_NS - beyond_ns : WORK_MIN;
    return rc;
}

dm_status dm__step_take(dm__steps *steps, dm__read_fn work, void *argument, dm_error *err)
{
    if (steps->work_ns == 0)
        steps->work_ns = STEP_NS / 4; /* until it is known what a commit takes */
    steps->deadline_ns = dm__deadline_ns(steps->m);
    steps->work = work;
    steps->argument = argument;
    return dm__write_alone(steps->m, step_run, steps, err);
}

static bool told_to_stop(const dm__steps *steps)
{
    int64_t total = steps->done > steps->total ? steps->done : steps->total;
    return steps->progress != NULL &&
           steps->progress->report(steps->progress->argument, steps->done, total);
}

dm_status dm__step_pause(dm__steps *steps, const char *rest, dm_error *err)
{
    dm__sleep_ns(PAUSE_NS);
    return told_to_stop(steps) || dm__stop_asked(&steps->stop)
               ? dm__fail(err, DM_INTERRUPTED, "interrupted: %s", rest)
               : DM_OK;
}

dm_status dm__steps_end(dm__steps *steps, dm_error *err)
{
    steps->total = steps->done;
    return told_to_stop(steps) ? dm__fail(err, DM_INTERRUPTED, "interrupted") : DM_OK;
}
