/* SPDX-License-Identifier: MIT */
#ifndef DM_WIDE_H
#define DM_WIDE_H

/* A static function with loops over columns: compiled for wider vectors as well, and chosen by what
 * the processor has when the program is loaded, which is too early for sanitizers. Static, since
 * GCC exports the choice of others whatever their visibility. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__OPTIMIZE__) &&                          \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define DM__WIDE __attribute__((target_clones("avx512f", "avx2", "default"), flatten))
#else
#define DM__WIDE
#endif

#endif
