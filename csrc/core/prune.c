/* SPDX-License-Identifier: MIT
 *
 * Removing old requests and runs. A plan of what goes is made on a snapshot, by time; then steps,
 * each a transaction of some milliseconds, take from its front:
 *
 *     plan     1 2 3 4 5 6 7 8 9 …
 *     steps   [1 2 3] pause [4 5 6 7] pause [8 9 …
 *
 * A step puts what it removes into the sums that are kept, so a reader sees each request once,
 * whatever it sees. One that its checksum says is not what was stored stays: in a sum nobody would
 * find it again. Requests that came since the plan was made and belong into it are found by
 * their ids and put into their place first: all are pruned in the order in which they count. */
#include "dm_store.h"
#include "kept.h"

#include <stdlib.h>
#include <string.h>

#define CLOCK_ROWS 32
#define LATE_MAX   2048 /* ids that a step looks at, at first: more are for a reader */

typedef struct {
    double time_s;
    int64_t id;
} planned;

typedef struct {
    int64_t id;
    uint32_t count; /* of requests or runs */
    bool runs;
} planned_sum;

/* Of one model, or of the program. */
typedef struct {
    const dm_prune_query *query;
    bool program;
    planned *rows; /* by time, then by id; those before `at` have gone */
    size_t at, count, capacity;
    int64_t last_id; /* later ones have not been looked at */
    double end_s;    /* those that come meanwhile belong into the plan only before that */
    dm_runs runs;    /* newest first; those from `run_count` on have gone */
    size_t run_count;
    planned_sum *sums; /* of what is no longer to be kept; those before `sum_at` have gone */
    size_t sum_at, sum_count, sum_capacity;
    bool begun;        /* runs and sums are planned once */
    uint64_t late_max; /* ids that the next step looks at */
    double stays_s;    /* of the last that was left */
    dm_pruned done;
} prune_plan;

static void plan_reset(prune_plan *plan)
{
    dm__free(plan->rows);
    dm__free(plan->sums);
    dm_runs_reset(&plan->runs);
    *plan = (prune_plan){0};
}

static const char *safe_of(const dm__model *model)
{
    return model == NULL ? DM__PROGRAM : model->safe;
}

/* What lies before the first bucket has come since the buckets were made, and has none: it is left
 * for the next time. */
static double first_s(const dm_prune_query *query)
{
    return query->edges_s == NULL ? -INFINITY : query->edges_s[0];
}

/* ---- the plan: requests ---- */

static dm_status planned_take(dm__scan *scan)
{
    prune_plan *plan = scan->argument;
    for (size_t i = 0; i < scan->rows.count; i++) {
        if (!dm__array_grow(&plan->rows, &plan->capacity, plan->count, sizeof *plan->rows))
            return DM_NO_MEMORY;
        plan->rows[plan->count++] = (planned){scan->rows.timestamp_s[i], scan->rows.id[i]};
    }
    scan->rows.count = 0;
    return DM_OK;
}

static int compare_planned(const void *a, const void *b)
{
    const planned *x = a, *y = b;
    if (x->time_s != y->time_s)
        return x->time_s < y->time_s ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Those from `from` on have just come: to their places among those before. */
static dm_status plan_merge(prune_plan *plan, size_t from, dm_error *err)
{
    size_t late = plan->count - from, left = from, to = plan->count;
    if (late == 0)
        return DM_OK;
    qsort(plan->rows + from, late, sizeof *plan->rows, compare_planned);
    if (from == plan->at || compare_planned(&plan->rows[from - 1], &plan->rows[from]) < 0)
        return DM_OK;
    planned *moved = dm__array_copy(plan->rows + from, late, sizeof *moved);
    if (moved == NULL) {
        plan->count = from;
        return dm__no_memory(err);
    }
    while (late > 0)
        if (left > plan->at && compare_planned(&plan->rows[left - 1], &moved[late - 1]) > 0)
            plan->rows[--to] = plan->rows[--left];
        else
            plan->rows[--to] = moved[--late];
    dm__free(moved);
    return DM_OK;
}

/* What differs from its checksum stays, also where its values are impossible. */
static bool model_compares(dm__conn *conn, const dm__model *model, const dm_prune_query *query)
{
    return query->edges_s != NULL && dm__checksums_exist(conn, model->safe);
}

/* Take in what has come since it was last looked at, up to `last_id`. */
static dm_status plan_extend(dm__conn *conn, dm__model *model, prune_plan *plan, int64_t last_id,
                             dm_error *err)
{
    size_t from = plan->count;
    dm__scan scan = {.after_id = plan->last_id,
                     .end_id = last_id,
                     .start_s = first_s(plan->query),
                     .end_s = plan->end_s,
                     .times_only = model_compares(conn, model, plan->query),
                     .limit = SIZE_MAX,
                     .capacity = DM__CHUNK_ROWS,
                     .full = planned_take,
                     .argument = plan};
    if (last_id <= plan->last_id)
        return DM_OK;
    dm_status rc = dm__request_columns_alloc(&scan.rows, DM__CHUNK_ROWS)
                       ? dm__scan_run(conn, model, &scan, err)
                       : dm__no_memory(err);
    if (rc == DM_OK && planned_take(&scan) != DM_OK)
        rc = dm__no_memory(err);
    dm_request_columns_reset(&scan.rows);
    if (rc == DM_OK)
        rc = plan_merge(plan, from, err);
    if (rc != DM_OK) {
        plan->count = from;
        return rc;
    }
    plan->last_id = last_id;
    if (plan->at < plan->count)
        plan->end_s = plan->rows[plan->count - 1].time_s;
    return DM_OK;
}

/* ---- the plan: runs ---- */

/* Leaves those that are over; the newest may go on. One that ends before it starts (a clock was set
 * back, or another program wrote it) lies in no bucket and has no seconds: it stays, for check().
 */
static void runs_filter(dm_runs *runs, const dm_prune_query *query)
{
    size_t kept = 0;
    for (size_t i = 1; i < runs->count; i++)
        if (runs->runs[i].start_time_s >= first_s(query) &&
            runs->runs[i].end_time_s >= runs->runs[i].start_time_s &&
            runs->runs[i].end_time_s <= query->before_s)
            runs->runs[kept++] = runs->runs[i];
    runs->count = kept;
}

static dm_status runs_plan(dm__conn *conn, dm__model *model, const dm_prune_query *query,
                           dm_runs *runs, dm_error *err)
{
    dm_window all = DM_WINDOW_ALL;
    dm_status rc = dm__runs_of_model(conn, model, &all, runs, err);
    runs_filter(runs, query);
    return rc;
}

/* ---- the plan: sums ---- */

static dm_status sums_read(dm__conn *conn, sqlite3_stmt *stmt, prune_plan *plan, dm_error *err)
{
    bool more = true;
    dm_status rc = DM_OK;
    while ((rc = dm__stmt_step(conn, stmt, &more, err)) == DM_OK && more) {
        if (!dm__array_grow(&plan->sums, &plan->sum_capacity, plan->sum_count, sizeof *plan->sums))
            return dm__no_memory(err);
        plan->sums[plan->sum_count++] =
            (planned_sum){.runs = sqlite3_column_int(stmt, 0) != 0,
                          .id = sqlite3_column_int64(stmt, 1),
                          .count = (uint32_t)sqlite3_column_int64(stmt, 2)};
    }
    return rc;
}

static dm_status sums_plan(dm__conn *conn, const char *safe, prune_plan *plan, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    bool there = false;
    plan->sum_count = 0;
    if (plan->query->edges_s != NULL)
        return DM_OK;
    dm_status rc = dm__kept_find(conn, &there, err);
    if (rc != DM_OK || !there)
        return rc;
    rc = dm__stmt_get(conn, DM__STMT_PRUNED_OLD, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_text(stmt, 1, safe, -1, SQLITE_STATIC);
        (void)sqlite3_bind_double(stmt, 2, plan->query->before_s);
        dm__conn_stoppable_set(conn, true);
        rc = sums_read(conn, stmt, plan, err);
        dm__conn_stoppable_set(conn, false);
    }
    dm__stmt_put(stmt);
    return rc;
}

/* ---- how much there is ---- */

static dm_status count_add(void *argument, const dm__rows_part *part, dm_error *err)
{
    (void)err;
    *(int64_t *)argument += (int64_t)part->rows.count;
    return DM_OK;
}

static dm_status requests_count(dm__conn *conn, dm__model *model, const dm_prune_query *query,
                                int64_t *count, dm_error *err)
{
    dm__rows_query rows = {
        .start_s = first_s(query), .end_s = query->before_s, .each = count_add, .argument = count};
    int64_t staying = 0;
    if (!model_compares(conn, model, query))
        return dm__rows_each(conn, model, &rows, err);
    dm__conn_stoppable_set(conn, true);
    dm_status rc =
        dm__conn_integer(conn, count, err,
                         "SELECT count(*) FROM \"%w_requests\" NOT INDEXED"
                         " WHERE timestamp>=%!.17g AND timestamp<%!.17g",
                         model->safe, dm__sql_time(rows.start_s), dm__sql_time(rows.end_s));
    dm__conn_stoppable_set(conn, false);
    if (rc == DM_OK)
        rc = dm__checksums_differing(conn, model->safe, rows.start_s, rows.end_s, &staying, err);
    *count -= staying;
    return rc;
}

/* `model` NULL: of the program. */
static dm_status what_goes(dm__conn *conn, dm__model *model, const dm_prune_query *query,
                           dm_pruned *count, dm_error *err)
{
    prune_plan plan = {.query = query};
    *count = (dm_pruned){0, 0};
    dm_status rc = runs_plan(conn, model, query, &plan.runs, err);
    count->runs = (int64_t)plan.runs.count;
    if (rc == DM_OK && model != NULL)
        rc = requests_count(conn, model, query, &count->requests, err);
    if (rc == DM_OK)
        rc = sums_plan(conn, safe_of(model), &plan, err);
    for (size_t i = 0; i < plan.sum_count; i++)
        *(plan.sums[i].runs ? &count->runs : &count->requests) += plan.sums[i].count;
    plan_reset(&plan);
    return rc;
}

typedef struct {
    dm__model_read read;
    const dm_prune_query *query;
    dm_prune_result *result;
} counting;

/* Where what is there cannot be counted, pruning it finds out why, and keeps no other from it. */
static dm_status count_or_try(dm_status rc, const dm_prune_query *query, dm_pruned *count)
{
    if (rc != DM_CORRUPT_DATA || query->dry_run)
        return rc;
    *count = (dm_pruned){.requests = 1};
    return DM_OK;
}

static dm_status model_count(dm__conn *conn, dm__model *model, dm__model_read *read, dm_error *err)
{
    counting *job = (counting *)read;
    dm_pruned *count = &job->result->counts[read->index];
    return count_or_try(what_goes(conn, model, job->query, count, err), job->query, count);
}

static dm_status all_count(dm__conn *conn, void *argument, dm_error *err)
{
    counting *job = argument;
    dm_prune_result *result = job->result;
    dm_prune_result_reset(result);
    dm_status rc =
        dm__models_asked(conn, job->query->models, job->query->model_count, &result->models, err);
    result->counts = dm__calloc(result->models.count + 1, sizeof *result->counts);
    if (rc == DM_OK && result->counts == NULL)
        rc = dm__no_memory(err);
    job->read.from = model_count;
    if (rc == DM_OK)
        rc = dm__read_models(conn, &result->models, &job->read, sizeof *job, err);
    if (rc != DM_OK || job->query->models != NULL)
        return rc;
    dm_pruned *program = &result->counts[result->models.count];
    return count_or_try(what_goes(conn, NULL, job->query, program, err), job->query, program);
}

void dm_prune_result_reset(dm_prune_result *result)
{
    if (result == NULL)
        return;
    dm_model_names_reset(&result->models);
    dm__free(result->counts);
    *result = (dm_prune_result){0};
}

/* ---- a step ---- */

typedef struct {
    dm__model_read read;
    prune_plan *plan;
    dm__steps *steps;
    bool behind;   /* more has come than a step can look at */
    bool compares; /* rows with their checksums, before they go into sums */
    dm_pruned done;
} step;

static dm_status row_delete(dm__conn *conn, dm__model *model, dm__stmt_id id, int64_t row_id,
                            dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__model_stmt_get(conn, model, id, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_int64(stmt, 1, row_id);
        rc = dm__stmt_run(conn, stmt, err);
    }
    dm__stmt_put(stmt);
    return rc;
}

/* What counts before it and what counts after it are not put together. */
static dm_status request_leave(const planned *row, dm__keeper *keeper, prune_plan *plan,
                               dm_error *err)
{
    plan->stays_s = keeper->stays_s = row->time_s;
    return dm__keeper_flush(keeper, err);
}

/* One that others have removed, or given another time, since the plan was made is left alone. */
static dm_status request_prune(dm__conn *conn, dm__model *model, const planned *row,
                               dm__keeper *keeper, step *job, dm_error *err)
{
    dm_request request;
    bool found = false, differs = false;
    dm_status rc = DM_OK;
    if (job->compares) /* first: what differs may be impossible to read */
        rc = dm__checksum_differs(conn, model, row->id, &differs, err);
    if (rc != DM_OK || differs)
        return rc == DM_OK ? request_leave(row, keeper, job->plan, err) : rc;
    rc = dm__request_read(conn, model, row->id, &found, &request, err);
    if (rc != DM_OK || !found || request.timestamp_s != row->time_s)
        return rc;
    if (keeper->packed != NULL)
        rc = dm__keep_request(keeper, &request, err);
    if (rc == DM_OK)
        rc = row_delete(conn, model, DM__STMT_REQUEST_DELETE, row->id, err);
    static const dm__stmt_id beside[] = {DM__STMT_TIMING_DELETE, DM__STMT_CHECKSUM_DELETE};
    for (int i = 0; i < 2 && rc == DM_OK; i++) {
        rc = row_delete(conn, model, beside[i], row->id, err);
        rc = rc == (dm_status)DM__STALE ? DM_OK : rc; /* no such table: nothing to delete */
    }
    job->done.requests += rc == DM_OK;
    return rc;
}

static dm_status run_prune(dm__conn *conn, dm__model *model, const dm_run *run, dm__keeper *keeper,
                           step *job, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = model == NULL ? dm__stmt_get(conn, DM__STMT_PROGRAM_RUN_DELETE, &stmt, err)
                                 : dm__model_stmt_get(conn, model, DM__STMT_RUN_DELETE, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_int64(stmt, 1, run->id);
    (void)sqlite3_bind_double(stmt, 2, run->start_time_s);
    (void)sqlite3_bind_double(stmt, 3, run->end_time_s);
    rc = dm__stmt_run(conn, stmt, err);
    bool gone = rc == DM_OK && sqlite3_changes(conn->db) > 0;
    dm__stmt_put(stmt);
    if (gone && keeper->packed != NULL)
        rc = dm__keep_run(keeper, run, err);
    job->done.runs += gone && rc == DM_OK;
    return rc;
}

/* One that has gone on beyond `before_s` since the plan was made is left alone. */
static dm_status sum_prune(dm__conn *conn, const char *safe, const planned_sum *sum, step *job,
                           dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm__stmt_id id = sum->runs ? DM__STMT_PRUNED_RUN_DELETE : DM__STMT_PRUNED_PART_DELETE;
    dm_status rc = dm__stmt_get(conn, id, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_text(stmt, 1, safe, -1, SQLITE_STATIC);
        (void)sqlite3_bind_double(stmt, 2, job->plan->query->before_s);
        (void)sqlite3_bind_int64(stmt, 3, sum->id);
        rc = dm__stmt_run(conn, stmt, err);
    }
    if (rc == DM_OK && sqlite3_changes(conn->db) > 0)
        *(sum->runs ? &job->done.runs : &job->done.requests) += sum->count;
    dm__stmt_put(stmt);
    return rc;
}

static dm_status plan_prune(dm__conn *conn, dm__model *model, dm__keeper *keeper, step *job,
                            dm_error *err)
{
    prune_plan *plan = job->plan;
    dm_status rc = DM_OK;
    bool going = true;
    for (size_t i = 1; going && plan->at < plan->count && rc == DM_OK; i++) {
        rc = request_prune(conn, model, &plan->rows[plan->at++], keeper, job, err);
        going = i % CLOCK_ROWS != 0 || dm__step_time_left(job->steps);
    }
    if (rc == DM_OK && keeper->packed != NULL)
        rc = dm__keeper_flush(keeper, err);
    for (size_t i = 1; going && plan->run_count > 0 && rc == DM_OK; i++) {
        rc = run_prune(conn, model, &plan->runs.runs[--plan->run_count], keeper, job, err);
        going = i % CLOCK_ROWS != 0 || dm__step_time_left(job->steps);
    }
    for (size_t i = 1; going && plan->sum_at < plan->sum_count && rc == DM_OK; i++) {
        rc = sum_prune(conn, safe_of(model), &plan->sums[plan->sum_at++], job, err);
        going = i % CLOCK_ROWS != 0 || dm__step_time_left(job->steps);
    }
    return rc;
}

/* Each time that it is behind, the next step looks at more, and that is not a part of its time: so
 * it comes to its work also beside those who add many rows without a pause. To read them takes a
 * fraction of what that took. */
static dm_status late_take(dm__conn *conn, dm__model *model, step *job, dm_error *err)
{
    prune_plan *plan = job->plan;
    int64_t last_id = INT64_MIN, begun_ns = dm__monotonic_ns();
    dm_status rc = dm__rows_last_id(conn, model, &last_id, err);
    if (rc != DM_OK || plan->at == plan->count || last_id <= plan->last_id)
        return rc;
    job->behind = (uint64_t)last_id - (uint64_t)plan->last_id > plan->late_max;
    if (job->behind)
        plan->late_max *= 2;
    else
        rc = plan_extend(conn, model, plan, last_id, err);
    job->steps->until_ns += dm__monotonic_ns() - begun_ns;
    return rc;
}

static dm_status step_apply(dm__conn *conn, dm__model *model, dm__model_read *read, dm_error *err)
{
    step *job = (step *)read;
    const dm_prune_query *query = job->plan->query;
    dm__keeper keeper = {
        .edges_s = query->edges_s, .edge_count = query->edge_count, .stays_s = job->plan->stays_s};
    dm_status rc = model == NULL ? DM_OK : late_take(conn, model, job, err);
    job->compares = model != NULL && model_compares(conn, model, query);
    if (rc == DM_OK && !job->behind && query->edges_s != NULL)
        rc = dm__keeper_begin(&keeper, conn, model, err);
    if (rc == DM_OK && !job->behind)
        rc = plan_prune(conn, model, &keeper, job, err);
    dm__keeper_reset(&keeper);
    return rc;
}

static dm_status step_work(dm__conn *conn, void *argument, dm_error *err)
{
    step *job = argument;
    prune_plan *plan = job->plan;
    bool there = true;
    dm_status rc = dm__conn_read_once(conn, err); /* others may have dropped the tables */
    if (rc == DM_OK)
        rc = dm__kept_find(conn, &there, err);
    if (rc == DM_OK && !there && plan->query->edges_s != NULL)
        rc = dm__kept_create(conn, err);
    if (!there)
        plan->sum_at = plan->sum_count;
    if (rc == DM_OK)
        rc = plan->program ? step_apply(conn, NULL, &job->read, err)
                           : dm__read_model(conn, &job->read, err);
    return rc;
}

/* ---- a model, step by step ---- */

static dm_status model_plan(dm__conn *conn, dm__model *model, dm__model_read *read, dm_error *err)
{
    prune_plan *plan = ((step *)read)->plan;
    int64_t last_id = INT64_MIN;
    dm_status rc = DM_OK;
    if (model != NULL)
        rc = dm__rows_last_id(conn, model, &last_id, err);
    if (rc == DM_OK && model != NULL)
        rc = plan_extend(conn, model, plan, last_id, err);
    if (rc != DM_OK || plan->begun)
        return rc;
    rc = runs_plan(conn, model, plan->query, &plan->runs, err);
    plan->run_count = plan->runs.count;
    if (rc == DM_OK)
        rc = sums_plan(conn, safe_of(model), plan, err);
    plan->begun = rc == DM_OK;
    return rc;
}

static dm_status program_plan(dm__conn *conn, void *job, dm_error *err)
{
    return model_plan(conn, NULL, job, err);
}

static bool plan_left(const prune_plan *plan)
{
    return plan->at < plan->count || plan->run_count > 0 || plan->sum_at < plan->sum_count;
}

/* A transaction. Where it fails, the plan is no longer what is left to do. */
static dm_status step_take(dm__steps *steps, step *job, dm_error *err)
{
    prune_plan *plan = job->plan;
    job->done = (dm_pruned){0, 0};
    job->behind = false;
    job->read.from = step_apply;
    dm_status rc = dm__step_take(steps, step_work, job, err);
    if (rc != DM_OK)
        return rc;
    plan->done.requests += job->done.requests;
    plan->done.runs += job->done.runs;
    steps->done += job->done.requests + job->done.runs;
    return DM_OK;
}

static dm_status plan_run(dm__steps *steps, step *job, dm_error *err)
{
    prune_plan *plan = job->plan;
    dm_status rc = DM_OK;
    do {
        job->read.from = model_plan;
        if (rc == DM_OK)
            rc = dm__read(steps->m, true, plan->program ? program_plan : dm__model_read_run, job,
                          err);
        job->behind = false;
        while (rc == DM_OK && !job->behind && plan_left(plan)) {
            rc = step_take(steps, job, err);
            if (rc == DM_OK && plan_left(plan))
                rc = dm__step_pause(steps, "the rest was not pruned", err);
        }
    } while (rc == DM_OK && job->behind);
    /* Somebody has deleted or renamed it meanwhile: then nothing of it is left to prune. */
    return rc == DM_MODEL_NOT_FOUND ? DM_OK : rc;
}

/* `name` NULL: the program. The count of what goes becomes that of what has gone. */
static dm_status one_prune(dm__steps *steps, const dm_prune_query *query, const dm_model_name *name,
                           dm_pruned *count, dm_error *err)
{
    prune_plan plan = {.query = query,
                       .program = name == NULL,
                       .last_id = INT64_MIN,
                       .end_s = query->before_s,
                       .late_max = LATE_MAX,
                       .stays_s = -INFINITY};
    step job = {.plan = &plan, .steps = steps};
    if (count->requests + count->runs == 0)
        return DM_OK;
    if (name != NULL)
        job.read.name = (dm_str){name->original_name, name->original_length};
    dm_status rc = plan_run(steps, &job, err);
    *count = plan.done;
    plan_reset(&plan);
    return rc;
}

/* What is wrong with one model's data keeps only that from being pruned; it is told at the end. */
static dm_status all_prune(dm__steps *steps, const dm_prune_query *query, dm_prune_result *result,
                           dm_error *err)
{
    dm_status rc = DM_OK, first_rc = DM_OK;
    dm_error first = {0}, each = {0}; /* `err` may be NULL */
    size_t count = result->models.count;
    for (size_t i = 0; i <= count; i++)
        steps->total += result->counts[i].requests + result->counts[i].runs;
    for (size_t i = 0; i <= count && rc == DM_OK; i++) {
        rc = one_prune(steps, query, i < count ? &result->models.models[i] : NULL,
                       &result->counts[i], &each);
        if (rc == DM_CORRUPT_DATA && first_rc == DM_OK) {
            first_rc = rc;
            first = each;
        }
        if (rc == DM_CORRUPT_DATA)
            rc = DM_OK;
    }
    if (rc == DM_OK && first_rc == DM_OK)
        return dm__steps_end(steps, err);
    if (err != NULL)
        *err = rc == DM_OK ? first : each;
    return rc == DM_OK ? first_rc : rc;
}

static dm_status query_check(const dm_prune_query *query, dm_error *err)
{
    if (isnan(query->before_s))
        return dm__fail(err, DM_INVALID, "before must be a time");
    if (query->edges_s != NULL && query->edge_count == 0)
        return dm__fail(err, DM_INVALID, "there must be at least one bucket");
    if (query->edges_s != NULL && isinf(query->edges_s[0]))
        return dm__fail(err, DM_INVALID, "the first bucket must begin at a time");
    return dm__ascending_check("buckets", query->edges_s, query->edge_count, err);
}

dm_status dm_prune(dm_manager *m, const dm_prune_query *query, const dm_progress *progress,
                   dm_prune_result *result_out, dm_error *err)
{
    dm_prune_result result = {0};
    counting count = {.query = query, .result = &result};
    dm__steps steps = {.m = m, .progress = progress};
    dm_status rc = query_check(query, err);
    if (rc == DM_OK && !query->dry_run && dm_in_batch(m)) /* it would not be undone with it */
        rc = dm__fail(err, DM_INVALID, "prune cannot be a part of a batch");
    if (rc == DM_OK && !query->dry_run)
        rc = dm__writable(m, err);
    if (rc == DM_OK)
        rc = dm__read_rows(m, query->model_count != 1 || query->models == NULL, all_count, &count,
                           err);
    if (rc == DM_OK && !query->dry_run)
        rc = all_prune(&steps, query, &result, err);
    if (rc == DM_OK)
        *result_out = result;
    else
        dm_prune_result_reset(&result);
    return rc;
}
