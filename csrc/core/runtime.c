/* SPDX-License-Identifier: MIT
 *
 * Runs of the program and of models: the same table, with and without a model. */
#include "dm_internal.h"

static dm_status run_stmt(dm__conn *conn, dm__model *model, dm__stmt_id of_program,
                          dm__stmt_id of_model, sqlite3_stmt **stmt_out, dm_error *err)
{
    return model == NULL ? dm__stmt_get(conn, of_program, stmt_out, err)
                         : dm__model_stmt_get(conn, model, of_model, stmt_out, err);
}

dm_status dm__run_insert(dm__conn *conn, dm__model *model, double start_time_s, int64_t *id_out,
                         dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc =
        run_stmt(conn, model, DM__STMT_PROGRAM_RUN_INSERT, DM__STMT_RUN_INSERT, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_double(stmt, 1, start_time_s);
    rc = dm__stmt_run(conn, stmt, err);
    if (rc == DM_OK)
        *id_out = sqlite3_last_insert_rowid(conn->db);
    dm__stmt_put(stmt);
    return rc;
}

static dm_status run_read(sqlite3_stmt *stmt, const char *table, dm_run *run, dm_error *err)
{
    run->id = sqlite3_column_int64(stmt, 0);
    dm__row row = {stmt, table, run->id};
    dm_status rc = dm__row_time(&row, 1, &run->start_time_s, err);
    return rc == DM_OK ? dm__row_time(&row, 2, &run->end_time_s, err) : rc;
}

static void run_table(const dm__model *model, char table[DM_SAFE_NAME_SIZE + 16])
{
    (void)sqlite3_snprintf(DM_SAFE_NAME_SIZE + 16, table, "%s_runtime",
                           model == NULL ? "program" : model->safe);
}

static dm_status run_newest(dm__conn *conn, dm__model *model, dm_run *run, bool *found,
                            dm_error *err)
{
    char table[DM_SAFE_NAME_SIZE + 16];
    sqlite3_stmt *stmt = NULL;
    dm_status rc =
        run_stmt(conn, model, DM__STMT_PROGRAM_RUN_NEWEST, DM__STMT_RUN_NEWEST, &stmt, err);
    if (rc == DM_OK)
        rc = dm__stmt_step(conn, stmt, found, err);
    run_table(model, table);
    if (rc == DM_OK && *found)
        rc = run_read(stmt, table, run, err);
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__run_end(dm__conn *conn, dm__model *model, double end_time_s, dm_error *err)
{
    dm_run newest = {0};
    bool found = false;
    dm_status rc = run_newest(conn, model, &newest, &found, err);
    if (rc == DM_OK && !found)
        return dm__fail(err, DM_RUN_NOT_FOUND, "there is no run to end: none was started");
    if (rc == DM_OK && end_time_s < newest.start_time_s)
        return dm__fail(err, DM_INVALID, "end_time %.6f is before the start %.6f of run %lld",
                        end_time_s, newest.start_time_s, (long long)newest.id);
    if (rc != DM_OK)
        return rc;
    sqlite3_stmt *stmt = NULL;
    rc = run_stmt(conn, model, DM__STMT_PROGRAM_RUN_END, DM__STMT_RUN_END, &stmt, err);
    if (rc == DM_OK) {
        (void)sqlite3_bind_int64(stmt, 1, newest.id);
        (void)sqlite3_bind_double(stmt, 2, end_time_s);
        rc = dm__stmt_run(conn, stmt, err);
    }
    dm__stmt_put(stmt);
    return rc;
}

/* ---- reading ---- */

/* Overlap; a run that has just begun, or lasted no time, counts as the instant of its start. A
 * window of no time holds nothing, not even what goes on all the while. */
static bool run_in_window(const dm_run *run, const dm_window *window)
{
    return window->start_s < window->end_s && run->start_time_s < window->end_s &&
           (run->end_time_s > window->start_s || run->start_time_s >= window->start_s);
}

static dm_status runs_read(dm__conn *conn, dm__model *model, dm__model_read *read, dm_error *err)
{
    dm_runs *runs = read->out;
    dm_runs_reset(runs);
    char table[DM_SAFE_NAME_SIZE + 16];
    run_table(model, table);
    size_t capacity = 0;
    size_t limit = read->window->limit > 0 ? (size_t)read->window->limit : SIZE_MAX;
    sqlite3_stmt *stmt = NULL;
    bool more = true;
    dm_status rc = run_stmt(conn, model, DM__STMT_PROGRAM_RUNS, DM__STMT_RUNS, &stmt, err);
    for (uint64_t step = 1; rc == DM_OK && runs->count < limit; step++) {
        dm_run run = {0};
        rc = dm__stmt_step(conn, stmt, &more, err);
        if (rc != DM_OK || !more)
            break;
        rc = run_read(stmt, table, &run, err);
        if (rc == DM_OK && run_in_window(&run, read->window)) {
            if (dm__array_grow(&runs->runs, &capacity, runs->count, sizeof run))
                runs->runs[runs->count++] = run;
            else
                rc = dm__no_memory(err);
        }
        if (rc == DM_OK && step % DM__STOP_ROWS == 0 && dm__stop_asked(&conn->stop))
            rc = dm__fail(err, DM_INTERRUPTED, "interrupted while reading");
    }
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__runs_of_model(dm__conn *conn, dm__model *model, const dm_window *window,
                            dm_runs *runs, dm_error *err)
{
    dm__model_read read = {.window = window, .out = runs};
    return runs_read(conn, model, &read, err);
}

static dm_status program_runs_read(dm__conn *conn, void *argument, dm_error *err)
{
    return runs_read(conn, NULL, argument, err);
}

static dm_status runs_get(dm_manager *m, dm__read_fn function, dm_str model,
                          const dm_window *window, dm_runs *runs_out, dm_error *err)
{
    dm_runs runs = {0};
    dm__model_read read = {.name = model, .from = runs_read, .window = window, .out = &runs};
    dm_status rc = dm__window_check(window, err);
    if (rc == DM_OK)
        rc = dm__read(m, true, function, &read, err);
    if (rc == DM_OK)
        *runs_out = runs;
    else
        dm_runs_reset(&runs);
    return rc;
}

dm_status dm_program_runs(dm_manager *m, const dm_window *window, dm_runs *runs_out, dm_error *err)
{
    return runs_get(m, program_runs_read, (dm_str){0}, window, runs_out, err);
}

dm_status dm_model_runs(dm_manager *m, dm_str model, const dm_window *window, dm_runs *runs_out,
                        dm_error *err)
{
    return runs_get(m, dm__model_read_run, model, window, runs_out, err);
}
