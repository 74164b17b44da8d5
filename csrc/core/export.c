/* SPDX-License-Identifier: MIT
 *
 * Requests of one moment, handed in parts to a writer of the caller's, whose file appears when it
 * is whole. The moment is that of a read transaction on a connection of its own; between the parts
 * no statement runs but those that go along beside the requests. */
#include "dm_store.h"

#include <stdlib.h>
#include <string.h>

#define PART_ROWS 4096

typedef struct {
    dm__model_read read; /* first: see dm__model_read */
    const dm_export *query;
    const dm_export_writer *writer;
    dm_export_part part;
    dm_request_columns rows; /* room for PART_ROWS, which the next three have too */
    double *duration_s, *first_token_s;
    dm_str *request_ids;
    char *text; /* of the ids */
    size_t text_size;
} export_read;

static dm_status stopped(dm_error *err)
{
    return dm__fail(err, DM_INTERRUPTED, "interrupted while exporting");
}

/* ---- a part ---- */

static bool text_append(export_read *job, size_t *used, dm_str id)
{
    if (job->text_size - *used < id.length) {
        size_t wanted = (job->text_size + id.length) * 2;
        char *grown = dm__realloc(job->text, wanted);
        if (grown == NULL)
            return false;
        job->text = grown;
        job->text_size = wanted;
    }
    memcpy(job->text + *used, id.bytes, id.length);
    *used += id.length;
    return true;
}

/* What stands beside the rows. */
static dm_status part_fill(export_read *job, dm__timings *timings, dm__request_ids *ids,
                           dm_error *err)
{
    const dm_request_columns *rows = &job->rows;
    dm_status rc = DM_OK;
    size_t used = 0;
    for (size_t i = 0; i < rows->count && rc == DM_OK; i++) {
        dm_request request = {rows->timestamp_s[i], rows->input_tokens[i], rows->output_tokens[i],
                              rows->cache_n[i], rows->prompt_n[i]};
        dm_timing timing;
        rc = dm__timings_find(timings, rows->id[i], &timing, err);
        job->duration_s[i] = timing.duration_s;
        job->first_token_s[i] = timing.first_token_s;
        if (rc == DM_OK)
            rc = dm__request_ids_find(ids, rows->id[i], &request, &job->request_ids[i], err);
        if (rc == DM_OK && !text_append(job, &used, job->request_ids[i]))
            rc = dm__no_memory(err);
    }
    used = 0; /* the text stands still now */
    for (size_t i = 0; i < rows->count && rc == DM_OK; i++) {
        job->request_ids[i].bytes = job->text + used;
        used += job->request_ids[i].length;
    }
    return rc;
}

static dm_status part_write(export_read *job, dm_error *err)
{
    dm_export_part *part = &job->part;
    const dm_request_columns *rows = &job->rows;
    part->rows = (dm_request_rows){.count = rows->count,
                                   .timestamp_s = rows->timestamp_s,
                                   .input_tokens = rows->input_tokens,
                                   .output_tokens = rows->output_tokens,
                                   .cache_n = rows->cache_n,
                                   .prompt_n = rows->prompt_n,
                                   .duration_s = job->duration_s,
                                   .first_token_s = job->first_token_s};
    part->request_ids = job->request_ids;
    part->done += (int64_t)rows->count;
    return job->writer->take(job->writer->argument, part) ? stopped(err) : DM_OK;
}

/* ---- a model ---- */

static dm__scan scan_of(const export_read *job, size_t limit)
{
    return (dm__scan){.after_id = INT64_MIN,
                      .end_id = INT64_MAX,
                      .start_s = job->query->start_s,
                      .end_s = job->query->end_s,
                      .limit = limit,
                      .rows = job->rows,
                      .capacity = PART_ROWS};
}

static dm_status count_full(dm__scan *scan)
{
    *(int64_t *)scan->argument += (int64_t)scan->rows.count;
    scan->rows.count = 0;
    return DM_OK;
}

static dm_status model_count(dm__conn *conn, dm__model *model, dm__model_read *read, dm_error *err)
{
    export_read *job = (export_read *)read;
    dm__scan scan = scan_of(job, SIZE_MAX);
    int64_t total = 0;
    scan.full = count_full;
    scan.argument = &total;
    dm_status rc = dm__scan_run(conn, model, &scan, err);
    job->part.total += total + (int64_t)scan.rows.count;
    return rc;
}

static dm_status model_write(dm__conn *conn, dm__model *model, dm__model_read *read, dm_error *err)
{
    export_read *job = (export_read *)read;
    dm__timings timings = {0};
    dm__request_ids ids = {0};
    dm__scan scan = scan_of(job, PART_ROWS);
    job->part.model = read->name;
    dm_status rc = dm__timings_open(conn, model, INT64_MIN, &timings, err);
    if (rc == DM_OK)
        rc = dm__request_ids_open(conn, model, &ids, err);
    while (rc == DM_OK) {
        scan.rows.count = 0;
        rc = dm__scan_run(conn, model, &scan, err);
        job->rows.count = scan.rows.count;
        if (rc != DM_OK || scan.rows.count == 0)
            break;
        scan.after_id = scan.rows.id[scan.rows.count - 1];
        rc = part_fill(job, &timings, &ids, err);
        if (rc == DM_OK)
            rc = part_write(job, err);
    }
    dm__request_ids_close(&ids);
    dm__timings_close(&timings);
    return rc;
}

/* ---- all of them ---- */

typedef struct {
    export_read read;
    dm__unfinished file;
} export_job;

/* The models are looked up, and the moment is fixed, before the writer begins: nothing that could
 * be tried again comes after that. */
static dm_status export_run(dm__conn *conn, void *argument, dm_error *err)
{
    export_job *job = argument;
    export_read *read = &job->read;
    dm_model_names names = {0};
    dm_status rc =
        dm__models_asked(conn, read->query->models, read->query->model_count, &names, err);
    read->part = (dm_export_part){0};
    read->read.from = model_count;
    if (rc == DM_OK)
        rc = dm__read_models(conn, &names, &read->read, sizeof *read, err);
    if (rc == DM_OK && read->writer->begin(read->writer->argument, job->file.path))
        rc = stopped(err);
    read->read.from = model_write;
    if (rc == DM_OK)
        rc = dm__read_models(conn, &names, &read->read, sizeof *read, err);
    if (rc == DM_OK && read->writer->end(read->writer->argument))
        rc = stopped(err);
    dm_model_names_reset(&names);
    return rc;
}

static dm_status file_write(dm_manager *m, export_job *job, const char *dest, bool overwrite,
                            dm_error *err)
{
    dm__snapshot how = {.replace = overwrite};
    dm__unfinished_sweep(dest);
    int code = dm__unfinished_create(dest, &job->file);
    if (code != 0)
        return dm__fail_system(err, dest, code);
    dm_status rc = dm__read_long(m, export_run, job, err);
    if (rc == DM_OK && (code = dm__file_sync(job->file.path)) != 0)
        rc = dm__fail_system(err, dest, code);
    if (rc == DM_OK)
        rc = dm__file_put(&job->file, dest, &how, err);
    dm__unfinished_drop(&job->file);
    return rc;
}

dm_status dm_requests_export(dm_manager *m, const char *dest, bool overwrite,
                             const dm_export *query, const dm_export_writer *writer,
                             int64_t *count_out, dm_error *err)
{
    char *path = NULL;
    export_job job = {.read = {.query = query, .writer = writer}, .file = {NULL, -1}};
    export_read *read = &job.read;
    dm_window window = {query->start_s, query->end_s, 0};
    dm_status rc = dm__window_check(&window, err);
    if (rc == DM_OK)
        rc = dm__dest_resolve(dest, overwrite, &path, err);
    read->duration_s = dm_array_new(PART_ROWS);
    read->first_token_s = dm_array_new(PART_ROWS);
    read->request_ids = dm__calloc(PART_ROWS, sizeof *read->request_ids);
    if (rc == DM_OK &&
        (!dm__request_columns_alloc(&read->rows, PART_ROWS) || read->duration_s == NULL ||
         read->first_token_s == NULL || read->request_ids == NULL))
        rc = dm__no_memory(err);
    if (rc == DM_OK)
        rc = file_write(m, &job, path, overwrite, err);
    if (rc == DM_OK)
        *count_out = read->part.done;
    dm_request_columns_reset(&read->rows);
    dm__free(read->duration_s);
    dm__free(read->first_token_s);
    dm__free(read->request_ids);
    dm__free(read->text);
    free(path);
    return rc;
}
