/* SPDX-License-Identifier: MIT */
#include "work.h"

#include "dm_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const dm_str work_models[WORK_MODELS] = {DM_STR("a"), DM_STR("b"), DM_STR("模型"), DM_STR("d")};

void work_init(work *w, const char *folder, dm_durability durability, uint64_t seed)
{
    *w = (work){.options = {.durability = durability}, .random = seed * 2 + 1};
    (void)snprintf(w->folder, sizeof w->folder, "%s", folder);
    (void)snprintf(w->path, sizeof w->path, "%s/usage.db", folder);
    (void)snprintf(w->backup, sizeof w->backup, "%s/backup.db", folder);
}

void work_remove_files(work *w)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < 4; i++) {
        char name[WORK_PATH + 16];
        (void)snprintf(name, sizeof name, "%s%s", w->path, suffixes[i]);
        (void)unlink(name);
    }
}

void work_end(work *w)
{
    dm_free(w->m);
    dm_text_free(w->kept);
    w->m = NULL;
    w->kept = NULL;
}

uint32_t work_random(work *w, uint32_t below)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (uint32_t)((w->random >> 32) % below);
}

dm_status work_open(work *w)
{
    return dm_open(w->path, &w->options, &w->m, &w->err);
}

void work_make_older(const work *w)
{
    sqlite3 *db = NULL;
    if (sqlite3_open(w->path, &db) == SQLITE_OK)
        (void)sqlite3_exec(
            db,
            "CREATE TABLE model_name_mapping(id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " original_name TEXT UNIQUE NOT NULL, safe_name TEXT UNIQUE NOT NULL,"
            " created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);"
            "CREATE TABLE model_a_hourly_price(id INTEGER PRIMARY KEY, hourly_price REAL);"
            "CREATE TABLE model_a_billing_method(id INTEGER PRIMARY KEY, use_tier_pricing BOOLEAN);"
            "CREATE TABLE model_a_tier_pricing(tier_index INTEGER PRIMARY KEY, start_tokens INTEGER"
            " NOT NULL, end_tokens INTEGER NOT NULL, input_price_per_million REAL NOT NULL,"
            " output_price_per_million REAL NOT NULL);"
            "CREATE TABLE model_a_requests(id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp REAL"
            " NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,"
            " cache_n INTEGER NOT NULL, prompt_n INTEGER NOT NULL);"
            "INSERT INTO model_name_mapping(original_name,safe_name) VALUES('a','model_a');"
            "INSERT INTO model_a_hourly_price VALUES(1,2.5);"
            "INSERT INTO model_a_billing_method VALUES(1,0);"
            "INSERT INTO model_a_tier_pricing VALUES(1,0,100,1.0,2.0);"
            "INSERT INTO model_a_requests(timestamp,input_tokens,output_tokens,cache_n,prompt_n)"
            " VALUES(1,2,3,4,5),(6,7,8,9,10)",
            NULL, NULL, NULL);
    (void)sqlite3_close(db);
}

/* ---- operations ---- */

static dm_str any_model(work *w)
{
    return work_models[work_random(w, WORK_MODELS)];
}

static dm_request next_request(work *w)
{
    int64_t serial = ++w->serial;
    return (dm_request){1000 + (double)serial, serial, work_random(w, 1000), 3, 7};
}

static dm_status run_request(work *w)
{
    int64_t id = 0;
    dm_request request = next_request(w);
    dm_timing timing = {2.5, 0.5};
    return dm_request_add(w->m, any_model(w), &request, work_random(w, 2) ? &timing : NULL, &id,
                          &w->err);
}

static dm_status run_once(work *w)
{
    char id[32];
    int64_t row_id = 0;
    dm_request request = next_request(w);
    int length = snprintf(id, sizeof id, "request %lld", (long long)w->serial);
    return dm_request_add_once(w->m, any_model(w), &request, NULL, (dm_str){id, (size_t)length},
                               &row_id, &w->err);
}

/* Each row says how many they are, and which is the first. */
static dm_status run_bulk(work *w)
{
    double times[WORK_BULK];
    int64_t input[WORK_BULK], first[WORK_BULK], count[WORK_BULK], zeros[WORK_BULK] = {0};
    for (size_t i = 0; i < WORK_BULK; i++) {
        input[i] = ++w->serial;
        times[i] = (double)input[i];
        first[i] = input[0];
        count[i] = WORK_BULK;
    }
    dm_request_rows rows = {WORK_BULK, times, input, first, count, zeros, NULL, NULL};
    dm_ids ids;
    return dm_requests_add(w->m, any_model(w), &rows, &ids, &w->err);
}

static dm_status run_batch(work *w)
{
    int64_t id;
    dm_ids *ids = NULL;
    size_t count = 0;
    uint64_t level = 0;
    dm_status rc = dm_batch_begin(w->m, &level, &w->err);
    if (rc != DM_OK)
        return rc;
    rc = run_request(w);
    if (rc == DM_OK)
        rc = run_bulk(w);
    if (rc == DM_OK)
        rc = dm_model_start(w->m, any_model(w), (double)w->serial, &id, &w->err);
    dm_error ended_err;
    dm_status ended = dm_batch_end(w->m, level, rc == DM_OK, &ids, &count, &ended_err);
    dm_ids_free(ids);
    if (rc == DM_OK && ended != DM_OK)
        w->err = ended_err;
    return rc == DM_OK ? ended : rc;
}

static dm_status run_runs(work *w)
{
    int64_t id;
    dm_str model = any_model(w);
    double at_s = (double)++w->serial;
    switch (work_random(w, 4)) {
    case 0:
        return dm_program_start(w->m, at_s, &id, &w->err);
    case 1:
        return dm_program_end(w->m, at_s, &w->err);
    case 2:
        return dm_model_start(w->m, model, at_s, &id, &w->err);
    default:
        return dm_model_end(w->m, model, at_s, &w->err);
    }
}

static dm_status run_tier(work *w)
{
    int64_t index = 1 + work_random(w, 3);
    dm_tier tier = {index, index * 1000, index * 1000 + 1000, (double)++w->serial, 2.5, true, 0.5};
    if (work_random(w, 4) == 0)
        return dm_tier_delete(w->m, any_model(w), index, NAN, &w->err);
    return dm_tier_put(w->m, any_model(w), &tier, DM_TIER_SET, NAN, &w->err);
}

static dm_status run_prices(work *w)
{
    dm_tier tier = {7, 7000, 8000, 1.5, 2.5, false, 0};
    dm_price_change change = {.sets = DM_PRICE_TIERS | DM_PRICE_HOURLY | DM_PRICE_METHOD,
                              .tiers = &tier,
                              .tier_count = 1,
                              .hourly_price = (double)++w->serial,
                              .use_tier_pricing = work_random(w, 2) == 0,
                              .effective_from_s = 1000 + (double)w->serial};
    return dm_pricing_set(w->m, any_model(w), &change, &w->err);
}

static dm_status run_register(work *w)
{
    return dm_model_register(w->m, work_models, 1 + work_random(w, WORK_MODELS), &w->err);
}

static dm_status run_delete(work *w)
{
    return dm_model_delete(w->m, any_model(w), &w->err);
}

static dm_status run_rename(work *w)
{
    dm_str from = any_model(w), to = any_model(w);
    return dm_model_rename(w->m, from, to, true, &w->err);
}

static dm_status run_vacuum(work *w)
{
    int64_t before = 0, after = 0;
    return dm_vacuum(w->m, NULL, &before, &after, &w->err);
}

static dm_status run_prune(work *w)
{
    static const double edges_s[] = {0, 1500, 6000};
    dm_str model = any_model(w);
    dm_prune_query query = {.models = &model,
                            .model_count = 1,
                            .before_s = 1000 + (double)w->serial - work_random(w, 60),
                            .edges_s = edges_s,
                            .edge_count = sizeof edges_s / sizeof *edges_s};
    dm_prune_result result = {0};
    dm_status rc = dm_prune(w->m, &query, NULL, &result, &w->err);
    dm_prune_result_reset(&result);
    return rc;
}

static dm_status checkpoint(dm__conn *writer, void *path, dm_error *err)
{
    dm__conn *checkpointer = NULL;
    dm_status rc = dm__conn_open(path, false, 0, &checkpointer, err);
    if (rc == DM_OK)
        rc = dm__checkpoint_run(writer, checkpointer, err);
    dm__conn_close(checkpointer, false);
    return rc;
}

static dm_status run_checkpoint(work *w)
{
    dm_status rc = dm__write_alone(w->m, checkpoint, w->path, &w->err);
    return rc == DM_BUSY ? DM_OK : rc; /* others write: another time, as the store itself says */
}

static dm_status run_reopen(work *w)
{
    dm_free(w->m);
    w->m = NULL;
    return work_open(w);
}

static dm_status run_backup(work *w)
{
    uint64_t hash = 0;
    dm_status rc = work_hash(w->m, &hash, &w->err);
    if (rc == DM_OK)
        rc = dm_backup(w->m, w->backup, true, NULL, &w->err);
    if (rc == DM_OK)
        w->backup_hash = hash;
    return rc;
}

static dm_status run_restore(work *w)
{
    char *kept = NULL;
    if (w->backup_hash == 0)
        return DM_OK;
    dm_status rc = dm_restore(w->backup, w->path, w->options.busy_timeout_ms, NULL, &kept, &w->err);
    if (rc == DM_OK) {
        dm_text_free(w->kept);
        w->kept = kept;
    }
    return rc;
}

const work_operation work_operations[] = {
    {"request", 8, run_request, 1, false},
    {"request once", 4, run_once, 1, false},
    {"bulk", 4, run_bulk, WORK_BULK, false},
    {"batch", 5, run_batch, 1 + WORK_BULK, false},
    {"runs", 4, run_runs, 0, false},
    {"tier", 4, run_tier, 0, false},
    {"prices", 3, run_prices, 0, false},
    {"register", 2, run_register, 0, false},
    {"delete", 1, run_delete, 0, false},
    {"rename", 3, run_rename, 0, false},
    {"prune", 2, run_prune, 0, true},
    {"vacuum", 1, run_vacuum, 0, false},
    {"checkpoint", 4, run_checkpoint, 0, false},
    {"reopen", 2, run_reopen, 0, false},
    {"backup", 2, run_backup, 0, false},
    {"restore", 1, run_restore, 0, false},
};
const size_t work_operation_count = sizeof work_operations / sizeof *work_operations;

dm_status work_run(work *w, size_t operation)
{
    dm_status rc = work_operations[operation].run(w);
    bool refused = rc == DM_INVALID || rc == DM_MODEL_NOT_FOUND || rc == DM_TIER_NOT_FOUND ||
                   rc == DM_RUN_NOT_FOUND;
    return refused && work_operations[operation].adds == 0 ? DM_OK : rc; /* no request ever is */
}

size_t work_choose(work *w)
{
    unsigned sum = 0;
    for (size_t i = 0; i < work_operation_count; i++)
        sum += work_operations[i].weight;
    unsigned at = work_random(w, sum);
    size_t i = 0;
    while (at >= work_operations[i].weight)
        at -= work_operations[i++].weight;
    return i;
}

/* ---- what is in it ---- */

static void mix(uint64_t *hash, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        *hash = (*hash ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
}

static void mix_number(uint64_t *hash, double number)
{
    mix(hash, &number, sizeof number);
}

static void mix_runs(uint64_t *hash, dm_runs *runs)
{
    for (size_t i = 0; i < runs->count; i++) {
        mix_number(hash, (double)runs->runs[i].id);
        mix_number(hash, runs->runs[i].start_time_s);
        mix_number(hash, runs->runs[i].end_time_s);
    }
    dm_runs_reset(runs);
}

static void mix_requests(uint64_t *hash, dm_request_columns *columns)
{
    for (size_t i = 0; i < columns->count; i++) {
        mix(hash, &columns->id[i], sizeof columns->id[i]);
        mix(hash, &columns->timestamp_s[i], sizeof columns->timestamp_s[i]);
        mix(hash, &columns->input_tokens[i], sizeof columns->input_tokens[i]);
        mix(hash, &columns->output_tokens[i], sizeof columns->output_tokens[i]);
    }
    dm_request_columns_reset(columns);
}

static void mix_tariffs(uint64_t *hash, dm_tariffs *tariffs)
{
    for (size_t i = 0; i < tariffs->count; i++) {
        const dm_tariff *tariff = &tariffs->tariffs[i];
        mix_number(hash, tariff->hourly_price);
        mix_number(hash, tariff->use_tier_pricing);
        for (size_t j = 0; j < tariff->tier_count; j++) {
            mix_number(hash, (double)tariff->tiers[j].tier_index);
            mix_number(hash, tariff->tiers[j].input_price_per_million);
        }
    }
    dm_tariffs_reset(tariffs);
}

static dm_status hash_model(dm_manager *m, const dm_model_name *name, uint64_t *hash, dm_error *err)
{
    dm_window all = DM_WINDOW_ALL;
    dm_str model = {name->original_name, name->original_length};
    dm_runs runs = {0};
    dm_request_columns columns = {0};
    dm_tariffs tariffs = {0};
    mix(hash, name->original_name, name->original_length + 1);
    dm_status rc = dm_model_runs(m, model, &all, &runs, err);
    if (rc == DM_OK) {
        mix_runs(hash, &runs);
        rc = dm_requests_get(m, model, &all, &columns, err);
    }
    if (rc == DM_OK) {
        mix_requests(hash, &columns);
        rc = dm_price_history(m, model, &tariffs, err);
    }
    if (rc == DM_OK)
        mix_tariffs(hash, &tariffs);
    return rc;
}

dm_status work_hash(dm_manager *m, uint64_t *hash_out, dm_error *err)
{
    uint64_t hash = WORK_EMPTY_HASH;
    dm_window all = DM_WINDOW_ALL;
    dm_runs runs = {0};
    dm_model_names names = {0};
    dm_status rc = dm_program_runs(m, &all, &runs, err);
    if (rc != DM_OK)
        return rc;
    mix_runs(&hash, &runs);
    rc = dm_models_get(m, &names, err);
    for (size_t i = 0; i < names.count && rc == DM_OK; i++)
        rc = hash_model(m, &names.models[i], &hash, err);
    dm_model_names_reset(&names);
    if (rc == DM_OK)
        *hash_out = hash;
    return rc;
}

static void mix_usage(uint64_t *hash, const dm_usage *usage)
{
    for (size_t i = 0; i < usage->row_count; i++) {
        const dm_usage_row *row = &usage->rows[i];
        const dm_model_name *name = &usage->models.models[row->model];
        mix(hash, name->original_name, name->original_length + 1);
        mix_number(hash, (double)row->requests);
        mix_number(hash, (double)row->input_tokens);
        mix_number(hash, (double)row->output_tokens);
        mix_number(hash, (double)row->cache_n);
        mix_number(hash, (double)row->prompt_n);
        mix_number(hash, row->first_request_s);
        mix_number(hash, row->last_request_s);
        mix_number(hash, row->runtime_s);
    }
}

dm_status work_usage_hash(dm_manager *m, uint64_t *hash_out, dm_error *err)
{
    static const double edges_s[] = {-INFINITY, INFINITY};
    dm_usage_query query = {.edges_s = edges_s, .edge_count = 2};
    dm_usage usage = {0};
    dm_status rc = dm_usage_get(m, &query, &usage, err);
    if (rc == DM_OK) {
        *hash_out = WORK_EMPTY_HASH;
        mix_usage(hash_out, &usage);
        dm_usage_reset(&usage);
    }
    return rc;
}
