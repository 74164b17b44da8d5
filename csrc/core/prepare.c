/* SPDX-License-Identifier: MIT
 *
 * A file that is opened is made ours: what it lacks is made, an older layout is adopted, and it is
 * given a log. */
#include "dm_store.h"

/* What the file is to have. */
typedef struct {
    const dm_options *options;
    const char *path;
} wishes;

static bool wishes_any(const dm_options *options)
{
    return !options->read_only && (options->checksums || options->model_count > 0);
}

/* In the caller's transaction. */
static dm_status wishes_write(dm__conn *conn, void *argument, dm_error *err)
{
    const wishes *wished = argument;
    const dm_options *options = wished->options;
    dm_status rc = DM_OK;
    if (options->checksums)
        rc = dm__checksums_begin(conn, wished->path, err);
    return rc == DM_OK ? dm__models_register(conn, options->models, options->model_count, err) : rc;
}

dm_status dm__options_store(dm_manager *m, const dm_options *options, dm_error *err)
{
    dm__steps step = {.m = m};
    wishes wished = {options, m->store->path};
    return wishes_any(options) ? dm__step_take(&step, wishes_write, &wished, err) : DM_OK;
}

/* All that opening writes, or nothing of it; nothing in any case for a `trial`. */
static dm_status tables_write(dm__conn *conn, wishes *wished, bool trial, dm_error *err)
{
    dm_status rc = dm__stmt_exec(conn, DM__STMT_BEGIN_IMMEDIATE, err);
    if (rc == DM_OK)
        rc = dm__schema_prepare(conn, err);
    if (rc == DM_OK)
        rc = wishes_write(conn, wished, err);
    if (rc == DM_OK && !trial)
        rc = dm__stmt_exec(conn, DM__STMT_COMMIT, err);
    dm__rollback(conn);
    return rc;
}

/* That a file gets a log changes its header, and one that is refused, for whatever is found in it,
 * stays as it is: so what will be written is tried before. */
static dm_status log_give(dm__conn *conn, wishes *wished, bool writes, dm_error *err)
{
    int64_t pages = 0;
    dm_status rc = dm__conn_integer(conn, &pages, err, "PRAGMA page_count");
    if (rc == DM_OK && pages == 0) /* it would be too late afterwards */
        rc = dm__conn_exec(conn, err, "PRAGMA auto_vacuum=INCREMENTAL");
    else if (rc == DM_OK && writes)
        rc = tables_write(conn, wished, true, err);
    if (rc == DM_OK) /* in memory it stays as it is */
        rc = dm__conn_exec(conn, err, "PRAGMA journal_mode=WAL");
    return rc;
}

/* What cannot be stored now, whyever, is stored after the first question. */
static void foreign_keep_now(dm__conn *conn)
{
    dm_status rc = dm__foreign_prices_keep(conn, dm__monotonic_ns() + DM__FOREIGN_WAIT_NS, NULL);
    (void)rc;
}

static dm_status prepare_once(const dm__store *store, dm__conn *conn, const dm_options *options,
                              dm_error *err)
{
    dm__file_kind kind;
    wishes wished = {options, store->path};
    bool log = false;
    dm_status rc = dm__schema_probe(conn, &kind, err);
    if (rc == DM_OK && kind != DM__FILE_OURS && store->read_only)
        return dm__fail(err, DM_READ_ONLY, "%s %s: open it once for writing", store->path,
                        kind == DM__FILE_EMPTY ? "holds no tables yet" : "has the older layout");
    if (rc == DM_OK)
        rc = dm__conn_has_log(conn, &log, err);
    if (rc != DM_OK || (kind == DM__FILE_OURS && sqlite3_db_readonly(conn->db, "main") != 0))
        return rc;
    bool writes = kind != DM__FILE_OURS || wishes_any(options);
    if (!log)
        rc = log_give(conn, &wished, writes, err);
    if (rc == DM_OK && writes)
        rc = tables_write(conn, &wished, false, err);
    if (rc == DM_OK && kind == DM__FILE_OURS)
        foreign_keep_now(conn);
    return rc;
}

dm_status dm__store_prepare(const dm__store *store, dm__conn *conn, const dm_options *options,
                            int64_t deadline_ns, dm_error *err)
{
    dm__stop stop = {0};
    dm_status rc;
    while ((rc = prepare_once(store, conn, options, err)) == DM_BUSY)
        if ((rc = dm__busy_wait(&stop, conn->db, deadline_ns, err)) != DM_OK)
            break;
    return rc;
}
