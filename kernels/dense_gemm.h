/* kernels/dense_gemm.h: one dense C = A * B^T through cuBLASLt, limited to a number of SMs. A plan
 * fixes the shape, the algorithm and a workspace; launches then only enqueue. */
#ifndef PEOSIM_KERNELS_DENSE_GEMM_H
#define PEOSIM_KERNELS_DENSE_GEMM_H

#include <cuda_runtime_api.h>

#include "kernels/grouped_gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

enum dense_scaling {
    DENSE_SCALE_NONE,   /* BF16 */
    DENSE_SCALE_TENSOR, /* FP8: one float each for a and b */
    DENSE_SCALE_BLOCK,  /* FP8: a per row and 128 channels, b per 128x128 block */
};

struct dense_gemm_shape {
    enum gemm_dtype dtype;
    enum dense_scaling scaling;
    int fast_accum; /* FP8: let the tensor core keep its short accumulator over all of k */
    int m;
    int n;
    int k;
    int num_sms; /* the target given to cuBLASLt; 0: all */
};

/* Device memory, row-major:
 *   a [m, k]   b [n, k]   c [m, n] BF16; a, b, c 16-byte aligned, n % 16 == 0, k % 16 == 0
 *   a_scale    DENSE_SCALE_TENSOR: one float; DENSE_SCALE_BLOCK: [k/128, m], 16-byte aligned
 *   b_scale    DENSE_SCALE_TENSOR: one float; DENSE_SCALE_BLOCK: [n/128, k/128], where each line is
 *              padded to a multiple of 4 scales (DENSE_SCALE_LINE), 16-byte aligned */
#define DENSE_SCALE_LINE(k) (((k) / 128 + 3) / 4 * 4)

struct dense_gemm_args {
    const void *a;
    const float *a_scale;
    const void *b;
    const float *b_scale;
    void *c;
};

struct dense_gemm;

/* Makes a plan, which owns a 32 MiB workspace on the current device; *plan is NULL on failure.
 * Returns 0; ERR_RANGE for a shape that breaks the rules above; ERR_UNSUPPORTED when cuBLASLt has
 * no algorithm for it here (not logged: callers try another scaling); ERR_GPU, ERR_NOMEM. */
int kernels_dense_gemm_open(struct dense_gemm **plan, const struct dense_gemm_shape *shape);

/* The same with the handle and the workspace of `with` (NULL: its own), so that the launches of
 * both belong on one stream. `with` must be closed last. */
int kernels_dense_gemm_open_with(struct dense_gemm **plan, const struct dense_gemm_shape *shape,
                                 const struct dense_gemm *with);

/* Enqueues the product: no allocation, no synchronisation, may be captured in a graph. Launches of
 * one plan share its workspace, so they belong on one stream. Returns 0, ERR_RANGE or ERR_GPU. */
int kernels_dense_gemm_launch(struct dense_gemm *plan, const struct dense_gemm_args *args,
                              cudaStream_t stream);

/* Accepts NULL. The plan's launches must have finished. */
void kernels_dense_gemm_close(struct dense_gemm *plan);

#ifdef __cplusplus
}
#endif

#endif
