/* See topk.h. A lane holds every 32nd logit of its warp's token in registers; each of k rounds
 * takes the largest by shuffles. Softmax over all experts cancels when the chosen are normalised,
 * so it is computed over the chosen alone. */
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math_constants.h>

#include "kernels/stamp.h"
#include "kernels/topk.h"
extern "C" {
#include "base/err.h"
#include "base/log.h"
}

namespace
{

constexpr int THREADS = 256;

struct choice {
    float logit;
    int expert;
};

__device__ __forceinline__ choice better(choice a, choice b)
{
    const bool first = a.logit > b.logit || (a.logit == b.logit && a.expert < b.expert);
    return first ? a : b;
}

/* The best of those of this lane's logits that are still to be taken. */
template <int EACH>
__device__ __forceinline__ choice lane_best(const float (&logit)[EACH], unsigned int left, int lane)
{
    choice best = {-CUDART_INF_F, TOPK_MAX_EXPERTS};
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if (left >> i & 1)
            best = better(best, {logit[i], lane + 32 * i});
    return best;
}

__device__ __forceinline__ float score_of(enum topk_score score, float logit, float largest)
{
    return score == TOPK_SOFTMAX ? __expf(logit - largest)
                                 : __fdividef(1.0f, 1.0f + __expf(-logit));
}

template <int EACH> __device__ void token_choose(const topk_args &p, int token, int lane)
{
    const __nv_bfloat16 *line =
        static_cast<const __nv_bfloat16 *>(p.logits) + (size_t)token * p.experts;
    float logit[EACH], weight = 0, largest = 0;
    int chosen = 0;
    unsigned int left = 0; /* bit i: logit[i] is still to be taken */
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const bool is = lane + 32 * i < p.experts;
        const float x = is ? __bfloat162float(line[lane + 32 * i]) : -CUDART_INF_F;
        logit[i] = isnan(x) ? -CUDART_INF_F : x;
        left |= is ? 1u << i : 0u;
    }
    for (int k = 0; k < p.k; k++) {
        choice best = lane_best(logit, left, lane);
#pragma unroll
        for (int mask = 16; mask > 0; mask /= 2)
            best = better(best, {__shfl_xor_sync(~0u, best.logit, mask),
                                 __shfl_xor_sync(~0u, best.expert, mask)});
        if (best.expert % 32 == lane)
            left &= ~(1u << best.expert / 32);
        if (k == 0)
            largest = best.logit;
        if (k == lane) {
            chosen = best.expert;
            weight = score_of(p.score, best.logit, largest);
        }
    }
    float sum = weight;
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2)
        sum += __shfl_xor_sync(~0u, sum, mask);
    if (lane < p.k) {
        p.index[(size_t)token * p.k + lane] = chosen;
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
