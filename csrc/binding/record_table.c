/* SPDX-License-Identifier: MIT
 *
 * The records' names, fields and docs. */
#include "module.h"

const record_spec record_specs[RECORD_COUNT] = {
    [RECORD_RUN] =
        {"ModelRunTime",
         "ModelRunTime(id, start_time, end_time)\n--\n\nA run of the program or of a model; times "
         "are epoch seconds.",
         3,
         {{"id", FIELD_WHOLE, "row id"},
          {"start_time", FIELD_REAL, "epoch seconds"},
          {"end_time", FIELD_REAL, "epoch seconds; the start while it runs"}}},
    [RECORD_REQUEST] =
        {"ModelRequest",
         "ModelRequest(id, timestamp, input_tokens, output_tokens, cache_n, prompt_n)\n--\n\nOne "
         "finished request; the time is epoch seconds.",
         6,
         {{"id", FIELD_WHOLE, "row id"},
          {"timestamp", FIELD_REAL, "epoch seconds"},
          {"input_tokens", FIELD_WHOLE, "tokens of the prompt"},
          {"output_tokens", FIELD_WHOLE, "tokens generated"},
          {"cache_n", FIELD_WHOLE, "input tokens served from the cache"},
          {"prompt_n", FIELD_WHOLE, "input tokens computed"}}},
    [RECORD_TIER] =
        {"TierPricing",
         "TierPricing(tier_index, start_tokens, end_tokens, input_price_per_million, "
         "output_price_per_million, support_cache, cache_hit_price_per_million)\n--\n\nPrices per "
         "million tokens for start_tokens < n <= end_tokens; end_tokens of 0 or less is no upper "
         "bound.",
         7,
         {{"tier_index", FIELD_WHOLE, "number of the tier"},
          {"start_tokens", FIELD_WHOLE, "tokens above this"},
          {"end_tokens", FIELD_WHOLE, "up to this; 0 or less: no upper bound"},
          {"input_price_per_million", FIELD_REAL, "price"},
          {"output_price_per_million", FIELD_REAL, "price"},
          {"support_cache", FIELD_FLAG, "whether cache hits have their own price"},
          {"cache_hit_price_per_million", FIELD_REAL, "price"}}},
    [RECORD_BILLING] =
        {"ModelBilling",
         "ModelBilling(use_tier_pricing, hourly_price, tier_pricing)\n--\n\nHow a model is billed.",
         3,
         {{"use_tier_pricing", FIELD_FLAG, "tiers, or else the hourly price"},
          {"hourly_price", FIELD_REAL, "price per hour of run time"},
          {"tier_pricing", FIELD_LIST, "list of TierPricing, by index"}}},
    [RECORD_TARIFF] =
        {"Tariff",
         "Tariff(effective_from, use_tier_pricing, hourly_price, strategy, tier_pricing)\n--\n\n"
         "How a model is billed from a moment on, until the next.",
         5,
         {{"effective_from", FIELD_OBJECT, "epoch seconds; None: since ever"},
          {"use_tier_pricing", FIELD_FLAG, "tiers, or else the hourly price"},
          {"hourly_price", FIELD_REAL, "price per hour of run time"},
          {"strategy", FIELD_OBJECT, "how tiers are read: graduated, volume or cumulative"},
          {"tier_pricing", FIELD_LIST, "list of TierPricing, by index"}}},
};
