/* kernels/grouped_gemm.h: C[e] = A[e] * B[e]^T for a range of experts, each with its own row count,
 * which lies in device memory (the "masked" layout). One persistent kernel of exactly num_sms CTAs,
 * one per SM; tile t belongs to CTA t % num_sms. Large tiles of an incomplete last pass over the
 * CTAs are halved where that fits. Hopper only (sm_90a). */
#ifndef PEOSIM_KERNELS_GROUPED_GEMM_H
#define PEOSIM_KERNELS_GROUPED_GEMM_H

#include <cuda_runtime_api.h>

#include "kernels/gemm_limits.h"

#ifdef __cplusplus
extern "C" {
#endif

struct kernel_stamp;

enum gemm_dtype {
    GEMM_FP8,  /* e4m3 with float scales: A per row and 128 channels, B per 128x128 block */
    GEMM_BF16, /* no scales */
};

enum {
    GROUPED_GEMM_BLOCK_N = 128,
};

/* All pointers are device memory. Layouts are row-major, G = num_experts:
 *
 *   a        [G, max_rows, k]   FP8 or BF16, 16-byte aligned; k % 128 == 0
 *
 *   b        [G, n, k]          same type, 16-byte aligned; n % 128 == 0
 *
 *   a_scale  FP8 only, float: that of (expert e, row r, channels 128j..128j+127) lies at
 *            e * max_rows * (k / 128) + r * a_scale_row_stride + j * a_scale_k_stride;
 *            [k/128, max_rows] (strides 1, max_rows) is a little faster than [max_rows, k/128]
 *
 *   b_scale  [G, n/128, k/128]  FP8 only, float
 *
 *   c        [G, max_rows, n]   BF16, 16-byte aligned
 *
 *   rows     [G]                valid rows of each expert, read when the kernel starts; values
 *                               beyond max_rows count as max_rows, negative ones as 0
 *
 * Rows of c at or past rows[e] are not written; a and a_scale there may hold anything. The height
 * and width of tiles follow rows_hint, the range of experts and num_sms, for speed; the order of
 * additions along k does not. So the value of a row of c depends on its inputs, dtype and shape
 * alone, to the bit (tests/gpu/test_gemm.c: every block_m, 1 to 132 SMs, any row slot). */
struct grouped_gemm_args {
    enum gemm_dtype dtype;
    int num_experts;  /* G */
    int first_expert; /* the launch computes experts [first_expert, first_expert + expert_count) */
    int expert_count;
    int max_rows;
    int n;
    int k;
    int num_sms;   /* CTAs */
    int block_m;   /* 64, 128 or 256 rows per tile; 0 chooses from rows_hint and num_sms. 256 also
                      means tiles of 128 rows, twice as wide, where they serve as well */
    int rows_hint; /* rows expected in the fullest expert, 0 for max_rows: affects speed only */
    /* NULL, or host memory, [expert_count]: rows expected in each expert of the range, instead of
     * rows_hint. With it a launch gives experts with few rows other tiles than those with many. */
    const int *rows_each;
    const void *a;
    const float *a_scale;
    int a_scale_row_stride;
    int a_scale_k_stride;
    const void *b;
    const float *b_scale;
    void *c;
    const int *rows;
    /* NULL, or [G, ceil(max_rows / block_m)] ints, zeroed by the caller: one is added, with release
     * semantics at GPU scope, for each finished tile of block_m rows of an expert. The rows
     * [b * block_m, (b+1) * block_m) of expert e are complete when tile_done[e][b] has grown to n /
     * 128. Needs an explicit block_m, so that both sides mean the same blocks. */
    int *tile_done;
    struct kernel_stamp *stamp; /* NULL or a reset stamp */
};

/* Returns 0; ERR_RANGE for a shape or pointer that breaks the rules above; ERR_GPU when a CUDA call
 * failed. Launches one kernel, allocates nothing, does not synchronise, may be captured in a graph.
 */
int kernels_grouped_gemm_launch(const struct grouped_gemm_args *args, cudaStream_t stream);

/* The block_m that a launch with these args uses: 64, 128 or 256 (for experts with many rows). */
int kernels_grouped_gemm_block_m(const struct grouped_gemm_args *args);

#ifdef __cplusplus
}
#endif

#endif
