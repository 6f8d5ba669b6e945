/* kernels/cast_fp8.cuh: BF16 to e4m3 with one scale per 128 channels. Internal to kernels/. */
#ifndef PEOSIM_KERNELS_CAST_FP8_CUH
#define PEOSIM_KERNELS_CAST_FP8_CUH

#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include "kernels/quant.h"

/* Casts 8 channels; the 16 threads of a half warp make up the 128 of one scale. */
static __device__ __forceinline__ uint2 cast_fp8(int4 raw, float *scale)
{
    const __nv_bfloat162 *pair = (const __nv_bfloat162 *)&raw;
    float2 v[4];
    float amax = QUANT_AMAX_MIN;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[i] = __bfloat1622float2(pair[i]);
        amax = fmaxf(amax, fmaxf(fabsf(v[i].x), fabsf(v[i].y)));
    }
    unsigned int half = 0xffffu << (threadIdx.x & 16);
#pragma unroll
    for (int step = 8; step > 0; step /= 2)
        amax = fmaxf(amax, __shfl_xor_sync(half, amax, step, 16));
    float inverse = QUANT_E4M3_MAX / amax;
    *scale = amax / QUANT_E4M3_MAX;
    unsigned int q[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        q[i] = __nv_cvt_float2_to_fp8x2(make_float2(v[i].x * inverse, v[i].y * inverse),
                                        __NV_SATFINITE, __NV_E4M3);
    return make_uint2(q[0] | q[1] << 16, q[2] | q[3] << 16);
}

#endif
