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
constexpr int BATCH = 3;

/* first_row[e] = valid rows before expert e of the range; returns their total. All threads call it.
 */
__device__ int row_starts(const silu_mul_quant_args &p, int *first_row)
{
    if (threadIdx.x < 32) {
        const int lane = threadIdx.x;
        int before = 0;
        for (int base = 0; base < p.expert_count; base += 32) {
            const int e = base + lane;
            int sum = 0;
            if (e < p.expert_count)
                sum = max(0, min(p.rows[p.first_expert + e], p.max_rows));
#pragma unroll
            for (int distance = 1; distance < 32; distance *= 2) {
                const int left = __shfl_up_sync(~0u, sum, distance);
                sum += lane >= distance ? left : 0;
            }
            if (e < p.expert_count)
                first_row[e + 1] = before + sum;
            before += __shfl_sync(~0u, sum, 31);
        }
        if (lane == 0)
            first_row[0] = 0;
    }
    __syncthreads();
    return first_row[p.expert_count];
}

__device__ __forceinline__ float silu_mul(float gate, float up)
{
    return __fdividef(gate, 1.0f + __expf(-gate)) * up;
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
    const float amax = quant_amax16(y);
    if (channel >= p.inter)
        return;
    *reinterpret_cast<uint2 *>(static_cast<uint8_t *>(p.out) +
                               (expert * p.max_rows + row) * p.inter + channel) =
        quant_pack8(y, quant_factor(amax));
    const long long k_stride =
        p.scale_k_strides != NULL ? p.scale_k_strides[expert] : p.scale_k_stride;
    if (threadIdx.x % 16 == 0)
        p.scale[expert * p.max_rows * (p.inter / QUANT_GROUP) +
                (long long)row * p.scale_row_stride + channel / QUANT_GROUP * k_stride] =
            quant_scale(amax);
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

struct unit {
    int expert;
    int row;
    int channel; /* this lane's first one; past inter in the last unit of a row, perhaps */
};

/* BATCH units are loaded before the first is used: one would not cover the memory's latency. */
__global__ void __launch_bounds__(THREADS, 1)
    silu_mul_quant_kernel(const __grid_constant__ silu_mul_quant_args p)
{
    __shared__ int first_row[GROUPED_GEMM_MAX_EXPERTS + 1];
    if (threadIdx.x == 0)
        stamp_begin(p.stamp);
    const int total_rows = row_starts(p, first_row);
    const int units_per_row = (p.inter + UNIT_CHANNELS - 1) / UNIT_CHANNELS;
    const int units = total_rows * units_per_row;
    const int warps = gridDim.x * (THREADS / 32);
    int slot = 0;
    /* Neighbouring CTAs take neighbouring units, so that few units still spread over all SMs. */
    for (int first = threadIdx.x / 32 * gridDim.x + blockIdx.x; first < units;
         first += BATCH * warps) {
        struct unit at[BATCH];
        uint4 gate[BATCH], up[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            const int index = first + i * warps;
            if (index >= units)
                break;
            const int row = index / units_per_row;
            while (row >= first_row[slot + 1])
                slot++;
            at[i].expert = p.first_expert + slot;
            at[i].row = row - first_row[slot];
            at[i].channel =
                (index - row * units_per_row) * UNIT_CHANNELS + threadIdx.x % 32 * LANE_CHANNELS;
            gate[i] = up[i] = make_uint4(0, 0, 0, 0);
            if (at[i].channel < p.inter) {
                const __nv_bfloat16 *line =
                    static_cast<const __nv_bfloat16 *>(p.in) +
                    ((long long)at[i].expert * p.max_rows + at[i].row) * 2 * p.inter +
                    at[i].channel;
                gate[i] = *reinterpret_cast<const uint4 *>(line);
                up[i] = *reinterpret_cast<const uint4 *>(line + p.inter);
            }
        }
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            if (first + i * warps >= units)
                break;
            float y[8];
            silu_mul_8(gate[i], up[i], y);
            if (p.dtype == GEMM_FP8)
                store_fp8(p, y, at[i].expert, at[i].row, at[i].channel);
            else
                store_bf16(p, y, at[i].expert, at[i].row, at[i].channel);
        }
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
