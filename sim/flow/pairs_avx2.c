/* The same loops for x86 processors with 8 lanes of floats. Everything that is not ours is included
 * before the compiler is told so. */
#include "sim/flow/pairs.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <stdbool.h>

/* Processor and kernel both: __builtin_cpu_supports asks for a runtime that not every linker has.
 */
static bool avx2_is_there(void)
{
    unsigned a, b, c, d, low, high;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX))
        return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#ifndef __AVX2__
#define __AVX2__ 1
#endif
#include "sim/flow/pairs_code.h"

const struct pairs_code *pairs_code_avx2(void)
{
    static const struct pairs_code code = {pairs_begin, pairs_raise,  pairs_credits, pairs_fill,
                                           pairs_need,  pairs_ending, pairs_advance};

    return avx2_is_there() ? &code : NULL;
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
const struct pairs_code *pairs_code_avx2(void)
{
    return NULL;
}
#endif
