/* kernels/gemm_limits.h: what the grouped GEMM takes, for those who ask without CUDA's headers. */
#ifndef PEOSIM_KERNELS_GEMM_LIMITS_H
#define PEOSIM_KERNELS_GEMM_LIMITS_H

enum {
    GROUPED_GEMM_MAX_EXPERTS = 1024, /* most experts of one launch */
};

#endif
