/* See topk.h. A BF16 logit and its expert make one 32-bit key that orders as the choice does, so
 * that each of k rounds is one maximum over a lane's keys and one reduction over the warp. Softmax
 * over all experts cancels when the chosen are normalised, so it is computed over the chosen alone.
 */
#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/stamp.h"
#include "kernels/topk.h"
extern "C" {
#include "base/err.h"
#include "base/log.h"
}

namespace
{

constexpr int THREADS = 512;
constexpr unsigned int SIGN = 0x8000, MINUS_INFINITY = 0xff80;

/* Larger for a larger logit and, among equals, for a lower expert; never 0, which means taken. */
__device__ __forceinline__ unsigned int key_of(unsigned int bits, int expert)
{
    if ((bits & ~SIGN) > (MINUS_INFINITY & ~SIGN)) /* NaN */
        bits = MINUS_INFINITY;
    if (bits == SIGN) /* -0 is 0 */
        bits = 0;
    const unsigned int rising = bits & SIGN ? ~bits & 0xffff : bits | SIGN;
    return rising << 16 | (0xffff - expert);
}

__device__ __forceinline__ int key_expert(unsigned int key)
{
    return 0xffff - (key & 0xffff);
}

__device__ __forceinline__ float key_logit(unsigned int key)
{
    const unsigned int rising = key >> 16;
    return __uint_as_float((rising & SIGN ? rising & ~SIGN : ~rising & 0xffff) << 16);
}

__device__ __forceinline__ float score_of(enum topk_score score, float logit, float largest)
{
    return score == TOPK_SOFTMAX ? __expf(logit - largest)
                                 : __fdividef(1.0f, 1.0f + __expf(-logit));
}

/* Lane k of the warp ends with choice k. */
template <int EACH> __device__ void token_choose(const topk_args &p, int token, int lane)
{
    const uint16_t *line = static_cast<const uint16_t *>(p.logits) + (size_t)token * p.stride;
    unsigned int key[EACH], mine = 0, first = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++)
        key[i] = lane + 32 * i < p.experts ? key_of(line[lane + 32 * i], lane + 32 * i) : 0;
    for (int k = 0; k < p.k; k++) {
        unsigned int most = 0;
#pragma unroll
        for (int i = 0; i < EACH; i++)
            most = max(most, key[i]);
        most = __reduce_max_sync(~0u, most);
#pragma unroll
        for (int i = 0; i < EACH; i++)
            key[i] = key[i] == most ? 0 : key[i];
        first = k == 0 ? most : first;
        mine = k == lane ? most : mine;
    }
    const float weight = lane < p.k ? score_of(p.score, key_logit(mine), key_logit(first)) : 0;
    float sum = weight;
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2)
        sum += __shfl_xor_sync(~0u, sum, mask);
    if (lane < p.k) {
        p.index[(size_t)token * p.k + lane] = key_expert(mine);
        p.weight[(size_t)token * p.k + lane] = weight / sum;
    }
}

template <int EACH> __global__ void __launch_bounds__(THREADS) topk_kernel(const topk_args p)
{
    if (threadIdx.x == 0)
        stamp_begin(p.stamp);
    /* Neighbouring CTAs take neighbouring tokens, so that few tokens still spread over all SMs. */
    for (int token = threadIdx.x / 32 * gridDim.x + blockIdx.x; token < p.tokens;
         token += THREADS / 32 * gridDim.x)
        token_choose<EACH>(p, token, threadIdx.x % 32);
    __syncthreads();
    if (threadIdx.x == 0)
        stamp_end(p.stamp);
}

int args_check(const struct topk_args *args)
{
    const char *problem = NULL;
    if (args->tokens < 0 || args->num_sms < 1)
        problem = "tokens is negative or num_sms below 1";
    else if (args->experts < 1 || args->experts > TOPK_MAX_EXPERTS)
        problem = "experts must be 1 to 512";
    else if (args->stride < args->experts)
        problem = "stride is below experts";
    else if (args->k < 1 || args->k > TOPK_MAX_K || args->k > args->experts)
        problem = "k must be 1 to 32 and at most experts";
    else if (args->logits == NULL || args->index == NULL || args->weight == NULL)
        problem = "a pointer is missing";
    if (problem == NULL)
        return 0;
    log_error("topk: %s", problem);
    return ERR_RANGE;
}

} // namespace

int kernels_topk_launch(const struct topk_args *args, cudaStream_t stream)
{
    const int err = args_check(args);
    if (err != 0)
        return err;
    const int ctas = args->tokens < 1               ? 1
                     : args->tokens < args->num_sms ? args->tokens
                                                    : args->num_sms;
    if (args->experts <= 64)
        topk_kernel<2><<<ctas, THREADS, 0, stream>>>(*args);
    else if (args->experts <= 256)
        topk_kernel<8><<<ctas, THREADS, 0, stream>>>(*args);
    else
        topk_kernel<16><<<ctas, THREADS, 0, stream>>>(*args);
    const cudaError_t status = cudaGetLastError();
    if (status == cudaSuccess)
        return 0;
    log_error("topk: launch: %s", cudaGetErrorString(status));
    return ERR_GPU;
}
