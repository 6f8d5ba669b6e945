/* model/policy/policy.h: the overlap policies. Each turns (model, cluster, batch, routing, knobs)
 * into a plan. A new policy is one file model/policy/<name>.c and one row of
 * model/policy/policies.h: all that other rooms want to know of it stands in its struct policy.
 */
#ifndef PEOSIM_MODEL_POLICY_POLICY_H
#define PEOSIM_MODEL_POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/opt.h"
#include "model/moe.h"
#include "model/policy/policies.h"
#include "plan/plan.h"

enum { LAUNCH_RTP_LLM, LAUNCH_SGLANG };
enum { SHARED_AFTER_COMBINE, SHARED_BEFORE_DISPATCH, SHARED_LEFT_OUT };
enum { GEMM_KIND_AUTO, GEMM_KIND_GROUP, GEMM_KIND_DENSE };
enum { TBO_ORDER_DEEPSEEK, TBO_ORDER_SGLANG };

enum { KNOBS_OWN = 8 };

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
    int combine_num_sms;         /* sbo: CTAs of the signalled combine send; 0 = by architecture */
    int block_m, block_n;        /* sbo: unit of the tile signals */
    int tbo_order;               /* tbo prefill: TBO_ORDER_* */
    int pipeline_num;            /* eps: PN, groups of experts */
    int gate_up_gemm, down_gemm; /* eps: GEMM_KIND_* */
    int own[KNOBS_OWN];          /* of policies that name theirs by KNOB_OWN_* */
};

/* What a layer is, before any policy. Borrowed pointers must outlive the plans built from it. */
struct layer_spec {
    const struct moe_model *model;
    const struct plan_routing *routing; /* ranks x tokens x topk */
    int ranks, ranks_per_node, num_sms;
    int arch;   /* of the GPU: 90 = sm_90; 0 = unknown */
    int tokens; /* T: tokens per rank entering the layer */
    bool decode;
    enum plan_comm comm; /* low-latency, normal or NCCL kernels */
    enum plan_dtype dispatch_dtype, combine_dtype, gemm_dtype;
    bool typed; /* part_dtype holds, as the model's file says; else gemm_dtype for all */
    enum plan_dtype part_dtype[MOE_PARTS];
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
    const struct program *program; /* model/policy/program.h: of policy_program; else NULL */
    bool dense; /* a layer without experts: attention, and a dense FFN where it has one */
};

/* Where a configuration leaves a knob open: the values that a search tries. */
enum knob_values { KNOB_RANGE, KNOB_DIVISORS, KNOB_LIST };
#define KNOB_LIST_MAX 16
struct knob_search {
    const char *key;
    enum knob_values values;
    /* RANGE: from, from + step, ... up to `to`, or up to half of the GPU's SMs where `to` is 0;
     * DIVISORS: of the local experts, between them; LIST: list[], ended by 0 */
    int from, to, step;
    int list[KNOB_LIST_MAX];
    bool unordered;        /* its values are names: no downhill along them */
    bool prefill;          /* decode does not read it */
    const char *auto_word; /* the value that stands for a search of its own, by simulation */
};
#define KNOB_SEARCH_END                                                                            \
    {                                                                                              \
        .key = NULL                                                                                \
    }

/* Where knobs shall run, for settings(). */
struct policy_place {
    int num_sms; /* N of the GPU */
    bool decode, blackwell;
    enum plan_comm comm; /* whose exchange */
};

struct policy {
    const char *name;
    const char *summary;
    const struct opt *knobs;  /* the rows of the knob table that it reads */
    bool spans_layers;        /* measured as a steady period, with attention */
    bool own_kernels;         /* kernels that `none` has not: no exchange of rows apart */
    bool follows_tiles;       /* its combine sends what tiles of the down GEMM finish */
    bool same_bits;           /* its output must equal that of `none` bit by bit */
    int auto_comm;            /* what `comm: auto` is beside it: 1 + enum plan_comm; 0: by phase */
    int own_comm;             /* 1 + the one it has whatever `comm` says; 0: as `comm` says */
    const char *const *archs; /* where its kernels exist ("sm_90", NULL last); NULL: everywhere */
    /* Knobs that name a point in tables, by their keys; NULL: it has none. */
    const char *method_knob; /* a row of its own: "peo 3" */
    const char *rounds_knob; /* pieces that it cuts the work into */
    const char *sms_knob;    /* SMs that communication holds beside compute */
    /* What a search may set, NULL-terminated; NULL: every knob, over its range or its names. */
    const struct knob_search *search;
    /* ", 4 rounds, 8 SMs" for titles of pictures; NULL: nothing. */
    void (*headline)(const struct knobs *k, char *buf, size_t size);
    /* The settings of engines and libraries that have it, one a line; NULL: there is nothing to
     * set. */
    void (*settings)(const struct knobs *k, const struct policy_place *place, FILE *f);
    /* Gives knobs that stand at 0 what engines take on this architecture; NULL: there are none. Who
     * prints knobs calls it first; check and build do so themselves. */
    void (*settle)(const struct layer_spec *spec, struct knobs *k);
    /* Can these knobs run? 0, or ERR_INFEASIBLE with a sentence in why. */
    int (*check)(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size);
    /* Builds and checks the plan; knobs have passed check(). The caller frees with plan_free. */
    int (*build)(const struct layer_spec *spec, const struct knobs *k, struct plan **out);
};

#define POLICY_DECLARE(name) extern const struct policy policy_##name;
POLICIES(POLICY_DECLARE)
#undef POLICY_DECLARE

size_t policy_count(void);
const struct policy *policy_at(size_t i);
const struct policy *policy_find(const char *name); /* NULL when there is none */
/* The defaults of every knob, as this policy has them. */
void knobs_default(const struct policy *p, struct knobs *k);
/* "overlap_method=1 num_rounds=4 num_sms=16": the knobs that this policy reads. */
void policy_knobs_text(const struct policy *p, const struct knobs *k, char *buf, size_t size);

/* The value of an int or enum knob by its key; `otherwise` where the policy has no such knob or the
 * key is NULL. */
int policy_knob(const struct policy *p, const struct knobs *k, const char *key, int otherwise);
/* The row of a policy's search table, or NULL. */
const struct knob_search *policy_knob_search(const struct policy *p, const char *key);
/* Does the knob of that row stand at `auto` in k? */
bool policy_knob_is_auto(const struct policy *p, const struct knobs *k,
                         const struct knob_search *row);
/* Has it knobs that stand at `auto` in k, for a caller who simulates to settle? */
bool policy_has_auto(const struct policy *p, const struct knobs *k);
/* Does it exist on the architecture sm_<arch>? */
bool policy_on_arch(const struct policy *p, int arch);
/* The values of a knob that a search tries in a layer; returns how many, at most max. 0: its
 * default alone. */
int policy_knob_values(const struct policy *p, const struct opt *knob,
                       const struct layer_spec *spec, int *values, int max);
/* The value of an int, enum or bool knob, and setting it. */
int knob_get(const struct opt *o, const struct knobs *k);
void knob_set(const struct opt *o, struct knobs *k, int value);

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
/* Knobs that only one policy has: slot 0 .. KNOBS_OWN-1 of knobs.own, under a name of its own. */
#define KNOB_OWN(slot) offsetof(struct knobs, own[slot])
#define KNOB_OWN_INT(slot, name, lo, hi, dflt, text)                                               \
    {                                                                                              \
        .key = name, .type = OPT_INT, .offset = KNOB_OWN(slot), .min = lo, .max = hi, .def = dflt, \
        .help = text, .list = true                                                                 \
    }
#define KNOB_OWN_ENUM(slot, name, names, dflt, text)                                               \
    {                                                                                              \
        .key = name, .type = OPT_ENUM, .offset = KNOB_OWN(slot), .choices = names, .def = dflt,    \
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
