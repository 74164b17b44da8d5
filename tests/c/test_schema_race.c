/* SPDX-License-Identifier: MIT
 *
 * Another program registers models all the while, at the worst of moments: whenever a connection
 * has read what tables there are and gives its lock back, there is one table more. */
#include "dm_store.h"

#include "check.h"
#include "shim.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[] = "/tmp/dm-schema-XXXXXX";
static char path[64];
static dm_error err;
static sqlite3 *other;
static int tables;

static void register_another(void)
{
    char sql[48];
    (void)snprintf(sql, sizeof sql, "CREATE TABLE other_%d(x)", tables++);
    CHECK_INT(sqlite3_exec(other, sql, NULL, NULL, NULL), SQLITE_OK);
    after_read = register_another;
}

/* That there are none shows only where a statement on their tables cannot be prepared. */
static void test_prices_that_nobody_has_set(dm_manager *m)
{
    dm_billing billing = {0};
    CHECK_OK(dm_billing_get(m, DM_STR("m"), &billing, &err));
    CHECK_INT(billing.tier_count, 0);
    dm_billing_reset(&billing);
    dm_tariffs tariffs = {0};
    CHECK_OK(dm_price_history(m, DM_STR("m"), &tariffs, &err));
    CHECK_INT(tariffs.count, 1);
    dm_tariffs_reset(&tariffs);
}

static void test_usage(dm_manager *m)
{
    double edges[2] = {-INFINITY, INFINITY};
    dm_usage_query query = {.edges_s = edges, .edge_count = 2};
    dm_usage usage = {0};
    CHECK_OK(dm_usage_get(m, &query, &usage, &err));
    CHECK_INT(usage.row_count, 1);
    dm_usage_reset(&usage);
}

int main(void)
{
    if (mkdtemp(folder) == NULL)
        return 2;
    (void)snprintf(path, sizeof path, "%s/usage.db", folder);
    shim_install();
    dm_manager *m = NULL;
    dm_str name = DM_STR("m");
    dm_options options = {.models = &name, .model_count = 1};
    CHECK_OK(dm_open(path, &options, &m, &err));
    CHECK_INT(sqlite3_open(path, &other), SQLITE_OK);
    after_read = register_another;
    test_prices_that_nobody_has_set(m);
    test_usage(m);
    after_read = NULL;
    CHECK_INT(tables > 4, 1);
    (void)sqlite3_close(other);
    dm_free(m);
    (void)unlink(path);
    (void)rmdir(folder);
    return check_report();
}
