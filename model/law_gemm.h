/* model/law_gemm.h: grouped and dense GEMM, activation, router, attention.
 *
 * A GEMM is tiles of block_m x block_n, computed whole (padding included), dealt to the SMs in
 * waves; each tile costs a prologue and its k-blocks at the SM's rate. Weights and activations
 * stream through HBM at the same time; the slower of the two counts. The tile shape is the one of a
 * short list that takes least time, as the libraries' own heuristics try to choose. */
#ifndef PEOSIM_MODEL_LAW_GEMM_H
#define PEOSIM_MODEL_LAW_GEMM_H

#include <stdint.h>

#include "model/law.h"

struct law_grouped {
    enum plan_gemm layout;
    enum plan_dtype dtype; /* of the operands; the output is BF16 */
    const int32_t *rows;   /* [groups] */
    int groups, n, k;
    int sms, num_sms;
};
void law_grouped_work(const double *v, const struct law_grouped *in, struct cost_work *out);

enum law_dense_dtype { LAW_DENSE_BF16, LAW_DENSE_FP8, LAW_DENSE_FP8_BLOCK };
struct law_dense {
    enum law_dense_dtype dtype;
    int m, n, k;
    int sms, num_sms;
    bool quantise; /* an activation quantisation kernel runs in front */
};
void law_dense_work(const double *v, const struct law_dense *in, struct cost_work *out);

/* Element-wise kernel over rows: SiLU*mul of 2*inter BF16 to inter values of `dtype`. */
void law_act_work(const double *v, double rows, int inter, enum plan_dtype dtype, int sms,
                  struct cost_work *out);
/* Top-k selection over experts, behind the gate GEMM. Adds to *out's tail. */
void law_topk_add(const double *v, int tokens, int sms, struct cost_work *out);

struct law_attn {
    double rows;          /* query tokens on this rank */
    double requests;      /* rows / query tokens per request */
    double context;       /* mean number of keys a query attends to */
    double heads;         /* on this rank */
    double qk_dim, v_dim; /* per head, as computed (absorbed MLA: the latent widths) */
    double kv_bytes;      /* read from the cache */
    bool prefill;
    int sms, num_sms;
};
void law_attn_work(const double *v, const struct law_attn *in, struct cost_work *out);

#endif
