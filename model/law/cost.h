/* model/law/cost.h: plan/cost.h implemented from a hardware profile by the laws of model/law*.h. */
#ifndef PEOSIM_MODEL_LAW_COST_H
#define PEOSIM_MODEL_LAW_COST_H

#include "hw/profile.h"
#include "plan/cost.h"

/* Fills *out; the profile may be freed afterwards. ERR_NOMEM. cost->work is pure and may be called
 * from several threads. What plans must give: comm and act ops: n = hidden or inter; ATTN_PROJ,
 * ATTN_OUT, ROUTER, MLP_*, LM_HEAD: rows, n, k of one GEMM with as many weights; a comm op with
 * num_experts 0 works on all local experts. */
int cost_open(const struct hw_profile *profile, struct cost *out);
void cost_close(struct cost *cost); /* accepts a zeroed struct */

/* Bytes of one message of a low-latency kernel: dispatch FP8 16 + H + 4*H/128, BF16 16 + 2H;
 * combine BF16 2H, LogFMT-10 10*H/8 + 4*H/128 (DeepEP 92fe2de). */
int cost_message_bytes(enum plan_flow_dir dir, enum plan_dtype dtype, int hidden);
/* HBM bytes per token of the element-wise kernels beside the attention projections, all in BF16
 * except what is stored in the KV cache. H = hidden, h heads and g KV heads of this rank.
 *   a norm with its residual add reads x and residual, writes residual and normed: 4 * 2H = 8H
 *   GQA: rotary in place over Q and K, (h + g) * head_dim * 4; cache write: K and V read,
 *     g * 2 * head_dim * 2, and kv_bytes_per_token written
 *   MLA: norms of the latents, read and write, (q_lora + kv_lora) * 4; rotary in place over every
 *     query's rope part and the one shared key's, (h + 1) * rope * 4; cache write: latent and rope
 *     key read, (kv_lora + rope) * 2, and kv_bytes_per_token written; in prefill, where K is
 *     expanded per head, its assembly: nope parts and the rope key read, (h * nope + rope) * 2, and
 *     h * qk_head_dim * 2 written (V is used where its projection wrote it)
 * The first norm and all else run over every token of a tensor-parallel group, cost_norm_bytes
 * (hidden) once more over the rank's own tokens, before the experts. */
double cost_norm_bytes(int hidden);
double cost_attn_side_bytes(const struct plan_attn *attn, bool prefill);

/* HBM bytes of a permute: every copy read once, payload and scales, and written once per expert
 * chosen; and of an un-permute: every row read in BF16, their weighted sum written once per copy.
 * Indices and weights (8 bytes a row) are left out. */
double cost_permute_bytes(enum plan_op_kind kind, double copies, double rows, enum plan_dtype dtype,
                          int hidden);

/* Bytes of one token's copy in normal kernels and library all-to-alls: payload, scales, and for
 * dispatch top-k indices and weights (12 bytes each). */
int cost_copy_bytes(enum plan_flow_dir dir, enum plan_dtype dtype, int hidden, int topk);

/* Link capacities of the profile, GB/s per direction and GPU. */
double cost_nvlink_GBps(const struct hw_profile *profile);
double cost_nic_GBps(const struct hw_profile *profile);

#endif
