/* SPDX-License-Identifier: MIT
 *
 * Any value of SQLite's, read by the rules of each kind of column: what is accepted obeys them,
 * what is refused says so in text that can be shown. Prices and names as callers give them. */
#include "dm_internal.h"

#include "fuzz.h"

static sqlite3_stmt *stmt;

static void bind_any(fuzz *f)
{
    static sqlite3 *db;
    if (db == NULL) {
        MUST(sqlite3_open(":memory:", &db) == SQLITE_OK);
        MUST(sqlite3_prepare_v2(db, "SELECT ?1", -1, &stmt, NULL) == SQLITE_OK);
    }
    (void)sqlite3_reset(stmt);
    switch (fuzz_byte(f) % 5) {
    case 0:
        (void)sqlite3_bind_null(stmt, 1);
        break;
    case 1:
        (void)sqlite3_bind_int64(stmt, 1, fuzz_integer(f));
        break;
    case 2:
        (void)sqlite3_bind_double(stmt, 1, fuzz_double(f));
        break;
    case 3:
        (void)sqlite3_bind_text(stmt, 1, (const char *)f->at, (int)f->left, SQLITE_TRANSIENT);
        break;
    default:
        (void)sqlite3_bind_blob(stmt, 1, f->at, (int)f->left, SQLITE_TRANSIENT);
    }
    MUST(sqlite3_step(stmt) == SQLITE_ROW);
}

static bool refused(dm_status rc, const dm_error *err)
{
    if (rc == DM_OK)
        return false;
    MUST(rc == DM_CORRUPT_DATA && err->code == rc && err->text[0] != '\0');
    MUST(dm__is_utf8((dm_str){err->text, strlen(err->text)}));
    return true;
}

static void read_columns(void)
{
    dm__row row = {stmt, "a table", 7};
    dm_error err;
    double real = 0;
    int64_t integer = 0;
    bool flag;
    if (!refused(dm__row_time(&row, 0, &real, &err), &err))
        MUST(isfinite(real) && real >= 0);
    if (!refused(dm__row_price(&row, 0, &real, &err), &err))
        MUST(isfinite(real) && real >= 0);
    if (!refused(dm__row_count(&row, 0, &integer, &err), &err))
        MUST(integer >= 0 && integer <= DM_TOKENS_MAX);
    (void)refused(dm__row_integer(&row, 0, &integer, &err), &err);
    (void)refused(dm__row_flag(&row, 0, &flag, &err), &err);
}

static void read_price(double price)
{
    char text[DM_AMOUNT_TEXT_SIZE];
    dm_amount amount = 0, again = 0;
    dm_error err;
    if (dm_price_parse("price", price, &amount, &err) != DM_OK) {
        MUST(!(price >= 0 && price <= DM_PRICE_MAX));
        return;
    }
    MUST(amount >= 0);
    double back = dm_price_to_double(amount);
    MUST(fabs(back - price) <= 1e-12 + price * 1e-15);
    if (price < 4000) /* there 1e-12 is more than a double's last digit */
        MUST(dm_price_parse("price", back, &again, &err) == DM_OK && again == amount);
    dm_amount_to_text(amount, text);
    MUST(strlen(text) < sizeof text && strtod(text, NULL) == dm_amount_to_double(amount));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    fuzz f = {bytes, size};
    bind_any(&f);
    read_columns();
    f = (fuzz){bytes, size};
    read_price(fuzz_double(&f));
    char text[64];
    fuzz_take(&f, text, sizeof text);
    text[sizeof text - 1] = '\0';
    dm__make_utf8(text, sizeof text);
    MUST(dm__is_utf8((dm_str){text, strlen(text)}));
    return 0;
}
