/* SPDX-License-Identifier: MIT
 *
 * Prepared statements. A connection keeps one of each that names no model, and with every model
 * that it remembers one of each that does, so nothing on a hot path is prepared twice. */
#include "kept.h"

#include <string.h>

#define RUN_COLUMNS     "SELECT id,start_time,end_time FROM "
#define REQUEST_COLUMNS "id,timestamp,input_tokens,output_tokens,cache_n,prompt_n"

/* Those that cannot be what they say are read, and refused. */
#define KEPT_IN_WINDOW                                                                             \
    " FROM datamanager_usage_sums WHERE safe_name=?1"                                              \
    " AND (first_request<?3 OR NOT (" FIRST_IS_TIME "))"                                           \
    " AND (last_request>=?2 OR last_request<first_request OR NOT (" LAST_IS_TIME "))"              \
    " ORDER BY first_request,id"
#define FIRST_IS_TIME DM__IS_TIME("first_request")
#define LAST_IS_TIME  DM__IS_TIME("last_request")
/* What was over before ?2: a run that ends at a moment has used nothing since. */
#define OLD_REQUESTS " WHERE safe_name=?1 AND last_request<?2"
#define OLD_RUNS     " WHERE safe_name=?1 AND end_time<=?2"

/* In a model's text every %w is its safe name. */
static const char *const stmt_sql[DM__STMT_COUNT] = {
    [DM__STMT_BEGIN] = "BEGIN",
    [DM__STMT_BEGIN_IMMEDIATE] = "BEGIN IMMEDIATE",
    [DM__STMT_READ_ONCE] = "SELECT 1 FROM sqlite_schema LIMIT 1",
    [DM__STMT_COMMIT] = "COMMIT",
    [DM__STMT_ROLLBACK] = "ROLLBACK",
    [DM__STMT_SAVEPOINT] = "SAVEPOINT job",
    [DM__STMT_SAVEPOINT_RELEASE] = "RELEASE job",
    [DM__STMT_SAVEPOINT_ROLLBACK] = "ROLLBACK TO job",
    [DM__STMT_MODEL_FIND] = "SELECT safe_name FROM model_name_mapping WHERE original_name=?1",
    [DM__STMT_MODEL_FIND_SAFE] = "SELECT original_name FROM model_name_mapping WHERE safe_name=?1",
    [DM__STMT_MODEL_INSERT] =
        "INSERT INTO model_name_mapping(original_name,safe_name) VALUES(?1,?2)",
    [DM__STMT_MODEL_RENAME] =
        "UPDATE model_name_mapping SET original_name=?1,safe_name=?2 WHERE safe_name=?3",
    [DM__STMT_MODEL_DELETE] = "DELETE FROM model_name_mapping WHERE original_name=?1",
    [DM__STMT_MODELS_ALL] = "SELECT original_name,safe_name FROM model_name_mapping ORDER BY id",
    [DM__STMT_PROGRAM_RUN_INSERT] =
        "INSERT INTO program_runtime(start_time,end_time) VALUES(?1,?1)",
    [DM__STMT_PROGRAM_RUN_NEWEST] = RUN_COLUMNS "program_runtime ORDER BY id DESC LIMIT 1",
    [DM__STMT_PROGRAM_RUN_END] = "UPDATE program_runtime SET end_time=?2 WHERE id=?1",
    [DM__STMT_PROGRAM_RUNS] = RUN_COLUMNS "program_runtime ORDER BY id DESC",
    [DM__STMT_PROGRAM_RUN_DELETE] =
        "DELETE FROM program_runtime WHERE id=?1 AND start_time=?2 AND end_time=?3"
        " AND id<(SELECT max(id) FROM program_runtime)",
    [DM__STMT_PRICED] = "SELECT 1 FROM datamanager_price_changes WHERE safe_name=?1 LIMIT 1",
    [DM__STMT_PRICE_CHANGES] =
        "SELECT c.change_id,c.effective_from,c.changed_at,c.use_tier_pricing,c.hourly_price,"
        "c.strategy,c.sets_tiers,t.tier_index,t.start_tokens,t.end_tokens,"
        "t.input_price_per_million,t.output_price_per_million,t.support_cache,"
        "t.cache_hit_price_per_million FROM datamanager_price_changes c"
        " LEFT JOIN datamanager_price_tiers t ON t.safe_name=c.safe_name"
        " AND t.change_id=c.change_id WHERE c.safe_name=?1"
        " ORDER BY c.effective_from,c.change_id,t.tier_index",
    [DM__STMT_PRICE_CHANGE_PUT] =
        "INSERT INTO datamanager_price_changes(safe_name,change_id,effective_from,changed_at,"
        "use_tier_pricing,hourly_price,strategy,sets_tiers) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
    [DM__STMT_PRICE_TIER_PUT] =
        "INSERT INTO datamanager_price_tiers(safe_name,change_id,tier_index,start_tokens,"
        "end_tokens,input_price_per_million,output_price_per_million,support_cache,"
        "cache_hit_price_per_million) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)",
    [DM__STMT_PRUNED_REQUESTS] = "SELECT " DM__KEPT_PART_COLUMNS KEPT_IN_WINDOW,
    [DM__STMT_PRUNED_REQUEST_SUMS] = "SELECT " DM__KEPT_SUM_COLUMNS KEPT_IN_WINDOW,
    [DM__STMT_PRUNED_RUNS] = "SELECT " DM__KEPT_RUN_COLUMNS
                             " FROM datamanager_uptime_sums WHERE safe_name=?1 ORDER BY id",
    [DM__STMT_PRUNED_SPAN] =
        "SELECT min(first),max(last) FROM (SELECT first_request AS first,last_request AS last"
        " FROM datamanager_usage_sums WHERE safe_name=?1 UNION ALL"
        " SELECT start_time,end_time FROM datamanager_uptime_sums WHERE safe_name=?1)",
    [DM__STMT_PRUNED_USED_SINCE] =
        "SELECT EXISTS(SELECT 1 FROM datamanager_usage_sums WHERE safe_name=?1 AND"
        " last_request>=?2) OR EXISTS(SELECT 1 FROM datamanager_uptime_sums WHERE safe_name=?1"
        " AND end_time>?2)",
    /* A run alone is kept as it was, and may be parted. */
    [DM__STMT_PRUNED_PARTED] =
        "SELECT 'requests',first_request,last_request FROM datamanager_usage_sums WHERE"
        " safe_name=?1 AND first_request<?2 AND last_request>=?2 UNION ALL"
        " SELECT 'runs',start_time,end_time FROM datamanager_uptime_sums WHERE safe_name=?1"
        " AND runs>1 AND start_time<?2 AND end_time>?2 LIMIT 1",
    [DM__STMT_PRUNED_PART_BEFORE] =
        "SELECT " DM__KEPT_PART_COLUMNS ",bucket_start FROM datamanager_usage_sums WHERE"
        " safe_name=?1 AND first_request<=?2 ORDER BY first_request DESC,id DESC LIMIT 1",
    [DM__STMT_PRUNED_PART_AFTER] = "SELECT min(first_request) FROM datamanager_usage_sums"
                                   " WHERE safe_name=?1 AND first_request>?2",
    [DM__STMT_PRUNED_PART_PUT] =
        "INSERT OR REPLACE INTO datamanager_usage_sums(id,safe_name,bucket_start,"
        "first_request,last_request,requests,input_tokens,output_tokens,cache_n,prompt_n,packed)"
        " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
    [DM__STMT_PRUNED_RUN_OF_BUCKET] =
        "SELECT " DM__KEPT_RUN_COLUMNS " FROM datamanager_uptime_sums WHERE safe_name=?1"
        " AND bucket_start=?2 ORDER BY id DESC LIMIT 1",
    [DM__STMT_PRUNED_RUN_PUT] =
        "INSERT OR REPLACE INTO datamanager_uptime_sums(id,safe_name,bucket_start,start_time,"
        "end_time,runs,seconds) VALUES(?1,?2,?3,?4,?5,?6,?7)",
    [DM__STMT_PRUNED_OLD] =
        "SELECT 0,id,min(max(requests,0),2147483647) FROM datamanager_usage_sums" OLD_REQUESTS
        " UNION ALL SELECT 1,id,min(max(runs,0),2147483647) FROM datamanager_uptime_sums" OLD_RUNS,
    [DM__STMT_PRUNED_PART_DELETE] = "DELETE FROM datamanager_usage_sums" OLD_REQUESTS " AND id=?3",
    [DM__STMT_PRUNED_RUN_DELETE] = "DELETE FROM datamanager_uptime_sums" OLD_RUNS " AND id=?3",
    [DM__STMT_STORE_VALUE] = "SELECT value FROM datamanager_store WHERE name=?1",
    [DM__STMT_ERA] = "SELECT era,last_row FROM datamanager_eras WHERE safe_name=?1 AND last_row>=?2"
                     " ORDER BY last_row LIMIT 1",
    [DM__STMT_RUN_INSERT] = "INSERT INTO \"%w_runtime\"(start_time,end_time) VALUES(?1,?1)",
    [DM__STMT_RUN_NEWEST] = RUN_COLUMNS "\"%w_runtime\" ORDER BY id DESC LIMIT 1",
    [DM__STMT_RUN_END] = "UPDATE \"%w_runtime\" SET end_time=?2 WHERE id=?1",
    [DM__STMT_RUNS] = RUN_COLUMNS "\"%w_runtime\" ORDER BY id DESC",
    [DM__STMT_RUN_DELETE] =
        "DELETE FROM \"%w_runtime\" WHERE id=?1 AND start_time=?2 AND end_time=?3"
        " AND id<(SELECT max(id) FROM \"%w_runtime\")",
    [DM__STMT_REQUEST_INSERT] =
        "INSERT INTO \"%w_requests\"(timestamp,input_tokens,output_tokens,cache_n,prompt_n)"
        " VALUES(?1,?2,?3,?4,?5)",
    [DM__STMT_REQUESTS_INSERT] =
        "INSERT INTO \"%w_requests\"(timestamp,input_tokens,output_tokens,cache_n,prompt_n)"
        " SELECT timestamp,input_tokens,output_tokens,cache_n,prompt_n FROM datamanager_rows",
    /* NOT INDEXED: an index that others have made must not decide the order. */
    [DM__STMT_REQUESTS] = "SELECT datamanager_row(" REQUEST_COLUMNS ")"
                          " FROM \"%w_requests\" NOT INDEXED WHERE id>?1 AND id<=?2",
    [DM__STMT_REQUESTS_NEWEST] = "SELECT datamanager_row(" REQUEST_COLUMNS ")"
                                 " FROM (SELECT " REQUEST_COLUMNS
                                 " FROM \"%w_requests\" NOT INDEXED ORDER BY id DESC LIMIT -1)",
    [DM__STMT_REQUEST] = "SELECT " REQUEST_COLUMNS " FROM \"%w_requests\" WHERE id=?1",
    /* As AUTOINCREMENT finds it. */
    [DM__STMT_REQUEST_NEXT] = "SELECT max(coalesce((SELECT max(seq) FROM sqlite_sequence WHERE"
                              " name='%w_requests' COLLATE NOCASE),0),"
                              "coalesce((SELECT max(id) FROM \"%w_requests\"),0))",
    [DM__STMT_REQUEST_LAST] = "SELECT max(id) FROM \"%w_requests\"",
    [DM__STMT_REQUEST_AFTER] = "SELECT min(id) FROM \"%w_requests\" WHERE id>?1",
    [DM__STMT_REQUEST_DELETE] = "DELETE FROM \"%w_requests\" WHERE id=?1",
    /* A run that ends at a moment has used nothing since; the newest goes on until it is ended. The
     * newest request mostly answers it, and OR would look at all of them in any case. */
    [DM__STMT_USED_SINCE] =
        "SELECT CASE WHEN (SELECT timestamp>=?1 FROM \"%w_requests\" ORDER BY id DESC LIMIT 1)"
        " THEN 1 WHEN EXISTS(SELECT 1 FROM \"%w_runtime\" WHERE end_time>?1)"
        " THEN 1 WHEN EXISTS(SELECT 1 FROM (SELECT start_time,end_time FROM \"%w_runtime\""
        " ORDER BY id DESC LIMIT 1) WHERE start_time=end_time AND max(start_time,?1)<?2)"
        " THEN 1 ELSE EXISTS(SELECT 1 FROM \"%w_requests\" WHERE timestamp>=?1) END",
    [DM__STMT_RUN_SPAN] = "SELECT min(start_time),max(end_time) FROM \"%w_runtime\"",
    [DM__STMT_BILLING] = "SELECT use_tier_pricing,hourly_price FROM \"%w_billing\" LIMIT 1",
    [DM__STMT_BILLING_SET] = "UPDATE \"%w_billing\" SET use_tier_pricing=?1,hourly_price=?2",
    [DM__STMT_TIERS] = "SELECT tier_index,start_tokens,end_tokens,input_price_per_million,"
                       "output_price_per_million,support_cache,cache_hit_price_per_million"
                       " FROM \"%w_tier_pricing\" ORDER BY tier_index",
    [DM__STMT_TIER_INSERT] =
        "INSERT OR REPLACE INTO \"%w_tier_pricing\"(tier_index,start_tokens,end_tokens,"
        "input_price_per_million,output_price_per_million,support_cache,"
        "cache_hit_price_per_million) VALUES(?1,?2,?3,?4,?5,?6,?7)",
    [DM__STMT_TIER_DELETE] = "DELETE FROM \"%w_tier_pricing\" WHERE tier_index=?1",
    [DM__STMT_TIMING_INSERT] =
        "INSERT OR REPLACE INTO \"%w_timings\"(request_id,duration,first_token) VALUES(?1,?2,?3)",
    [DM__STMT_TIMING_DELETE] = "DELETE FROM \"%w_timings\" WHERE request_id=?1",
    [DM__STMT_TIMINGS] =
        "SELECT request_id,duration,first_token FROM \"%w_timings\" WHERE request_id>=?1"
        " ORDER BY request_id",
    [DM__STMT_REQUEST_ID_FIND] = "SELECT row_id FROM \"%w_request_ids\" WHERE request_id=?1",
    [DM__STMT_REQUEST_ID_OF_ROW] = "SELECT 1 FROM \"%w_request_ids\" WHERE row_id=?1",
    [DM__STMT_REQUEST_IDS] = "SELECT row_id,request_id FROM \"%w_request_ids\" ORDER BY row_id",
    /* REPLACE: of an id that was looked up and is new, only what another's rows have left. */
    [DM__STMT_REQUEST_ID_INSERT] =
        "INSERT OR REPLACE INTO \"%w_request_ids\"(row_id,request_id) VALUES(?1,?2)",
    [DM__STMT_CHECKSUM_DIFFERS] =
        "SELECT 1 FROM \"%w_checksums\" JOIN \"%w_requests\" ON id=request_id WHERE request_id=?1"
        " AND checksum IS NOT"
        " datamanager_checksum(timestamp,input_tokens,output_tokens,cache_n,prompt_n)",
    [DM__STMT_CHECKSUM_DELETE] = "DELETE FROM \"%w_checksums\" WHERE request_id=?1",
    [DM__STMT_CHECKSUMS_ADD] =
        "INSERT OR REPLACE INTO \"%w_checksums\"(request_id,checksum) SELECT id,"
        "datamanager_checksum(timestamp,input_tokens,output_tokens,cache_n,prompt_n)"
        " FROM \"%w_requests\" NOT INDEXED WHERE id>=?1",
};

static const char *stmt_table_suffix(dm__stmt_id id)
{
    if (id <= DM__STMT_RUN_SPAN)
        return "_runtime";
    if (id <= DM__STMT_USED_SINCE)
        return "_requests";
    if (id <= DM__STMT_BILLING_SET)
        return "_billing";
    if (id <= DM__STMT_TIER_DELETE)
        return "_tier_pricing";
    if (id <= DM__STMT_TIMINGS)
        return "_timings";
    return id <= DM__STMT_REQUEST_ID_INSERT ? "_request_ids" : "_checksums";
}

static bool model_table_exists(dm__conn *conn, const dm__model *model, dm__stmt_id id)
{
    char table[DM_SAFE_NAME_SIZE + 16];
    (void)sqlite3_snprintf((int)sizeof table, table, "%s%s", model->safe, stmt_table_suffix(id));
    return sqlite3_table_column_metadata(conn->db, "main", table, NULL, NULL, NULL, NULL, NULL,
                                         NULL) == SQLITE_OK;
}

static void statement_count(dm__conn *conn, bool hit)
{
    conn->counters.statement_hits += hit;
    conn->counters.statement_misses += !hit;
}

/* "write qwen_requests", "commit": a statement, of which whoever reads an error needs no more. Of a
 * PRAGMA nothing: it is how we open a file. */
static const char *sql_in_words(const char *sql, char *words, int size)
{
    static const struct {
        const char *start, *before, *verb;
    } kinds[] = {{"SELECT", " FROM ", "read"},    {"INSERT", " INTO ", "write"},
                 {"UPDATE", "UPDATE ", "write"},  {"DELETE", " FROM ", "write"},
                 {"CREATE", " TABLE ", "create"}, {"DROP", " TABLE ", "drop"},
                 {"COMMIT", NULL, "commit"},      {"BEGIN", NULL, "begin"},
                 {"ROLLBACK", NULL, "roll back"}, {"VACUUM", NULL, "vacuum"}};
    *words = '\0';
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strncmp(sql, kinds[i].start, strlen(kinds[i].start)) != 0)
            continue;
        const char *table = kinds[i].before == NULL ? "" : strstr(sql, kinds[i].before);
        if (table == NULL)
            break;
        table += kinds[i].before == NULL ? 0 : strlen(kinds[i].before);
        for (const char *next; (next = strstr(table, "EXISTS ")) != NULL && next - table < 8;)
            table = next + strlen("EXISTS ");
        table += *table == '"';
        (void)sqlite3_snprintf(size, words, "%s%s%.*s", kinds[i].verb, *table == '\0' ? "" : " ",
                               (int)strcspn(table, "\" (,;.)"), table);
    }
    return words;
}

dm_status dm__sql_failed(dm__conn *conn, int sqlite_code, const char *sql, dm_error *err)
{
    char words[120];
    (void)sql_in_words(sql, words, (int)sizeof words);
    if ((sqlite_code & 0xff) != SQLITE_ERROR)
        return dm__fail_sqlite(err, conn->db, sqlite_code, words);
    (void)dm__fail(err, DM_CORRUPT_DATA, "a table is not as it should be: %s%s%s%s",
                   sqlite3_errmsg(conn->db), *words == '\0' ? "" : " (", words,
                   *words == '\0' ? "" : ")");
    if (err != NULL)
        err->sqlite_code = sqlite_code;
    return DM_CORRUPT_DATA;
}

dm_status dm__stmt_get(dm__conn *conn, dm__stmt_id id, sqlite3_stmt **stmt_out, dm_error *err)
{
    sqlite3_stmt **slot = &conn->stmts[id];
    statement_count(conn, *slot != NULL);
    if (*slot == NULL) {
        int code =
            sqlite3_prepare_v3(conn->db, stmt_sql[id], -1, SQLITE_PREPARE_PERSISTENT, slot, NULL);
        if (code != SQLITE_OK)
            return dm__sql_failed(conn, code, stmt_sql[id], err);
    }
    *stmt_out = *slot;
    return DM_OK;
}

dm_status dm__model_stmt_get(dm__conn *conn, dm__model *model, dm__stmt_id id,
                             sqlite3_stmt **stmt_out, dm_error *err)
{
    sqlite3_stmt **slot = &model->stmts[id - DM__STMT_GLOBAL_COUNT];
    statement_count(conn, *slot != NULL);
    if (*slot == NULL) {
        char *sql =
            sqlite3_mprintf(stmt_sql[id], model->safe, model->safe, model->safe, model->safe);
        if (sql == NULL)
            return dm__no_memory(err);
        int code = sqlite3_prepare_v3(conn->db, sql, -1, SQLITE_PREPARE_PERSISTENT, slot, NULL);
        dm_status rc = code == SQLITE_OK ? DM_OK : dm__sql_failed(conn, code, sql, err);
        sqlite3_free(sql);
        if (rc != DM_OK)
            return code == SQLITE_ERROR && !model_table_exists(conn, model, id) ? DM__STALE : rc;
    }
    *stmt_out = *slot;
    return DM_OK;
}

void dm__stmt_put(sqlite3_stmt *stmt)
{
    if (stmt == NULL)
        return;
    (void)sqlite3_reset(stmt); /* repeats the error of the step, which was dealt with there */
    (void)sqlite3_clear_bindings(stmt);
}

dm_status dm__stmt_failed(dm__conn *conn, sqlite3_stmt *stmt, int sqlite_code, dm_error *err)
{
    dm_status rc = dm__sql_failed(conn, sqlite_code, sqlite3_sql(stmt), err);
    if ((sqlite_code & 0xff) != SQLITE_ERROR)
        return rc;
    /* A model's table may be gone since the statement was prepared. */
    for (size_t bucket = 0; bucket < DM__MODEL_BUCKETS; bucket++)
        for (dm__model *model = conn->models[bucket]; model != NULL; model = model->next)
            for (int i = 0; i < DM__MODEL_STMT_COUNT; i++)
                if (model->stmts[i] == stmt)
                    return model_table_exists(conn, model, DM__STMT_GLOBAL_COUNT + i) ? rc
                                                                                      : DM__STALE;
    return rc;
}

dm_status dm__stmt_step(dm__conn *conn, sqlite3_stmt *stmt, bool *row_out, dm_error *err)
{
    int code = sqlite3_step(stmt);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return dm__stmt_failed(conn, stmt, code, err);
    *row_out = code == SQLITE_ROW;
    return DM_OK;
}

dm_status dm__stmt_run(dm__conn *conn, sqlite3_stmt *stmt, dm_error *err)
{
    bool row = true;
    dm_status rc = DM_OK;
    while (row && rc == DM_OK)
        rc = dm__stmt_step(conn, stmt, &row, err);
    return rc;
}

dm_status dm__stmt_exec(dm__conn *conn, dm__stmt_id id, dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__stmt_get(conn, id, &stmt, err);
    if (rc == DM_OK)
        rc = dm__stmt_run(conn, stmt, err);
    dm__stmt_put(stmt);
    return rc;
}

dm_status dm__begin_snapshot(dm__conn *conn, dm_error *err)
{
    dm_status rc = dm__stmt_exec(conn, DM__STMT_BEGIN, err);
    return rc == DM_OK ? dm__conn_read_once(conn, err) : rc;
}

dm_status dm__begin_waiting(dm__conn *conn, int64_t deadline_ns, dm_error *err)
{
    dm_status rc;
    while ((rc = dm__stmt_exec(conn, DM__STMT_BEGIN_IMMEDIATE, err)) == DM_BUSY)
        if (conn->counters.busy_retries++,
            (rc = dm__busy_wait(&conn->stop, conn->db, deadline_ns, err)) != DM_OK)
            break;
    return rc;
}

void dm__rollback(dm__conn *conn)
{
    sqlite3_stmt *stmt = NULL;
    if (!sqlite3_get_autocommit(conn->db) &&
        dm__stmt_get(conn, DM__STMT_ROLLBACK, &stmt, NULL) == DM_OK)
        (void)sqlite3_step(stmt); /* an error here means that SQLite has rolled back itself */
    dm__stmt_put(stmt);
}

/* ---- tables that are made when they are needed, and that others may drop ---- */

dm_status dm__side_stmt_get(dm__conn *conn, dm__model *model, dm__stmt_id id,
                            dm__side_create create, sqlite3_stmt **stmt_out, dm_error *err)
{
    dm_status rc = dm__model_stmt_get(conn, model, id, stmt_out, err);
    if (rc != (dm_status)DM__STALE)
        return rc;
    rc = create(conn, model->safe, err);
    return rc == DM_OK ? dm__model_stmt_get(conn, model, id, stmt_out, err) : rc;
}

dm_status dm__side_stmt_run(dm__conn *conn, dm__model *model, dm__side_create create,
                            sqlite3_stmt *stmt, dm_error *err)
{
    dm_status rc = dm__stmt_run(conn, stmt, err);
    if (rc != (dm_status)DM__STALE)
        return rc;
    (void)sqlite3_reset(stmt);
    rc = create(conn, model->safe, err);
    return rc == DM_OK ? dm__stmt_run(conn, stmt, err) : rc;
}

/* ---- the connection's memory of models ---- */

/* FNV-1a, 64 bit. */
static uint64_t name_hash(dm_str name)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < name.length; i++)
        hash = (hash ^ (unsigned char)name.bytes[i]) * 1099511628211u;
    return hash;
}

dm__model *dm__conn_model_find(dm__conn *conn, dm_str name)
{
    uint64_t hash = name_hash(name);
    for (dm__model *model = conn->models[hash % DM__MODEL_BUCKETS]; model; model = model->next)
        if (model->hash == hash && model->name_length == name.length &&
            memcmp(model->name, name.bytes, name.length) == 0) {
            model->used = ++conn->clock;
            return model;
        }
    return NULL;
}

static void model_finalize(dm__model *model)
{
    for (int i = 0; i < DM__MODEL_STMT_COUNT; i++)
        (void)sqlite3_finalize(model->stmts[i]);
    dm__free(model);
}

void dm__conn_model_forget(dm__conn *conn, dm__model *model)
{
    if (model == NULL)
        return;
    dm__model **link = &conn->models[model->hash % DM__MODEL_BUCKETS];
    while (*link != model)
        link = &(*link)->next;
    *link = model->next;
    conn->model_count--;
    model_finalize(model);
}

/* A whole pass over at most DM__MODELS_MAX entries, but only when a new one has to be learnt,
 * which itself prepares statements. */
static void forget_least_recent(dm__conn *conn)
{
    dm__model *oldest = NULL;
    for (size_t bucket = 0; bucket < DM__MODEL_BUCKETS; bucket++)
        for (dm__model *model = conn->models[bucket]; model != NULL; model = model->next)
            if (oldest == NULL || model->used < oldest->used)
                oldest = model;
    dm__conn_model_forget(conn, oldest);
}

dm_status dm__conn_model_remember(dm__conn *conn, dm_str name, const char *safe,
                                  dm__model **model_out, dm_error *err)
{
    dm__model *model = dm__calloc(1, sizeof *model + name.length);
    if (model == NULL)
        return dm__no_memory(err);
    if (conn->model_count >= DM__MODELS_MAX)
        forget_least_recent(conn);
    model->insert_prepared = -1;
    model->hash = name_hash(name);
    model->used = ++conn->clock;
    model->name_length = name.length;
    memcpy(model->name, name.bytes, name.length);
    (void)sqlite3_snprintf((int)sizeof model->safe, model->safe, "%s", safe);
    dm__model **bucket = &conn->models[model->hash % DM__MODEL_BUCKETS];
    model->next = *bucket;
    *bucket = model;
    conn->model_count++;
    *model_out = model;
    return DM_OK;
}

void dm__conn_statements_finalize(dm__conn *conn)
{
    for (int i = 0; i < DM__STMT_GLOBAL_COUNT; i++)
        (void)sqlite3_finalize(conn->stmts[i]);
    for (size_t bucket = 0; bucket < DM__MODEL_BUCKETS; bucket++)
        while (conn->models[bucket] != NULL)
            dm__conn_model_forget(conn, conn->models[bucket]);
}
