/* model/cost.h: plan/cost.h implemented from a hardware profile by the laws of model/law*.h. */
#ifndef PEOSIM_MODEL_COST_H
#define PEOSIM_MODEL_COST_H

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
/* Bytes of one token's copy in normal kernels and library all-to-alls: payload, scales, and for
 * dispatch top-k indices and weights (12 bytes each). */
int cost_copy_bytes(enum plan_flow_dir dir, enum plan_dtype dtype, int hidden, int topk);

/* Link capacities of the profile, GB/s per direction and GPU. */
double cost_nvlink_GBps(const struct hw_profile *profile);
double cost_nic_GBps(const struct hw_profile *profile);

#endif
