/* cuBLASLt thinks in columns: our row-major C = A * B^T is its column-major C' = op(B) * A with
 * op(B) = B^T, so its first operand is our b and its second our a. That form ("TN") is also the
 * only one it has for FP8. */
#include <cuda_runtime.h>
#include <stdint.h>
#include <stdlib.h>

#include "kernels/blas.h"
#include "kernels/dense_gemm.h"
extern "C" {
#include "base/err.h"
#include "base/log.h"
}

struct dense_gemm {
    struct dense_gemm_shape shape;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algo;
    void *workspace;
    bool borrows; /* handle and workspace belong to another plan */
};

template <typename T>
static int desc_set(struct dense_gemm *plan, cublasLtMatmulDescAttributes_t attribute, T value)
{
    return blas_check(cublasLtMatmulDescSetAttribute(plan->desc, attribute, &value, sizeof(value)),
                      "matmul attribute");
}

static int scales_set(struct dense_gemm *plan, const float *a_scale, const float *b_scale)
{
    int err = desc_set(plan, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, (const void *)b_scale);
    if (err == 0)
        err = desc_set(plan, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, (const void *)a_scale);
    return err;
}

static int desc_fill(struct dense_gemm *plan)
{
    const struct dense_gemm_shape *s = &plan->shape;
    int err = desc_set(plan, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    if (err == 0 && s->num_sms > 0)
        err = desc_set(plan, CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, (int32_t)s->num_sms);
    if (err != 0 || s->dtype != GEMM_FP8)
        return err;
    const bool block = s->scaling == DENSE_SCALE_BLOCK;
    err = desc_set(plan, CUBLASLT_MATMUL_DESC_FAST_ACCUM, (int8_t)(s->fast_accum != 0));
    if (err == 0)
        err = desc_set(plan, CUBLASLT_MATMUL_DESC_A_SCALE_MODE,
                       block ? CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F
                             : CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F);
    if (err == 0)
        err = desc_set(plan, CUBLASLT_MATMUL_DESC_B_SCALE_MODE,
                       block ? CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F
                             : CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F);
    /* The search for an algorithm wants to see scale pointers; the real ones come with each launch.
     */
    if (err == 0)
        err = scales_set(plan, static_cast<const float *>(plan->workspace),
                         static_cast<const float *>(plan->workspace));
    return err;
}

static int layouts_create(struct dense_gemm *plan)
{
    const struct dense_gemm_shape *s = &plan->shape;
    const cudaDataType_t in = s->dtype == GEMM_FP8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
    int err = blas_check(cublasLtMatrixLayoutCreate(&plan->b, in, s->k, s->n, s->k), "layout");
    if (err == 0)
        err = blas_check(cublasLtMatrixLayoutCreate(&plan->a, in, s->k, s->m, s->k), "layout");
    if (err == 0)
        err = blas_check(cublasLtMatrixLayoutCreate(&plan->c, CUDA_R_16BF, s->n, s->m, s->n),
                         "layout");
    return err;
}

static int shape_check(const struct dense_gemm_shape *s)
{
    const bool fp8 = s->dtype == GEMM_FP8;
    const char *problem = NULL;
    if (s->m < 1 || s->n < 16 || s->k < 16 || s->n % 16 != 0 || s->k % 16 != 0)
        problem = "m must be positive, n and k positive multiples of 16";
    else if (fp8 != (s->scaling != DENSE_SCALE_NONE))
        problem = "FP8 needs a scaling and BF16 has none";
    else if (s->scaling == DENSE_SCALE_BLOCK && (s->n % 128 != 0 || s->k % 128 != 0))
        problem = "block scaling needs n % 128 == 0 and k % 128 == 0";
    else if (s->num_sms < 0)
        problem = "num_sms is negative";
    if (problem == NULL)
        return 0;
    log_error("dense GEMM: %s", problem);
    return ERR_RANGE;
}

static int handle_fill(struct dense_gemm *plan, const struct dense_gemm *with)
{
    if (with != NULL) {
        plan->borrows = true;
        plan->workspace = with->workspace;
        plan->handle = with->handle;
        return 0;
    }
    if (cudaMalloc(&plan->workspace, BLAS_WORKSPACE_BYTES) != cudaSuccess) {
        log_error("dense GEMM: no device memory for the workspace");
        return ERR_NOMEM;
    }
    return blas_check(cublasLtCreate(&plan->handle), "create");
}

static int plan_fill(struct dense_gemm *plan, const struct dense_gemm *with)
{
    int err = handle_fill(plan, with);
    if (err == 0)
        err = blas_check(cublasLtMatmulDescCreate(&plan->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                         "matmul description");
    if (err == 0)
        err = desc_fill(plan);
    if (err == 0)
        err = layouts_create(plan);
    if (err == 0)
        err = blas_algorithm(plan->handle, plan->desc, plan->b, plan->a, plan->c, &plan->algo);
    return err;
}

int kernels_dense_gemm_open(struct dense_gemm **out, const struct dense_gemm_shape *shape)
{
    return kernels_dense_gemm_open_with(out, shape, NULL);
}

int kernels_dense_gemm_open_with(struct dense_gemm **out, const struct dense_gemm_shape *shape,
                                 const struct dense_gemm *with)
{
    *out = NULL;
    int err = shape_check(shape);
    if (err != 0)
        return err;
    struct dense_gemm *plan = static_cast<struct dense_gemm *>(calloc(1, sizeof(*plan)));
    if (plan == NULL)
        return ERR_NOMEM;
    plan->shape = *shape;
    err = plan_fill(plan, with);
    if (err != 0)
        kernels_dense_gemm_close(plan);
    else
        *out = plan;
    return err;
}

int kernels_dense_gemm_launch(struct dense_gemm *plan, const struct dense_gemm_args *args,
                              cudaStream_t stream)
{
    const float one = 1.0f, zero = 0.0f;
    const bool fp8 = plan->shape.dtype == GEMM_FP8;
    int err = 0;
    if (args->a == NULL || args->b == NULL || args->c == NULL ||
        (fp8 && (args->a_scale == NULL || args->b_scale == NULL)) ||
        ((uintptr_t)args->a | (uintptr_t)args->b | (uintptr_t)args->c) % 16 != 0) {
        log_error("dense GEMM: a pointer is missing or not 16-byte aligned");
        err = ERR_RANGE;
    }
    if (err == 0 && fp8)
        err = scales_set(plan, args->a_scale, args->b_scale);
    if (err == 0)
        err = blas_check(cublasLtMatmul(plan->handle, plan->desc, &one, args->b, plan->b, args->a,
                                        plan->a, &zero, args->c, plan->c, args->c, plan->c,
                                        &plan->algo, plan->workspace, BLAS_WORKSPACE_BYTES, stream),
                         "matmul");
    return err;
}

void kernels_dense_gemm_close(struct dense_gemm *plan)
{
    if (plan == NULL)
        return;
    if (plan->a != NULL)
        cublasLtMatrixLayoutDestroy(plan->a);
    if (plan->b != NULL)
        cublasLtMatrixLayoutDestroy(plan->b);
    if (plan->c != NULL)
        cublasLtMatrixLayoutDestroy(plan->c);
    if (plan->desc != NULL)
        cublasLtMatmulDescDestroy(plan->desc);
    if (plan->handle != NULL && !plan->borrows)
        cublasLtDestroy(plan->handle);
    if (!plan->borrows)
        cudaFree(plan->workspace);
    free(plan);
}
