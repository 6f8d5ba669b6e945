/* kernels/silu_mul_quant.h: the expert FFN's activation, y = silu(gate) * up, between its two
 * GEMMs. */
#ifndef PEOSIM_KERNELS_SILU_MUL_QUANT_H
#define PEOSIM_KERNELS_SILU_MUL_QUANT_H

#include <cuda_runtime_api.h>

#include "kernels/grouped_gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All pointers are device memory, 16-byte aligned. Layouts are row-major, G = num_experts:
 *   in     [G, max_rows, 2 * inter]  BF16: gate, then up; inter % 128 == 0
 *   out    [G, max_rows, inter]      e4m3 (GEMM_FP8) or BF16
 *   scale  float, GEMM_FP8 only: the scale of (expert e, row r, channels 128j..128j+127) lies at
 *          e * max_rows * (inter / 128) + r * scale_row_stride + j * scale_k_stride
 *   rows   [G]                       valid rows of each expert, clamped to 0..max_rows
 * Rows at or past rows[e] are neither read nor written. A row's value depends on that row alone. */
struct silu_mul_quant_args {
    enum gemm_dtype dtype; /* of out */
    int num_experts;
    int first_expert; /* the launch handles [first_expert, first_expert + expert_count) */
    int expert_count; /* 1..GROUPED_GEMM_MAX_EXPERTS */
    int max_rows;
    int inter;
    int num_sms; /* CTAs, of 1024 threads */
    const void *in;
    void *out;
    float *scale;
    int scale_row_stride;
    int scale_k_stride;
    const int *scale_k_strides; /* NULL, or [G]: each expert has its own instead */
    const int *rows;
    struct kernel_stamp *stamp; /* NULL or a reset stamp */
};

/* Returns 0; ERR_RANGE for a shape or pointer that breaks the rules above; ERR_GPU when the launch
 * failed. Launches one kernel, allocates nothing, does not synchronise, may be captured in a graph.
 */
int kernels_silu_mul_quant_launch(const struct silu_mul_quant_args *args, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
