/* model/law/cost_laws.h: which law prices which kind of op, and which communication library. A new
 * kind of op or library is one row here, and the function it names. Inside model/law/. */
#ifndef PEOSIM_MODEL_LAW_COST_LAWS_H
#define PEOSIM_MODEL_LAW_COST_LAWS_H

#include "hw/profile.h"
#include "model/law/attn_family.h"
#include "model/law/ffn_family.h"
#include "model/law/gemm.h"
#include "model/law/law.h"
#include "model/law/memo.h"
#include "plan/cost.h"

/* A kind without a row has no law: plans with such an op are refused by name (cost.check). */
#define COST_OP_LAWS(X)                                                                            \
    X(ATTN_PROJ, cost_op_attn_proj)                                                                \
    X(ATTN_CORE, cost_op_attn_core)                                                                \
    X(ATTN_OUT, cost_op_attn_out)                                                                  \
    X(ROUTER, cost_op_router)                                                                      \
    X(DISPATCH, cost_op_comm)                                                                      \
    X(DISPATCH_SEND, cost_op_comm)                                                                 \
    X(DISPATCH_RECV, cost_op_comm)                                                                 \
    X(GEMM_UP, cost_op_expert_gemm)                                                                \
    X(ACT_QUANT, cost_op_expert_act)                                                               \
    X(GEMM_DOWN, cost_op_expert_gemm)                                                              \
    X(COMBINE, cost_op_comm)                                                                       \
    X(COMBINE_SEND, cost_op_comm)                                                                  \
    X(COMBINE_RECV, cost_op_comm)                                                                  \
    X(MLP_UP, cost_op_mlp_up)                                                                      \
    X(MLP_ACT, cost_op_mlp_act)                                                                    \
    X(MLP_DOWN, cost_op_dense)                                                                     \
    X(A2A_DISPATCH, cost_op_comm)                                                                  \
    X(A2A_COMBINE, cost_op_comm)                                                                   \
    X(ALL_REDUCE, cost_op_coll)                                                                    \
    X(REDUCE_SCATTER, cost_op_coll)                                                                \
    X(ALL_GATHER, cost_op_coll)                                                                    \
    X(LM_HEAD, cost_op_dense)                                                                      \
    X(PERMUTE, cost_op_permute)                                                                    \
    X(UNPERMUTE, cost_op_permute)                                                                  \
    X(EXPERTS, cost_op_experts)                                                                    \
    X(FUSED, cost_op_fused)

/* Library, its law, the names under which `calibrate` stores the ranges its dispatch and combine
 * were fitted in (NULL: no law of its own was fitted), and how a compute kernel beside slows it. */
#define COST_COMM_LAWS(X)                                                                          \
    X(LOW_LATENCY, cost_comm_low_latency, "ll_dispatch", "ll_combine", cost_beside_low_latency)    \
    X(LAYERED_LL, cost_comm_layered, "ll_layered", "ll_combine", cost_beside_low_latency)          \
    X(NORMAL, cost_comm_normal, "normal_dispatch", "normal_combine", cost_beside_warps)            \
    X(NCCL, cost_comm_a2a, NULL, NULL, cost_beside_a2a)                                            \
    X(NCCL_RANK, cost_comm_a2a, NULL, NULL, cost_beside_a2a)                                       \
    X(DEEPEP_V2, cost_comm_v2, NULL, NULL, cost_beside_warps)                                      \
    X(DEEPEP_V2_DIRECT, cost_comm_v2, NULL, NULL, cost_beside_warps)                               \
    X(ONE_SIDED, cost_comm_one_sided, "a2a_nvl", "a2a_nvl", cost_beside_warps)                     \
    X(DEDUP, cost_comm_dedup, "dedup_dispatch", "dedup_combine", cost_beside_warps)                \
    X(MEGA, cost_comm_mega, "mega", "mega", cost_beside_none)

/* What an op's cost may rest on (exchanges: on what takes most of their time, cost.c); one bit says
 * whether any of the fields is without data. */
enum basis {
    BASIS_A2A,
    BASIS_DENSE_BF16,
    BASIS_DENSE_FP8,
    BASIS_DENSE_NVFP4,
    BASIS_CONTIG,
    BASIS_ACT,
    BASIS_ROUTER,
    BASIS_ATTN,
    BASIS_COUNT
};

struct law_cost {
    double v[HW_FIELD_COUNT];
    bool assumed[BASIS_COUNT];
    struct hw_profile *profile; /* for tables */
    struct law_attn_families families;
    struct law_ffn_families ffn;
    const struct hw_table *dense[LAW_DENSE_COUNT]; /* of the profile; NULL = none */
    struct law_memo *memo;
};

/* The work of op on rank, as cost.work. */
typedef void cost_law(const struct law_cost *c, const struct plan *plan, int rank, int op,
                      struct cost_work *out);
/* By how much `op` of rank, a communication kernel, is slowed beside `other`, a compute kernel. */
typedef double cost_beside(const struct law_cost *c, const struct plan *plan, int rank, int op,
                           int other);

#define COST_DECLARE_OP(kind, law) cost_law law;
COST_OP_LAWS(COST_DECLARE_OP)
#undef COST_DECLARE_OP
#define COST_DECLARE_COMM(comm, law, dispatch, combine, beside)                                    \
    cost_law law;                                                                                  \
    cost_beside beside;
COST_COMM_LAWS(COST_DECLARE_COMM)
#undef COST_DECLARE_COMM

/* Copies that a sending op of rank puts on NVLink (and keeps) and on the NIC, and bytes of one. */
struct cost_copies {
    double near, local, far, bytes;
};
void cost_copies_of(const struct plan *plan, int rank, int op, struct cost_copies *out);

/* cost.least */
void cost_least_of(void *self, const struct plan *plan, int rank, int op, struct cost_least *out);
/* A GEMM inside a fused kernel (GEMM_FUSED). */
cost_law cost_mega_gemm;

struct cost_comm_law {
    cost_law *law;
    const char *range[2]; /* of dispatch and combine, by enum plan_flow_dir */
    cost_beside *beside;
};

const struct cost_comm_law *cost_comm_law_of(enum plan_comm comm);

#endif
