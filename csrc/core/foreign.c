/* SPDX-License-Identifier: MIT
 *
 * What another program has put into the manual's tables of prices counts from the moment at which
 * we see it. So that moment is stored, or each question would see it anew, and later than all that
 * was used: when a file is opened for writing, and after a question that saw it, which is then
 * answered again. What nobody could be billed by (prices beyond all, tiers that overlap) is left
 * where it is: once stored it would be in the way of every question about that time. */
#include "dm_internal.h"

/* Of one model; what is not as it should be is check's affair. */
static dm_status model_keep(dm__conn *conn, dm_str name, bool store, bool *found, dm_error *err)
{
    bool known = dm__conn_model_find(conn, name) != NULL;
    dm__model *model = NULL;
    dm_status rc = dm__model_find(conn, name, &model, err);
    if (rc == DM_OK)
        rc = dm__foreign_change_store(conn, model, store, found, err);
    if (!known) /* of many models, none is asked for yet */
        dm__conn_model_forget(conn, dm__conn_model_find(conn, name));
    return rc == DM_CORRUPT_DATA || rc == DM_INVALID || rc == DM_MODEL_NOT_FOUND ||
                   rc == (dm_status)DM__STALE
               ? DM_OK
               : rc;
}

static dm_status models_keep(dm__conn *conn, bool store, bool *found, dm_error *err)
{
    dm_model_names names = {0};
    bool there = false;
    dm_status rc = dm__conn_read_once(conn, err); /* whether the table exists shows now */
    if (rc == DM_OK)
        rc = dm__history_find(conn, &there, err);
    if (rc == DM_OK && there)
        rc = dm__model_names_read(conn, &names, err);
    for (size_t i = 0; i < names.count && rc == DM_OK && (store || !*found); i++) {
        const dm_model_name *name = &names.models[i];
        rc = dm__history_find_of(conn, name->safe_name, &there, err);
        if (rc == DM_OK && there)
            rc = model_keep(conn, (dm_str){name->original_name, name->original_length}, store,
                            found, err);
    }
    dm_model_names_reset(&names);
    return rc == DM_CORRUPT_DATA ? DM_OK : rc;
}

dm_status dm__foreign_prices_store(dm__conn *conn, dm_error *err)
{
    bool found = false;
    return models_keep(conn, true, &found, err);
}

dm_status dm__foreign_prices_keep(dm__conn *conn, int64_t deadline_ns, dm_error *err)
{
    bool found = false;
    dm_status rc = dm__stmt_exec(conn, DM__STMT_BEGIN, err);
    if (rc == DM_OK)
        rc = models_keep(conn, false, &found, err);
    dm__rollback(conn);
    if (rc != DM_OK || !found)
        return rc;
    rc = dm__begin_waiting(conn, deadline_ns, err);
    if (rc == DM_OK)
        rc = dm__foreign_prices_store(conn, err);
    if (rc == DM_OK)
        rc = dm__stmt_exec(conn, DM__STMT_COMMIT, err);
    dm__rollback(conn);
    return rc;
}
