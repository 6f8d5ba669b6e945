/* model/policy/layer.h: the pieces of an MoE layer that policies put together: each function
 * appends ops to a plan in launch order. Errors stick in the builder and surface once, in
 * layer_finish. */
#ifndef PEOSIM_MODEL_POLICY_LAYER_H
#define PEOSIM_MODEL_POLICY_LAYER_H

#include "model/policy/policy.h"

struct layer_builder {
    struct plan *plan;
    const struct layer_spec *spec;
    const struct knobs *knobs;
    int err;
    int layer, batch; /* stamped on every op added */
    int buffer;
    int sms_all; /* N */
    /* experts of the round being added, where rounds are no even shares; num 0: even */
    int part_first, part_num;
    int inside; /* 1 + the FUSED op that what is added is a part of; 0: kernels of their own */
};

/* Starts a plan with one batch of all tokens (halves: two of half each). */
void layer_begin(struct layer_builder *b, const struct policy *policy,
                 const struct layer_spec *spec, const struct knobs *knobs, bool halves);
int layer_stream(struct layer_builder *b, const char *name, int priority);
/* Checks the plan and hands it over; on error frees it and returns the first error. */
int layer_finish(struct layer_builder *b, struct plan **out);

/* Which experts: round i of R, of every rank. */
struct layer_round {
    int round, num_rounds;
};

/* All return the index of the (last) op added, or -1 once the builder has failed. `after` names an
 * op on another stream to wait for, or -1. */
int layer_attention(struct layer_builder *b, int stream, int sms, int after);
int layer_attn_proj(struct layer_builder *b, int stream, int sms, int after);
int layer_attn_core(struct layer_builder *b, int stream, int sms, int after);
int layer_router(struct layer_builder *b, int stream, int sms, int after);
/* The shared experts, and the dense FFN beside the experts where the model has one; -1: neither. */
int layer_shared(struct layer_builder *b, int stream, int sms, int after);
/* Experts on a smaller hidden: their input (behind the router) and, behind the combine, their sum
 * back to the hidden size. Nothing where the model has no such width. */
int layer_latent_up(struct layer_builder *b, int stream, int sms, int after);
int layer_dense_mlp(struct layer_builder *b, int stream, int sms, int after);
/* Look-up of the tokens' embeddings, as the element-wise kernel that moves the same bytes; and the
 * output projection of `rows` tokens to the vocabulary, split over the attention's ranks, BF16. */
int layer_embedding(struct layer_builder *b, int stream, int sms, int after);
int layer_lm_head(struct layer_builder *b, int stream, int sms, int rows, int after);

int layer_dispatch(struct layer_builder *b, int stream, int sms, int after); /* fused */
int layer_dispatch_send(struct layer_builder *b, struct layer_round r, int stream, int sms,
                        int after);
int layer_dispatch_recv(struct layer_builder *b, struct layer_round r, int stream, int sms,
                        int send_op, int after);
int layer_combine(struct layer_builder *b, int stream, int sms, int after); /* fused */
int layer_combine_send(struct layer_builder *b, struct layer_round r, int stream, int sms,
                       int after);
/* Receives from every combine send in send_ops[n]. */
int layer_combine_recv(struct layer_builder *b, int stream, int sms, const int *send_ops, int n,
                       int after);
/* Library all-to-alls of one group of experts (`eps`, and `none` with comm = nccl). */
int layer_a2a_dispatch(struct layer_builder *b, struct layer_round r, int stream, int sms,
                       int after);
int layer_a2a_combine(struct layer_builder *b, struct layer_round r, int stream, int sms,
                      int after);

/* A fused kernel: what is added from here on is its parts, on lanes, until layer_fused_end. Experts
 * of a part: [first, first + num), part `round` of `num_rounds`. A store follows the units of the
 * down GEMM `down`. All parts of a wave have blocks of one size, its dispatch's. */
struct layer_experts {
    int round, num_rounds, first, num;
};
int layer_fused(struct layer_builder *b, int stream, int sms, int after);
void layer_fused_end(struct layer_builder *b);
int layer_part_dispatch(struct layer_builder *b, struct layer_experts e, int lane, int sms,
                        int block_m, int block_n);
/* A gate+up GEMM follows the units of its `rows_op`, a dispatch of the same kernel and blocks. */
int layer_part_gemm(struct layer_builder *b, enum plan_op_kind kind, struct layer_experts e,
                    int lane, int rows_op, int after);
int layer_part_store(struct layer_builder *b, struct layer_experts e, int lane, int down,
                     int after);

/* The expert FFN of one round: gate+up GEMM, SiLU*mul+quantise, down GEMM.
 *
 * With the normal kernels a permute precedes them and an un-permute follows: those kernels deliver
 * one copy of a token per rank, in order of arrival, and take one partial sum per copy back, while
 * grouped GEMMs want the rows of each expert together. Low-latency kernels write and read the
 * packed layout themselves. Library all-to-alls need the same copies, but there they are part of
 * the A2A op (pack, all-to-all, unpack, as back end 2 runs it): a measured
 * a2a.* rate includes them, an assumed one, that of the bare library, does not. */
struct layer_ffn {
    int up_sms, act_sms, down_sms;
    enum plan_gemm up_gemm, down_gemm;
    int block_m, block_n; /* of the down GEMM's units; 0 = no units */
};
int layer_ffn(struct layer_builder *b, struct layer_round r, int stream, const struct layer_ffn *f,
              int after, int also_after);
/* The engine's whole expert layer as one op, over so many tokens, with shared_n columns of the
 * shared expert as one more that all of them choose. */
int layer_experts(struct layer_builder *b, int stream, int sms, int tokens_seen, int shared_n,
                  int after);
int layer_collective(struct layer_builder *b, enum plan_op_kind kind, int stream, int sms,
                     int64_t bytes, int after);
/* The same over any number of ranks. */
int layer_collective_over(struct layer_builder *b, enum plan_op_kind kind, int stream, int sms,
                          int64_t bytes, int ranks, int after);
/* A dense op of any shape, with the type that this part of the model has. */
int layer_dense_op(struct layer_builder *b, enum plan_op_kind kind, enum moe_part part, int stream,
                   int sms, const int shape[3], int after); /* rows, n, k */
/* Bytes of one collective over the attention group's tokens (BF16). */
int64_t layer_tp_bytes(const struct layer_builder *b);
/* Makes the op added last wait for `on` too. */
void layer_also_after(struct layer_builder *b, int on, enum plan_dep_kind kind);
/* What runs before the dispatch and after the combine in none, peo and eps; each returns its last
 * op (layer_head) or nothing. */
int layer_head(struct layer_builder *b, int stream, int sms, int after);
void layer_tail(struct layer_builder *b, int stream, int sms);
/* Is there anything for layer_shared? */
static inline bool layer_has_shared(const struct layer_spec *spec)
{
    return spec->model->shared_inter > 0 || spec->model->beside_inter > 0;
}
/* SMs that communication ops hold where the schedule says N. */
int layer_comm_all(const struct layer_builder *b);
enum plan_gemm layer_default_gemm(const struct layer_spec *spec);

/* Checks shared by policies: experts over ranks, low-latency buffer size, 0 < sms <= N. */
int layer_check(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size);
int layer_infeasible(char *why, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
