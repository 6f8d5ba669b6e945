/* model/policy/policy.h: the overlap policies. Each turns (model, cluster, batch, routing, knobs)
 * into a plan. A new policy is one file model/policy_<name>.c and one row of the table in
 * model/policy/policy.c.
 */
#ifndef PEOSIM_MODEL_POLICY_POLICY_H
#define PEOSIM_MODEL_POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/opt.h"
#include "model/moe.h"
#include "plan/plan.h"

enum { LAUNCH_RTP_LLM, LAUNCH_SGLANG };
enum { SHARED_AFTER_COMBINE, SHARED_BEFORE_DISPATCH, SHARED_LEFT_OUT };
enum { GEMM_KIND_AUTO, GEMM_KIND_GROUP, GEMM_KIND_DENSE };
enum { TBO_ORDER_DEEPSEEK, TBO_ORDER_SGLANG };

/* Every knob of every policy, by the field's own names. 0 in an SM count means "as the policy
 * derives it". A policy reads only the knobs that its table names. */
struct knobs {
    int overlap_method;          /* peo: 1..4 */
    int num_rounds;              /* peo: R */
    int num_sms;                 /* n: communication SMs (peo, tbo prefill, eps) */
    int deepep_send_num_sms;     /* peo: replaces n in Ds and Cs */
    int deepep_recv_num_sms;     /* peo: replaces n in Dr */
    int up_deepgemm_num_sms;     /* peo: replaces N-n and N-2n in the gate+up GEMM */
    int down_deepgemm_num_sms;   /* peo: the same in the down GEMM */
    int launch_order;            /* peo: LAUNCH_* */
    bool split_phases;           /* none: dispatch and combine as two kernels each */
    int shared_expert;           /* SHARED_*: where the shared expert runs (none, peo, eps) */
    int combine_num_sms;         /* sbo: CTAs of the signalled combine send */
    int block_m, block_n;        /* sbo: unit of the tile signals */
    int tbo_order;               /* tbo prefill: TBO_ORDER_* */
    int pipeline_num;            /* eps: PN, groups of experts */
    int gate_up_gemm, down_gemm; /* eps: GEMM_KIND_* */
};

/* What a layer is, before any policy. Borrowed pointers must outlive the plans built from it. */
struct layer_spec {
    const struct moe_model *model;
    const struct plan_routing *routing; /* ranks x tokens x topk */
    int ranks, ranks_per_node, num_sms;
    int tokens; /* T: tokens per rank entering the layer */
    bool decode;
    enum plan_comm comm; /* low-latency, normal or NCCL kernels */
    enum plan_dtype dispatch_dtype, combine_dtype, gemm_dtype;
    int max_dispatch_tokens; /* num_max_dispatch_tokens_per_rank of the low-latency buffers */
    int normal_num_sms;      /* SMs that normal kernels hold where a policy says "all" */
    bool attention;          /* put attention in the layer */
    int context_len, q_tokens, attention_tp;
    double kv_bytes_per_element; /* 2 BF16, 1 FP8 */
    enum plan_attn_engine attn_engine;
    int layers;         /* layers laid one after another, >= 1 */
    int period_layers;  /* of which the last ones give the steady period */
    int router_experts; /* what the gate scores; 0 = the model's (fewer than with redundant experts)
                         */
    bool dense;         /* a dense layer (first_k_dense_replace): attention and MLP, no experts */
};

struct policy {
    const char *name;
    const char *summary;
    const struct opt *knobs; /* the rows of the knob table that it reads */
    bool spans_layers;       /* measured as a steady period, with attention */
    /* Can these knobs run? 0, or ERR_INFEASIBLE with a sentence in why. */
    int (*check)(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size);
    /* Builds and checks the plan; knobs have passed check(). The caller frees with plan_free. */
    int (*build)(const struct layer_spec *spec, const struct knobs *k, struct plan **out);
};

extern const struct policy policy_none, policy_peo, policy_sbo, policy_tbo, policy_eps;

size_t policy_count(void);
const struct policy *policy_at(size_t i);
const struct policy *policy_find(const char *name); /* NULL when there is none */
/* The defaults of every knob, as this policy has them. */
void knobs_default(const struct policy *p, struct knobs *k);
/* "overlap_method=1 num_rounds=4 num_sms=16": the knobs that this policy reads. */
void policy_knobs_text(const struct policy *p, const struct knobs *k, char *buf, size_t size);

/* Rows of the knob table, for the policies' own tables. */
#define KNOB_INT(name, lo, hi, dflt, text)                                                         \
    {                                                                                              \
        .key = #name, .type = OPT_INT, .offset = offsetof(struct knobs, name), .min = lo,          \
        .max = hi, .def = dflt, .help = text, .list = true                                         \
    }
#define KNOB_ENUM(name, names, dflt, text)                                                         \
    {                                                                                              \
        .key = #name, .type = OPT_ENUM, .offset = offsetof(struct knobs, name), .choices = names,  \
        .def = dflt, .help = text, .list = true                                                    \
    }
#define KNOB_BOOL(name, dflt, text)                                                                \
    {                                                                                              \
        .key = #name, .type = OPT_BOOL, .offset = offsetof(struct knobs, name), .def = dflt,       \
        .help = text, .list = true                                                                 \
    }
#define KNOB_END                                                                                   \
    {                                                                                              \
        .key = NULL                                                                                \
    }
#define KNOB_SHARED                                                                                \
    KNOB_ENUM(shared_expert, "after_combine|before_dispatch|left_out", "after_combine",            \
              "where the shared expert runs on the main stream")

#endif
