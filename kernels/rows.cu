/* See rows.h. A warp takes a row; a lane 8 BF16 values, so that 16 lanes hold a group of 128. */
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "kernels/bf16x8.cuh"
#include "kernels/quant.h"
#include "kernels/rows.h"
#include "kernels/stamp.h"
extern "C" {
#include "base/err.h"
#include "base/log.h"
}

namespace
{

constexpr int THREADS = 512;
constexpr int LANE_VALUES = 8;
constexpr int STEP = 32 * LANE_VALUES; /* values of a row that a warp handles at once */
constexpr int SUM_BATCH = 8;
constexpr int BATCH = 7; /* loads in flight per thread */

struct span {
    int first, step, lane;
};

__device__ __forceinline__ span warps()
{
    return {(int)(blockIdx.x * (THREADS / 32) + threadIdx.x / 32),
            (int)(gridDim.x * (THREADS / 32)), (int)(threadIdx.x % 32)};
}

__device__ __forceinline__ void cast_values(uint4 raw, char *to, int at, float *scales)
{
    float v[LANE_VALUES];
    bf16x8_unpack(raw, v);
    const float amax = quant_amax16(v);
    *reinterpret_cast<uint2 *>(to + at) = quant_pack8(v, quant_factor(amax));
    if (at % 128 == 0) /* the first of its 16 lanes */
        scales[at / 128] = quant_scale(amax);
}

/* hidden is a multiple of 512, so all lanes of a warp take part in every step. */
__device__ void cast_row(const char *from, char *to, int hidden, int lane)
{
    float *scales = reinterpret_cast<float *>(to + hidden);
    for (int first = lane * LANE_VALUES; first < hidden; first += BATCH * STEP) {
        uint4 raw[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++)
            if (first + j * STEP < hidden)
                raw[j] = *reinterpret_cast<const uint4 *>(from + 2 * (first + j * STEP));
#pragma unroll
        for (int j = 0; j < BATCH; j++)
            if (first + j * STEP < hidden)
                cast_values(raw[j], to, first + j * STEP, scales);
    }
}

__device__ __forceinline__ void copy_row(const char *from, char *to, size_t bytes, int lane)
{
    for (size_t first = (size_t)lane * 16; first < bytes; first += BATCH * 512) {
        uint4 raw[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++)
            if (first + j * 512 < bytes)
                raw[j] = *reinterpret_cast<const uint4 *>(from + first + j * 512);
#pragma unroll
        for (int j = 0; j < BATCH; j++)
            if (first + j * 512 < bytes)
                *reinterpret_cast<uint4 *>(to + first + j * 512) = raw[j];
    }
}

__device__ __forceinline__ void finish(struct kernel_stamp *stamp)
{
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_end(stamp);
}

__device__ __forceinline__ void copy_choices(const rows_args &p, int token, char *to, int lane)
{
    long long *id = reinterpret_cast<long long *>(to + KERNELS_ROWS_MESSAGE(p.hidden, p.fp8));
    float *weight =
        reinterpret_cast<float *>(to + KERNELS_ROWS_WEIGHTS(p.hidden, p.fp8, p.choices));
    for (int k = lane; k < p.choices; k += 32) {
        id[k] = p.topk_idx[(size_t)token * p.choices + k];
        weight[k] = p.topk_weights[(size_t)token * p.choices + k];
    }
}

__global__ void __launch_bounds__(THREADS) pack_kernel(const rows_args p)
{
    if (threadIdx.x == 0)
        stamp_begin(p.stamp);
    const span w = warps();
    const size_t row = 2 * (size_t)p.hidden;
    const size_t message = KERNELS_ROWS_COPY(p.hidden, p.fp8, p.choices);
    for (int i = w.first; i < p.rows; i += w.step) {
        const char *from = static_cast<const char *>(p.from) + row * p.index[i];
        char *to = static_cast<char *>(p.to) + message * i;
        if (p.fp8)
            cast_row(from, to, p.hidden, w.lane);
        else
            copy_row(from, to, row, w.lane);
        copy_choices(p, p.index[i], to, w.lane);
    }
    finish(p.stamp);
}

__global__ void __launch_bounds__(THREADS) unpack_kernel(const rows_args p)
{
    if (threadIdx.x == 0)
        stamp_begin(p.stamp);
    const span w = warps();
    const int groups = p.hidden / 128;
    const size_t row = (size_t)p.hidden * (p.fp8 ? 1 : 2);
    const size_t message = KERNELS_ROWS_COPY(p.hidden, p.fp8, p.choices);
    for (int i = w.first; i < p.rows; i += w.step) {
        const char *from =
            static_cast<const char *>(p.from) + message * (p.source != NULL ? p.source[i] : i);
        copy_row(from, static_cast<char *>(p.to) + row * p.index[i], row, w.lane);
        const float *scales = reinterpret_cast<const float *>(from + p.hidden);
        const int2 at = p.scale_at != NULL ? p.scale_at[i] : make_int2(p.index[i] * groups, 1);
        for (int g = w.lane; p.fp8 && g < groups; g += 32)
            p.scales[at.x + (size_t)g * at.y] = scales[g];
    }
    finish(p.stamp);
}

__global__ void __launch_bounds__(THREADS) gather_kernel(const rows_args p)
{
    if (threadIdx.x == 0)
        stamp_begin(p.stamp);
    const span w = warps();
    const size_t row = 2 * (size_t)p.hidden;
    for (int i = w.first; i < p.rows; i += w.step)
        copy_row(static_cast<const char *>(p.from) + row * p.index[i],
                 static_cast<char *>(p.to) + row * i, row, w.lane);
    finish(p.stamp);
}

/* The choices first..first + SUM_BATCH - 1 of a token, in order. */
__device__ __forceinline__ void sum_part(const rows_args &p, int token, int first, int at,
                                         float *sum)
{
    uint4 raw[SUM_BATCH];
    float weight[SUM_BATCH];
    const int stride = p.weights_stride > 0 ? p.weights_stride : p.topk;
#pragma unroll
    for (int k = 0; k < SUM_BATCH; k++) {
        const int choice = token * p.topk + first + k;
        const int source = first + k < p.topk ? p.index[choice] : -1;
        weight[k] = source < 0          ? 0
                    : p.weights == NULL ? 1
                                        : p.weights[(size_t)token * stride + first + k];
        raw[k] = make_uint4(0, 0, 0, 0);
        if (source >= 0)
            raw[k] = *reinterpret_cast<const uint4 *>(static_cast<const char *>(p.from) +
                                                      2 * ((size_t)p.hidden * source + at));
    }
#pragma unroll
    for (int k = 0; k < SUM_BATCH; k++) {
        float v[LANE_VALUES];
        bf16x8_unpack(raw[k], v);
#pragma unroll
        for (int j = 0; j < LANE_VALUES; j++)
            sum[j] = fmaf(weight[k], v[j], sum[j]);
    }
}

__global__ void __launch_bounds__(THREADS) sum_kernel(const rows_args p)
{
    if (threadIdx.x == 0)
        stamp_begin(p.stamp);
    const span w = warps();
    const size_t row = 2 * (size_t)p.hidden;
    for (int i = w.first; i < p.rows; i += w.step) {
        for (int at = w.lane * LANE_VALUES; at < p.hidden; at += STEP) {
            float sum[LANE_VALUES] = {0};
            for (int first = 0; first < p.topk; first += SUM_BATCH)
                sum_part(p, i, first, at, sum);
            *reinterpret_cast<uint4 *>(static_cast<char *>(p.to) + row * i + 2 * at) =
                bf16x8_pack(sum);
        }
    }
    finish(p.stamp);
}

int launch(void (*kernel)(rows_args), const struct rows_args *args, cudaStream_t stream)
{
    if (args->ctas < 1 || args->rows < 0 || args->hidden < 512 || args->hidden % 512 != 0) {
        log_error("rows: %d CTAs, %d rows of %d values: out of range", args->ctas, args->rows,
                  args->hidden);
        return ERR_RANGE;
    }
    kernel<<<args->ctas, THREADS, 0, stream>>>(*args);
    const cudaError_t status = cudaGetLastError();
    if (status == cudaSuccess)
        return 0;
    log_error("rows: launch: %s", cudaGetErrorString(status));
    return ERR_GPU;
}

} // namespace

int kernels_rows_pack_launch(const struct rows_args *args, cudaStream_t stream)
{
    return launch(pack_kernel, args, stream);
}

int kernels_rows_unpack_launch(const struct rows_args *args, cudaStream_t stream)
{
    return launch(unpack_kernel, args, stream);
}

int kernels_rows_gather_launch(const struct rows_args *args, cudaStream_t stream)
{
    return launch(gather_kernel, args, stream);
}

int kernels_rows_sum_launch(const struct rows_args *args, cudaStream_t stream)
{
    return launch(sum_kernel, args, stream);
}
