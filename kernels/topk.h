/* kernels/topk.h: the router behind its gate GEMM: the k largest of a token's logits and their
 * weights. */
#ifndef PEOSIM_KERNELS_TOPK_H
#define PEOSIM_KERNELS_TOPK_H

#include <cuda_runtime_api.h>

#include "kernels/topk_ref.h"

#ifdef __cplusplus
extern "C" {
#endif

struct kernel_stamp;

/* All pointers are device memory, row-major:
 *   logits   [tokens, experts]  BF16, rows `stride` values apart; a NaN counts as -infinity
 *   index    [tokens, k]        experts by falling logit, among equals the lower expert first
 *   weight   [tokens, k]        their scores divided by the sum of these k
 * One persistent kernel of at most num_sms CTAs; a warp takes a token. A token's result depends on
 * its logits alone. */
struct topk_args {
    enum topk_score score;
    int tokens;  /* >= 0 */
    int experts; /* 1..TOPK_MAX_EXPERTS */
    int stride;  /* >= experts */
    int k;       /* 1..min(experts, TOPK_MAX_K) */
    int num_sms;
    const void *logits;
    int *index;
    float *weight;
    struct kernel_stamp *stamp; /* NULL or a reset stamp */
};

/* Returns 0; ERR_RANGE for a shape that breaks the rules above; ERR_GPU when the launch failed.
 * Allocates nothing, does not synchronise, may be captured in a graph. */
int kernels_topk_launch(const struct topk_args *args, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
