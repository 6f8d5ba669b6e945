/* A half warp handles 128 channels of a row, 8 a lane: one 16-byte load of gate and of up, a
 * maximum over 16 lanes, one store. A warp's unit of work is UNIT_CHANNELS of one row. */
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/quant.h"
#include "kernels/silu_mul_quant.h"
#include "kernels/stamp.h"
extern "C" {
#include "base/err.h"
#include "base/log.h"
}

namespace
{

constexpr int THREADS = 1024;
constexpr int UNIT_CHANNELS = 2 * QUANT_GROUP;
constexpr int LANE_CHANNELS = 8;

/* first_row[e] = valid rows before expert e of the range; returns their total. All threads call it.
 */
__device__ int row_starts(const silu_mul_quant_args &p, int *first_row)
{
    for (int i = threadIdx.x; i < p.expert_count; i += THREADS)
        first_row[i + 1] = max(0, min(p.rows[p.first_expert + i], p.max_rows));
    __syncthreads();
    if (threadIdx.x == 0) {
        first_row[0] = 0;
        for (int i = 0; i < p.expert_count; i++)
            first_row[i + 1] += first_row[i];
    }
    __syncthreads();
    return first_row[p.expert_count];
}

__device__ __forceinline__ float silu_mul(float gate, float up)
{
    return gate / (1.0f + __expf(-gate)) * up;
}

__device__ __forceinline__ void silu_mul_8(const uint4 &gate, const uint4 &up, float (&y)[8])
{
    const __nv_bfloat162 *g = reinterpret_cast<const __nv_bfloat162 *>(&gate);
    const __nv_bfloat162 *u = reinterpret_cast<const __nv_bfloat162 *>(&up);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        y[2 * i] = silu_mul(__low2float(g[i]), __low2float(u[i]));
        y[2 * i + 1] = silu_mul(__high2float(g[i]), __high2float(u[i]));
    }
}

__device__ __forceinline__ void store_fp8(const silu_mul_quant_args &p, const float (&y)[8],
                                          long long expert, int row, int channel)
{
    float amax = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++)
        amax = fmaxf(amax, fabsf(y[i]));
#pragma unroll
    for (int distance = 8; distance > 0; distance /= 2)
        amax = fmaxf(amax, __shfl_xor_sync(~0u, amax, distance));
    if (channel >= p.inter)
        return;
    const float f = quant_factor(amax);
    uint2 bytes;
    bytes.x = quant_pack4(y[0] * f, y[1] * f, y[2] * f, y[3] * f);
    bytes.y = quant_pack4(y[4] * f, y[5] * f, y[6] * f, y[7] * f);
    *reinterpret_cast<uint2 *>(static_cast<uint8_t *>(p.out) +
                               (expert * p.max_rows + row) * p.inter + channel) = bytes;
    if (threadIdx.x % 16 == 0)
        p.scale[expert * p.max_rows * (p.inter / QUANT_GROUP) +
                (long long)row * p.scale_row_stride +
                (long long)(channel / QUANT_GROUP) * p.scale_k_stride] = quant_scale(amax);
}

__device__ __forceinline__ void store_bf16(const silu_mul_quant_args &p, const float (&y)[8],
                                           long long expert, int row, int channel)
{
    if (channel >= p.inter)
        return;
    __nv_bfloat162 v[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = __floats2bfloat162_rn(y[2 * i], y[2 * i + 1]);
    *reinterpret_cast<uint4 *>(static_cast<__nv_bfloat16 *>(p.out) +
                               (expert * p.max_rows + row) * p.inter + channel) =
        *reinterpret_cast<const uint4 *>(v);
}

__global__ void __launch_bounds__(THREADS, 1)
    silu_mul_quant_kernel(const __grid_constant__ silu_mul_quant_args p)
{
    __shared__ int first_row[GROUPED_GEMM_MAX_EXPERTS + 1];
    if (threadIdx.x == 0)
        stamp_begin(p.stamp);
    const int total_rows = row_starts(p, first_row);
    const int units_per_row = (p.inter + UNIT_CHANNELS - 1) / UNIT_CHANNELS;
    const int warps = gridDim.x * (THREADS / 32);
    int slot = 0;
    /* Neighbouring CTAs take neighbouring units, so that few units still spread over all SMs. */
    for (int unit = threadIdx.x / 32 * gridDim.x + blockIdx.x; unit < total_rows * units_per_row;
         unit += warps) {
        const int index = unit / units_per_row;
        const int channel = unit % units_per_row * UNIT_CHANNELS + threadIdx.x % 32 * LANE_CHANNELS;
        while (index >= first_row[slot + 1])
            slot++;
        const long long expert = p.first_expert + slot;
        const int row = index - first_row[slot];
        float y[8] = {};
        if (channel < p.inter) {
            const __nv_bfloat16 *gate = static_cast<const __nv_bfloat16 *>(p.in) +
                                        (expert * p.max_rows + row) * 2 * p.inter + channel;
            silu_mul_8(*reinterpret_cast<const uint4 *>(gate),
                       *reinterpret_cast<const uint4 *>(gate + p.inter), y);
        }
        if (p.dtype == GEMM_FP8)
            store_fp8(p, y, expert, row, channel);
        else
            store_bf16(p, y, expert, row, channel);
    }
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_end(p.stamp);
}

int args_check(const struct silu_mul_quant_args *args)
{
    const char *problem = NULL;
    if (args->max_rows < 1 || args->num_experts < 1 || args->num_sms < 1)
        problem = "max_rows, num_experts and num_sms must be at least 1";
    else if (args->inter < 128 || args->inter % 128 != 0)
        problem = "inter must be a positive multiple of 128";
    else if (args->first_expert < 0 || args->expert_count < 1 ||
             args->expert_count > GROUPED_GEMM_MAX_EXPERTS ||
             args->first_expert > args->num_experts - args->expert_count)
        problem = "the range of experts is empty, too long or outside num_experts";
    else if ((long long)args->expert_count * args->max_rows * (args->inter / 128) > INT32_MAX)
        problem = "more than 2^31 units of work";
    else if (args->in == NULL || args->out == NULL || args->rows == NULL ||
             (args->dtype == GEMM_FP8 && args->scale == NULL))
        problem = "a pointer is missing";
    else if (((uintptr_t)args->in | (uintptr_t)args->out) % 16 != 0)
        problem = "in and out must be 16-byte aligned";
    if (problem == NULL)
        return 0;
    log_error("silu_mul_quant: %s", problem);
    return ERR_RANGE;
}

} // namespace

int kernels_silu_mul_quant_launch(const struct silu_mul_quant_args *args, cudaStream_t stream)
{
    const int err = args_check(args);
    if (err != 0)
        return err;
    silu_mul_quant_kernel<<<args->num_sms, THREADS, 0, stream>>>(*args);
    const cudaError_t status = cudaGetLastError();
    if (status == cudaSuccess)
        return 0;
    log_error("silu_mul_quant: launch: %s", cudaGetErrorString(status));
    return ERR_GPU;
}
