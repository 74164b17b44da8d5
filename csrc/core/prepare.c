/* SPDX-License-Identifier: MIT
 *
 * A file that is opened is made ours: an older layout is adopted, it gets what the options ask for
 * and a log. One that is refused for what is found in it stays as it is. */
#include "dm_store.h"

/* ---- what the options ask for ---- */

typedef struct {
    const dm_options *options;
    const char *path;
    bool missing; /* some of it */
} wishes;

static bool wishes_any(const dm_options *options)
{
    return !options->read_only && (options->checksums || options->model_count > 0);
}

/* In a transaction that has read. */
static dm_status wishes_look(dm__conn *conn, void *argument, dm_error *err)
{
    wishes *wished = argument;
    const dm_options *options = wished->options;
    bool there = true;
    dm_status rc = DM_OK;
    if (options->checksums)
        rc = dm__checksums_wanted(conn, &there, err);
    if (rc == DM_OK && there)
        rc = dm__models_known(conn, options->models, options->model_count, &there, err);
    wished->missing = !there;
    return rc;
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
    wishes wished = {options, m->store->path, false};
    if (!wishes_any(options))
        return DM_OK;
    dm_status rc = dm__read(m, true, wishes_look, &wished, err);
    return rc == DM_OK && wished.missing ? dm__step_take(&step, wishes_write, &wished, err) : rc;
}

/* ---- what the file lacks ---- */

/* Of a file that is ours, what the options ask for. */
static dm_status is_missing(dm__conn *conn, wishes *wished, dm_error *err)
{
    if (!wishes_any(wished->options))
        return DM_OK;
    dm_status rc = dm__stmt_exec(conn, DM__STMT_BEGIN, err);
    if (rc == DM_OK)
        rc = dm__conn_read_once(conn, err);
    if (rc == DM_OK)
        rc = wishes_look(conn, wished, err);
    dm__rollback(conn);
    return rc;
}

/* All of it, or nothing; nothing in any case for a `trial`. Pages that found no room in memory
 * would be in the file, or in its log, although all is undone. */
static dm_status missing_write(dm__conn *conn, wishes *wished, bool trial, dm_error *err)
{
    dm_status rc = dm__conn_exec(conn, err, "PRAGMA cache_spill=OFF");
    if (rc == DM_OK)
        rc = dm__stmt_exec(conn, DM__STMT_BEGIN_IMMEDIATE, err);
    if (rc == DM_OK)
        rc = dm__schema_prepare(conn, err);
    if (rc == DM_OK)
        rc = wishes_write(conn, wished, err);
    if (rc == DM_OK && !trial)
        rc = dm__stmt_exec(conn, DM__STMT_COMMIT, err);
    dm__rollback(conn);
    dm_status unset = dm__conn_exec(conn, NULL, "PRAGMA cache_spill=ON");
    (void)unset; /* which costs memory at most */
    return rc;
}

/* That a file gets a log changes its header, so what will be written is tried before, and only once
 * for each state of the file: to be undone, and begun again, is what others wait for. */
static dm_status log_give(dm__conn *conn, wishes *wished, int64_t *tried, dm_error *err)
{
    int64_t pages = 0, version = 0;
    dm_status rc = dm__conn_integer(conn, &pages, err, "PRAGMA page_count");
    if (rc == DM_OK)
        rc = dm__conn_integer(conn, &version, err, "PRAGMA data_version");
    if (rc == DM_OK && pages == 0) /* it would be too late afterwards */
        rc = dm__conn_exec(conn, err, "PRAGMA auto_vacuum=INCREMENTAL");
    else if (rc == DM_OK && wished->missing && version != *tried)
        rc = missing_write(conn, wished, true, err);
    if (rc != DM_OK)
        return rc;
    *tried = version;
    return dm__conn_exec(conn, err, "PRAGMA journal_mode=WAL"); /* in memory it stays as it is */
}

/* What cannot be stored now, for whatever reason, is stored after the first question. */
static void foreign_keep_now(dm__conn *conn)
{
    dm_status rc = dm__foreign_prices_keep(conn, dm__monotonic_ns() + DM__FOREIGN_WAIT_NS, NULL);
    (void)rc;
}

static dm_status unwritable(const dm__store *store, dm__file_kind kind, dm_error *err)
{
    const char *lacks = kind == DM__FILE_EMPTY   ? "holds no tables yet"
                        : kind == DM__FILE_OLDER ? "has the older layout"
                                                 : "lacks names or checksums";
    return dm__fail(err, DM_READ_ONLY, "%s %s%s", store->path, lacks,
                    store->read_only ? ": open it once for writing" : ", and cannot be written to");
}

static dm_status prepare_once(const dm__store *store, dm__conn *conn, const dm_options *options,
                              int64_t *tried, dm_error *err)
{
    dm__file_kind kind;
    wishes wished = {options, store->path, false};
    bool log = false;
    dm_status rc = dm__schema_probe(conn, &kind, err);
    if (rc != DM_OK)
        return rc;
    wished.missing = kind != DM__FILE_OURS;
    if (!wished.missing)
        rc = is_missing(conn, &wished, err);
    if (rc == DM_OK && (store->read_only || sqlite3_db_readonly(conn->db, "main") != 0))
        return wished.missing ? unwritable(store, kind, err) : DM_OK;
    if (rc == DM_OK)
        rc = dm__conn_has_log(conn, &log, err);
    if (rc == DM_OK && !log)
        rc = log_give(conn, &wished, tried, err);
    if (rc == DM_OK && wished.missing)
        rc = missing_write(conn, &wished, false, err);
    if (rc == DM_OK && kind == DM__FILE_OURS)
        foreign_keep_now(conn);
    return rc;
}

dm_status dm__store_prepare(const dm__store *store, dm__conn *conn, const dm_options *options,
                            int64_t deadline_ns, dm_error *err)
{
    dm__stop stop = {0};
    int64_t tried = -1;
    dm_status rc;
    while ((rc = prepare_once(store, conn, options, &tried, err)) == DM_BUSY)
        if ((rc = dm__busy_wait(&stop, conn->db, deadline_ns, err)) != DM_OK)
            break;
    return rc;
}
