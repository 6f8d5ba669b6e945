#include "kernels/blas.h"
extern "C" {
#include "base/err.h"
#include "base/log.h"
}

int blas_check(cublasStatus_t status, const char *what)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return 0;
    log_error("cuBLASLt: %s: %s", what, cublasLtGetStatusString(status));
    return status == CUBLAS_STATUS_ALLOC_FAILED ? ERR_NOMEM : ERR_GPU;
}

int blas_algorithm(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatmulAlgo_t *algo)
{
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t best;
    int found = 0;
    int err = blas_check(cublasLtMatmulPreferenceCreate(&preference), "preference");
    if (err != 0)
        return err;
    err = blas_check(
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &BLAS_WORKSPACE_BYTES, sizeof(BLAS_WORKSPACE_BYTES)),
        "preference");
    if (err == 0 && (cublasLtMatmulAlgoGetHeuristic(handle, desc, a, b, c, c, preference, 1, &best,
                                                    &found) != CUBLAS_STATUS_SUCCESS ||
                     found == 0))
        err = ERR_UNSUPPORTED;
    if (err == 0)
        *algo = best.algo;
    cublasLtMatmulPreferenceDestroy(preference);
    return err;
}
