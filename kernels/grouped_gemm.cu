/* The grouped GEMM: two consumer warpgroups multiply (wgmma) what one producer warpgroup fetches
 * (TMA for tiles, cp.async for scales) into a ring of shared-memory stages. The producer runs ahead
 * across tile boundaries, so that the stream of weights does not pause for an epilogue.
 *
 * Numbers. K is walked in blocks of 128 bytes of each row. BF16 accumulates in the tensor core over
 * all of K. FP8 accumulates one block of 128 channels in the tensor core, whose accumulator keeps
 * fewer bits than FP32, and adds it to an FP32 sum with the block's scales: the order depends on k
 * alone, never on the tile. */
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>
#ifndef TUNE
#define TUNE 0
#endif

#include "kernels/grouped_gemm.h"
#include "kernels/stamp.h"
extern "C" {
#include "base/err.h"
#include "base/log.h"
}

namespace
{

constexpr int BLOCK_N = GROUPED_GEMM_BLOCK_N;
constexpr int BLOCK_K_BYTES = 128; /* one swizzle atom: the widest row a TMA box may have */
constexpr int WARPGROUP = 128;
constexpr int CONSUMERS = 2 * WARPGROUP;
constexpr int THREADS = CONSUMERS + WARPGROUP;
constexpr int SCALE_PAD = 4; /* floats after A's scales of a K block: B's scale, then padding */
constexpr int RASTER_ROWS = 2048;

/* Named barriers; 0 is __syncthreads. */
enum { BAR_CONSUMERS = 1, BAR_TURN = 2 };

struct gemm_params {
    const int *rows;
    const float *a_scale;
    const float *b_scale;
    __nv_bfloat16 *c;
    int *tile_done;
    struct kernel_stamp *stamp;
    long long a_scale_expert_stride;
    int a_scale_row_stride;
    int a_scale_k_stride;
    int first_expert;
    int expert_count;
    int max_rows;
    int n;
    int k_blocks;
    bool stream_b; /* weights are read once: let them leave the L2 first */
};

/* What a variant of the kernel keeps in shared memory. */
template <enum gemm_dtype DTYPE, int BLOCK_M, int K_STEP, int STAGES> struct layout {
    static constexpr bool scaled = DTYPE == GEMM_FP8;
    static constexpr int block_k = scaled ? BLOCK_K_BYTES : BLOCK_K_BYTES / 2;
    static constexpr int a_bytes = BLOCK_M * BLOCK_K_BYTES;
    static constexpr int b_bytes = BLOCK_N * BLOCK_K_BYTES;
    static constexpr int tile_bytes = K_STEP * (a_bytes + b_bytes);
    static constexpr int scale_floats = scaled ? K_STEP * (BLOCK_M + SCALE_PAD) : 0;
    static constexpr int bytes = STAGES * (tile_bytes + scale_floats * 4 + 2 * 8) + 1024;
    /* Each consumer warpgroup owns msub blocks of 64 rows by wn columns of the tile. */
    static constexpr int wn = BLOCK_M == 64 ? BLOCK_N / 2 : BLOCK_N;
    static constexpr int msub = BLOCK_M == 256 ? 2 : 1;
};

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

__device__ __forceinline__ void mbarrier_init(uint64_t *bar, int count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(count)
                 : "memory");
}

__device__ __forceinline__ void mbarrier_arrive(uint64_t *bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(bar)) : "memory");
}

__device__ __forceinline__ void mbarrier_arrive_expect(uint64_t *bar, int bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(bar)),
        "r"(bytes)
        : "memory");
}

__device__ __forceinline__ void mbarrier_wait(uint64_t *bar, uint32_t parity)
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

__device__ __forceinline__ void barrier_sync(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void barrier_arrive(int id, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void tma_load(void *dst, const CUtensorMap *map, uint64_t *bar, int x,
                                         int y, int z, uint64_t policy)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".L2::cache_hint [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(shared_address(dst)),
                 "l"(map), "r"(shared_address(bar)), "r"(x), "r"(y), "r"(z), "l"(policy)
                 : "memory");
}

__device__ __forceinline__ void copy_float_async(float *dst, const float *src)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(dst)), "l"(src)
                 : "memory");
}

__device__ __forceinline__ uint64_t l2_policy(bool evict_first)
{
    uint64_t first, normal;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(first));
    asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(normal));
    return evict_first ? first : normal;
}

/* Describes a K-major operand of 8-row, 128-byte swizzle atoms, 1024 bytes apart. */
__device__ __forceinline__ uint64_t wgmma_operand(const void *p)
{
    return (uint64_t)((shared_address(p) & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

#define ACC4(i)  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define ACC16(i) ACC4(i), ACC4(i + 4), ACC4(i + 8), ACC4(i + 12)
#define ACC32    ACC16(0), ACC16(16)
#define ACC64    ACC16(0), ACC16(16), ACC16(32), ACC16(48)
#define REGS32                                                                                     \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"      \
    "%24,%25,%26,%27,%28,%29,%30,%31}"
#define REGS64                                                                                     \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"      \
    "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,"     \
    "%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"
#define WGMMA(op, regs, a, b, p, tail)                                                             \
    "{\n.reg .pred p;\nsetp.ne.b32 p, " p ", 0;\nwgmma.mma_async.sync.aligned." op " " regs ", " a \
    ", " b ", p, 1, 1" tail ";\n}\n"

/* d = A * B (+ d when accumulate): 64 rows, WN columns, 32 bytes of K. */
template <enum gemm_dtype DTYPE, int WN>
__device__ __forceinline__ void wgmma(float (&d)[WN / 2], uint64_t a, uint64_t b, int accumulate)
{
    if constexpr (DTYPE == GEMM_FP8 && WN == 128)
        asm volatile(WGMMA("m64n128k32.f32.e4m3.e4m3", REGS64, "%64", "%65", "%66", "")
                     : ACC64
                     : "l"(a), "l"(b), "r"(accumulate));
    else if constexpr (DTYPE == GEMM_FP8)
        asm volatile(WGMMA("m64n64k32.f32.e4m3.e4m3", REGS32, "%32", "%33", "%34", "")
                     : ACC32
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
template <int COUNT> __device__ __forceinline__ void wgmma_pin(float (&d)[COUNT])
{
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        asm volatile("" : "+f"(d[i])::"memory");
}

__device__ __forceinline__ void wgmma_begin(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int PENDING> __device__ __forceinline__ void wgmma_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* A place in the ring of stages. A full barrier is waited for with `parity`, an empty one with its
 * inverse: the first pass over the ring finds every stage empty. */
template <int STAGES> struct ring {
    int stage = 0;
    uint32_t parity = 0;
    __device__ __forceinline__ void advance()
    {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

struct tile {
    int expert;
    int rows; /* valid rows of the expert */
    int m0;
    int n0;
};

/* Gives a CTA its tiles, in order. All roles of the CTA walk alike. Inside an expert the row blocks
 * run fastest, in bands of RASTER_ROWS rows: CTAs that run together share B's tile and a band of A
 * in the L2. */
template <int BLOCK_M> struct tile_walk {
    const int *rows;
    int expert_count;
    int n_blocks;
    int next;
    int expert = 0;
    int base = 0; /* tiles before this expert */

    __device__ tile_walk(const int *rows_, const gemm_params &p)
        : rows(rows_), expert_count(p.expert_count), n_blocks(p.n / BLOCK_N), next(blockIdx.x)
    {
    }

    __device__ __forceinline__ bool take(tile &t)
    {
        for (; expert < expert_count; expert++) {
            const int m_blocks = (rows[expert] + BLOCK_M - 1) / BLOCK_M;
            const int local = next - base;
            if (local < m_blocks * n_blocks) {
                constexpr int band = RASTER_ROWS / BLOCK_M;
                const int first = local / (band * n_blocks) * band;
                const int height = min(band, m_blocks - first);
                const int inside = local - first * n_blocks;
                t.expert = expert;
                t.rows = rows[expert];
                t.m0 = (first + inside % height) * BLOCK_M;
                t.n0 = inside / height * BLOCK_N;
                next += gridDim.x;
                return true;
            }
            base += m_blocks * n_blocks;
        }
        return false;
    }
};

struct barriers {
    uint64_t *full;
    uint64_t *empty;
};

template <class L, int BLOCK_M, int K_STEP, int STAGES>
__device__ void produce_tiles(const CUtensorMap *map_a, const CUtensorMap *map_b,
                              const gemm_params &p, const int *rows, uint8_t *tiles, barriers bars)
{
    const uint64_t policy_a = l2_policy(false);
    const uint64_t policy_b = l2_policy(p.stream_b);
    tile_walk<BLOCK_M> walk(rows, p);
    ring<STAGES> at;
    tile t;
    while (walk.take(t)) {
        const int expert = p.first_expert + t.expert;
        for (int kb = 0; kb < p.k_blocks; kb += K_STEP) {
            mbarrier_wait(&bars.empty[at.stage], at.parity ^ 1);
            uint8_t *stage = tiles + at.stage * L::tile_bytes;
            uint64_t *full = &bars.full[at.stage];
            mbarrier_arrive_expect(full, L::tile_bytes);
#pragma unroll
            for (int s = 0; s < K_STEP; s++) {
                const int x = (kb + s) * L::block_k;
                tma_load(stage + K_STEP * L::a_bytes + s * L::b_bytes, map_b, full, x, t.n0, expert,
                         policy_b);
                tma_load(stage + s * L::a_bytes, map_a, full, x, t.m0, expert, policy_a);
            }
            at.advance();
        }
    }
}

/* One warp. Rows past the expert's count get no scale: what they multiply is never stored. */
template <class L, int BLOCK_M, int K_STEP, int STAGES>
__device__ void produce_scales(const gemm_params &p, const int *rows, float *scales, barriers bars)
{
    const int lane = threadIdx.x % 32;
    tile_walk<BLOCK_M> walk(rows, p);
    ring<STAGES> at;
    tile t;
    while (walk.take(t)) {
        const int expert = p.first_expert + t.expert;
        const int valid = min(BLOCK_M, t.rows - t.m0);
        const float *a = p.a_scale + expert * p.a_scale_expert_stride +
                         (long long)(t.m0 + lane) * p.a_scale_row_stride;
        const float *b =
            p.b_scale + ((long long)expert * (p.n / BLOCK_N) + t.n0 / BLOCK_N) * p.k_blocks;
        for (int kb = 0; kb < p.k_blocks; kb += K_STEP) {
            mbarrier_wait(&bars.empty[at.stage], at.parity ^ 1);
#pragma unroll
            for (int s = 0; s < K_STEP; s++) {
                float *dst = scales + at.stage * L::scale_floats + s * (BLOCK_M + SCALE_PAD);
                const float *src = a + (long long)(kb + s) * p.a_scale_k_stride;
#pragma unroll
                for (int i = 0; i < BLOCK_M; i += 32) {
                    if (i + lane < valid)
                        copy_float_async(dst + i + lane, src + (long long)i * p.a_scale_row_stride);
                }
                if (lane == 0)
                    copy_float_async(dst + BLOCK_M, b + kb + s);
            }
            /* Counts as this lane's arrival once its copies above have landed. */
            asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(
                             shared_address(&bars.full[at.stage]))
                         : "memory");
            at.advance();
        }
    }
}

/* A stage has been read by this warp: its lanes agree, one of them says so. */
__device__ __forceinline__ void stage_release(uint64_t *empty)
{
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        mbarrier_arrive(empty);
}

/* sum += scales * block, for the two rows of the accumulator that a lane holds. */
template <int COUNT>
__device__ __forceinline__ void promote(float (&sum)[COUNT], const float (&block)[COUNT], float lo,
                                        float hi)
{
#pragma unroll
    for (int i = 0; i < COUNT; i += 4) {
        sum[i] = fmaf(block[i], lo, sum[i]);
        sum[i + 1] = fmaf(block[i + 1], lo, sum[i + 1]);
        sum[i + 2] = fmaf(block[i + 2], hi, sum[i + 2]);
        sum[i + 3] = fmaf(block[i + 3], hi, sum[i + 3]);
    }
}

template <int MSUB, int COUNT> __device__ __forceinline__ void clear(float (&sum)[MSUB][COUNT])
{
#pragma unroll
    for (int m = 0; m < MSUB; m++) {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            sum[m][i] = 0.0f;
    }
}

/* One consumer warpgroup's part of a tile, FP8: sum += scale_a * scale_b * (block of 128 channels).
 */
template <class L, int BLOCK_M, int K_STEP, int STAGES, int TURNS>
__device__ __forceinline__ void
multiply_scaled(float (&sum)[L::msub][L::wn / 2], const gemm_params &p, const uint8_t *tiles,
                const float *scales, barriers bars, ring<STAGES> &at, int a_offset, int b_offset,
                int row, int group)
{
    clear(sum);
    for (int kb = 0; kb < p.k_blocks; kb += K_STEP) {
        const uint8_t *stage = tiles + at.stage * L::tile_bytes;
        mbarrier_wait(&bars.full[at.stage], at.parity);
#pragma unroll
        for (int s = 0; s < K_STEP; s++) {
            const float *scale = scales + at.stage * L::scale_floats + s * (BLOCK_M + SCALE_PAD);
            const uint64_t b =
                wgmma_operand(stage + K_STEP * L::a_bytes + s * L::b_bytes + b_offset);
#pragma unroll
            for (int m = 0; m < L::msub; m++) {
                const uint64_t a =
                    wgmma_operand(stage + s * L::a_bytes + a_offset + m * 64 * BLOCK_K_BYTES);
                float block[L::wn / 2];
                if (TURNS)
                    barrier_sync(BAR_TURN + group, CONSUMERS);
                wgmma_pin(block);
                wgmma_begin();
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    wgmma<GEMM_FP8, L::wn>(block, a + 2 * i, b + 2 * i, i > 0);
                    if (TURNS > 1 && i == TURNS - 1)
                        wgmma_commit();
                }
                wgmma_commit();
                const float scale_b = scale[BLOCK_M];
                const float scale_lo = scale[row + m * 64] * scale_b;
                const float scale_hi = scale[row + m * 64 + 8] * scale_b;
                if (TURNS > 1)
                    wgmma_wait<1>();
                if (TURNS)
                    barrier_arrive(BAR_TURN + (group ^ 1), CONSUMERS);
                wgmma_wait<0>();
                wgmma_pin(block);
                if (s == K_STEP - 1 && m == L::msub - 1)
                    stage_release(&bars.empty[at.stage]);
                promote(sum[m], block, scale_lo, scale_hi);
            }
        }
        at.advance();
    }
}

/* The same for tiles of one 64-row block a warpgroup, with two blocks of channels in flight. */
template <class L, int BLOCK_M, int K_STEP, int STAGES>
__device__ __forceinline__ void
multiply_scaled_double(float (&sum)[L::wn / 2], const gemm_params &p, const uint8_t *tiles,
                       const float *scales, barriers bars, ring<STAGES> &at, int a_offset,
                       int b_offset, int row)
{
    float even[L::wn / 2], odd[L::wn / 2];
    float even_lo, even_hi, odd_lo, odd_hi;
    int even_stage, odd_stage;
    const auto issue = [&](float(&block)[L::wn / 2], int s, float &lo, float &hi, int &used) {
        if (s == 0)
            mbarrier_wait(&bars.full[at.stage], at.parity);
        const uint8_t *stage = tiles + at.stage * L::tile_bytes;
        const float *scale = scales + at.stage * L::scale_floats + s * (BLOCK_M + SCALE_PAD);
        const uint64_t a = wgmma_operand(stage + s * L::a_bytes + a_offset);
        const uint64_t b = wgmma_operand(stage + K_STEP * L::a_bytes + s * L::b_bytes + b_offset);
        wgmma_pin(block);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < 4; i++)
            wgmma<GEMM_FP8, L::wn>(block, a + 2 * i, b + 2 * i, i > 0);
        wgmma_commit();
        lo = scale[row] * scale[BLOCK_M];
        hi = scale[row + 8] * scale[BLOCK_M];
        used = at.stage;
        if (s == K_STEP - 1)
            at.advance();
    };
    const auto finish_even = [&]() {
        wgmma_pin(even);
        if (K_STEP == 1)
            stage_release(&bars.empty[even_stage]);
        promote(sum, even, even_lo, even_hi);
    };
    const auto finish_odd = [&]() {
        wgmma_pin(odd);
        stage_release(&bars.empty[odd_stage]);
        promote(sum, odd, odd_lo, odd_hi);
    };
#pragma unroll
    for (int i = 0; i < L::wn / 2; i++)
        sum[i] = 0.0f;
    issue(even, 0, even_lo, even_hi, even_stage);
    int kb = 0;
    for (; kb + 2 < p.k_blocks; kb += 2) {
        issue(odd, K_STEP - 1, odd_lo, odd_hi, odd_stage);
        wgmma_wait<1>();
        finish_even();
        issue(even, 0, even_lo, even_hi, even_stage);
        wgmma_wait<1>();
        finish_odd();
    }
    if (kb + 1 < p.k_blocks) {
        issue(odd, K_STEP - 1, odd_lo, odd_hi, odd_stage);
        wgmma_wait<1>();
        finish_even();
        wgmma_wait<0>();
        finish_odd();
    } else {
        wgmma_wait<0>();
        finish_even();
    }
}

/* The same in BF16: the tensor core accumulates over all of K; one stage stays in flight. */
template <class L, int K_STEP, int STAGES>
__device__ __forceinline__ void
multiply_plain(float (&sum)[L::msub][L::wn / 2], const gemm_params &p, const uint8_t *tiles,
               barriers bars, ring<STAGES> &at, int a_offset, int b_offset)
{
    int previous = 0;
#pragma unroll
    for (int m = 0; m < L::msub; m++)
        wgmma_pin(sum[m]);
    for (int kb = 0; kb < p.k_blocks; kb += K_STEP) {
        const uint8_t *stage = tiles + at.stage * L::tile_bytes;
        mbarrier_wait(&bars.full[at.stage], at.parity);
        wgmma_begin();
#pragma unroll
        for (int s = 0; s < K_STEP; s++) {
            const uint64_t b =
                wgmma_operand(stage + K_STEP * L::a_bytes + s * L::b_bytes + b_offset);
#pragma unroll
            for (int m = 0; m < L::msub; m++) {
                const uint64_t a =
                    wgmma_operand(stage + s * L::a_bytes + a_offset + m * 64 * BLOCK_K_BYTES);
#pragma unroll
                for (int i = 0; i < 4; i++)
                    wgmma<GEMM_BF16, L::wn>(sum[m], a + 2 * i, b + 2 * i, kb + s + i > 0);
            }
        }
        wgmma_commit();
        if (kb > 0) {
            wgmma_wait<1>();
            if (threadIdx.x % 32 == 0)
                mbarrier_arrive(&bars.empty[previous]);
        }
        previous = at.stage;
        at.advance();
    }
    wgmma_wait<0>();
#pragma unroll
    for (int m = 0; m < L::msub; m++)
        wgmma_pin(sum[m]);
    if (threadIdx.x % 32 == 0)
        mbarrier_arrive(&bars.empty[previous]);
}

__device__ __forceinline__ uint32_t pack_bf16(float lo, float hi)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(lo, hi);
    return *reinterpret_cast<const uint32_t *>(&pair);
}

/* Four lanes hold a row's 32 columns as lane q: columns 8j+2q, 8j+2q+1 in v[j]. Afterwards lane q
 * holds columns 8q..8q+7, ready for one 16-byte store. */
__device__ __forceinline__ uint4 quad_transpose(const uint32_t (&v)[4])
{
    const bool odd = threadIdx.x & 1;
    const bool high = threadIdx.x & 2;
    const uint32_t x0 = __shfl_xor_sync(~0u, odd ? v[0] : v[1], 1);
    const uint32_t x1 = __shfl_xor_sync(~0u, odd ? v[2] : v[3], 1);
    const uint32_t a0 = odd ? x0 : v[0], a1 = odd ? v[1] : x0;
    const uint32_t a2 = odd ? x1 : v[2], a3 = odd ? v[3] : x1;
    const uint32_t y0 = __shfl_xor_sync(~0u, high ? a0 : a2, 2);
    const uint32_t y1 = __shfl_xor_sync(~0u, high ? a1 : a3, 2);
    return high ? make_uint4(y0, y1, a2, a3) : make_uint4(a0, a1, y0, y1);
}

/* Stores a warpgroup's 64 x 2*COUNT block; row is this lane's first row, the other is row + 8. */
template <int COUNT>
__device__ __forceinline__ void store_rows(const float (&sum)[COUNT], __nv_bfloat16 *c, int n,
                                           int row, int valid)
{
    const int quad = threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        __nv_bfloat16 *line = c + (long long)(row + 8 * half) * n + 8 * quad;
#pragma unroll
        for (int g = 0; g < COUNT / 16; g++) {
            uint32_t v[4];
#pragma unroll
            for (int j = 0; j < 4; j++)
                v[j] =
                    pack_bf16(sum[16 * g + 4 * j + 2 * half], sum[16 * g + 4 * j + 2 * half + 1]);
            const uint4 out = quad_transpose(v);
            if (row + 8 * half < valid)
                *reinterpret_cast<uint4 *>(line + 32 * g) = out;
        }
    }
}

template <enum gemm_dtype DTYPE, class L, int BLOCK_M, int K_STEP, int STAGES, int TURNS>
__device__ void consume(const gemm_params &p, const int *rows, const uint8_t *tiles,
                        const float *scales, barriers bars)
{
    /* The shuffle tells the compiler that a warp shares one value: descriptors stay in uniform
     * registers. */
    const int group = __shfl_sync(~0u, threadIdx.x / WARPGROUP, 0);
    const int row_offset = BLOCK_M == 64 ? 0 : group * 64 * L::msub;
    const int col_offset = BLOCK_M == 64 ? group * L::wn : 0;
    const int row = row_offset + threadIdx.x % WARPGROUP / 32 * 16 + threadIdx.x % 32 / 4;
    tile_walk<BLOCK_M> walk(rows, p);
    ring<STAGES> at;
    tile t;
    if (TURNS > 0 && group == 1)
        barrier_arrive(BAR_TURN, CONSUMERS);
    while (walk.take(t)) {
        float sum[L::msub][L::wn / 2];
        if constexpr (DTYPE == GEMM_FP8 && TURNS < 0)
            multiply_scaled_double<L, BLOCK_M, K_STEP, STAGES>(sum[0], p, tiles, scales, bars, at,
                                                               row_offset * BLOCK_K_BYTES,
                                                               col_offset * BLOCK_K_BYTES, row);
        else if constexpr (DTYPE == GEMM_FP8)
            multiply_scaled<L, BLOCK_M, K_STEP, STAGES, TURNS>(
                sum, p, tiles, scales, bars, at, row_offset * BLOCK_K_BYTES,
                col_offset * BLOCK_K_BYTES, row, group);
        else
            multiply_plain<L, K_STEP, STAGES>(sum, p, tiles, bars, at, row_offset * BLOCK_K_BYTES,
                                              col_offset * BLOCK_K_BYTES);
        const int expert = p.first_expert + t.expert;
        __nv_bfloat16 *c = p.c + (long long)expert * p.max_rows * p.n + t.n0 + col_offset;
#pragma unroll
        for (int m = 0; m < L::msub; m++)
            store_rows(sum[m], c, p.n, t.m0 + row + m * 64, t.rows);
        if (p.tile_done != NULL) {
            barrier_sync(BAR_CONSUMERS, CONSUMERS);
            if (threadIdx.x == 0) {
                const int blocks = (p.max_rows + BLOCK_M - 1) / BLOCK_M;
                __threadfence();
                atomicAdd(&p.tile_done[expert * blocks + t.m0 / BLOCK_M], 1);
            }
        }
    }
    if (TURNS > 0 && group == 0)
        barrier_sync(BAR_TURN, CONSUMERS);
    barrier_sync(BAR_CONSUMERS, CONSUMERS);
    if (threadIdx.x == 0)
        stamp_end(p.stamp);
}

template <enum gemm_dtype DTYPE, int BLOCK_M, int K_STEP, int STAGES, int TURNS>
__global__ void __launch_bounds__(THREADS, 1)
    grouped_gemm_kernel(const __grid_constant__ CUtensorMap map_a,
                        const __grid_constant__ CUtensorMap map_b,
                        const __grid_constant__ gemm_params p)
{
    using L = layout<DTYPE, BLOCK_M, K_STEP, STAGES>;
    extern __shared__ uint8_t dynamic[];
    __shared__ int rows[GROUPED_GEMM_MAX_EXPERTS];
    /* The swizzle pattern follows address bits: tiles start at multiples of 1024. */
    uint8_t *tiles = dynamic + (1024 - shared_address(dynamic) % 1024) % 1024;
    float *scales = reinterpret_cast<float *>(tiles + STAGES * L::tile_bytes);
    barriers bars;
    bars.full = reinterpret_cast<uint64_t *>(scales + STAGES * L::scale_floats);
    bars.empty = bars.full + STAGES;

    if (threadIdx.x == 0) {
        stamp_begin(p.stamp);
        for (int i = 0; i < STAGES; i++) {
            mbarrier_init(&bars.full[i], L::scaled ? 1 + 32 : 1);
            mbarrier_init(&bars.empty[i], CONSUMERS / 32);
        }
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    for (int i = threadIdx.x; i < p.expert_count; i += THREADS)
        rows[i] = max(0, min(p.rows[p.first_expert + i], p.max_rows));
    __syncthreads();

    if (threadIdx.x >= CONSUMERS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        const int warp = threadIdx.x / 32 - CONSUMERS / 32;
        if (warp == 0 && threadIdx.x % 32 == 0)
            produce_tiles<L, BLOCK_M, K_STEP, STAGES>(&map_a, &map_b, p, rows, tiles, bars);
        else if (L::scaled && warp == 1)
            produce_scales<L, BLOCK_M, K_STEP, STAGES>(p, rows, scales, bars);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        consume<DTYPE, L, BLOCK_M, K_STEP, STAGES, TURNS>(p, rows, tiles, scales, bars);
    }
}

int gpu_check(cudaError_t status, const char *what)
{
    if (status == cudaSuccess)
        return 0;
    log_error("grouped GEMM: %s: %s", what, cudaGetErrorString(status));
    return ERR_GPU;
}

typedef CUresult (*encode_fn)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                              const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                              const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                              CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* The driver's function, found through the runtime so that the program links without libcuda. */
encode_fn encode_lookup(void)
{
    void *fn = NULL;
    cudaDriverEntryPointQueryResult result;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &fn, 12000, cudaEnableDefault,
                                         &result) != cudaSuccess ||
        result != cudaDriverEntryPointSuccess)
        return NULL;
    return reinterpret_cast<encode_fn>(fn);
}

/* A [experts, rows, k] tensor, read in boxes of box_rows x 128 bytes. */
int map_encode(CUtensorMap *map, const struct grouped_gemm_args *args, const void *base, int rows,
               int box_rows, CUtensorMapL2promotion promotion)
{
    static const encode_fn encode = encode_lookup();
    const bool fp8 = args->dtype == GEMM_FP8;
    const cuuint64_t pitch = (cuuint64_t)args->k * (fp8 ? 1 : 2);
    const cuuint64_t dims[3] = {(cuuint64_t)args->k, (cuuint64_t)rows,
                                (cuuint64_t)args->num_experts};
    const cuuint64_t strides[2] = {pitch, pitch * rows};
    const cuuint32_t box[3] = {(cuuint32_t)(fp8 ? BLOCK_K_BYTES : BLOCK_K_BYTES / 2),
                               (cuuint32_t)box_rows, 1};
    const cuuint32_t step[3] = {1, 1, 1};
    if (encode == NULL) {
        log_error("grouped GEMM: the driver has no cuTensorMapEncodeTiled");
        return ERR_GPU;
    }
    const CUresult result =
        encode(map, fp8 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3,
               const_cast<void *>(base), dims, strides, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
               CU_TENSOR_MAP_SWIZZLE_128B, promotion, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) {
        log_error("grouped GEMM: cuTensorMapEncodeTiled gave error %d", (int)result);
        return ERR_GPU;
    }
    return 0;
}

int args_check(const struct grouped_gemm_args *args)
{
    const bool fp8 = args->dtype == GEMM_FP8;
    const char *problem = NULL;
    if (args->max_rows < 1 || args->num_experts < 1 || args->num_sms < 1)
        problem = "max_rows, num_experts and num_sms must be at least 1";
    else if (args->n < 128 || args->n % 128 != 0 || args->k < 128 || args->k % 128 != 0)
        problem = "n and k must be positive multiples of 128";
    else if (args->first_expert < 0 || args->expert_count < 1 ||
             args->expert_count > GROUPED_GEMM_MAX_EXPERTS ||
             args->first_expert > args->num_experts - args->expert_count)
        problem = "the range of experts is empty, too long or outside num_experts";
    else if (args->block_m != 0 && args->block_m != 64 && args->block_m != 128 &&
             args->block_m != 256)
        problem = "block_m must be 0, 64, 128 or 256";
    else if (args->tile_done != NULL && args->block_m == 0)
        problem = "tile_done needs an explicit block_m";
    else if (args->a == NULL || args->b == NULL || args->c == NULL || args->rows == NULL ||
             (fp8 && (args->a_scale == NULL || args->b_scale == NULL)))
        problem = "a pointer is missing";
    else if (((uintptr_t)args->a | (uintptr_t)args->b | (uintptr_t)args->c) % 16 != 0)
        problem = "a, b and c must be 16-byte aligned";
    if (problem == NULL)
        return 0;
    log_error("grouped GEMM: %s", problem);
    return ERR_RANGE;
}

struct launch {
    const struct grouped_gemm_args *args;
    gemm_params params;
    CUtensorMapL2promotion promotion;
    cudaStream_t stream;
};

template <enum gemm_dtype DTYPE, int BLOCK_M, int K_STEP, int STAGES, int TURNS = 0>
int launch_kernel(const struct launch &l)
{
    using L = layout<DTYPE, BLOCK_M, K_STEP, STAGES>;
    const auto kernel = grouped_gemm_kernel<DTYPE, BLOCK_M, K_STEP, STAGES, TURNS>;
    CUtensorMap map_a, map_b;
    int err = map_encode(&map_a, l.args, l.args->a, l.args->max_rows, BLOCK_M, l.promotion);
    if (err == 0)
        err = map_encode(&map_b, l.args, l.args->b, l.args->n, BLOCK_N, l.promotion);
    if (err == 0)
        err = gpu_check(
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, L::bytes),
            "shared memory");
    if (err != 0)
        return err;
    kernel<<<l.args->num_sms, THREADS, L::bytes, l.stream>>>(map_a, map_b, l.params);
    return gpu_check(cudaGetLastError(), "launch");
}

} // namespace

int kernels_grouped_gemm_block_m(const struct grouped_gemm_args *args)
{
    if (args->block_m != 0)
        return args->block_m;
    const int rows = args->rows_hint > 0 ? args->rows_hint : args->max_rows;
    if (rows <= 64)
        return 64;
    /* 256 rows move fewer bytes per product; they pay unless much of the last block is padding. */
    const int padded_128 = (rows + 127) / 128 * 128;
    const int padded_256 = (rows + 255) / 256 * 256;
    return padded_256 * 8 <= padded_128 * 9 ? 256 : 128;
}

/* tune: bits 0-3 schedule, 16 promotion 256, 128 none, 32 weights stay, 64 weights leave */
extern "C" int kernels_grouped_gemm_tuned(const struct grouped_gemm_args *args, int tune,
                                          cudaStream_t stream)
{
    const int err = args_check(args);
    if (err != 0)
        return err;
    const int block_m = kernels_grouped_gemm_block_m(args);
    const bool fp8 = args->dtype == GEMM_FP8;
    struct launch l = {};
    l.args = args;
    l.stream = stream;
    l.promotion = tune & 128  ? CU_TENSOR_MAP_L2_PROMOTION_NONE
                  : tune & 16 ? CU_TENSOR_MAP_L2_PROMOTION_L2_256B
                              : CU_TENSOR_MAP_L2_PROMOTION_L2_128B;
    l.params.rows = args->rows;
    l.params.a_scale = args->a_scale;
    l.params.b_scale = args->b_scale;
    l.params.c = static_cast<__nv_bfloat16 *>(args->c);
    l.params.tile_done = args->tile_done;
    l.params.stamp = args->stamp;
    l.params.a_scale_expert_stride = (long long)args->max_rows * (args->k / 128);
    l.params.a_scale_row_stride = args->a_scale_row_stride;
    l.params.a_scale_k_stride = args->a_scale_k_stride;
    l.params.first_expert = args->first_expert;
    l.params.expert_count = args->expert_count;
    l.params.max_rows = args->max_rows;
    l.params.n = args->n;
    l.params.k_blocks = args->k * (fp8 ? 1 : 2) / BLOCK_K_BYTES;
    l.params.stream_b = (block_m == 64 || (tune & 64)) && !(tune & 32);
    const bool pairs = l.params.k_blocks % 2 == 0;
    const int way = tune & 15;
    if (fp8 && block_m == 64)
        return pairs && way == 0   ? launch_kernel<GEMM_FP8, 64, 2, 4>(l)
               : pairs && way == 1 ? launch_kernel<GEMM_FP8, 64, 2, 4, -1>(l)
               : way == 2          ? launch_kernel<GEMM_FP8, 64, 1, 9, -1>(l)
                                   : launch_kernel<GEMM_FP8, 64, 1, 9>(l);
    if (fp8 && block_m == 128)
        return pairs && way == 0   ? launch_kernel<GEMM_FP8, 128, 2, 3>(l)
               : pairs && way == 1 ? launch_kernel<GEMM_FP8, 128, 2, 3, -1>(l)
               : way == 2          ? launch_kernel<GEMM_FP8, 128, 1, 6, -1>(l)
               : way == 3          ? launch_kernel<GEMM_FP8, 128, 1, 6, 3>(l)
                                   : launch_kernel<GEMM_FP8, 128, 1, 6>(l);
    if (fp8)
        return way == 1   ? launch_kernel<GEMM_FP8, 256, 1, 4, 1>(l)
               : way == 2 ? launch_kernel<GEMM_FP8, 256, 1, 4, 2>(l)
               : way == 3 ? launch_kernel<GEMM_FP8, 256, 1, 4, 3>(l)
                          : launch_kernel<GEMM_FP8, 256, 1, 4>(l);
    if (block_m == 64)
        return pairs && way == 0 ? launch_kernel<GEMM_BF16, 64, 2, 4>(l)
                                 : launch_kernel<GEMM_BF16, 64, 1, 9>(l);
    if (block_m == 128)
        return pairs && way == 0 ? launch_kernel<GEMM_BF16, 128, 2, 3>(l)
                                 : launch_kernel<GEMM_BF16, 128, 1, 6>(l);
    return launch_kernel<GEMM_BF16, 256, 1, 4>(l);
}

int kernels_grouped_gemm_launch(const struct grouped_gemm_args *args, cudaStream_t stream)
{
    return kernels_grouped_gemm_tuned(args, TUNE, stream);
}
