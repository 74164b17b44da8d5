/* SPDX-License-Identifier: MIT
 *
 * A model gets another name, and with it other tables: whoever remembers the old ones finds them
 * gone and looks the name up again. Where the new name is known already, the records of both come
 * together; ids of the old go on behind those of the new. */
#include "kept.h"

#include <string.h>

static dm_status history_move(dm__conn *conn, const char *from, const char *to, dm_error *err)
{
    bool there = false;
    dm_status rc = dm__history_find(conn, &there, err);
    return rc != DM_OK || !there
               ? rc
               : dm__conn_exec(conn, err,
                               "UPDATE datamanager_price_changes SET safe_name=%Q WHERE"
                               " safe_name=%Q; UPDATE datamanager_price_tiers SET safe_name=%Q"
                               " WHERE safe_name=%Q",
                               to, from, to, from);
}

/* The tables that a model need not have; all are by row. */
static bool has_table(dm__conn *conn, const char *safe, const char *suffix)
{
    char table[DM_SAFE_NAME_SIZE + 16];
    (void)sqlite3_snprintf((int)sizeof table, table, "%s%s", safe, suffix);
    return dm__table_has_column(conn, table, "request_id");
}

/* ---- rows into other tables, behind a number ---- */

static dm_status timings_join(dm__conn *conn, const char *from, const char *to, int64_t behind,
                              dm_error *err)
{
    if (!has_table(conn, from, "_timings"))
        return DM_OK;
    dm_status rc = dm__timings_create(conn, to, err);
    return rc == DM_OK ? dm__conn_exec(conn, err,
                                       "INSERT INTO \"%w_timings\"(request_id,duration,first_token)"
                                       " SELECT request_id+%lld,duration,first_token"
                                       " FROM \"%w_timings\"",
                                       to, (long long)behind, from)
                       : rc;
}

/* Of two requests with the same id, one in each model, that which was here keeps it. */
static dm_status request_ids_join(dm__conn *conn, const char *from, const char *to, int64_t behind,
                                  dm_error *err)
{
    if (!has_table(conn, from, "_request_ids"))
        return DM_OK;
    dm_status rc = dm__request_ids_create(conn, to, err);
    return rc == DM_OK ? dm__conn_exec(conn, err,
                                       "INSERT OR IGNORE INTO \"%w_request_ids\"(row_id,request_id)"
                                       " SELECT row_id+%lld,request_id FROM \"%w_request_ids\"",
                                       to, (long long)behind, from)
                       : rc;
}

/* As they were: what had changed before shows afterwards. */
static dm_status checksums_join(dm__conn *conn, const char *from, const char *to, int64_t behind,
                                dm_error *err)
{
    return !has_table(conn, from, "_checksums") || !has_table(conn, to, "_checksums")
               ? DM_OK
               : dm__conn_exec(conn, err,
                               "INSERT INTO \"%w_checksums\"(request_id,checksum) SELECT"
                               " request_id+%lld,checksum FROM \"%w_checksums\"",
                               to, (long long)behind, from);
}

static dm_status rows_join(dm__conn *conn, const char *from, const char *to, int64_t behind,
                           dm_error *err)
{
    dm_status rc =
        dm__conn_exec(conn, err,
                      "INSERT INTO \"%w_requests\"(id,timestamp,input_tokens,output_tokens,"
                      "cache_n,prompt_n) SELECT id+%lld,timestamp,input_tokens,output_tokens,"
                      "cache_n,prompt_n FROM \"%w_requests\" ORDER BY id",
                      to, behind, from);
    if (rc == DM_OK)
        rc = timings_join(conn, from, to, behind, err);
    if (rc == DM_OK)
        rc = checksums_join(conn, from, to, behind, err);
    return rc == DM_OK ? request_ids_join(conn, from, to, behind, err) : rc;
}

static dm_status prices_copy(dm__conn *conn, const char *from, const char *to, dm_error *err)
{
    return dm__conn_exec(conn, err,
                         "DELETE FROM \"%w_billing\"; DELETE FROM \"%w_tier_pricing\";"
                         "INSERT INTO \"%w_billing\" SELECT use_tier_pricing,hourly_price"
                         " FROM \"%w_billing\";"
                         "INSERT INTO \"%w_tier_pricing\" SELECT tier_index,start_tokens,"
                         "end_tokens,input_price_per_million,output_price_per_million,"
                         "support_cache,cache_hit_price_per_million"
                         " FROM \"%w_tier_pricing\"",
                         to, to, to, from, to, from);
}

/* ---- another name ---- */

/* Prices come first, those that a model need not have last. */
static const char *const suffixes[] = {"_billing", "_tier_pricing", "_runtime",  "_requests",
                                       "_timings", "_request_ids",  "_checksums"};
enum { SUFFIXES = sizeof suffixes / sizeof *suffixes, PRICES = 2, MANUAL = 4 };

/* All but the first so many. */
static dm_status tables_alter(dm__conn *conn, int first, const char *from, const char *to,
                              dm_error *err)
{
    dm_status rc = DM_OK;
    /* Views and triggers are not ours, and what is wrong in them must not matter. */
    (void)sqlite3_db_config(conn->db, SQLITE_DBCONFIG_LEGACY_ALTER_TABLE, 1, NULL);
    for (int i = first; i < SUFFIXES && rc == DM_OK; i++)
        if (i < MANUAL || has_table(conn, from, suffixes[i]))
            rc = dm__conn_exec(conn, err, "ALTER TABLE \"%w%s\" RENAME TO \"%w%s\"", from,
                               suffixes[i], to, suffixes[i]);
    (void)sqlite3_db_config(conn->db, SQLITE_DBCONFIG_LEGACY_ALTER_TABLE, 0, NULL);
    return rc;
}

static dm_status tables_drop(dm__conn *conn, int first, const char *safe, dm_error *err)
{
    dm_status rc = DM_OK;
    for (int i = first; i < SUFFIXES && rc == DM_OK; i++)
        rc = dm__conn_exec(conn, err, "DROP TABLE IF EXISTS \"%w%s\"", safe, suffixes[i]);
    return rc;
}

/* To alter a table SQLite parses the whole schema anew, under the write lock: of 1000 models that
 * takes 0.8 s, of 3000 4 s, and there 10,000 requests are copied in 30 and 70 ms. By the numbers of
 * the rows, which would have to be counted. */
static dm_status copy_is_faster(dm__conn *conn, const char *from, bool *is_out, dm_error *err)
{
    int64_t is = 0;
    dm_status rc = dm__conn_integer(
        conn, &is, err,
        "SELECT coalesce((SELECT max(id) FROM \"%w_requests\")-(SELECT min(id) FROM"
        " \"%w_requests\"),0)+coalesce((SELECT max(id) FROM \"%w_runtime\")-(SELECT min(id) FROM"
        " \"%w_runtime\"),0)<30*(SELECT count(*) FROM sqlite_schema)",
        from, from, from, from);
    *is_out = is != 0;
    return rc;
}

static dm_status tables_found(dm__conn *conn, const char *safe, bool *found_out, dm_error *err)
{
    int64_t found = 0;
    dm_status rc = dm__conn_integer(conn, &found, err,
                                    "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE"
                                    " substr(name,1,%d)='%q_' COLLATE NOCASE)",
                                    (int)strlen(safe) + 1, safe);
    *found_out = found != 0;
    return rc;
}

/* Whether the tables are those that we make, and others have added no index or trigger. */
static dm_status tables_alike(dm__conn *conn, const char *from, const char *to, bool *alike_out,
                              dm_error *err)
{
    int64_t alike = 0;
    dm_status rc = dm__conn_integer(
        conn, &alike, err,
        "SELECT NOT EXISTS(SELECT 1 FROM sqlite_schema WHERE sql IS NOT NULL AND"
        " substr(tbl_name,1,%d)='%q_' COLLATE NOCASE AND replace(sql,'\"%q_','\"%q_') NOT IN"
        " (SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND substr(tbl_name,1,%d)='%q_'))",
        (int)strlen(from) + 1, from, from, to, (int)strlen(to) + 1, to);
    *alike_out = alike != 0;
    return rc;
}

/* Empty ones. */
static dm_status tables_make(dm__conn *conn, const char *from, const char *to, dm_error *err)
{
    dm_status rc = dm__model_tables_create(conn, to, err);
    if (rc == DM_OK && has_table(conn, from, "_timings"))
        rc = dm__timings_create(conn, to, err);
    if (rc == DM_OK && has_table(conn, from, "_request_ids"))
        rc = dm__request_ids_create(conn, to, err);
    if (rc == DM_OK)
        rc = has_table(conn, from, "_checksums")
                 ? dm__checksums_create(conn, to, err)
                 : dm__conn_exec(conn, err, "DROP TABLE IF EXISTS \"%w_checksums\"", to);
    return rc;
}

static dm_status tables_fill(dm__conn *conn, const char *from, const char *to, dm_error *err)
{
    dm_status rc = rows_join(conn, from, to, 0, err);
    if (rc == DM_OK)
        rc = prices_copy(conn, from, to, err);
    return rc == DM_OK ? dm__conn_exec(conn, err,
                                       "INSERT INTO \"%w_runtime\"(id,start_time,end_time) SELECT"
                                       " id,start_time,end_time FROM \"%w_runtime\" ORDER BY id;"
                                       "DELETE FROM sqlite_sequence WHERE name IN"
                                       " ('%q_runtime','%q_requests');"
                                       "UPDATE sqlite_sequence SET name='%q'||substr(name,%d) WHERE"
                                       " name IN ('%q_runtime','%q_requests')",
                                       to, from, to, to, to, (int)strlen(from) + 1, from, from)
                       : rc;
}

static dm_status tables_move(dm__conn *conn, const char *from, const char *to, dm_error *err)
{
    bool copy = false, found = false;
    dm_status rc = copy_is_faster(conn, from, &copy, err);
    if (rc == DM_OK)
        rc = tables_found(conn, to, &found, err);
    if (rc != DM_OK || !copy || found)
        return rc == DM_OK ? tables_alter(conn, 0, from, to, err) : rc;
    rc = tables_make(conn, from, to, err);
    if (rc == DM_OK)
        rc = tables_alike(conn, from, to, &copy, err);
    if (rc == DM_OK && copy)
        rc = tables_fill(conn, from, to, err);
    if (rc == DM_OK)
        rc = tables_drop(conn, 0, copy ? from : to, err);
    return rc == DM_OK && !copy ? tables_alter(conn, 0, from, to, err) : rc;
}

static dm_status name_set(dm__conn *conn, const char *from, dm_str name, const char *to,
                          dm_error *err)
{
    sqlite3_stmt *stmt = NULL;
    dm_status rc = dm__stmt_get(conn, DM__STMT_MODEL_RENAME, &stmt, err);
    if (rc != DM_OK)
        return rc;
    (void)sqlite3_bind_text(stmt, 1, name.bytes, (int)name.length, SQLITE_STATIC);
    (void)sqlite3_bind_text(stmt, 2, to, -1, SQLITE_STATIC);
    (void)sqlite3_bind_text(stmt, 3, from, -1, SQLITE_STATIC);
    rc = dm__stmt_run(conn, stmt, err);
    dm__stmt_put(stmt);
    return rc;
}

static dm_status model_move(dm__conn *conn, const char *from, dm_str name, dm_error *err)
{
    char to[DM_SAFE_NAME_SIZE];
    dm_safe_name(name, to);
    /* What is of that name already is left from a model that the older class deleted. */
    dm_status rc = dm__side_tables_drop(conn, to, err);
    if (rc == DM_OK)
        rc = dm__history_forget(conn, to, err);
    if (rc == DM_OK)
        rc = tables_move(conn, from, to, err);
    if (rc == DM_OK)
        rc = history_move(conn, from, to, err);
    if (rc == DM_OK)
        rc = dm__kept_move(conn, from, to, err);
    if (rc == DM_OK)
        rc = dm__eras_move(conn, from, to, err);
    return rc == DM_OK ? name_set(conn, from, name, to, err) : rc;
}

/* ---- two become one ---- */

/* What stands beside rows that are yet to come is left from rows that others have dropped, and must
 * not meet those that come in now, or later. */
static dm_status left_forget(dm__conn *conn, const char *safe, int64_t last_id, dm_error *err)
{
    dm_status rc = DM_OK;
    for (size_t i = 0; i < DM__ROW_TABLES && rc == DM_OK; i++)
        if (has_table(conn, safe, dm__row_tables[i].suffix))
            rc = dm__conn_exec(conn, err, "DELETE FROM \"%w%s\" WHERE %s>%lld", safe,
                               dm__row_tables[i].suffix, dm__row_tables[i].row_id,
                               (long long)last_id);
    return rc;
}

/* Behind every number that was ever given, and so that none of either is given again: of those
 * whose rows were pruned there may be ids. */
static dm_status requests_join(dm__conn *conn, dm__model *from, dm__model *to, dm_error *err)
{
    int64_t behind = 0, last_id = 0;
    dm_status rc = dm__row_id_last(conn, to, &behind, err);
    if (rc == DM_OK)
        rc = dm__row_id_last(conn, from, &last_id, err);
    if (rc == DM_OK && last_id > INT64_MAX - behind)
        rc = dm__fail(err, DM_CORRUPT_DATA,
                      "%s_requests and %s_requests: the numbers of rows are used up:"
                      " together they pass 2^63-1",
                      to->safe, from->safe);
    if (rc == DM_OK)
        rc = left_forget(conn, to->safe, behind, err);
    if (rc == DM_OK)
        rc = left_forget(conn, from->safe, last_id, err);
    if (rc == DM_OK)
        rc = rows_join(conn, from->safe, to->safe, behind, err);
    return rc == DM_OK ? dm__row_ids_reserve(conn, to->safe, behind + last_id, err) : rc;
}

/* The newest run, which an end is for, stays the one that started last. */
static dm_status runs_join(dm__conn *conn, const char *from, const char *to, dm_error *err)
{
    int64_t newest = 0;
    dm_status rc = dm__conn_integer(conn, &newest, err,
                                    "SELECT coalesce(max(id),0) FROM \"%w_runtime\" WHERE id="
                                    "(SELECT max(id) FROM \"%w_runtime\") AND start_time>="
                                    "(SELECT max(start_time) FROM \"%w_runtime\")",
                                    to, to, from);
    if (rc != DM_OK)
        return rc;
    return dm__conn_exec(conn, err,
                         "INSERT INTO \"%w_runtime\"(start_time,end_time) SELECT"
                         " start_time,end_time FROM \"%w_runtime\" ORDER BY id;"
                         "UPDATE \"%w_runtime\" SET id=(SELECT max(id)+1 FROM \"%w_runtime\")"
                         " WHERE id=%lld",
                         to, from, to, to, newest);
}

/* Of a method alone, or an hourly price of 0, nobody has said that it is free. */
static bool has_price(const dm__history *history)
{
    for (size_t i = 0; i < history->count; i++)
        if (history->changes[i].tier_count > 0 || history->changes[i].hourly_price != 0)
            return true;
    return false;
}

/* Many rows take the place of none, in which no number was given, and to which others have added no
 * index or trigger: to copy them would take long. */
static dm_status may_replace(dm__conn *conn, dm__model *from, dm__model *to, bool *may_out,
                             dm_error *err)
{
    int64_t last_id = 0, more = 0;
    bool copy = false;
    dm_status rc = dm__row_id_last(conn, to, &last_id, err);
    if (rc == DM_OK)
        rc = dm__conn_integer(conn, &more, err,
                              "SELECT EXISTS(SELECT 1 FROM \"%w_runtime\") OR EXISTS(SELECT 1 FROM"
                              " sqlite_schema WHERE substr(tbl_name,1,%d)='%q_' COLLATE NOCASE AND"
                              " sql IS NOT NULL AND type<>'table')",
                              to->safe, (int)strlen(to->safe) + 1, to->safe);
    if (rc == DM_OK)
        rc = copy_is_faster(conn, from->safe, &copy, err);
    *may_out = last_id == 0 && more == 0 && !copy;
    return rc;
}

static dm_status rows_replace(dm__conn *conn, dm__model *from, dm__model *to, dm_error *err)
{
    int64_t last_id = 0;
    bool checksums = has_table(conn, to->safe, "_checksums");
    dm_status rc = dm__row_id_last(conn, from, &last_id, err);
    if (rc == DM_OK)
        rc = left_forget(conn, from->safe, last_id, err);
    if (rc == DM_OK)
        rc = tables_drop(conn, PRICES, to->safe, err);
    if (rc == DM_OK)
        rc = tables_alter(conn, PRICES, from->safe, to->safe, err);
    return rc == DM_OK && checksums ? dm__checksums_create(conn, to->safe, err) : rc;
}

static dm_status rows_and_runs_join(dm__conn *conn, dm__model *from, dm__model *to, dm_error *err)
{
    bool replace = false;
    dm_status rc = may_replace(conn, from, to, &replace, err);
    if (rc == DM_OK && replace)
        return rows_replace(conn, from, to, err);
    if (rc == DM_OK)
        rc = requests_join(conn, from, to, err);
    return rc == DM_OK ? runs_join(conn, from->safe, to->safe, err) : rc;
}

/* Those of `to` count for both, unless it has none. None may begin inside a sum of the other. */
static dm_status prices_admit(dm__conn *conn, dm__model *from, dm__model *to, bool *takes,
                              dm_error *err)
{
    dm__history old = {0}, new = {0};
    dm_status rc = dm__history_read(conn, to, &new, err);
    if (rc == DM_OK && !has_price(&new))
        rc = dm__history_read(conn, from, &old, err);
    *takes = has_price(&old) || new.count == 0;
    const dm__history *both = *takes ? &old : &new;
    for (size_t i = 0; i < both->count && rc == DM_OK; i++)
        rc = dm__kept_price_admit(conn, *takes ? from : to, both->changes[i].from_s,
                                  *takes ? to : from, err);
    dm__history_reset(&old);
    dm__history_reset(&new);
    return rc;
}

static dm_status prices_take(dm__conn *conn, const char *from, const char *to, dm_error *err)
{
    dm_status rc = prices_copy(conn, from, to, err);
    if (rc == DM_OK)
        rc = dm__history_forget(conn, to, err);
    return rc == DM_OK ? history_move(conn, from, to, err) : rc;
}

static dm_status models_join(dm__conn *conn, dm_str old_name, dm__model *from, dm__model *to,
                             dm_error *err)
{
    bool takes = false;
    dm_status rc = prices_admit(conn, from, to, &takes, err);
    if (rc == DM_OK)
        rc = rows_and_runs_join(conn, from, to, err);
    if (rc == DM_OK && takes)
        rc = prices_take(conn, from->safe, to->safe, err);
    if (rc == DM_OK)
        rc = dm__kept_move(conn, from->safe, to->safe, err);
    return rc == DM_OK ? dm__model_drop(conn, old_name, err) : rc;
}

static dm_status merge_refused(dm_str name, dm_error *err)
{
    return dm__fail(err, DM_INVALID, "there is a model '%.*s' already",
                    (int)(name.length < 100 ? name.length : 100), name.bytes);
}

dm_status dm__model_rename(dm__conn *conn, dm_str old_name, dm_str new_name, bool merge,
                           dm_error *err)
{
    dm__model *from = NULL, *to = NULL;
    dm__conn_model_forget(conn, dm__conn_model_find(conn, old_name)); /* what is remembered may */
    dm__conn_model_forget(conn, dm__conn_model_find(conn, new_name)); /* be gone */
    dm_status rc = dm__model_find(conn, old_name, &from, err);
    if (rc != DM_OK)
        return rc;
    rc = dm__model_find(conn, new_name, &to, NULL);
    if (rc == DM_OK && to == from)
        return DM_OK;
    if (rc == DM_OK)
        return merge ? models_join(conn, old_name, from, to, err) : merge_refused(new_name, err);
    if (rc != DM_MODEL_NOT_FOUND)
        return dm__model_find(conn, new_name, &to, err);
    rc = model_move(conn, from->safe, new_name, err);
    dm__conn_model_forget(conn, from);
    return rc;
}
