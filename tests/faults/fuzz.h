/* SPDX-License-Identifier: MIT
 *
 * What the fuzzed programs share: values made of the fuzzer's bytes, and a check that ends the
 * program, so that the fuzzer keeps what led there. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define MUST(holds)                                                                                \
    do {                                                                                           \
        if (!(holds)) {                                                                            \
            (void)fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #holds);        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

typedef struct {
    const uint8_t *at;
    size_t left;
} fuzz;

/* Zeros where there is nothing left. */
static inline void fuzz_take(fuzz *f, void *to, size_t size)
{
    size_t taken = size < f->left ? size : f->left;
    memset(to, 0, size);
    if (taken > 0)
        memcpy(to, f->at, taken);
    f->at += taken;
    f->left -= taken;
}

static inline uint8_t fuzz_byte(fuzz *f)
{
    uint8_t value;
    fuzz_take(f, &value, sizeof value);
    return value;
}

static inline int64_t fuzz_integer(fuzz *f)
{
    int64_t value;
    fuzz_take(f, &value, sizeof value);
    return value;
}

static inline double fuzz_double(fuzz *f)
{
    double value;
    fuzz_take(f, &value, sizeof value);
    return value;
}

/* From 0 to `most`; of all sizes, not only of the largest. */
static inline int64_t fuzz_count(fuzz *f, int64_t most)
{
    unsigned shift = fuzz_byte(f) % 64;
    uint64_t value = (uint64_t)fuzz_integer(f) >> shift;
    return (int64_t)(value % ((uint64_t)most + 1));
}

#endif
