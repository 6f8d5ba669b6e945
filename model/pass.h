/* model/pass.h: what a whole pass is made of besides its MoE layers, and closed forms of its work.
 * A pass is: embedding, leading dense layers, MoE layers under a policy, prediction layers (MTP),
 * final norm and LM head. */
#ifndef PEOSIM_MODEL_PASS_H
#define PEOSIM_MODEL_PASS_H

#include "model/policy/policy.h"

/* Which layers are alike: one section is simulated and repeated. */
struct pass_layers {
    int dense, moe, mtp;
};
void pass_layers_of(const struct moe_model *m, int draft_tokens, struct pass_layers *out);

/* Closed forms per token and pass, over all layers. */
struct pass_work {
    double linear_flops;    /* 2 * parameters that work on one token, LM head included */
    double attention_flops; /* scores and values over `context` keys */
    double weight_bytes;    /* all weights, once: read whole by any step with enough tokens */
    double active_bytes;    /* of which one token alone would touch */
    double kv_read_bytes;   /* KV cache, index keys and state read per token */
    double kv_write_bytes;  /* what the cache holds per token of `context` */
    double state_bytes;     /* state of one request, whatever its context */
    double dispatch_bytes, combine_bytes; /* messages of low-latency kernels, self included */
};
/* absorbed: MLA in decode works on the latent KV (kv_lora_rank wide). */
void pass_work_of(const struct moe_model *m, double context, bool absorbed,
                  enum plan_dtype weight_dtype, double kv_bytes_per_element, struct pass_work *out);

/* The plan of what stands before and after the layers: embedding of the spec's tokens, final norm
 * and LM head over head_rows rows (the last token of each prompt in prefill). spec->dense must be
 * set and spec->routing have one masked expert a rank. */
int pass_ends_build(const struct layer_spec *spec, int head_rows, struct plan **out);

/* Tokens that a step yields per request when k drafted ones are accepted in a row with probability
 * a each: 1 + a + ... + a^k. */
double pass_tokens_accepted(int draft_tokens, double acceptance);

#endif
