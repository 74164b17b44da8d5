/* SPDX-License-Identifier: MIT
 *
 * Requests without their times, one after the other, in about four bytes each. A number takes seven
 * bits a byte, the lowest first, and the last byte's highest bit is 0:
 *
 *     input_tokens * 4 + 2 (there are hits) + 1 (the prompt is not input less hits)
 *     output_tokens
 *     cache_n      where there are hits
 *     prompt_n     where it is something else */
#include "kept.h"

#define HAS_HITS   2u
#define HAS_PROMPT 1u

static uint8_t *number_put(uint8_t *at, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *at++ = (uint8_t)(value | 0x80);
    *at++ = (uint8_t)value;
    return at;
}

size_t dm__request_pack(const dm_request *request, uint8_t packed[DM__PACKED_ROW_MAX])
{
    bool hits = request->cache_n != 0;
    bool prompt = request->prompt_n != request->input_tokens - request->cache_n;
    uint8_t *at = number_put(packed, (uint64_t)request->input_tokens << 2 | (hits ? HAS_HITS : 0) |
                                         (prompt ? HAS_PROMPT : 0));
    at = number_put(at, (uint64_t)request->output_tokens);
    if (hits)
        at = number_put(at, (uint64_t)request->cache_n);
    if (prompt)
        at = number_put(at, (uint64_t)request->prompt_n);
    return (size_t)(at - packed);
}

typedef struct {
    const uint8_t *at, *end;
    bool bad;
} reader;

static uint64_t number_get(reader *from)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 63 && from->at < from->end; shift += 7) {
        uint8_t byte = *from->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    from->bad = true;
    return 0;
}

static int64_t tokens_of(reader *from, uint64_t value)
{
    from->bad |= value > (uint64_t)DM_TOKENS_MAX;
    return (int64_t)(value & INT64_MAX);
}

bool dm__requests_unpack(const uint8_t *packed, size_t size, size_t count,
                         dm_request_columns *columns)
{
    reader from = {packed, packed + size, false};
    for (size_t i = 0; i < count && !from.bad; i++) {
        uint64_t head = number_get(&from);
        int64_t input = tokens_of(&from, head >> 2);
        columns->input_tokens[i] = input;
        columns->output_tokens[i] = tokens_of(&from, number_get(&from));
        int64_t hits = head & HAS_HITS ? tokens_of(&from, number_get(&from)) : 0;
        columns->cache_n[i] = hits;
        from.bad |= !(head & HAS_PROMPT) && hits > input;
        columns->prompt_n[i] =
            head & HAS_PROMPT ? tokens_of(&from, number_get(&from)) : input - hits;
    }
    columns->count = count;
    return !from.bad && from.at == from.end;
}
