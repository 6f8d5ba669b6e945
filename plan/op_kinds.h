/* plan/op_kinds.h: every kind of op, one row with all that is true of it whatever its shape. A new
 * kind is a row here and a law in model/law/cost_laws.h; without a law no simulation runs.
 *
 * Columns: name, text, class, what it does with rows on the network, what it works on, part of the
 * layer, what a picture writes into a narrow box.
 *   class    COMPUTE, COMM (moves expert rows between ranks), COLL (collective) or FUSED (does
 *            nothing itself: its parts are ops of the other classes)
 *   network  NOTHING, SENDS, RECVS or BOTH (fused)
 *   work     TOKENS (rows of the rank's tokens), ROWS (of its experts) or GEMM (of its experts)
 *   part     where times are summed, and a picture's colour (plan_part_colour) */
#ifndef PEOSIM_PLAN_OP_KINDS_H
#define PEOSIM_PLAN_OP_KINDS_H

/* clang-format off */
#define PLAN_OP_KINDS(X)                                                                           \
    /* norm, Q/K/V (latent) projections; scores and values over the KV cache; output projection */ \
    X(ATTN_PROJ,      "attn_proj",      COMPUTE, NOTHING, TOKENS, ATTENTION, "Proj")               \
    X(ATTN_CORE,      "attn_core",      COMPUTE, NOTHING, TOKENS, ATTENTION, "Attn")               \
    X(ATTN_OUT,       "attn_out",       COMPUTE, NOTHING, TOKENS, ATTENTION, "Out")                \
    /* gate GEMM and top-k */                                                                      \
    X(ROUTER,         "router",         COMPUTE, NOTHING, TOKENS, ROUTER,    "Gate")               \
    X(DISPATCH,       "dispatch",       COMM,    BOTH,    TOKENS, DISPATCH,  "D")                  \
    X(DISPATCH_SEND,  "dispatch_send",  COMM,    SENDS,   TOKENS, DISPATCH,  "Ds")                 \
    X(DISPATCH_RECV,  "dispatch_recv",  COMM,    RECVS,   TOKENS, DISPATCH,  "Dr")                 \
    /* grouped or dense: n = 2*inter, k = hidden; and n = hidden, k = inter */                     \
    X(GEMM_UP,        "gate_up_gemm",   COMPUTE, NOTHING, GEMM,   EXPERTS,   "Up")                 \
    X(ACT_QUANT,      "silu_mul_quant", COMPUTE, NOTHING, ROWS,   EXPERTS,   "Act")                \
    X(GEMM_DOWN,      "down_gemm",      COMPUTE, NOTHING, GEMM,   EXPERTS,   "Down")               \
    X(COMBINE,        "combine",        COMM,    BOTH,    TOKENS, COMBINE,   "C")                  \
    X(COMBINE_SEND,   "combine_send",   COMM,    SENDS,   TOKENS, COMBINE,   "Cs")                 \
    X(COMBINE_RECV,   "combine_recv",   COMM,    RECVS,   TOKENS, COMBINE,   "Cr")                 \
    /* shared expert or dense layer: dense GEMMs */                                                \
    X(MLP_UP,         "mlp_gate_up",    COMPUTE, NOTHING, TOKENS, MLP,       "ShUp")               \
    X(MLP_ACT,        "mlp_silu_mul",   COMPUTE, NOTHING, TOKENS, MLP,       "ShAct")              \
    X(MLP_DOWN,       "mlp_down",       COMPUTE, NOTHING, TOKENS, MLP,       "ShDown")             \
    /* library all-to-alls of tokens */                                                            \
    X(A2A_DISPATCH,   "a2a_dispatch",   COMM,    BOTH,    TOKENS, DISPATCH,  "D")                  \
    X(A2A_COMBINE,    "a2a_combine",    COMM,    BOTH,    TOKENS, COMBINE,   "C")                  \
    X(ALL_REDUCE,     "all_reduce",     COLL,    NOTHING, TOKENS, OTHER,     "AR")                 \
    X(REDUCE_SCATTER, "reduce_scatter", COLL,    NOTHING, TOKENS, OTHER,     "RS")                 \
    X(ALL_GATHER,     "all_gather",     COLL,    NOTHING, TOKENS, OTHER,     "AG")                 \
    X(LM_HEAD,        "lm_head",        COMPUTE, NOTHING, TOKENS, OTHER,     "Head")               \
    /* received copies to the rows of each expert chosen; their weighted sum, one per copy */      \
    X(PERMUTE,        "permute",        COMPUTE, NOTHING, ROWS,   EXPERTS,   "Perm")               \
    X(UNPERMUTE,      "unpermute",      COMPUTE, NOTHING, ROWS,   EXPERTS,   "Unp")                \
    /* an engine's whole expert layer as one call: router's output to summed rows; n = inter of this   \
     * rank, k = hidden */                                                                         \
    X(EXPERTS,        "experts",        COMPUTE, NOTHING, ROWS,   EXPERTS,   "Ffn")                \
    /* one kernel that holds its SMs while other ops run inside it (DEP_PART) */                   \
    X(FUSED,          "fused_kernel",   FUSED,   NOTHING, TOKENS, OTHER,     "Mega")
/* clang-format on */

enum plan_op_kind {
#define PLAN_OP_ENUM(name, ...) OP_##name,
    PLAN_OP_KINDS(PLAN_OP_ENUM)
#undef PLAN_OP_ENUM
        OP_KIND_COUNT
};

enum plan_op_class { OP_CLASS_COMPUTE, OP_CLASS_COMM, OP_CLASS_COLL, OP_CLASS_FUSED };
enum plan_op_network { OP_NET_NOTHING = 0, OP_NET_SENDS = 1, OP_NET_RECVS = 2, OP_NET_BOTH = 3 };
enum plan_op_work { OP_WORK_TOKENS, OP_WORK_ROWS, OP_WORK_GEMM };
enum plan_part {
    PLAN_PART_ATTENTION,
    PLAN_PART_ROUTER,
    PLAN_PART_DISPATCH,
    PLAN_PART_EXPERTS,
    PLAN_PART_COMBINE,
    PLAN_PART_MLP,
    PLAN_PART_OTHER,
    PLAN_PART_COUNT
};

struct plan_op_traits {
    const char *text;
    enum plan_op_class class;
    enum plan_op_network network;
    enum plan_op_work work;
    enum plan_part part;
    const char *brief;
};

/* Of a kind below OP_KIND_COUNT. */
const struct plan_op_traits *plan_op_traits(enum plan_op_kind kind);
/* Of the palette of plots/style.gp; -1 = grey. */
int plan_part_colour(enum plan_part part);
const char *plan_part_name(enum plan_part part);

#endif
