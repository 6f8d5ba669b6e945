/* validate/gpu_attn.h: the attention ops of a plan on operands of their own: fixed random values,
 * not fed into the experts, whose inputs the check must know. Inside back end 2 only.
 *
 * What an op launches:
 *   ATTN_PROJ  norm with residual over twice its rows (the layer's two norms, as the cost model
 *              counts them), norm of the latents (MLA), quantisation (FP8), ONE library GEMM of the
 *              op's rows, n and k, n rounded up to 128 (in place of the latent, query and absorbed
 *              projections: as many weights and FLOPs), rotary embedding and cache write
 *   ATTN_CORE  kernels/attention.h over a cache of each request's own
 *   ATTN_OUT   quantisation (FP8) and one library GEMM */
#ifndef PEOSIM_VALIDATE_GPU_ATTN_H
#define PEOSIM_VALIDATE_GPU_ATTN_H

#include "kernels/attention.h"
#include "validate/gpu_session.h"

struct gpu_attn_batch {
    struct attention *core;
    struct attention_append_args append; /* its requests' part of q and kv */
    char *out;                           /* of the core */
};

struct gpu_attn {
    int tokens, hidden, latents, num_batches;
    struct gpu_attn_batch batch[GPU_MAX_BATCHES];
    void *q, *kv, *q_new, *kv_new, *core_out;
    float *rotary;
    void *x, *residual, *residual_out, *normed; /* BF16 [2 * tokens][hidden] */
    void *weight;                               /* of all norms */
    void *latent, *latent_out;                  /* [tokens][latents], MLA */
    void *quantised;
    float *scales, *weight_scales;
    void *w_proj, *w_out, *projected, *y;
};

/* The plan's attention ops have kernels? Logs why not. ERR_UNSUPPORTED. */
int gpu_attn_check(const struct gpu_session *s, const struct plan *plan);

/* Collective. Memory for the plan's attention ops; the layer must be open. ERR_INFEASIBLE (the
 * requests' caches do not fit), ERR_NOMEM, ERR_GPU. */
int gpu_attn_open(struct gpu_attn **out, struct gpu_session *s, const struct plan *plan);
void gpu_attn_close(struct gpu_attn *a); /* accepts NULL */

/* dense: the library GEMM of ATTN_PROJ (NULL: leave it out) and ATTN_OUT. Of ATTN_PROJ the first
 * and last kernel leave the stamp; the others none, since library kernels end them. */
int gpu_attn_launch(struct gpu_attn *a, const struct plan_op *op, struct gpu_dense_entry *dense,
                    cudaStream_t stream, struct kernel_stamp *stamp);

/* Columns of the library GEMM of a projection of width n. */
static inline int gpu_attn_columns(int n)
{
    return (n + 127) / 128 * 128;
}

#endif
