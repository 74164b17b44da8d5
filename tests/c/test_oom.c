/* SPDX-License-Identifier: MIT
 *
 * Allocation k fails, for k = 0, 1, 2 … until a call no longer reaches it: ours and SQLite's, once
 * and from then on for ever. Whatever the call answers, nothing may be half there: it failed, the
 * file and the outputs are as they were; afterwards the same handle works, and at the end SQLite
 * holds no memory of ours. (Ours is what LeakSanitizer and valgrind look at.) */
#include "failing.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what is in a file: a hash over all tables and rows ---- */

static char path[128], older[128], fresh[128], summed[128], exported_file[128];
static dm_error err;
static dm_manager *m;

static uint64_t mix(uint64_t hash, const unsigned char *text)
{
    for (; text != NULL && *text != 0; text++)
        hash = (hash ^ *text) * 1099511628211u;
    return (hash ^ 0xff) * 1099511628211u;
}

static uint64_t rows_hash(sqlite3 *db, const char *sql, uint64_t hash)
{
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
        return 0;
    while (sqlite3_step(stmt) == SQLITE_ROW)
        for (int i = 0; i < sqlite3_column_count(stmt); i++)
            hash = mix(hash, sqlite3_column_text(stmt, i));
    (void)sqlite3_finalize(stmt);
    return hash;
}

static uint64_t schema_and_rows_hash(sqlite3 *db)
{
    sqlite3_stmt *stmt = NULL;
    uint64_t hash = 14695981039346656037u;
    if (sqlite3_prepare_v2(db, "SELECT name,sql FROM sqlite_schema WHERE type='table' ORDER BY 1",
                           -1, &stmt, NULL) == SQLITE_OK) {
        while (sqlite3_step(stmt) == SQLITE_ROW) {
            char *sql = sqlite3_mprintf("SELECT * FROM \"%w\"", sqlite3_column_text(stmt, 0));
            hash = mix(hash, sqlite3_column_text(stmt, 1));
            hash = rows_hash(db, sql, hash);
            sqlite3_free(sql);
        }
    }
    (void)sqlite3_finalize(stmt);
    return hash;
}

/* A connection that stays, for a file that stays: most calls that fail have not committed, which it
 * tells without looking at all rows again. */
typedef struct {
    sqlite3 *db;
    sqlite3_stmt *version;
    int64_t seen;
    uint64_t hash;
} witness;

static witness path_witness, summed_witness;

static uint64_t witness_hash(witness *w, const char *file)
{
    if (w->db == NULL) {
        CHECK_INT(sqlite3_open_v2(file, &w->db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
        CHECK_INT(sqlite3_prepare_v2(w->db, "PRAGMA data_version", -1, &w->version, NULL),
                  SQLITE_OK);
    }
    CHECK_INT(sqlite3_step(w->version), SQLITE_ROW);
    int64_t version = sqlite3_column_int64(w->version, 0);
    (void)sqlite3_reset(w->version);
    if (version != w->seen)
        w->hash = schema_and_rows_hash(w->db);
    w->seen = version;
    return w->hash;
}

static void witness_close(witness *w)
{
    (void)sqlite3_finalize(w->version);
    CHECK_INT(sqlite3_close(w->db), SQLITE_OK);
}

static uint64_t file_hash(const char *file)
{
    if (file == path)
        return witness_hash(&path_witness, file);
    if (file == summed)
        return witness_hash(&summed_witness, file);
    sqlite3 *db = NULL;
    (void)sqlite3_open_v2(file, &db, SQLITE_OPEN_READWRITE, NULL);
    uint64_t hash = schema_and_rows_hash(db);
    (void)sqlite3_close(db);
    return hash;
}

static void run_sql(const char *file, const char *sql)
{
    sqlite3 *db = NULL;
    CHECK_INT(sqlite3_open(file, &db), SQLITE_OK);
    CHECK_INT(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    CHECK_INT(sqlite3_close(db), SQLITE_OK);
}

static void remove_file(const char *file)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    for (int i = 0; i < 4; i++) {
        char name[160];
        (void)snprintf(name, sizeof name, "%s%s", file, suffixes[i]);
        (void)unlink(name);
    }
}

/* ---- the calls: before() makes ready, call() is what fails, and frees its outputs ---- */

static const dm_request request = {5.5, 10, 20, 3, 7};
static const dm_tier tier = {3, 1000, 2000, 1.5, 2.5, true, 0.5};
static const dm_options normal = {.durability = DM_DURABILITY_NORMAL};

static dm_status check_id(dm_status rc, int64_t id)
{
    if (rc != DM_OK)
        CHECK_INT(id, -77);
    return rc;
}

static dm_status call_program_start(void)
{
    int64_t id = -77;
    dm_status rc = dm_program_start(m, 5, &id, &err);
    return check_id(rc, id);
}
static dm_status call_program_end(void)
{
    return dm_program_end(m, 6, &err);
}
static dm_status call_model_start(void)
{
    int64_t id = -77;
    dm_status rc = dm_model_start(m, DM_STR("m"), 5, &id, &err);
    return check_id(rc, id);
}
static dm_status call_model_end(void)
{
    return dm_model_end(m, DM_STR("m"), 6, &err);
}
static dm_status call_request_add(void)
{
    int64_t id = -77;
    dm_status rc = dm_request_add(m, DM_STR("m"), &request, NULL, &id, &err);
    return check_id(rc, id);
}
static dm_status call_request_add_timed(void)
{
    static const dm_timing timing = {2.5, 0.5};
    int64_t id = -77;
    dm_status rc = dm_request_add(m, DM_STR("m"), &request, &timing, &id, &err);
    return check_id(rc, id);
}
static void without_new(void)
{
    dm_status rc = dm_model_delete(m, DM_STR("new"), &err);
    CHECK_STATUS(rc == DM_MODEL_NOT_FOUND ? DM_OK : rc, DM_OK);
}
static dm_status call_request_add_new(void)
{
    int64_t id = -77;
    dm_status rc = dm_request_add(m, DM_STR("new"), &request, NULL, &id, &err);
    return check_id(rc, id);
}
static dm_status call_requests_add(void)
{
    static double times[8];
    static int64_t zeros[8];
    dm_request_rows rows = {8, times, zeros, zeros, zeros, zeros, times, NULL};
    dm_ids ids = {.first_id = -77};
    dm_status rc = dm_requests_add(m, DM_STR("m"), &rows, &ids, &err);
    return check_id(rc, ids.first_id);
}
static const dm_str request_ids[] = {DM_STR("a"), {NULL, 0}, DM_STR("b"), DM_STR("a")};
static dm_status call_request_add_once(void)
{
    int64_t id = -77;
    dm_status rc = dm_request_add_once(m, DM_STR("new"), &request, NULL, DM_STR("b"), &id, &err);
    return check_id(rc, id);
}
static dm_status call_requests_add_once(void)
{
    static double times[4];
    static int64_t zeros[4];
    dm_request_rows rows = {4, times, zeros, zeros, zeros, zeros, times, NULL};
    int64_t ids[] = {-77, -77, -77, -77}, added = -77;
    dm_status rc = dm_requests_add_once(m, DM_STR("new"), &rows, request_ids, ids, &added, &err);
    if (rc == DM_OK) /* none inside a batch */
        CHECK_INT(ids[0] == 0 || (ids[3] == ids[0] && ids[1] > 0 && ids[2] > 0), 1);
    return check_id(rc, ids[0]);
}
static dm_status call_batch_once(void)
{
    dm_ids *ids = NULL;
    size_t count = 77;
    uint64_t level = 0;
    dm_status rc = dm_batch_begin(m, &level, &err);
    if (rc != DM_OK)
        return rc;
    rc = call_requests_add_once();
    if (rc == DM_OK)
        rc = call_request_add_once();
    dm_status ended = dm_batch_end(m, level, rc == DM_OK, &ids, &count, &err);
    if (ended == DM_OK && rc == DM_OK)
        CHECK_INT(ids[0].row_ids[2], ids[1].first_id);
    dm_ids_free(ids);
    return rc == DM_OK ? ended : rc;
}
static dm_status call_register(void)
{
    dm_str names[] = {DM_STR("m"), DM_STR("new")};
    return dm_model_register(m, names, 2, &err);
}
static void with_new(void)
{
    dm_str name = DM_STR("new");
    CHECK_OK(dm_model_register(m, &name, 1, &err));
    CHECK_OK(dm_tier_put(m, DM_STR("new"), &tier, DM_TIER_SET, NAN, &err));
}
static dm_status call_delete(void)
{
    return dm_model_delete(m, DM_STR("new"), &err);
}
static dm_status call_tier_put(void)
{
    return dm_tier_put(m, DM_STR("m"), &tier, DM_TIER_SET, NAN, &err);
}
static void with_tier(void)
{
    CHECK_OK(dm_tier_put(m, DM_STR("m"), &tier, DM_TIER_SET, NAN, &err));
}
static void with_later_tier(void)
{
    dm_tier later = tier;
    later.tier_index = 4;
    later.start_tokens = tier.end_tokens;
    later.end_tokens = 0;
    CHECK_OK(dm_tier_put(m, DM_STR("m"), &tier, DM_TIER_SET, 100, &err));
    CHECK_OK(dm_tier_put(m, DM_STR("m"), &later, DM_TIER_SET, 200, &err));
}
static dm_status call_tier_put_before(void)
{
    dm_tier dearer = tier;
    dearer.output_price_per_million *= 2;
    return dm_tier_put(m, DM_STR("m"), &dearer, DM_TIER_SET, 150, &err);
}
static dm_status call_tier_delete(void)
{
    return dm_tier_delete(m, DM_STR("m"), 3, NAN, &err);
}
static dm_status call_pricing_set(void)
{
    dm_price_change change = {.sets = DM_PRICE_TIERS | DM_PRICE_HOURLY | DM_PRICE_STRATEGY,
                              .tiers = &tier,
                              .tier_count = 1,
                              .hourly_price = 2,
                              .effective_from_s = 100};
    return dm_pricing_set(m, DM_STR("m"), &change, &err);
}
static dm_status call_batch(void)
{
    int64_t id = 0;
    dm_ids *ids = NULL;
    size_t count = 77;
    uint64_t level = 0;
    dm_status rc = dm_batch_begin(m, &level, &err);
    if (rc != DM_OK)
        return rc;
    rc = dm_request_add(m, DM_STR("m"), &request, NULL, &id, &err);
    if (rc == DM_OK)
        rc = dm_model_start(m, DM_STR("new"), 7, &id, &err);
    if (rc == DM_OK)
        rc = call_requests_add();
    dm_status ended = dm_batch_end(m, level, rc == DM_OK, &ids, &count, &err);
    if (ended == DM_OK && rc == DM_OK)
        CHECK_INT(count, 3);
    dm_ids_free(ids);
    return rc == DM_OK ? ended : rc;
}
static dm_status call_models_get(void)
{
    dm_model_names names = {.count = 77};
    dm_status rc = dm_models_get(m, &names, &err);
    CHECK_INT(rc == DM_OK || names.count == 77, 1);
    if (rc == DM_OK)
        dm_model_names_reset(&names);
    return rc;
}
static dm_status call_lookup(void)
{
    char *text = NULL;
    size_t length = 77;
    dm_status rc = dm_model_lookup(m, DM_STR("m"), &text, &length, &err);
    CHECK_INT(length, rc == DM_OK ? DM_SAFE_NAME_SIZE - 1 : 77);
    dm_text_free(text);
    return rc;
}
static dm_status call_runs(void)
{
    dm_window all = DM_WINDOW_ALL;
    dm_runs runs = {.count = 77}, others = {0};
    dm_status rc = dm_model_runs(m, DM_STR("m"), &all, &runs, &err);
    CHECK_INT(rc == DM_OK || runs.count == 77, 1);
    if (rc == DM_OK) {
        dm_runs_reset(&runs);
        rc = dm_program_runs(m, &all, &others, &err);
    }
    dm_runs_reset(&others);
    return rc;
}
static dm_status call_requests_get(void)
{
    dm_window all = DM_WINDOW_ALL;
    dm_request_columns columns = {.count = 77};
    dm_status rc = dm_requests_get(m, DM_STR("m"), &all, &columns, &err);
    CHECK_INT(rc == DM_OK || columns.count == 77, 1);
    if (rc == DM_OK)
        dm_request_columns_reset(&columns);
    return rc;
}
static dm_status call_billing_get(void)
{
    dm_billing billing = {.tier_count = 77};
    dm_status rc = dm_billing_get(m, DM_STR("m"), &billing, &err);
    CHECK_INT(rc == DM_OK || billing.tier_count == 77, 1);
    if (rc == DM_OK)
        dm_billing_reset(&billing);
    return rc;
}
static dm_status call_history(void)
{
    dm_tariffs tariffs = {.count = 77};
    dm_status rc = dm_price_history(m, DM_STR("m"), &tariffs, &err);
    CHECK_INT(rc == DM_OK || tariffs.count == 77, 1);
    if (rc == DM_OK)
        dm_tariffs_reset(&tariffs);
    return rc;
}
static void with_foreign_price(void)
{
    char safe[DM_SAFE_NAME_SIZE], sql[200];
    dm_safe_name(DM_STR("m"), safe);
    (void)snprintf(sql, sizeof sql,
                   "DELETE FROM datamanager_price_changes WHERE change_id>1;"
                   "UPDATE \"%s_billing\" SET hourly_price=hourly_price+1",
                   safe);
    run_sql(path, sql);
}
/* It may have stored what it saw, and fail when it asks again. */
static dm_status call_history_foreign(void)
{
    return call_history();
}
static const double edges[] = {0, 5, 10, INFINITY};
static const dm_str old_model = DM_STR("old");
static void with_old(void)
{
    static const double times[4] = {1, 5.5, 6, 50};
    static const int64_t tokens[4] = {7, 0, 9, 1};
    dm_request_rows rows = {4, times, tokens, tokens, tokens, tokens, times, NULL};
    dm_ids ids;
    int64_t id;
    dm_status rc = dm_model_delete(m, old_model, &err);
    CHECK_INT(rc == DM_OK || rc == DM_MODEL_NOT_FOUND, 1);
    CHECK_OK(dm_requests_add(m, old_model, &rows, &ids, &err));
    for (double start_s = 1; start_s < 4; start_s++) {
        CHECK_OK(dm_model_start(m, old_model, start_s, &id, &err));
        CHECK_OK(dm_model_end(m, old_model, start_s + 0.5, &err));
    }
}
static dm_status prune_to(const double *edges_s, size_t edge_count)
{
    const dm_prune_query query = {&old_model, 1, 20, edges_s, edge_count, false};
    dm_prune_result result = {.counts = NULL};
    dm_status rc = dm_prune(m, &query, NULL, &result, &err);
    CHECK_INT(result.counts != NULL, rc == DM_OK);
    if (rc == DM_OK)
        dm_prune_result_reset(&result);
    return rc;
}
static dm_status call_prune(void)
{
    return prune_to(edges, 3);
}
static dm_status call_prune_sums(void)
{
    return prune_to(NULL, 0);
}
/* A prune that fails may have done some of its steps. */
static void all_are_kept(void)
{
    dm_usage_query query = {
        .models = &old_model, .model_count = 1, .edges_s = edges, .edge_count = 4};
    dm_usage usage = {0};
    int64_t requests = 0;
    CHECK_OK(dm_usage_get(m, &query, &usage, &err));
    for (size_t i = 0; i < usage.row_count; i++)
        requests += usage.rows[i].requests;
    CHECK_INT(requests, 4);
    dm_usage_reset(&usage);
}
static void with_pruned(void)
{
    with_old();
    CHECK_OK(call_prune());
}
static void with_lost(void)
{
    char safe[DM_SAFE_NAME_SIZE], sql[64];
    with_pruned();
    dm_safe_name(old_model, safe);
    (void)snprintf(sql, sizeof sql, "DROP TABLE \"%s_requests\"", safe);
    run_sql(path, sql);
}
static dm_status call_request_add_lost(void)
{
    int64_t id = -77;
    dm_status rc = dm_request_add(m, old_model, &request, NULL, &id, &err);
    return check_id(rc, id);
}
static dm_status call_pricing_set_pruned(void)
{
    dm_price_change change = {.sets = DM_PRICE_HOURLY, .hourly_price = 2, .effective_from_s = 5.25};
    return dm_pricing_set(m, old_model, &change, &err);
}
static void with_both(void)
{
    without_new();
    CHECK_OK(call_request_add_once());
    with_pruned();
    CHECK_OK(call_pricing_set_pruned());
}
static dm_status call_join(void)
{
    return dm_model_rename(m, DM_STR("new"), old_model, true, &err);
}
static void with_unnamed(void)
{
    dm_status rc = dm_model_delete(m, DM_STR("renamed"), &err);
    CHECK_INT(rc == DM_OK || rc == DM_MODEL_NOT_FOUND, 1);
    without_new();
    with_new();
    CHECK_OK(call_request_add_once());
}
static dm_status call_rename(void)
{
    return dm_model_rename(m, DM_STR("new"), DM_STR("renamed"), false, &err);
}
static dm_status call_kept_runs(void)
{
    dm_kept_runs runs = {.count = 77};
    dm_status rc = dm_kept_runs_get(m, &old_model, &runs, &err);
    CHECK_INT(rc == DM_OK || runs.count == 77, 1);
    if (rc == DM_OK)
        dm_kept_runs_reset(&runs);
    return rc;
}
static dm_status call_usage(void)
{
    dm_usage_query query = {.edges_s = edges, .edge_count = 4};
    dm_usage usage = {.row_count = 77};
    dm_status rc = dm_usage_get(m, &query, &usage, &err);
    CHECK_INT(rc == DM_OK || usage.row_count == 77, 1);
    if (rc == DM_OK)
        dm_usage_reset(&usage);
    return rc;
}
static dm_status call_performance(void)
{
    dm_performance performance = {.row_count = 77};
    dm_status rc = dm_performance_get(m, NULL, 0, edges, 4, &performance, &err);
    CHECK_INT(rc == DM_OK || performance.row_count == 77, 1);
    if (rc == DM_OK)
        dm_performance_reset(&performance);
    return rc;
}
static int64_t exported;
static bool export_begin(void *argument, const char *file)
{
    (void)argument, (void)file;
    exported = 0;
    return false;
}
static bool export_take(void *argument, const dm_export_part *part)
{
    (void)argument;
    exported += (int64_t)part->rows.count;
    return part->request_ids[0].length == 0;
}
static bool export_end(void *argument)
{
    (void)argument;
    return false;
}
static dm_status call_export(void)
{
    const dm_export query = {.start_s = -INFINITY, .end_s = INFINITY};
    const dm_export_writer writer = {export_begin, export_take, export_end, NULL};
    int64_t count = -77;
    dm_status rc = dm_requests_export(m, exported_file, true, &query, &writer, &count, &err);
    CHECK_INT(count, rc == DM_OK ? exported : -77);
    return rc;
}
static dm_status call_span(void)
{
    double first_s = -77, last_s = -77;
    dm_status rc = dm_time_span_get(m, NULL, 0, &first_s, &last_s, &err);
    CHECK_INT(rc == DM_OK || first_s == -77, 1);
    return rc;
}

static dm_status call_check(void)
{
    dm_findings found = {0};
    dm_status rc = dm_check(m, false, true, &found, &err);
    CHECK_INT(rc == DM_OK || found.count == 0, 1);
    dm_findings_reset(&found);
    return rc;
}

static dm_manager *summing;
static dm_status call_request_add_summed(void)
{
    int64_t id = -77;
    dm_status rc = dm_request_add(summing, DM_STR("m"), &request, NULL, &id, &err);
    return check_id(rc, id);
}
static dm_status call_requests_add_summed(void)
{
    static double times[8];
    static int64_t zeros[8];
    dm_request_rows rows = {8, times, zeros, zeros, zeros, zeros, NULL, NULL};
    dm_ids ids = {.first_id = -77};
    dm_status rc = dm_requests_add(summing, DM_STR("n"), &rows, &ids, &err);
    return check_id(rc, ids.first_id);
}
static void without_n(void)
{
    dm_status rc = dm_model_delete(summing, DM_STR("n"), &err);
    CHECK_STATUS(rc == DM_MODEL_NOT_FOUND ? DM_OK : rc, DM_OK);
}

static dm_status open_and_close(const char *file)
{
    dm_manager *other = NULL;
    dm_status rc = dm_open(file, &normal, &other, &err);
    CHECK_INT(other != NULL, rc == DM_OK);
    dm_free(other);
    return rc;
}
static dm_status call_open_second(void)
{
    return open_and_close(path);
}
static void without_fresh(void)
{
    remove_file(fresh);
}
static dm_status call_open_fresh(void)
{
    return open_and_close(fresh);
}
static void with_older(void)
{
    remove_file(older);
    run_sql(older,
            "PRAGMA synchronous=OFF;"
            "CREATE TABLE model_name_mapping(id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " original_name TEXT UNIQUE NOT NULL, safe_name TEXT UNIQUE NOT NULL,"
            " created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);"
            "CREATE TABLE model_a_hourly_price(id INTEGER PRIMARY KEY, hourly_price REAL);"
            "CREATE TABLE model_a_billing_method(id INTEGER PRIMARY KEY, use_tier_pricing BOOLEAN);"
            "CREATE TABLE model_a_tier_pricing(tier_index INTEGER PRIMARY KEY, start_tokens INTEGER"
            " NOT NULL, end_tokens INTEGER NOT NULL, input_price_per_million REAL NOT NULL,"
            " output_price_per_million REAL NOT NULL);"
            "INSERT INTO model_name_mapping(original_name,safe_name) VALUES('a','model_a');"
            "INSERT INTO model_a_hourly_price VALUES(1,2.5);"
            "INSERT INTO model_a_billing_method VALUES(1,0);"
            "INSERT INTO model_a_tier_pricing VALUES(1,0,100,1.0,2.0);");
}
static dm_status call_open_older(void)
{
    return open_and_close(older);
}

/* Every connection is closed, without a sync, so that the call opens and prepares all it needs. */
static void forget_connections(void)
{
    dm_fork_before(1000);
    dm_fork_parent();
}

static const struct {
    const char *name, *file;
    void (*before)(void);
    dm_status (*call)(void);
} calls[] = {
    {"program_start", path, NULL, call_program_start},
    {"program_end", path, NULL, call_program_end},
    {"model_start", path, NULL, call_model_start},
    {"model_end", path, NULL, call_model_end},
    {"request_add", path, NULL, call_request_add},
    {"request_add to a new model", path, without_new, call_request_add_new},
    {"request_add with a timing", path, NULL, call_request_add_timed},
    {"requests_add", path, NULL, call_requests_add},
    {"request_add_once to a new model", path, without_new, call_request_add_once},
    {"requests_add_once to a new model", path, without_new, call_requests_add_once},
    {"requests_add_once again", path, NULL, call_requests_add_once},
    {"batch of both", path, without_new, call_batch_once},
    {"model_register", path, without_new, call_register},
    {"model_delete", path, with_new, call_delete},
    {"tier_put", path, NULL, call_tier_put},
    {"tier_put before a change of another tier", path, with_later_tier, call_tier_put_before},
    {"tier_delete", path, with_tier, call_tier_delete},
    {"pricing_set", path, NULL, call_pricing_set},
    {"batch", path, without_new, call_batch},
    {"models_get", path, NULL, call_models_get},
    {"model_lookup", path, NULL, call_lookup},
    {"runs", path, NULL, call_runs},
    {"requests_get", path, NULL, call_requests_get},
    {"billing_get", path, NULL, call_billing_get},
    {"price_history", path, NULL, call_history},
    {"price_history with another's price", path, with_foreign_price, call_history_foreign},
    {"prune", path, with_old, call_prune},
    {"prune of sums", path, with_pruned, call_prune_sums},
    {"pricing_set where requests were pruned", path, with_pruned, call_pricing_set_pruned},
    {"model_rename to a known name", path, with_both, call_join},
    {"model_rename to a new name", path, with_unnamed, call_rename},
    {"request_add where the table is lost", path, with_lost, call_request_add_lost},
    {"usage", path, NULL, call_usage},
    {"kept_runs", path, NULL, call_kept_runs},
    {"performance", path, NULL, call_performance},
    {"time_span", path, NULL, call_span},
    {"requests_export", path, NULL, call_export},
    {"check", path, NULL, call_check},
    {"request_add with a checksum", summed, NULL, call_request_add_summed},
    {"requests_add with checksums to a new model", summed, without_n, call_requests_add_summed},
    {"open a second handle", path, NULL, call_open_second},
    {"open a fresh file", fresh, without_fresh, call_open_fresh},
    {"open an older file", older, with_older, call_open_older},
};

#define CALLS (sizeof calls / sizeof *calls)

/* ---- the loop ---- */

static long stride = 1; /* under valgrind not every one, or it would take half an hour */

static bool changed = true; /* by the call before */

/* Is there an allocation `first`? */
static bool fail_at(size_t i, bool sqlite, trap set)
{
    static uint64_t before;
    if (calls[i].before != NULL && changed)
        calls[i].before();
    forget_connections();
    if (changed)
        before = file_hash(calls[i].file);
    ours = sqlites = set;
    ours.armed = !sqlite;
    sqlites.armed = sqlite;
    dm_status rc = calls[i].call();
    disarm();
    if (rc == DM_NO_MEMORY || !sqlite)
        CHECK_INT(rc == DM_OK || rc == DM_NO_MEMORY, 1);
    bool in_part = calls[i].call == call_prune || calls[i].call == call_prune_sums ||
                   calls[i].call == call_history_foreign;
    if (calls[i].call == call_prune)
        all_are_kept();
    if (!in_part && rc != DM_OK && file_hash(calls[i].file) != before) {
        printf("%s, k=%ld, %s, %s: failed with %s (%s), but the file has changed\n", calls[i].name,
               set.left, sqlite ? "SQLite's" : "ours", set.for_ever ? "for ever" : "once",
               dm_status_name(rc), err.text);
        check_failed++;
    }
    changed = rc == DM_OK || in_part; /* it may have got a part of the way */
    bool reached = sqlite ? sqlites.reached : ours.reached;
    if (!reached)
        CHECK_OK(rc);
    return reached;
}

static void works_on(size_t i)
{
    if (calls[i].before != NULL)
        calls[i].before();
    CHECK_OK(calls[i].call());
}

static long points[CALLS][2]; /* of each call, ours and SQLite's */

/* Most are those of SQLite's parser. */
static long sparsely(size_t i)
{
    if (getenv("DM_TEST_ALL") != NULL)
        return 1;
    return calls[i].call == call_rename ? 23 : calls[i].call == call_check ? 5 : 1;
}

static long fail_at_each(size_t i, bool sqlite, bool for_ever)
{
    trap set = {.for_ever = for_ever, .again = -1};
    long step = stride * (sqlite ? sparsely(i) : 1), count = 0;
    changed = true;
    for (; fail_at(i, sqlite, set); count++)
        set.left += step;
    works_on(i);
    points[i][sqlite] = set.left;
    return count;
}

/* DM_ONLY: the name of one call. */
static bool is_wanted(size_t i)
{
    const char *only = getenv("DM_ONLY");
    return only == NULL || strcmp(only, calls[i].name) == 0;
}

/* DM_PAIRS: two of one call, anywhere. */
static void fail_pairs(long pairs)
{
    unsigned random = 1;
    changed = true;
    for (long n = 0; n < pairs; n++) {
        size_t i = (size_t)rand_r(&random) % CALLS;
        if (!is_wanted(i))
            continue;
        bool sqlite = rand_r(&random) & 1;
        trap set = {.left = points[i][sqlite] == 0 ? 0 : rand_r(&random) % points[i][sqlite],
                    .again = rand_r(&random) % 40};
        changed = true;
        (void)fail_at(i, sqlite, set);
        works_on(i);
    }
    printf("%ld pairs of allocations failed\n", pairs);
}

/* Each call, in a folder of its own. */
static int run(bool for_ever)
{
    const char *place = getenv("DM_FOLDER");
    char folder[64]; /* no sync is waited for there */
    (void)snprintf(folder, sizeof folder, "%s/dm-oom-XXXXXX", place == NULL ? "/dev/shm" : place);
    if (mkdtemp(folder) == NULL && mkdtemp(strcpy(folder, "/tmp/dm-oom-XXXXXX")) == NULL)
        return 2;
    (void)snprintf(path, sizeof path, "%s/a.db", folder);
    (void)snprintf(older, sizeof older, "%s/older.db", folder);
    (void)snprintf(fresh, sizeof fresh, "%s/fresh.db", folder);
    (void)snprintf(summed, sizeof summed, "%s/summed.db", folder);
    (void)snprintf(exported_file, sizeof exported_file, "%s/a.csv", folder);
    failing_install();
    int64_t memory_before = sqlite3_memory_used();
    CHECK_OK(dm_open(path, &normal, &m, &err));
    dm_options sums = normal;
    sums.checksums = true;
    CHECK_OK(dm_open(summed, &sums, &summing, &err));
    CHECK_OK(call_request_add_summed());
    CHECK_OK(call_program_start());
    CHECK_OK(call_model_start());
    with_tier();
    long all = 0;
    for (size_t i = 0; i < CALLS; i++)
        for (int sqlite = 0; sqlite < 2 && is_wanted(i); sqlite++)
            all += fail_at_each(i, sqlite, for_ever);
    if (!for_ever)
        fail_pairs(getenv("DM_PAIRS") == NULL ? 200 : atol(getenv("DM_PAIRS")));
    dm_free(m);
    dm_free(summing);
    witness_close(&path_witness);
    witness_close(&summed_witness);
    CHECK_INT(sqlite3_memory_used(), memory_before);
    printf("%ld allocations failed\n", all);
    CHECK_INT(all > 0, 1);
    remove_file(path);
    remove_file(older);
    remove_file(fresh);
    remove_file(exported_file);
    remove_file(summed);
    CHECK_INT(rmdir(folder), 0);
    return check_report();
}

int main(void)
{
    if (getenv("DM_TEST_STRIDE") != NULL)
        stride = atol(getenv("DM_TEST_STRIDE"));
    pid_t other = fork(); /* before there is a connection */
    if (other < 0)
        return 2;
    if (other == 0)
        return run(true);
    int failed = run(false), status = 0;
    CHECK_INT(waitpid(other, &status, 0), other);
    return failed || status != 0;
}
