/* SPDX-License-Identifier: MIT
 *
 * What is accepted. Pure: no SQLite, no clock, no allocation. */
#include "dm_internal.h"

#include <stdio.h>
#include <string.h>

#define WHOLE_NUMBER   "a whole number from 0 to 9007199254740992"
#define TIER_INDEX_MAX 2147483647

/* The shortest text that reads back as the same number. */
static const char *number_text(double value, char text[32])
{
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(text, 32, "%.*g", digits, value);
        double back = 0;
        if (sscanf(text, "%lf", &back) == 1 && back == value)
            break;
    }
    for (char *at = text; *at != '\0'; at++)
        if (*at == ',') /* the locale's; what we say is read in any */
            *at = '.';
    return text;
}

dm_status dm_time_check(const char *field, double time_s, dm_error *err)
{
    char text[32];
    if (time_s >= 0 && time_s < DM_TIME_END_S)
        return DM_OK;
    return dm__fail(err, DM_INVALID,
                    isfinite(time_s) && time_s > 0
                        ? "%s must be seconds since 1970 and before the year 10000, not %s"
                        : "%s must be a finite number of seconds since 1970, not %s",
                    field, number_text(time_s, text));
}

static dm_status count_check(const char *field, int64_t value, dm_error *err)
{
    if (value >= 0 && value <= DM_TOKENS_MAX)
        return DM_OK;
    return dm__fail(err, DM_INVALID, "%s must be " WHOLE_NUMBER ", not %lld", field,
                    (long long)value);
}

dm_status dm_request_check(const dm_request *request, dm_error *err)
{
    dm_status rc = dm_time_check("timestamp", request->timestamp_s, err);
    if (rc == DM_OK)
        rc = count_check("input_tokens", request->input_tokens, err);
    if (rc == DM_OK)
        rc = count_check("output_tokens", request->output_tokens, err);
    if (rc == DM_OK)
        rc = count_check("cache_n", request->cache_n, err);
    if (rc == DM_OK)
        rc = count_check("prompt_n", request->prompt_n, err);
    return rc;
}

static dm_status seconds_check(const char *field, double seconds, dm_error *err)
{
    char text[32];
    if (isnan(seconds) || (isfinite(seconds) && seconds >= 0))
        return DM_OK;
    return dm__fail(err, DM_INVALID, "%s must be a finite number of seconds of at least 0, not %s",
                    field, number_text(seconds, text));
}

dm_status dm_timing_check(const dm_timing *timing, dm_error *err)
{
    char first[32], all[32];
    dm_status rc = seconds_check("duration", timing->duration_s, err);
    if (rc == DM_OK)
        rc = seconds_check("first_token", timing->first_token_s, err);
    if (rc == DM_OK && timing->first_token_s > timing->duration_s)
        rc = dm__fail(err, DM_INVALID, "first_token %s must not be after duration %s",
                      number_text(timing->first_token_s, first),
                      number_text(timing->duration_s, all));
    return rc;
}

dm_status dm__price_check(const char *field, double price, dm_error *err)
{
    char text[32];
    if (price >= 0 && price <= DM_PRICE_MAX)
        return DM_OK;
    return dm__fail(err, DM_INVALID,
                    isfinite(price) && price > 0
                        ? "%s must be a price from 0 to 1e26, not %s"
                        : "%s must be a finite price of at least 0, not %s",
                    field, number_text(price, text));
}

dm_status dm__tier_index_check(int64_t tier_index, dm_error *err)
{
    if (tier_index >= 0 && tier_index <= TIER_INDEX_MAX)
        return DM_OK;
    return dm__fail(err, DM_INVALID, "tier_index must be a whole number from 0 to %d, not %lld",
                    TIER_INDEX_MAX, (long long)tier_index);
}

dm_status dm_tier_check(const dm_tier *tier, dm_error *err)
{
    dm_status rc = dm__tier_index_check(tier->tier_index, err);
    if (rc == DM_OK)
        rc = count_check("start_tokens", tier->start_tokens, err);
    if (rc == DM_OK && tier->end_tokens > DM_TOKENS_MAX)
        rc = dm__fail(
            err, DM_INVALID,
            "end_tokens must be at most 9007199254740992 (or 0 for no upper bound), not %lld",
            (long long)tier->end_tokens);
    if (rc == DM_OK && tier->end_tokens > 0 && tier->end_tokens <= tier->start_tokens)
        rc = dm__fail(err, DM_INVALID,
                      "end_tokens must be above start_tokens %lld (or 0 for no upper bound), "
                      "not %lld",
                      (long long)tier->start_tokens, (long long)tier->end_tokens);
    if (rc == DM_OK)
        rc = dm__price_check("input_price_per_million", tier->input_price_per_million, err);
    if (rc == DM_OK)
        rc = dm__price_check("output_price_per_million", tier->output_price_per_million, err);
    if (rc == DM_OK)
        rc = dm__price_check("cache_hit_price_per_million", tier->cache_hit_price_per_million, err);
    return rc;
}

static dm_status text_check(const char *field, dm_str text, size_t length_max, dm_error *err)
{
    if (text.length == 0)
        return dm__fail(err, DM_INVALID, "%s must not be empty", field);
    if (text.length > length_max)
        return dm__fail(err, DM_INVALID, "%s must have at most %zu bytes of UTF-8, not %zu", field,
                        length_max, text.length);
    if (memchr(text.bytes, 0, text.length) != NULL)
        return dm__fail(err, DM_INVALID, "%s must not hold a NUL character", field);
    if (!dm__is_utf8(text))
        return dm__fail(err, DM_INVALID, "%s must be valid UTF-8", field);
    return DM_OK;
}

dm_status dm_model_name_check(dm_str name, dm_error *err)
{
    return text_check("model_name", name, DM_NAME_MAX, err);
}

dm_status dm__new_name_check(dm_str name, dm_error *err)
{
    return text_check("new_name", name, DM_NAME_MAX, err);
}

dm_status dm_request_id_check(dm_str request_id, dm_error *err)
{
    return text_check("request_id", request_id, DM_REQUEST_ID_MAX, err);
}

/* ---- strategies ---- */

static const char *const strategy_names[] = {
#define DM_STRATEGY_TEXT(name, text) text,
    DM_STRATEGY_LIST(DM_STRATEGY_TEXT)
#undef DM_STRATEGY_TEXT
};

const char *dm_strategy_name(dm_strategy strategy)
{
    return strategy_names[strategy];
}

dm_status dm_strategy_parse(const char *name, dm_strategy *strategy_out, dm_error *err)
{
    for (int i = 0; i < DM_STRATEGY_COUNT; i++)
        if (strcmp(name, strategy_names[i]) == 0) {
            *strategy_out = (dm_strategy)i;
            return DM_OK;
        }
    return dm__fail(err, DM_INVALID,
                    "strategy must be 'graduated', 'volume' or 'cumulative', not '%.60s'", name);
}

void dm_safe_name(dm_str name, char safe_name[DM_SAFE_NAME_SIZE])
{
    uint8_t digest[32];
    dm__sha256(name.bytes, name.length, digest);
    (void)memcpy(safe_name, "model_", 6);
    for (size_t i = 0; i < 8; i++)
        (void)snprintf(safe_name + 6 + 2 * i, 3, "%02x", digest[i]);
}

double dm_now_s(void)
{
    return dm__realtime_s();
}

/* https://sqlite.org/wal.html#walresetbug */
static bool wal_reset_race(int version)
{
    bool mended_in_3_44 = version >= 3044006 && version < 3045000;
    bool mended_in_3_50 = version >= 3050007 && version < 3051000;
    return version >= 3007000 && version < 3051003 && !mended_in_3_44 && !mended_in_3_50;
}

void dm_sqlite_info_get(dm_sqlite_info *info_out)
{
    int number = sqlite3_libversion_number();
    *info_out = (dm_sqlite_info){.version = sqlite3_libversion(),
                                 .source_id = sqlite3_sourceid(),
                                 .version_number = number,
                                 .wal_reset_race = wal_reset_race(number),
                                 .memory_used = sqlite3_memory_used()};
}
