/* kernels/bf16x8.cuh: eight BF16 values in one 16-byte word, to floats and back (rounded to
 * nearest). Device code only. */
#ifndef PEOSIM_KERNELS_BF16X8_CUH
#define PEOSIM_KERNELS_BF16X8_CUH

#include <cuda_bf16.h>

static __device__ __forceinline__ void bf16x8_unpack(const uint4 &word, float (&v)[8])
{
    const __nv_bfloat162 *pair = reinterpret_cast<const __nv_bfloat162 *>(&word);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[2 * i] = __low2float(pair[i]);
        v[2 * i + 1] = __high2float(pair[i]);
    }
}

static __device__ __forceinline__ uint4 bf16x8_pack(const float (&v)[8])
{
    uint4 word;
    __nv_bfloat162 *pair = reinterpret_cast<__nv_bfloat162 *>(&word);
#pragma unroll
    for (int i = 0; i < 4; i++)
        pair[i] = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
    return word;
}

/* acc += weight * word */
static __device__ __forceinline__ void add_scaled(float acc[8], int4 raw, float weight)
{
    const __nv_bfloat162 *pair = (const __nv_bfloat162 *)&raw;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 v = __bfloat1622float2(pair[i]);
        acc[2 * i] = fmaf(weight, v.x, acc[2 * i]);
        acc[2 * i + 1] = fmaf(weight, v.y, acc[2 * i + 1]);
    }
}

#endif
