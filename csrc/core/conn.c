/* SPDX-License-Identifier: MIT
 *
 * One SQLite connection, opened so that neither the file nor the rest of the process can make it
 * do what we did not ask for. */
#include "dm_internal.h"

#include <stdarg.h>
#include <string.h>

/* Nothing of ours comes near these; a hostile file would. */
static const struct {
    int id, value;
} conn_limits[] = {
    {SQLITE_LIMIT_LENGTH, 16 << 20}, {SQLITE_LIMIT_SQL_LENGTH, 100000}, {SQLITE_LIMIT_COLUMN, 100},
    {SQLITE_LIMIT_EXPR_DEPTH, 100},  {SQLITE_LIMIT_VDBE_OP, 100000},    {SQLITE_LIMIT_ATTACHED, 1},
    {SQLITE_LIMIT_TRIGGER_DEPTH, 1}, {SQLITE_LIMIT_WORKER_THREADS, 0},
};

/* TRIGGER and VIEW off: a planted one would otherwise run with every write of ours. */
static const struct {
    int verb, on;
} conn_configs[] = {
    {SQLITE_DBCONFIG_DEFENSIVE, 1},
    {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
    {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
    {SQLITE_DBCONFIG_ENABLE_VIEW, 0},
    {SQLITE_DBCONFIG_DQS_DML, 0},
    {SQLITE_DBCONFIG_DQS_DDL, 0},
    {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
};

static int log_measured(void *conn, sqlite3 *db, const char *schema, int frames)
{
    (void)db, (void)schema;
    ((dm__conn *)conn)->log_frames = frames;
    return SQLITE_OK;
}

static dm_status conn_configure(dm__conn *conn, dm_error *err)
{
    for (size_t i = 0; i < sizeof conn_configs / sizeof *conn_configs; i++)
        (void)sqlite3_db_config(conn->db, conn_configs[i].verb, conn_configs[i].on, NULL);
    for (size_t i = 0; i < sizeof conn_limits / sizeof *conn_limits; i++)
        (void)sqlite3_limit(conn->db, conn_limits[i].id, conn_limits[i].value);
    (void)sqlite3_extended_result_codes(conn->db, 1);
    /* Waiting is ours: SQLite's own handler is unfair and cannot be stopped. */
    (void)sqlite3_busy_timeout(conn->db, 0);
    /* Replaces the automatic checkpoint, which can lose commits before SQLite 3.51.3: see
     * checkpoint.c. It must be gone before the first commit. */
    (void)sqlite3_wal_hook(conn->db, log_measured, conn);
    dm_status rc = dm__scan_install(conn, err);
    if (rc == DM_OK)
        rc = dm__feed_install(conn, err);
    if (rc == DM_OK)
        rc = dm__checksums_install(conn, err);
    /* Undoing must not need memory: there may be none. */
    sqlite3_stmt *rollback = NULL;
    if (rc == DM_OK)
        rc = dm__stmt_get(conn, DM__STMT_ROLLBACK, &rollback, err);
    if (rc != DM_OK)
        return rc;
    return dm__conn_exec(conn, err,
                         "PRAGMA cell_size_check=1; PRAGMA mmap_size=0; "
                         "PRAGMA synchronous=FULL; PRAGMA journal_size_limit=4000000");
}

static bool log_is_empty(dm__conn *conn)
{
    sqlite3_file *log = NULL;
    sqlite3_int64 size = 1;
    if (conn->db != NULL)
        (void)sqlite3_file_control(conn->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    return log != NULL && log->pMethods != NULL &&
           log->pMethods->xFileSize(log, &size) == SQLITE_OK && size == 0;
}

void dm__conn_abandon(dm__conn *conn)
{
    dm__conn_close(conn, log_is_empty(conn));
}

dm_status dm__conn_open(const char *path, bool read_only, int64_t deadline_ns, dm__conn **conn_out,
                        dm_error *err)
{
    dm__conn *conn = dm__calloc(1, sizeof *conn);
    if (conn == NULL)
        return dm__no_memory(err);
    /* NOMUTEX: one thread at a time. PRIVATECACHE: others may have switched shared cache on. */
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE |
                (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE);
    int code = sqlite3_open_v2(path, &conn->db, flags, NULL);
    dm_status rc = code == SQLITE_OK ? conn_configure(conn, err)
                                     : dm__fail_sqlite(err, conn->db, code, "open the database");
    /* Some pragmas read the schema, which has to wait while another process recovers the log. */
    while (rc == DM_BUSY && (rc = dm__busy_wait(&conn->stop, conn->db, deadline_ns, err)) == DM_OK)
        rc = conn_configure(conn, err);
    if (rc != DM_OK) {
        dm__conn_abandon(conn);
        return rc;
    }
    conn->durability = DM_DURABILITY_FULL;
    *conn_out = conn;
    return DM_OK;
}

void dm__conn_close(dm__conn *conn, bool checkpoint)
{
    if (conn == NULL)
        return;
    dm__conn_statements_finalize(conn);
    if (conn->db != NULL && !checkpoint)
        (void)sqlite3_db_config(conn->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    (void)sqlite3_close(conn->db); /* every statement is finalized: cannot be busy */
    dm__free(conn);
}

dm_status dm__conn_exec(dm__conn *conn, dm_error *err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *sql = sqlite3_vmprintf(format, arguments);
    va_end(arguments);
    if (sql == NULL)
        return dm__no_memory(err);
    int code = sqlite3_exec(conn->db, sql, NULL, NULL, NULL);
    dm_status rc = DM_OK;
    if (code != SQLITE_OK)
        rc = dm__sql_failed(conn, code, sql, err);
    sqlite3_free(sql);
    return rc;
}

static int mode_is_wal(void *is_wal, int count, char **values, char **names)
{
    (void)names;
    *(bool *)is_wal = count == 1 && values[0] != NULL && strcmp(values[0], "wal") == 0;
    return 0;
}

dm_status dm__conn_has_log(dm__conn *conn, bool *there_out, dm_error *err)
{
    static const char sql[] = "PRAGMA journal_mode";
    int code = sqlite3_exec(conn->db, sql, mode_is_wal, there_out, NULL);
    return code == SQLITE_OK ? DM_OK : dm__sql_failed(conn, code, sql, err);
}

dm_status dm__conn_read_once(dm__conn *conn, dm_error *err)
{
    return dm__stmt_exec(conn, DM__STMT_READ_ONCE, err);
}

static int conn_stop(void *conn)
{
    return dm__stop_asked(&((dm__conn *)conn)->stop);
}

void dm__conn_stoppable_set(dm__conn *conn, bool stoppable)
{
    sqlite3_progress_handler(conn->db, stoppable ? 10000 : 0, stoppable ? conn_stop : NULL, conn);
}

dm_status dm__conn_query_only_set(dm__conn *conn, bool query_only, dm_error *err)
{
    if (conn->query_only == query_only)
        return DM_OK;
    dm_status rc = dm__conn_exec(conn, err, "PRAGMA query_only=%d", query_only);
    if (rc == DM_OK)
        conn->query_only = query_only;
    return rc;
}

dm_status dm__conn_durability_set(dm__conn *conn, dm_durability durability, dm_error *err)
{
    if (conn->durability == durability)
        return DM_OK;
    dm_status rc = dm__conn_exec(conn, err, "PRAGMA synchronous=%s",
                                 durability == DM_DURABILITY_FULL ? "FULL" : "NORMAL");
    if (rc == DM_OK)
        conn->durability = durability;
    return rc;
}
