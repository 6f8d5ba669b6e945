/* kernels/blas.h: what kernels/ asks of cuBLASLt in more than one place. C++ only. */
#ifndef PEOSIM_KERNELS_BLAS_H
#define PEOSIM_KERNELS_BLAS_H

#include <cublasLt.h>
#include <stddef.h>

static const size_t BLAS_WORKSPACE_BYTES = 32u << 20;

/* 0; ERR_NOMEM, ERR_GPU: logged, with `what` was tried. */
int blas_check(cublasStatus_t status, const char *what);

/* cuBLASLt's first choice for C = A * B with that workspace. ERR_UNSUPPORTED, not logged: it has
 * none. */
int blas_algorithm(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatmulAlgo_t *algo);

#endif
