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

#include "kernels/grouped_gemm.h"
#include "kernels/hopper.cuh"
#include "kernels/stamp.h"
#include "kernels/tiles.h"
extern "C" {
#include "base/err.h"
#include "base/log.h"
}

namespace
{

constexpr int NARROW = GROUPED_GEMM_BLOCK_N; /* columns of a tile, unless it is a wide one */
constexpr int BLOCK_K_BYTES = 128; /* one swizzle atom: the widest row a TMA box may have */
constexpr int WARPGROUP = 128;
constexpr int CONSUMERS = 2 * WARPGROUP;
constexpr int THREADS = CONSUMERS + WARPGROUP;
constexpr int SCALE_PAD = 4; /* floats after A's scales of a K block: B's scale, then padding */
constexpr int RASTER_ROWS = 2048;

/* Named barriers; 0 is __syncthreads. */
enum { BAR_CONSUMERS = 1, BAR_CLASSES };

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

/* The tiles of a variant of the kernel, and what it keeps of them in shared memory. */
template <enum gemm_dtype DTYPE, int BLOCK_M, int BLOCK_N, bool SPLIT, int K_STEP, int STAGES>
struct layout {
    static constexpr int m = BLOCK_M, n = BLOCK_N, k_step = K_STEP, stages = STAGES;
    static constexpr bool split = SPLIT;
    static constexpr bool scaled = DTYPE == GEMM_FP8;
    static constexpr int block_k = scaled ? BLOCK_K_BYTES : BLOCK_K_BYTES / 2;
    /* A comes in boxes of rows; those past the expert's last row stay behind. */
    static constexpr int a_box = BLOCK_M * BLOCK_N == 256 * 128 ? 64 : 32;
    static constexpr int a_bytes = BLOCK_M * BLOCK_K_BYTES;
    static constexpr int b_bytes = BLOCK_N * BLOCK_K_BYTES;
    static constexpr int tile_bytes = K_STEP * (a_bytes + b_bytes);
    static constexpr int scale_floats = scaled ? K_STEP * (BLOCK_M + SCALE_PAD) : 0;
    static constexpr int data_bytes = STAGES * (tile_bytes + scale_floats * 4);
    static constexpr int barrier_bytes = STAGES * 2 * 8;
    /* Each consumer warpgroup owns msub blocks of 64 rows by wn columns of the tile. */
    static constexpr int wn = BLOCK_M == 64 ? BLOCK_N / 2 : BLOCK_N;
    static constexpr int msub = BLOCK_M == 256 ? 2 : 1;
    /* A tile of 256 x 128 or 128 x 256 may be halved to 128 x 128. */
    static constexpr bool wide = BLOCK_N == 256;
    /* Of B's two scales in a wide tile of 64 rows each warpgroup uses one. */
    static constexpr int b_scales = wide ? 2 : 1;
};

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
    int m0;
    int end; /* one past its last valid row */
    int n0;
    bool half; /* 128 x 128 where others have twice as much */
};

/* What the launch has to do, in shared memory. */
struct problem {
    int rows[GROUPED_GEMM_MAX_EXPERTS];
    /* Row blocks of the experts before each: of all experts, or of those with many rows; of those
     * with few, where they are a class of their own. */
    int blocks[GROUPED_GEMM_MAX_EXPERTS + 1];
    int few_blocks[GROUPED_GEMM_MAX_EXPERTS + 1];
};

/* Experts of one class. */
struct expert_class {
    const int *blocks; /* problem.blocks or few_blocks */
    int before;        /* tiles that the CTAs have taken before the first of these */
};

/* Gives a CTA its tiles of a class of experts, in order. All roles of the CTA walk alike. Inside an
 * expert the row blocks run fastest, in bands of RASTER_ROWS rows: CTAs that run together share B's
 * tile and a band of A in the L2. CLASSES: of one class alone. With L::split: when the last pass
 * over the CTAs would leave half of them idle or more, its tiles are halved: an element's sum does
 * not know of it. */
template <class L, bool CLASSES = false> struct tile_walk {
    const int *rows;
    const int *blocks;
    int expert_count;
    int n_blocks;
    int next;             /* the number of the next tile, a half counting as one */
    int left = INT32_MAX; /* with CLASSES: tiles that may be taken */
    int whole;            /* tiles before the first half */
    int expert = 0;

    __device__ tile_walk(const struct problem &all, const gemm_params &p, struct expert_class c)
        : rows(all.rows), blocks(c.blocks), expert_count(p.expert_count), n_blocks(p.n / L::n)
    {
        const int ctas = gridDim.x, tiles = blocks[expert_count] * n_blocks, rest = tiles % ctas;
        next = CLASSES ? ((int)blockIdx.x + ctas - c.before % ctas) % ctas : blockIdx.x;
        whole = L::split && 2 * rest <= ctas ? tiles - rest : tiles;
    }

    /* Does tile `index` lie behind this expert's? */
    __device__ __forceinline__ bool behind(int e, int index) const
    {
        return blocks[e + 1] * n_blocks <= index;
    }

    /* The expert of tile `index`, at or behind the present one; expert_count: there is none. In
     * growing steps, then halves: a step over hundreds of experts must not read them all. */
    __device__ __forceinline__ int find(int index) const
    {
        int low = expert, step = 1;
        if (low >= expert_count || !behind(low, index))
            return low;
        while (low + step < expert_count && behind(low + step, index)) {
            low += step;
            step *= 2;
        }
        int high = min(low + step, expert_count);
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            if (behind(middle, index))
                low = middle;
            else
                high = middle;
        }
        return high;
    }

    __device__ __forceinline__ void place(tile &t, int local, int m_blocks)
    {
        constexpr int band = RASTER_ROWS / L::m;
        const int first = local / (band * n_blocks) * band;
        const int height = min(band, m_blocks - first);
        const int inside = local - first * n_blocks;
        const int second = (next - whole) % 2; /* half of a tile */
        t.expert = expert;
        t.m0 = (first + inside % height) * L::m;
        t.n0 = inside / height * L::n;
        t.end = min(rows[expert], t.m0 + L::m);
        t.half = L::split && next >= whole;
        if (t.half && L::m == 256) {
            t.m0 += second * 128;
            t.end = min(t.end, t.m0 + 128);
        } else if (t.half) {
            t.n0 += second * 128;
        }
    }

    __device__ __forceinline__ bool take(tile &t)
    {
        while (!CLASSES || left > 0) {
            const int index = !L::split || next < whole ? next : whole + (next - whole) / 2;
            expert = find(index);
            if (expert >= expert_count)
                return false;
            place(t, index - blocks[expert] * n_blocks, blocks[expert + 1] - blocks[expert]);
            next += gridDim.x;
            if (CLASSES)
                left--;
            if (t.m0 < t.end)
                return true;
        }
        return false;
    }
};

struct barriers {
    uint64_t *full;
    uint64_t *empty;
};

/* The ring of stages of one layout in shared memory. */
struct stages {
    uint8_t *tiles;
    float *scales;
    barriers bars;
};

/* One thread. */
template <class L, class WALK>
__device__ __forceinline__ void produce_tiles(const CUtensorMap *map_a, const CUtensorMap *map_b,
                                              const gemm_params &p, WALK &walk, ring<L::stages> &at,
                                              const struct stages &at_smem, bool stream_b)
{
    constexpr int K_STEP = L::k_step;
    const uint64_t policy_a = l2_policy(false);
    const uint64_t policy_b = l2_policy(stream_b);
    uint8_t *const tiles = at_smem.tiles;
    const barriers bars = at_smem.bars;
    tile t;
    while (walk.take(t)) {
        const int expert = p.first_expert + t.expert;
        const int boxes = (t.end - t.m0 + L::a_box - 1) / L::a_box;
        const int b_boxes = L::wide && !t.half ? 2 : 1;
        const int bytes = K_STEP * (boxes * L::a_box + b_boxes * NARROW) * BLOCK_K_BYTES;
        for (int kb = 0; kb < p.k_blocks; kb += K_STEP) {
            mbarrier_wait(&bars.empty[at.stage], at.parity ^ 1);
            uint8_t *stage = tiles + at.stage * L::tile_bytes;
            uint64_t *full = &bars.full[at.stage];
            mbarrier_arrive_expect(full, bytes);
#pragma unroll
            for (int s = 0; s < K_STEP; s++) {
                const int x = (kb + s) * L::block_k;
                uint8_t *b = stage + K_STEP * L::a_bytes + s * L::b_bytes;
                for (int i = 0; i < b_boxes; i++)
                    tma_load(b + i * NARROW * BLOCK_K_BYTES, map_b, full, x, t.n0 + i * NARROW,
                             expert, policy_b);
                for (int i = 0; i < boxes; i++)
                    tma_load(stage + s * L::a_bytes + i * L::a_box * BLOCK_K_BYTES, map_a, full, x,
                             t.m0 + i * L::a_box, expert, policy_a);
            }
            at.advance();
        }
    }
}

/* One warp. Rows past the expert's count get no scale: what they multiply is never stored. */
template <class L, class WALK>
__device__ __forceinline__ void produce_scales(const gemm_params &p, WALK &walk,
                                               ring<L::stages> &at, const struct stages &at_smem)
{
    constexpr int K_STEP = L::k_step, BLOCK_M = L::m;
    const int lane = threadIdx.x % 32;
    float *const scales = at_smem.scales;
    const barriers bars = at_smem.bars;
    tile t;
    while (walk.take(t)) {
        const int expert = p.first_expert + t.expert;
        const int valid = t.end - t.m0;
        const float *a = p.a_scale + expert * p.a_scale_expert_stride +
                         (long long)(t.m0 + lane) * p.a_scale_row_stride;
        const float *b =
            p.b_scale + ((long long)expert * (p.n / NARROW) + t.n0 / NARROW) * p.k_blocks;
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
                if (lane < L::b_scales)
                    copy_float_async(dst + BLOCK_M + lane, b + lane * p.k_blocks + kb + s);
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

/* Where a consumer warpgroup finds its part of every stage, and what it waits for. */
struct operands {
    const uint8_t *tiles;
    const float *scales;
    barriers bars;
    int k_blocks;
    int a_offset; /* of the warpgroup's first row in A's tile, in bytes */
    int b_offset; /* of its first column in B's tile */
    int row;      /* this lane's first row in the tile; the other one is 8 below */
    int b_scale;  /* of a wide tile's two, the warpgroup's */
};

/* One warpgroup's part of a tile, FP8: sum += scale_a * scale_b * (block of 128 channels). ACTIVE
 * of its blocks of 64 rows hold valid rows. While one warpgroup adds, the other keeps the tensor
 * core busy. */
template <class L, int ACTIVE>
__device__ __forceinline__ void multiply_scaled(float (&sum)[L::msub][L::wn / 2],
                                                const operands &in, ring<L::stages> &at)
{
    constexpr int K_STEP = L::k_step, BLOCK_M = L::m;
    clear(sum);
    for (int kb = 0; kb < in.k_blocks; kb += K_STEP) {
        const uint8_t *stage = in.tiles + at.stage * L::tile_bytes;
        mbarrier_wait(&in.bars.full[at.stage], at.parity);
        if (ACTIVE == 0)
            stage_release(&in.bars.empty[at.stage]);
#pragma unroll
        for (int s = 0; s < K_STEP; s++) {
            const float *scale = in.scales + at.stage * L::scale_floats + s * (BLOCK_M + SCALE_PAD);
            const uint64_t b =
                wgmma_operand(stage + K_STEP * L::a_bytes + s * L::b_bytes + in.b_offset);
#pragma unroll
            for (int m = 0; m < ACTIVE; m++) {
                const uint64_t a =
                    wgmma_operand(stage + s * L::a_bytes + in.a_offset + m * 64 * BLOCK_K_BYTES);
                float block[L::wn / 2];
                wgmma_pin(block);
                wgmma_begin();
#pragma unroll
                for (int i = 0; i < 4; i++)
                    wgmma<GEMM_FP8, L::wn>(block, a + 2 * i, b + 2 * i, i > 0);
                wgmma_commit();
                const float scale_b = scale[BLOCK_M + (L::b_scales > 1 ? in.b_scale : 0)];
                const float scale_lo = scale[in.row + m * 64] * scale_b;
                const float scale_hi = scale[in.row + m * 64 + 8] * scale_b;
                wgmma_wait<0>();
                wgmma_pin(block);
                if (s == K_STEP - 1 && m == ACTIVE - 1)
                    stage_release(&in.bars.empty[at.stage]);
                promote(sum[m], block, scale_lo, scale_hi);
            }
        }
        at.advance();
    }
}

/* The same in BF16: the tensor core accumulates over all of K; one stage stays in flight. */
template <class L, int ACTIVE, int MSUB, int COUNT>
__device__ __forceinline__ void multiply_plain(float (&sum)[MSUB][COUNT], const operands &in,
                                               ring<L::stages> &at)
{
    constexpr int K_STEP = L::k_step;
    int previous = 0;
    clear(sum);
#pragma unroll
    for (int m = 0; m < ACTIVE; m++)
        wgmma_pin(sum[m]);
    for (int kb = 0; kb < in.k_blocks; kb += K_STEP) {
        const uint8_t *stage = in.tiles + at.stage * L::tile_bytes;
        mbarrier_wait(&in.bars.full[at.stage], at.parity);
        wgmma_begin();
#pragma unroll
        for (int s = 0; s < K_STEP; s++) {
            const uint64_t b =
                wgmma_operand(stage + K_STEP * L::a_bytes + s * L::b_bytes + in.b_offset);
#pragma unroll
            for (int m = 0; m < ACTIVE; m++) {
                const uint64_t a =
                    wgmma_operand(stage + s * L::a_bytes + in.a_offset + m * 64 * BLOCK_K_BYTES);
#pragma unroll
                for (int i = 0; i < 4; i++)
                    wgmma<GEMM_BF16, 2 * COUNT>(sum[m], a + 2 * i, b + 2 * i, 1);
            }
        }
        wgmma_commit();
        if (kb > 0) {
            wgmma_wait<1>();
            stage_release(&in.bars.empty[previous]);
        }
        previous = at.stage;
        at.advance();
    }
    wgmma_wait<0>();
#pragma unroll
    for (int m = 0; m < ACTIVE; m++)
        wgmma_pin(sum[m]);
    stage_release(&in.bars.empty[previous]);
}

template <class L, int ACTIVE>
__device__ __forceinline__ void multiply(float (&sum)[L::msub][L::wn / 2], const operands &in,
                                         ring<L::stages> &at)
{
    if constexpr (L::scaled)
        multiply_scaled<L, ACTIVE>(sum, in, at);
    else
        multiply_plain<L, ACTIVE>(sum, in, at);
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

/* One finished tile of a block of rows. */
template <int BLOCK_M>
__device__ __forceinline__ void tile_report(const gemm_params &p, const tile &t, int expert)
{
    barrier_sync(BAR_CONSUMERS, CONSUMERS);
    if (threadIdx.x == 0) {
        const int blocks = (p.max_rows + BLOCK_M - 1) / BLOCK_M;
        __threadfence();
        atomicAdd(&p.tile_done[expert * blocks + t.m0 / BLOCK_M], 1);
    }
}

template <int MSUB, int COUNT>
__device__ __forceinline__ void store_tile(const float (&sum)[MSUB][COUNT], const gemm_params &p,
                                           const tile &t, int row, int col, int blocks)
{
    const int expert = p.first_expert + t.expert;
    __nv_bfloat16 *c = p.c + (long long)expert * p.max_rows * p.n + t.n0 + col;
#pragma unroll
    for (int m = 0; m < MSUB; m++)
        if (m < blocks)
            store_rows(sum[m], c, p.n, t.m0 + row + m * 64, t.end);
}

/* The half of a large tile, 64 rows per warpgroup. */
template <class L>
__device__ __forceinline__ void consume_half(float (&sum)[L::msub][L::wn / 2], const gemm_params &p,
                                             const tile &t, const operands &in, ring<L::stages> &at)
{
    const bool none = t.m0 + in.row / 64 * 64 >= t.end;
    if (none) {
        multiply<L, 0>(sum, in, at);
    } else if constexpr (L::wide) {
        float(&part)[1][64] = reinterpret_cast<float(&)[1][64]>(sum);
        multiply_plain<L, 1>(part, in, at);
        store_tile(part, p, t, in.row, 0, 1);
    } else {
        multiply<L, 1>(sum, in, at);
        store_tile(sum, p, t, in.row, 0, 1);
    }
}

template <class L, class WALK>
__device__ __forceinline__ void consume(const gemm_params &p, WALK &walk, ring<L::stages> &at,
                                        const struct stages &at_smem)
{
    constexpr int BLOCK_M = L::m;
    const uint8_t *const tiles = at_smem.tiles;
    const float *const scales = at_smem.scales;
    const barriers bars = at_smem.bars;
    /* The shuffle tells the compiler that a warp shares one value, which keeps descriptors uniform;
     * so does it that a tile's shape changes none of them inside a multiplication. */
    const int group = __shfl_sync(~0u, threadIdx.x / WARPGROUP, 0);
    const int row_offset = BLOCK_M == 64 ? 0 : group * 64 * L::msub;
    const int col = BLOCK_M == 64 ? group * L::wn : 0;
    const int lane_row = threadIdx.x % WARPGROUP / 32 * 16 + threadIdx.x % 32 / 4;
    const operands in = {tiles,
                         scales,
                         bars,
                         p.k_blocks,
                         row_offset * BLOCK_K_BYTES,
                         col * BLOCK_K_BYTES,
                         row_offset + lane_row,
                         group};
    const operands in_half = {
        tiles, scales, bars, p.k_blocks, group * 64 * BLOCK_K_BYTES, 0, group * 64 + lane_row, 0};
    tile t;
    while (walk.take(t)) {
        float sum[L::msub][L::wn / 2];
        const int valid = t.end - t.m0 - row_offset;
        if (L::split && t.half) {
            if constexpr (L::split)
                consume_half<L>(sum, p, t, in_half, at);
            continue;
        }
        if (valid > 64 * (L::msub - 1))
            multiply<L, L::msub>(sum, in, at);
        else if (L::msub > 1 && valid > 0)
            multiply<L, 1>(sum, in, at);
        else
            multiply<L, 0>(sum, in, at);
        store_tile(sum, p, t, in.row, col, L::msub);
        if (p.tile_done != NULL)
            tile_report<BLOCK_M>(p, t, p.first_expert + t.expert);
    }
}

/* One warp: before[e] = blocks of so many rows of the experts before e that have more than `above`
 * rows and at most `most`. */
__device__ __forceinline__ void blocks_sum(int *before, const int *rows, int count, int height,
                                           int above, int most)
{
    const int lane = threadIdx.x % 32;
    int sum = 0;
    for (int base = 0; base < count; base += 32) {
        const int of = base + lane < count ? rows[base + lane] : 0;
        int blocks = of > above && of <= most ? (of + height - 1) / height : 0;
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            const int other = __shfl_up_sync(~0u, blocks, distance);
            blocks += lane >= distance ? other : 0;
        }
        if (base + lane < count)
            before[base + lane + 1] = sum + blocks;
        sum += __shfl_sync(~0u, blocks, 31);
    }
    if (lane == 0)
        before[0] = 0;
}

/* All threads, who meet afterwards. many: experts with few rows, up to TILES_FEW_ROWS, are a class
 * of their own, of one block each. */
template <class L>
__device__ __forceinline__ void problem_load(struct problem *all, const gemm_params &p, bool many)
{
    for (int i = threadIdx.x; i < p.expert_count; i += THREADS)
        all->rows[i] = max(0, min(p.rows[p.first_expert + i], p.max_rows));
    __syncthreads();
    if (threadIdx.x < 32)
        blocks_sum(all->blocks, all->rows, p.expert_count, L::m, many ? TILES_FEW_ROWS : 0,
                   p.max_rows);
    else if (many && threadIdx.x < 64)
        blocks_sum(all->few_blocks, all->rows, p.expert_count, TILES_FEW_ROWS, 0, TILES_FEW_ROWS);
    __syncthreads();
}

/* Where a layout's ring lies; the memory barriers of two layouts lie one behind the other. */
template <class L>
__device__ __forceinline__ struct stages stages_at(uint8_t *tiles, uint64_t *bars)
{
    struct stages s;
    s.tiles = tiles;
    s.scales = reinterpret_cast<float *>(tiles + L::stages * L::tile_bytes);
    s.bars.full = bars;
    s.bars.empty = bars + L::stages;
    return s;
}

template <class L> __device__ __forceinline__ void barriers_init(const barriers &bars)
{
    for (int i = 0; i < L::stages; i++) {
        mbarrier_init(&bars.full[i], L::scaled ? 1 + 32 : 1);
        mbarrier_init(&bars.empty[i], CONSUMERS / 32);
    }
}

constexpr int ALIGNMENT = 1024; /* the swizzle pattern follows address bits */

__device__ __forceinline__ uint8_t *tiles_start(uint8_t *dynamic)
{
    return dynamic + (ALIGNMENT - shared_address(dynamic) % ALIGNMENT) % ALIGNMENT;
}

__device__ __forceinline__ void all_done(const gemm_params &p)
{
    barrier_sync(BAR_CONSUMERS, CONSUMERS);
    if (threadIdx.x == 0)
        stamp_end(p.stamp);
}

template <class L>
__global__ void __launch_bounds__(THREADS, 1)
    grouped_gemm_kernel(const __grid_constant__ CUtensorMap map_a,
                        const __grid_constant__ CUtensorMap map_b,
                        const __grid_constant__ gemm_params p)
{
    extern __shared__ uint8_t dynamic[];
    __shared__ struct problem all;
    uint8_t *tiles = tiles_start(dynamic);
    const struct stages s =
        stages_at<L>(tiles, reinterpret_cast<uint64_t *>(tiles + L::data_bytes));

    if (threadIdx.x == 0) {
        stamp_begin(p.stamp);
        barriers_init<L>(s.bars);
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    problem_load<L>(&all, p, false);

    const struct expert_class every = {all.blocks, 0};
    ring<L::stages> at;
    if (threadIdx.x >= CONSUMERS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        const int warp = threadIdx.x / 32 - CONSUMERS / 32;
        tile_walk<L> walk(all, p, every);
        if (warp == 0 && threadIdx.x % 32 == 0)
            produce_tiles<L>(&map_a, &map_b, p, walk, at, s, p.stream_b);
        else if (L::scaled && warp == 1)
            produce_scales<L>(p, walk, at, s);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        tile_walk<L> walk(all, p, every);
        consume<L>(p, walk, at, s);
        all_done(p);
    }
}

/* Between a CTA's classes, by all threads: what the next one loads lies where the last one was
 * read.
 */
__device__ __forceinline__ void classes_sync(void)
{
    __syncwarp();
    barrier_sync(BAR_CLASSES, THREADS);
}

/* A CTA's three turns: some of its tiles of experts with few rows, all of those with many, the rest
 * of the first. */
enum { TURN_FEW, TURN_MANY, TURN_REST, TURNS };

/* How many tiles the first turn has: none for the first quarter of the CTAs, up to three quarters
 * of them for the last. */
template <class L>
__device__ __forceinline__ int first_turn(const tile_walk<L, true> &few, int experts)
{
    const int tiles = experts * few.n_blocks, ctas = gridDim.x;
    const int mine = few.next < tiles ? (tiles - few.next + ctas - 1) / ctas : 0;
    return mine * (4 * (int)blockIdx.x / ctas) / 4;
}

/* Two layouts in one launch: H for experts with more than TILES_FEW_ROWS rows, which multiply, L
 * for the others, whose time is that of streaming weights. CTAs take their turns at different
 * times, so that the memory is always busy. */
template <class H, class L>
__global__ void __launch_bounds__(THREADS, 1)
    grouped_gemm_mixed_kernel(const __grid_constant__ CUtensorMap map_a_many,
                              const __grid_constant__ CUtensorMap map_a_few,
                              const __grid_constant__ CUtensorMap map_b,
                              const __grid_constant__ gemm_params p)
{
    extern __shared__ uint8_t dynamic[];
    __shared__ struct problem all;
    uint8_t *tiles = tiles_start(dynamic);
    constexpr int data_bytes = H::data_bytes > L::data_bytes ? H::data_bytes : L::data_bytes;
    uint64_t *bars = reinterpret_cast<uint64_t *>(tiles + data_bytes);
    const struct stages many = stages_at<H>(tiles, bars);
    const struct stages few = stages_at<L>(tiles, bars + 2 * H::stages);

    if (threadIdx.x == 0) {
        stamp_begin(p.stamp);
        barriers_init<H>(many.bars);
        barriers_init<L>(few.bars);
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    problem_load<H>(&all, p, true);

    const struct expert_class of_many = {all.blocks, 0};
    const struct expert_class of_few = {all.few_blocks, all.blocks[p.expert_count] * (p.n / H::n)};
    ring<H::stages> at_many;
    ring<L::stages> at_few;
    if (threadIdx.x >= CONSUMERS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        const int warp = threadIdx.x / 32 - CONSUMERS / 32;
        tile_walk<L, true> walk_few(all, p, of_few);
        walk_few.left = first_turn(walk_few, all.few_blocks[p.expert_count]);
        for (int turn = 0; turn < TURNS; turn++) {
            if (turn > 0)
                classes_sync();
            if (warp == 0 && threadIdx.x % 32 == 0) {
                if (turn == TURN_MANY) {
                    tile_walk<H, true> walk_many(all, p, of_many);
                    produce_tiles<H>(&map_a_many, &map_b, p, walk_many, at_many, many, false);
                } else
                    produce_tiles<L>(&map_a_few, &map_b, p, walk_few, at_few, few, true);
            } else if (L::scaled && warp == 1) {
                if (turn == TURN_MANY) {
                    tile_walk<H, true> walk_many(all, p, of_many);
                    produce_scales<H>(p, walk_many, at_many, many);
                } else
                    produce_scales<L>(p, walk_few, at_few, few);
            }
            walk_few.left = INT32_MAX;
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        tile_walk<L, true> walk_few(all, p, of_few);
        walk_few.left = first_turn(walk_few, all.few_blocks[p.expert_count]);
        for (int turn = 0; turn < TURNS; turn++) {
            if (turn > 0)
                classes_sync();
            if (turn == TURN_MANY) {
                tile_walk<H, true> walk_many(all, p, of_many);
                consume<H>(p, walk_many, at_many, many);
            } else
                consume<L>(p, walk_few, at_few, few);
            walk_few.left = INT32_MAX;
        }
        all_done(p);
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
               int box_rows)
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
               CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
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
    cudaStream_t stream;
};

template <enum gemm_dtype DTYPE, int BLOCK_M, int K_STEP, int STAGES, int BLOCK_N = NARROW,
          bool SPLIT = false>
using tiles_layout = layout<DTYPE, BLOCK_M, BLOCK_N, SPLIT, K_STEP, STAGES>;

template <class L> int launch_kernel(const struct launch &l)
{
    const auto kernel = grouped_gemm_kernel<L>;
    constexpr int bytes = L::data_bytes + L::barrier_bytes + ALIGNMENT;
    CUtensorMap map_a, map_b;
    int err = map_encode(&map_a, l.args, l.args->a, l.args->max_rows, L::a_box);
    if (err == 0)
        err = map_encode(&map_b, l.args, l.args->b, l.args->n, NARROW);
    if (err == 0)
        err = gpu_check(
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
            "shared memory");
    if (err != 0)
        return err;
    kernel<<<l.args->num_sms, THREADS, bytes, l.stream>>>(map_a, map_b, l.params);
    return gpu_check(cudaGetLastError(), "launch");
}

template <class H, class L> int launch_mixed(const struct launch &l)
{
    const auto kernel = grouped_gemm_mixed_kernel<H, L>;
    constexpr int bytes = (H::data_bytes > L::data_bytes ? H::data_bytes : L::data_bytes) +
                          H::barrier_bytes + L::barrier_bytes + ALIGNMENT;
    CUtensorMap map_a[2], map_b;
    int err = map_encode(&map_a[0], l.args, l.args->a, l.args->max_rows, H::a_box);
    if (err == 0)
        err = map_encode(&map_a[1], l.args, l.args->a, l.args->max_rows, L::a_box);
    if (err == 0)
        err = map_encode(&map_b, l.args, l.args->b, l.args->n, NARROW);
    if (err == 0)
        err = gpu_check(
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
            "shared memory");
    if (err != 0)
        return err;
    kernel<<<l.args->num_sms, THREADS, bytes, l.stream>>>(map_a[0], map_a[1], map_b, l.params);
    return gpu_check(cudaGetLastError(), "launch");
}

} // namespace

static int rows_expected(const struct grouped_gemm_args *args)
{
    int most = 0;
    for (int e = 0; args->rows_each != NULL && e < args->expert_count; e++)
        most = args->rows_each[e] > most ? args->rows_each[e] : most;
    if (most > 0)
        return most;
    return args->rows_hint > 0 ? args->rows_hint : args->max_rows;
}

static struct tiles tiles_of(const struct grouped_gemm_args *args)
{
    struct tiles_shape shape = {};
    shape.fp8 = args->dtype == GEMM_FP8;
    shape.experts = args->expert_count;
    shape.rows = rows_expected(args);
    shape.n = args->n;
    shape.num_sms = args->num_sms;
    shape.block_m = args->block_m;
    shape.counted = args->tile_done != NULL;
    shape.each = args->rows_each;
    return tiles_choose(&shape);
}

int kernels_grouped_gemm_block_m(const struct grouped_gemm_args *args)
{
    return tiles_of(args).block_m;
}

/* Wide tiles for experts with few rows, whose more bytes in flight serve best while other CTAs
 * multiply for those with many. */
static int launch_mixed_variant(const struct launch &l)
{
    return l.args->dtype == GEMM_FP8 ? launch_mixed<tiles_layout<GEMM_FP8, 256, 1, 4>,
                                                    tiles_layout<GEMM_FP8, 64, 1, 5, 256>>(l)
                                     : launch_mixed<tiles_layout<GEMM_BF16, 128, 1, 4, 256>,
                                                    tiles_layout<GEMM_BF16, 64, 1, 5, 256>>(l);
}

/* Two K blocks a stage halve the barriers' cost where few rows meet many weights; large tiles have
 * no room for it, and BF16's 128-row tiles, bound by the L2, prefer the finer steps once rows are
 * many. */
static int launch_variant(const struct launch &l, const struct tiles &t)
{
    const bool two = l.params.k_blocks % 2 == 0;
    if (t.mixed)
        return launch_mixed_variant(l);
    if (l.args->dtype == GEMM_FP8) {
        if (t.block_m == 64)
            return two ? launch_kernel<tiles_layout<GEMM_FP8, 64, 2, 4>>(l)
                       : launch_kernel<tiles_layout<GEMM_FP8, 64, 1, 8>>(l);
        if (t.block_m == 128)
            return two ? launch_kernel<tiles_layout<GEMM_FP8, 128, 2, 3>>(l)
                       : launch_kernel<tiles_layout<GEMM_FP8, 128, 1, 6>>(l);
        return t.split ? launch_kernel<tiles_layout<GEMM_FP8, 256, 1, 4, NARROW, true>>(l)
                       : launch_kernel<tiles_layout<GEMM_FP8, 256, 1, 4>>(l);
    }
    if (t.block_m == 64)
        return launch_kernel<tiles_layout<GEMM_BF16, 64, 2, 4>>(l);
    if (t.block_m == 128)
        return l.params.stream_b ? launch_kernel<tiles_layout<GEMM_BF16, 128, 2, 3>>(l)
                                 : launch_kernel<tiles_layout<GEMM_BF16, 128, 1, 6>>(l);
    return t.wide ? launch_kernel<tiles_layout<GEMM_BF16, 128, 1, 4, 256, true>>(l)
                  : launch_kernel<tiles_layout<GEMM_BF16, 256, 1, 4>>(l);
}

int kernels_grouped_gemm_launch(const struct grouped_gemm_args *args, cudaStream_t stream)
{
    const int err = args_check(args);
    if (err != 0)
        return err;
    const struct tiles t = tiles_of(args);
    const bool fp8 = args->dtype == GEMM_FP8;
    struct launch l = {};
    l.args = args;
    l.stream = stream;
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
    l.params.stream_b = rows_expected(args) <= (t.wide ? 128 : t.block_m);
    return launch_variant(l, t);
}
