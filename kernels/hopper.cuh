/* kernels/hopper.cuh: the instructions of sm_90a that CUDA C++ has no words for: memory barriers
 * that count bytes, the tensor copy engine (TMA) and the asynchronous matrix product of a warpgroup
 * (wgmma). CUDA only. */
#ifndef PEOSIM_KERNELS_HOPPER_CUH
#define PEOSIM_KERNELS_HOPPER_CUH

#include <cuda.h>
#include <stdint.h>

#include "kernels/grouped_gemm.h"

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void mbarrier_init(uint64_t *bar, int count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(count)
                 : "memory");
}

static __device__ __forceinline__ void mbarrier_arrive(uint64_t *bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(bar)) : "memory");
}

static __device__ __forceinline__ void mbarrier_arrive_expect(uint64_t *bar, int bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(bar)),
        "r"(bytes)
        : "memory");
}

static __device__ __forceinline__ void mbarrier_wait(uint64_t *bar, uint32_t parity)
{
    uint32_t done;
    do {
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}\n"
                     : "=r"(done)
                     : "r"(shared_address(bar)), "r"(parity)
                     : "memory");
    } while (!done);
}

static __device__ __forceinline__ void barrier_sync(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

static __device__ __forceinline__ void tma_load(void *dst, const CUtensorMap *map, uint64_t *bar,
                                                int x, int y, int z, uint64_t policy)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".L2::cache_hint [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(shared_address(dst)),
                 "l"(map), "r"(shared_address(bar)), "r"(x), "r"(y), "r"(z), "l"(policy)
                 : "memory");
}

static __device__ __forceinline__ void copy_float_async(float *dst, const float *src)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(dst)), "l"(src)
                 : "memory");
}

static __device__ __forceinline__ uint64_t l2_policy(bool evict_first)
{
    uint64_t first, normal;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(first));
    asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(normal));
    return evict_first ? first : normal;
}

/* Describes a K-major operand of 8-row, 128-byte swizzle atoms, 1024 bytes apart. */
static __device__ __forceinline__ uint64_t wgmma_operand(const void *p)
{
    return (uint64_t)((shared_address(p) & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

#define ACC4(i)  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define ACC16(i) ACC4(i), ACC4(i + 4), ACC4(i + 8), ACC4(i + 12)
#define ACC32    ACC16(0), ACC16(16)
#define ACC64    ACC16(0), ACC16(16), ACC16(32), ACC16(48)
#define ACC128   ACC64, ACC16(64), ACC16(80), ACC16(96), ACC16(112)
#define REGS32                                                                                     \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"      \
    "%24,%25,%26,%27,%28,%29,%30,%31}"
#define REGS64                                                                                     \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"      \
    "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,"     \
    "%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"
#define REGS128                                                                                    \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,"          \
    "%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,"         \
    "%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,"         \
    "%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,"         \
    "%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,"            \
    "%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,"             \
    "%121,%122,%123,%124,%125,%126,%127}"
#define WGMMA(op, regs, a, b, p, tail)                                                             \
    "{\n.reg .pred p;\nsetp.ne.b32 p, " p ", 0;\nwgmma.mma_async.sync.aligned." op " " regs ", " a \
    ", " b ", p, 1, 1" tail ";\n}\n"

/* d = A * B (+ d when accumulate): 64 rows, WN columns, 32 bytes of K. */
template <enum gemm_dtype DTYPE, int WN>
static __device__ __forceinline__ void wgmma(float (&d)[WN / 2], uint64_t a, uint64_t b,
                                             int accumulate)
{
    if constexpr (DTYPE == GEMM_FP8 && WN == 128)
        asm volatile(WGMMA("m64n128k32.f32.e4m3.e4m3", REGS64, "%64", "%65", "%66", "")
                     : ACC64
                     : "l"(a), "l"(b), "r"(accumulate));
    else if constexpr (DTYPE == GEMM_FP8)
        asm volatile(WGMMA("m64n64k32.f32.e4m3.e4m3", REGS32, "%32", "%33", "%34", "")
                     : ACC32
                     : "l"(a), "l"(b), "r"(accumulate));
    else if constexpr (WN == 256)
        asm volatile(WGMMA("m64n256k16.f32.bf16.bf16", REGS128, "%128", "%129", "%130", ", 0, 0")
                     : ACC128
                     : "l"(a), "l"(b), "r"(accumulate));
    else if constexpr (WN == 128)
        asm volatile(WGMMA("m64n128k16.f32.bf16.bf16", REGS64, "%64", "%65", "%66", ", 0, 0")
                     : ACC64
                     : "l"(a), "l"(b), "r"(accumulate));
    else
        asm volatile(WGMMA("m64n64k16.f32.bf16.bf16", REGS32, "%32", "%33", "%34", ", 0, 0")
                     : ACC32
                     : "l"(a), "l"(b), "r"(accumulate));
}

/* The compiler must neither move an accumulator's reads above the wait for the tensor core nor its
 * writes below the start: this pins the registers at the place where it stands. */
template <int COUNT> static __device__ __forceinline__ void wgmma_pin(float (&d)[COUNT])
{
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        asm volatile("" : "+f"(d[i])::"memory");
}

static __device__ __forceinline__ void wgmma_begin(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void wgmma_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int PENDING> static __device__ __forceinline__ void wgmma_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#undef ACC4
#undef ACC16
#undef ACC32
#undef ACC64
#undef ACC128
#undef REGS32
#undef REGS64
#undef REGS128
#undef WGMMA

#endif
