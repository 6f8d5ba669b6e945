/* Scores, softmax, values. cuBLASLt thinks in columns (kernels/dense_gemm.cu): its first operand is
 * our cache, its second our queries or probabilities. The softmax overwrites the scores. */
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>
#include <stdlib.h>

#include "kernels/bf16x8.cuh"
#include "kernels/blas.h"
#include "kernels/attention.h"
extern "C" {
#include "base/err.h"
#include "base/log.h"
}

namespace
{

constexpr int THREADS = 1024;

struct softmax_args {
    __nv_bfloat16 *scores; /* [rows][padded] */
    int rows, queries;     /* queries: rows of one batch */
    int group, context_len, padded;
};

/* Adds eight values, of which the first `valid` count, to a running maximum and sum. */
__device__ __forceinline__ void online_add(const float (&v)[8], int valid, float &most, float &sum)
{
    float top = most;
#pragma unroll
    for (int i = 0; i < 8; i++)
        top = fmaxf(top, i < valid ? v[i] : -INFINITY);
    sum *= __expf(most - top);
#pragma unroll
    for (int i = 0; i < 8; i++)
        sum += i < valid ? __expf(v[i] - top) : 0.0f;
    most = top;
}

/* A warp per row, twice over it: what the first pass reads, the second finds in a cache. Key 0 is
 * always valid, so the maximum is finite once the lanes are joined; a lane without keys holds
 * -1e30, whose sum of 0 stays 0. */
__global__ void __launch_bounds__(THREADS, 1) softmax_kernel(const softmax_args p)
{
    const int lane = threadIdx.x % 32, warps = gridDim.x * (THREADS / 32);
    for (int row = threadIdx.x / 32 * gridDim.x + blockIdx.x; row < p.rows; row += warps) {
        uint4 *line = reinterpret_cast<uint4 *>(p.scores + (size_t)row * p.padded);
        const int valid = p.context_len + row % p.queries / p.group + 1;
        float most = -1e30f, sum = 0.0f, v[8];
#pragma unroll 4
        for (int i = lane; i < (valid + 7) / 8; i += 32) {
            bf16x8_unpack(line[i], v);
            online_add(v, valid - 8 * i, most, sum);
        }
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) {
            const float other = __shfl_xor_sync(~0u, most, distance);
            const float top = fmaxf(most, other);
            sum = sum * __expf(most - top) +
                  __shfl_xor_sync(~0u, sum, distance) * __expf(other - top);
            most = top;
        }
        const float factor = 1.0f / sum;
#pragma unroll 4
        for (int i = lane; i < p.padded / 8; i += 32) {
            bf16x8_unpack(line[i], v);
#pragma unroll
            for (int j = 0; j < 8; j++)
                v[j] = 8 * i + j < valid ? __expf(v[j] - most) * factor : 0.0f;
            line[i] = bf16x8_pack(v);
        }
    }
}

/* C = op(A) * B for every batch of a piece, in columns. */
struct product {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t layout[3]; /* a, b, c */
    cublasLtMatmulAlgo_t algo;
};

struct matrix {
    int rows, cols, ld; /* in columns: ld >= rows */
    long long stride;   /* to the next batch, in elements */
};

int layout_open(cublasLtMatrixLayout_t *out, const struct matrix *m, int32_t batches)
{
    int err =
        blas_check(cublasLtMatrixLayoutCreate(out, CUDA_R_16BF, m->rows, m->cols, m->ld), "layout");
    if (err == 0)
        err = blas_check(
            cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                             &m->stride, sizeof(m->stride)),
            "stride");
    if (err == 0)
        err = blas_check(cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                          &batches, sizeof(batches)),
                         "batch count");
    return err;
}

int batches_set(struct product *p, int32_t batches)
{
    int err = 0;
    for (int i = 0; err == 0 && i < 3; i++)
        err = blas_check(cublasLtMatrixLayoutSetAttribute(p->layout[i],
                                                          CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                          &batches, sizeof(batches)),
                         "batch count");
    return err;
}

int product_open(struct product *p, cublasLtHandle_t handle, bool transpose_a,
                 const struct matrix *m, int batches, int32_t num_sms)
{
    const cublasOperation_t a = transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    int err = blas_check(cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                         "matmul description");
    if (err == 0)
        err = blas_check(
            cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &a, sizeof(a)),
            "matmul attribute");
    if (err == 0)
        err =
            blas_check(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET,
                                                      &num_sms, sizeof(num_sms)),
                       "matmul attribute");
    for (int i = 0; err == 0 && i < 3; i++)
        err = layout_open(&p->layout[i], &m[i], batches);
    if (err != 0)
        return err;
    err = blas_algorithm(handle, p->desc, p->layout[0], p->layout[1], p->layout[2], &p->algo);
    if (err == ERR_UNSUPPORTED)
        log_error("attention: cuBLASLt has no batched GEMM for this shape");
    return err;
}

void product_close(struct product *p)
{
    for (int i = 0; i < 3; i++)
        if (p->layout[i] != NULL)
            cublasLtMatrixLayoutDestroy(p->layout[i]);
    if (p->desc != NULL)
        cublasLtMatmulDescDestroy(p->desc);
}

int shape_check(const struct attention_shape *s)
{
    const char *problem = NULL;
    if (s->requests < 1 || s->q_tokens < 1 || s->context_len < 0 || s->num_sms < 1)
        problem = "requests, q_tokens and num_sms must be at least 1";
    else if (s->kv_heads < 1 || s->heads < s->kv_heads || s->heads % s->kv_heads != 0)
        problem = "heads must be a multiple of kv_heads";
    else if (s->qk_dim < 8 || s->v_dim < 8 || (s->qk_dim | s->v_dim | s->v_first) % 8 != 0 ||
             s->kv_width % 8 != 0 || s->kv_width < s->qk_dim || s->kv_width < s->v_first + s->v_dim)
        problem = "widths must be multiples of 8, and a cache row hold key and value";
    else if ((long long)s->q_tokens * s->heads * attention_keys_padded(s) > INT32_MAX)
        problem = "one request has 2^31 scores or more";
    if (problem == NULL)
        return 0;
    log_error("attention: %s", problem);
    return ERR_RANGE;
}

int queries_of(const struct attention_shape *s)
{
    return s->q_tokens * (s->heads / s->kv_heads);
}

/* Batches whose scores are made at once. */
int piece_of(const struct attention_shape *s)
{
    const size_t one = (size_t)queries_of(s) * attention_keys_padded(s) * 2;
    const size_t most = ATTENTION_SCORES_BYTES / one, all = (size_t)s->requests * s->kv_heads;
    return (int)(most < 1 ? 1 : most < all ? most : all);
}

} // namespace

struct attention {
    struct attention_shape shape;
    cublasLtHandle_t handle;
    struct product scores_of, values_of;
    void *workspace, *scores;
    int piece;
};

size_t kernels_attention_scores_bytes(const struct attention_shape *s)
{
    return (size_t)piece_of(s) * queries_of(s) * attention_keys_padded(s) * 2;
}

static int products_open(struct attention *plan)
{
    const struct attention_shape *s = &plan->shape;
    const int keys = attention_keys_padded(s), queries = queries_of(s);
    const long long cache = (long long)keys * s->kv_width, scores = (long long)queries * keys;
    const struct matrix up[3] = {{s->qk_dim, keys, s->kv_width, cache},
                                 {s->qk_dim, queries, s->qk_dim, (long long)queries * s->qk_dim},
                                 {keys, queries, keys, scores}};
    const struct matrix down[3] = {{s->v_dim, keys, s->kv_width, cache},
                                   {keys, queries, keys, scores},
                                   {s->v_dim, queries, s->v_dim, (long long)queries * s->v_dim}};
    int err = product_open(&plan->scores_of, plan->handle, true, up, plan->piece, s->num_sms);
    if (err == 0)
        err = product_open(&plan->values_of, plan->handle, false, down, plan->piece, s->num_sms);
    return err;
}

int kernels_attention_open(struct attention **out, const struct attention_shape *shape)
{
    *out = NULL;
    int err = shape_check(shape);
    if (err != 0)
        return err;
    struct attention *plan = static_cast<struct attention *>(calloc(1, sizeof(*plan)));
    if (plan == NULL)
        return ERR_NOMEM;
    plan->shape = *shape;
    plan->piece = piece_of(shape);
    if (cudaMalloc(&plan->workspace, BLAS_WORKSPACE_BYTES) != cudaSuccess ||
        cudaMalloc(&plan->scores, kernels_attention_scores_bytes(shape)) != cudaSuccess) {
        log_error("attention: no device memory for the scores");
        err = ERR_NOMEM;
    }
    if (err == 0)
        err = blas_check(cublasLtCreate(&plan->handle), "create");
    if (err == 0)
        err = products_open(plan);
    if (err != 0)
        kernels_attention_close(plan);
    else
        *out = plan;
    return err;
}

static int product_launch(struct attention *plan, struct product *p, float alpha, const void *a,
                          const void *b, void *c, cudaStream_t stream)
{
    const float zero = 0.0f;
    return blas_check(cublasLtMatmul(plan->handle, p->desc, &alpha, a, p->layout[0], b,
                                     p->layout[1], &zero, c, p->layout[2], c, p->layout[2],
                                     &p->algo, plan->workspace, BLAS_WORKSPACE_BYTES, stream),
                      "matmul");
}

static int softmax_launch(struct attention *plan, int batches, cudaStream_t stream)
{
    const struct attention_shape *s = &plan->shape;
    const struct softmax_args args = {static_cast<__nv_bfloat16 *>(plan->scores),
                                      batches * queries_of(s),
                                      queries_of(s),
                                      s->heads / s->kv_heads,
                                      s->context_len,
                                      attention_keys_padded(s)};
    softmax_kernel<<<s->num_sms, THREADS, 0, stream>>>(args);
    const cudaError_t status = cudaGetLastError();
    if (status == cudaSuccess)
        return 0;
    log_error("attention: launch: %s", cudaGetErrorString(status));
    return ERR_GPU;
}

int kernels_attention_launch(struct attention *plan, const void *q, const void *kv, void *out,
                             cudaStream_t stream)
{
    const struct attention_shape *s = &plan->shape;
    const int all = s->requests * s->kv_heads;
    const size_t one_q = (size_t)queries_of(s) * s->qk_dim, one_out = queries_of(s) * s->v_dim;
    const size_t one_kv = (size_t)attention_keys_padded(s) * s->kv_width;
    const auto *from = static_cast<const __nv_bfloat16 *>(q);
    const auto *cache = static_cast<const __nv_bfloat16 *>(kv);
    auto *to = static_cast<__nv_bfloat16 *>(out);
    int err = 0;
    if (q == NULL || kv == NULL || out == NULL ||
        ((uintptr_t)q | (uintptr_t)kv | (uintptr_t)out) % 16 != 0) {
        log_error("attention: a pointer is missing or not 16-byte aligned");
        err = ERR_RANGE;
    }
    for (int first = 0; err == 0 && first < all; first += plan->piece) {
        const int n = all - first < plan->piece ? all - first : plan->piece;
        const __nv_bfloat16 *rows = cache + first * one_kv;
        err = batches_set(&plan->scores_of, n);
        if (err == 0)
            err = batches_set(&plan->values_of, n);
        if (err == 0)
            err = product_launch(plan, &plan->scores_of, s->scale, rows, from + first * one_q,
                                 plan->scores, stream);
        if (err == 0)
            err = softmax_launch(plan, n, stream);
        if (err == 0)
            err = product_launch(plan, &plan->values_of, 1.0f, rows + s->v_first, plan->scores,
                                 to + first * one_out, stream);
    }
    return err;
}

void kernels_attention_close(struct attention *plan)
{
    if (plan == NULL)
        return;
    product_close(&plan->scores_of);
    product_close(&plan->values_of);
    if (plan->handle != NULL)
        cublasLtDestroy(plan->handle);
    cudaFree(plan->workspace);
    cudaFree(plan->scores);
    free(plan);
}
