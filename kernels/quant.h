/* kernels/quant.h: device helpers that quantise floats to FP8 e4m3 in groups of 128 channels, one
 * float scale a group: value = scale * e4m3. Every kernel that quantises goes
 * through here; dispatch.cu, whose half warps do not meet, has its own lanes and order. */
#ifndef PEOSIM_KERNELS_QUANT_H
#define PEOSIM_KERNELS_QUANT_H

enum { QUANT_GROUP = 128 };

#define QUANT_E4M3_MAX 448.0f
/* A group whose largest magnitude is below this counts as if it had this one: no division by zero.
 */
#define QUANT_AMAX_MIN 1e-4f

#ifdef __CUDACC__
#include <cuda_fp8.h>

static __device__ __forceinline__ float quant_scale(float amax)
{
    return fmaxf(amax, QUANT_AMAX_MIN) / QUANT_E4M3_MAX;
}

/* What values are multiplied by; a reciprocal of its own, so that amax lands on 448 exactly. */
static __device__ __forceinline__ float quant_factor(float amax)
{
    return QUANT_E4M3_MAX / fmaxf(amax, QUANT_AMAX_MIN);
}

/* Four e4m3 bytes, the first in the lowest: round to nearest even, saturate at +-448. */
static __device__ __forceinline__ unsigned int quant_pack4(float x0, float x1, float x2, float x3)
{
    const unsigned int lo =
        __nv_cvt_float2_to_fp8x2(make_float2(x0, x1), __NV_SATFINITE, __NV_E4M3);
    const unsigned int hi =
        __nv_cvt_float2_to_fp8x2(make_float2(x2, x3), __NV_SATFINITE, __NV_E4M3);
    return lo | hi << 16;
}

/* Eight bytes of values times `factor`. */
static __device__ __forceinline__ uint2 quant_pack8(const float (&v)[8], float factor)
{
    uint2 bytes;
    bytes.x = quant_pack4(v[0] * factor, v[1] * factor, v[2] * factor, v[3] * factor);
    bytes.y = quant_pack4(v[4] * factor, v[5] * factor, v[6] * factor, v[7] * factor);
    return bytes;
}

/* The largest magnitude of a group that 16 lanes hold, eight values each. All 32 lanes call. */
static __device__ __forceinline__ float quant_amax16(const float (&v)[8])
{
    float amax = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++)
        amax = fmaxf(amax, fabsf(v[i]));
#pragma unroll
    for (int distance = 8; distance > 0; distance /= 2)
        amax = fmaxf(amax, __shfl_xor_sync(~0u, amax, distance));
    return amax;
}
#endif

#endif
