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
    [RECORD_COST_SLICE] =
        {"CostSlice",
         "CostSlice(tier_index, start_tokens, end_tokens, input_tokens, cache_hit_tokens, "
         "output_tokens, input_price_per_million, output_price_per_million, "
         "cache_hit_price_per_million, cost, cost_exact)\n--\n\nWhat fell into one tier: each kind "
         "of tokens times its price is the cost.",
         11,
         {{"tier_index", FIELD_WHOLE, "number of the tier"},
          {"start_tokens", FIELD_WHOLE, "the tier holds above this"},
          {"end_tokens", FIELD_WHOLE, "up to this; 0: no upper bound"},
          {"input_tokens", FIELD_WHOLE, "that pay the input price"},
          {"cache_hit_tokens", FIELD_WHOLE, "that pay the price of cache hits"},
          {"output_tokens", FIELD_WHOLE, "that pay the output price"},
          {"input_price_per_million", FIELD_REAL, "as billed, to 1e-12"},
          {"output_price_per_million", FIELD_REAL, "as billed, to 1e-12"},
          {"cache_hit_price_per_million", FIELD_REAL, "as billed, to 1e-12"},
          {"cost", FIELD_REAL, "the float nearest to cost_exact"},
          {"cost_exact", FIELD_OBJECT, "decimal.Decimal"}}},
    [RECORD_COST] =
        {"Cost",
         "Cost(cost, cost_exact, strategy, slices)\n--\n\nWhat tokens cost, and how that came "
         "about.",
         4,
         {{"cost", FIELD_REAL, "the float nearest to cost_exact"},
          {"cost_exact", FIELD_OBJECT, "decimal.Decimal, the sum of the slices' costs"},
          {"strategy", FIELD_OBJECT, "how tiers were read: graduated, volume or cumulative"},
          {"slices", FIELD_OBJECT, "tuple of CostSlice, by start_tokens: those with tokens"}}},
    [RECORD_USAGE] =
        {"UsageRow",
         "UsageRow(model, start, end, requests, input_tokens, output_tokens, cache_n, prompt_n, "
         "cache_hit_share, tokens_per_second, first_request, last_request, runtime_seconds, "
         "token_cost, runtime_cost, cost, token_cost_exact, runtime_cost_exact, cost_exact)\n--\n\n"
         "What a model used from start until end (epoch seconds), and what it cost.",
         19,
         {{"model", FIELD_OBJECT, "name; None for a total of several"},
          {"start", FIELD_OBJECT, "epoch seconds; None: since ever"},
          {"end", FIELD_OBJECT, "epoch seconds, not included; None: for ever"},
          {"requests", FIELD_WHOLE, "how many"},
          {"input_tokens", FIELD_WHOLE, "tokens of the prompts"},
          {"output_tokens", FIELD_WHOLE, "tokens generated"},
          {"cache_n", FIELD_WHOLE, "input tokens served from the cache"},
          {"prompt_n", FIELD_WHOLE, "input tokens computed"},
          {"cache_hit_share", FIELD_OBJECT, "cache_n of input_tokens, 0 to 1; None without input"},
          {"tokens_per_second", FIELD_OBJECT,
           "input and output from start until end; where those are open, from the first request to "
           "the last"},
          {"first_request", FIELD_OBJECT, "epoch seconds; None without requests"},
          {"last_request", FIELD_OBJECT, "epoch seconds; None without requests"},
          {"runtime_seconds", FIELD_REAL, "of the model's runs within start and end"},
          {"token_cost", FIELD_REAL, "by tiers"},
          {"runtime_cost", FIELD_REAL, "by the hour"},
          {"cost", FIELD_REAL, "both"},
          {"token_cost_exact", FIELD_OBJECT, "Decimal"},
          {"runtime_cost_exact", FIELD_OBJECT, "Decimal, rounded once, to 1e-12"},
          {"cost_exact", FIELD_OBJECT, "Decimal"}}},
    [RECORD_FINDING] =
        {"Finding",
         "Finding(severity, table, row, text, repaired)\n--\n\nSomething that check() found.",
         5,
         {{"severity", FIELD_OBJECT,
           "'error': reads refuse it, or data are lost; 'warning': it should not be so"},
          {"table", FIELD_OBJECT, "None: the file as a whole"},
          {"row", FIELD_OBJECT, "the row's id; None: the table as a whole"},
          {"text", FIELD_OBJECT, "what is wrong, or what was done"},
          {"repaired", FIELD_FLAG, "whether this call has mended it"}}},
    [RECORD_PERFORMANCE] =
        {"PerformanceRow",
         "PerformanceRow(model, start, end, requests, requests_per_second, "
         "prompt_tokens_per_second, generation_tokens_per_second, duration_p50, "
         "duration_p90, duration_p95, duration_p99, duration_max, first_token_p50, "
         "first_token_p90, first_token_p95, first_token_p99, first_token_max, "
         "input_tokens_p50, input_tokens_p90, input_tokens_p95, input_tokens_p99, "
         "input_tokens_max, output_tokens_p50, output_tokens_p90, output_tokens_p95, "
         "output_tokens_p99, output_tokens_max)\n--\n\nHow fast a model answered from start until "
         "end (epoch seconds); None where nothing is known.",
         27,
         {{"model", FIELD_OBJECT, "name"},
          {"start", FIELD_OBJECT, "epoch seconds; None: since ever"},
          {"end", FIELD_OBJECT, "epoch seconds, not included; None: for ever"},
          {"requests", FIELD_WHOLE, "how many"},
          {"requests_per_second", FIELD_OBJECT,
           "from start until end; where those are open, from the first request to the last"},
          {"prompt_tokens_per_second", FIELD_OBJECT,
           "prompt_n by the seconds to the first token, of the requests where those are known"},
          {"generation_tokens_per_second", FIELD_OBJECT,
           "output_tokens by the seconds after the first token, where those are known"},
          {"duration_p50", FIELD_OBJECT,
           "half of the requests had at most this; seconds from arrival to the last token"},
          {"duration_p90", FIELD_OBJECT, "90 % had at most this"},
          {"duration_p95", FIELD_OBJECT, "95 % had at most this"},
          {"duration_p99", FIELD_OBJECT, "99 % had at most this"},
          {"duration_max", FIELD_OBJECT, "none had more"},
          {"first_token_p50", FIELD_OBJECT,
           "half of the requests had at most this; seconds from arrival to the first token"},
          {"first_token_p90", FIELD_OBJECT, "90 % had at most this"},
          {"first_token_p95", FIELD_OBJECT, "95 % had at most this"},
          {"first_token_p99", FIELD_OBJECT, "99 % had at most this"},
          {"first_token_max", FIELD_OBJECT, "none had more"},
          {"input_tokens_p50", FIELD_OBJECT,
           "half of the requests had at most this; tokens of the prompt"},
          {"input_tokens_p90", FIELD_OBJECT, "90 % had at most this"},
          {"input_tokens_p95", FIELD_OBJECT, "95 % had at most this"},
          {"input_tokens_p99", FIELD_OBJECT, "99 % had at most this"},
          {"input_tokens_max", FIELD_OBJECT, "none had more"},
          {"output_tokens_p50", FIELD_OBJECT,
           "half of the requests had at most this; tokens generated"},
          {"output_tokens_p90", FIELD_OBJECT, "90 % had at most this"},
          {"output_tokens_p95", FIELD_OBJECT, "95 % had at most this"},
          {"output_tokens_p99", FIELD_OBJECT, "99 % had at most this"},
          {"output_tokens_max", FIELD_OBJECT, "none had more"}}},
    [RECORD_STATUS] =
        {"ModelStatus",
         "ModelStatus(model, running, since, started, last_heartbeat, uptime_seconds, "
         "total_uptime_seconds, runs, availability, last_request, requests, input_tokens, "
         "output_tokens)\n--\n\nWhether a model, or the program, is running, and what it did since "
         "it began; times are epoch seconds.",
         13,
         {{"model", FIELD_OBJECT, "name; None for the program"},
          {"running", FIELD_FLAG, "whether the last heartbeat is young enough"},
          {"since", FIELD_OBJECT, "when it began to run, or to stand still; None: it never ran"},
          {"started", FIELD_OBJECT, "the beginning of the newest run"},
          {"last_heartbeat", FIELD_OBJECT, "the end of the newest run, so far"},
          {"uptime_seconds", FIELD_REAL, "of the newest run"},
          {"total_uptime_seconds", FIELD_REAL, "of all runs"},
          {"runs", FIELD_WHOLE, "how many"},
          {"availability", FIELD_REAL, "share of the window that runs cover, 0 to 1"},
          {"last_request", FIELD_OBJECT, "of all times; None: there was none"},
          {"requests", FIELD_WHOLE, "since the newest run began"},
          {"input_tokens", FIELD_WHOLE, "since the newest run began"},
          {"output_tokens", FIELD_WHOLE, "since the newest run began"}}},
    [RECORD_PRUNED] = {"Pruned",
                       "Pruned(model, requests, runs)\n--\n\nWhat prune() removed, or would "
                       "remove, of a model or of the program.",
                       3,
                       {{"model", FIELD_OBJECT, "name; None for the program"},
                        {"requests", FIELD_WHOLE, "how many requests"},
                        {"runs", FIELD_WHOLE, "how many runs"}}},
};
