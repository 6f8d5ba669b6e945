/* plan/plan.h: THE CONTRACT. A plan is what a policy makes of (model, cluster, batch, routing,
 * knobs).
 *
 * Every rank runs the same program: one array of ops in host launch order (the order is part of the
 * plan, because it changes results). What differs between ranks is how many rows each op carries,
 * and that follows from the routing table alone. Ops hold SHAPES, never times or costs: a back end
 * that launches kernels reads the shapes, one that simulates asks plan/cost.h about them.
 *
 * Units: rows and tokens are counts, bytes are bytes. Expert indices in ops are LOCAL (0..El-1) and
 * hold for every rank: op range [first_expert, first_expert + num_experts). */
#ifndef PEOSIM_PLAN_PLAN_H
#define PEOSIM_PLAN_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "plan/attn.h"
#include "plan/comm_kinds.h"
#include "plan/op_kinds.h"

/* FP8 is e4m3 with one float scale per 128 channels (activations) or 128x128 block (weights).
 * LOGFMT10 is a message's only. Of a GEMM: NVFP4 has 4-bit weights and activations (a one-byte
 * scale per 16 values), MXFP4 4-bit weights (a one-byte scale per 32) and FP8 activations, W4A8 and
 * W4A16 4-bit integer weights (a two-byte scale per 32 to 128) with FP8 or BF16 activations. */
enum plan_dtype {
    DTYPE_BF16,
    DTYPE_FP8,
    DTYPE_LOGFMT10,
    DTYPE_NVFP4,
    DTYPE_MXFP4,
    DTYPE_W4A8,
    DTYPE_W4A16,
    DTYPE_COUNT
};

/* Which kernel family does an expert GEMM. */
enum plan_gemm { GEMM_MASKED, GEMM_CONTIGUOUS, GEMM_DENSE, GEMM_FUSED, GEMM_IMPL_COUNT };

enum plan_dep_kind {
    DEP_END,  /* starts after the other op ended */
    DEP_UNIT, /* unit k of this op waits for unit k of the other (rows of one expert block): a send
               * that follows a GEMM, or inside a fused kernel a GEMM whose rows are on their way */
    /* This op is a part of the other, a FUSED kernel: it runs on warps of that kernel's CTAs, asks
     * for no SMs of its own and is not launched; the kernel ends with the last of its parts. Parts
     * of a kernel share streams that hold nothing else: its lanes. */
    DEP_PART
};

struct plan_dep {
    int op;
    enum plan_dep_kind kind;
};

struct plan_op {
    enum plan_op_kind kind;
    int stream;
    int sms;          /* SMs asked for, 1..plan.num_sms; the kernel's own grid may be smaller */
    bool cooperative; /* all CTAs must be resident at once */
    int layer;        /* 0..plan.num_layers-1 */
    int batch;        /* which plan_batch (half batch) it works on */
    int round, num_rounds;
    int first_expert, num_experts; /* local experts; 0,0 for ops that are not per expert */
    int rows;                      /* dense ops: rows (tokens) per rank; expert ops: 0 */
    int n, k;              /* GEMM: output and reduction width; comm and act: n = hidden or inter */
    enum plan_dtype dtype; /* of the operands, or of the message payload */
    enum plan_gemm gemm;
    enum plan_comm comm;
    int buffer;           /* communication buffer set, 0 or 1 */
    int block_m, block_n; /* units of DEP_UNIT: block_m rows of one expert; 0 = no units */
    int shared_n;         /* EXPERTS: width of the shared expert computed with them; 0 = none */
    int chosen_among;     /* EXPERTS: the model's experts, however many ranks hold a part of each */
    int64_t coll_bytes;   /* collectives: bytes per rank as nccl-tests' -b counts them */
    int coll_ranks;       /* collectives: ranks in one group */
    int first_dep, num_deps; /* into plan.deps */
};

struct plan_stream {
    char name[16]; /* "main", "compute", "comm" */
    int priority;  /* CUDA's convention: a smaller number is more urgent */
};

/* Which way rows travel: from the token's rank to the expert's, or back. */
enum plan_flow_dir { FLOW_DISPATCH, FLOW_COMBINE };

/* What send_op puts on the network on every rank and what recv_op waits for from every rank. */
struct plan_flow {
    int send_op, recv_op; /* equal for fused ops */
    enum plan_flow_dir dir;
    enum plan_flow_dedup dedup;
    int batch;
    int first_expert, num_experts;
    int bytes_per_row;  /* one message */
    int bytes_per_flag; /* one count or flag per (expert, rank) */
    /* Set by plan_flow_add for deduplicated groups, NULL else; [ranks*ranks], row = token's rank:
     * copies sent to each rank, and copies a node's proxy rank forwards inside its node. */
    const int32_t *pair, *fwd;
    const int32_t *copies; /* likewise [ranks]: tokens with at least one expert of the range on that
                        rank, each one copy that its experts share (for either direction) */
};

/* The routing table: the top-k experts of every token of every rank. expert[(rank*tokens + t)*topk
 * + j] is a GLOBAL expert index or -1 (masked). Expert e lives on rank e / (experts/ranks) unless
 * placed otherwise. Owned by whoever made it; a plan borrows it and it must outlive the plan. */
struct plan_routing {
    int ranks, tokens, topk, experts;
    int32_t *expert;
    struct plan_counts
        *counts; /* what its plans count of it (plan/counts.h), or NULL: each its own */
};

/* A slice of the batch: tokens [first_token, first_token + num_tokens) of every rank, with the
 * counts that follow. */
struct plan_batch {
    const struct plan_routing *routing;
    int first_token, num_tokens;
    const int32_t
        *prefix; /* [ranks][experts+1]: rows from that source to experts below e, cumulative */
    const int32_t *rows; /* [experts]: rows of each expert over all sources */
};

/* Whose attention kernels run; AUTO: those measured most widely. */
enum plan_attn_engine {
    ATTN_ENGINE_AUTO,
    ATTN_ENGINE_SGLANG,
    ATTN_ENGINE_VLLM,
    ATTN_ENGINE_TRTLLM
};

/* Attention shapes, the same for every attention op of a plan. Heads are those of ONE rank: already
 * divided by tp. */
struct plan_attn {
    enum plan_attn_engine engine;
    double kv_element_bytes; /* of the cache */
    int heads, kv_heads;
    int qk_head_dim, v_head_dim;
    int kv_lora_rank, qk_rope_head_dim; /* MLA: latent KV; 0 for GQA/MHA */
    int q_lora_rank;
    int kv_bytes_per_token; /* per layer, as stored in the KV cache on this rank */
    int context_len;        /* tokens already in the KV cache of each request */
    int q_tokens; /* query tokens per request and step: 1 in decode, the prompt in prefill */
    int tp;       /* attention tensor parallelism (1 = data parallel) */
    /* What kind of module it is, heads of one rank too; the fields above that it shares with GQA
     * and MLA repeat it. Kind NONE: the fields above are all there is (plans made by hand). */
    struct attn_shape shape;
};

struct plan {
    char policy[16];
    int ranks, experts, experts_per_rank, num_sms;
    int ranks_per_node; /* node dedup and topology */
    int num_layers;
    int period_layers; /* layer time is measured over the last so many that have a next layer */
    struct plan_attn attn;
    struct plan_stream *streams;
    int num_streams;
    struct plan_op *ops;
    int num_ops, cap_ops;
    struct plan_dep *deps;
    int num_deps, cap_deps;
    struct plan_flow *flows;
    int num_flows, cap_flows;
    struct plan_batch *batches;
    int num_batches;
    struct plan_counts *counts;       /* those that are its own, or NULL */
    struct plan_routing *own_routing; /* a table that its policy made; freed with it, or NULL */
};

/* Prompts are attended to by expanded heads, a few tokens by absorbed MLA. */
static inline bool plan_attn_is_prefill(const struct plan_attn *a)
{
    return a->q_tokens > 16;
}

const char *plan_op_kind_name(enum plan_op_kind kind);
enum plan_op_class plan_op_kind_class(enum plan_op_kind kind);
bool plan_op_sends(enum plan_op_kind kind);             /* puts rows on the network */
bool plan_op_recvs(enum plan_op_kind kind);             /* waits for rows */
enum plan_flow_dir plan_op_dir(enum plan_op_kind kind); /* of a comm op */
bool plan_op_is_expert_gemm(enum plan_op_kind kind);
/* Works on the rows of its experts without moving them between ranks: GEMMs and what lies around
 * them. */
bool plan_op_is_expert_work(enum plan_op_kind kind);

/* The first op of a kind, or NULL. */
const struct plan_op *plan_op_of_kind(const struct plan *plan, enum plan_op_kind kind);

/* "dispatch_send[2]", with the half batch and layer where a plan has several: "down_gemm[0].B/L1".
 */
void plan_op_label(const struct plan *plan, int op, char *buf, size_t size);

/* An empty plan that owns what is added to it. ERR_NOMEM. plan_free accepts NULL. */
int plan_new(struct plan **out, int ranks, int experts, int num_sms);
void plan_free(struct plan *plan);

/* Adds; each returns the index, or a negative error code. plan_op_add copies *op (deps ignored). */
int plan_stream_add(struct plan *plan, const char *name, int priority);
int plan_op_add(struct plan *plan, const struct plan_op *op);
int plan_flow_add(struct plan *plan, const struct plan_flow *flow);
int plan_batch_add(struct plan *plan, const struct plan_routing *routing, int first_token,
                   int num_tokens);
/* Makes the op added LAST wait for `on`; a negative `on` is no dependency and is accepted. */
int plan_dep_add(struct plan *plan, int on, enum plan_dep_kind kind);

/* The fused kernel that an op is a part of, or -1. */
int plan_op_kernel(const struct plan *plan, int op);

/* Checks everything a back end relies on; logs the first fault. 0 or ERR_INTERNAL. */
int plan_check(const struct plan *plan);

/* One op a line, the same text for the same plan; what golden tests store. 0 or ERR_IO. */
int plan_print(const struct plan *plan, FILE *f);

/* Rows of local expert e (0..El-1) of `rank` in a batch. */
static inline int plan_expert_rows(const struct plan *plan, int batch, int rank, int e)
{
    return plan->batches[batch].rows[(size_t)rank * plan->experts_per_rank + e];
}
/* Rows an expert op has on `rank`: the sum over its experts; the largest over them in *max_rows. */
int plan_op_rows(const struct plan *plan, int op, int rank, int *max_rows);
/* Most rows that one expert of the op's on `rank` has from one rank's tokens. */
int plan_op_hot_rows(const struct plan *plan, int op, int rank);
/* Rows from token rank `src` to the experts [first, first+num) of `dst` (one per chosen expert). */
static inline int plan_pair_rows(const struct plan *plan, int batch, int src, int dst, int first,
                                 int num)
{
    const int32_t *p = plan->batches[batch].prefix + (size_t)src * (plan->experts + 1);
    int base = dst * plan->experts_per_rank + first;
    return p[base + num] - p[base];
}

/* Rows that `sender` sends to every rank in a flow group, rows[ranks], after dedup by the group's
 * rule (FLOW_PER_NODE: rows that cross to the same-index rank of each node are in rows[]; what is
 * then forwarded inside that node is in fwd[ranks] as rows counted at their final rank; fwd may be
 * NULL for the other rules). */
void plan_flow_rows(const struct plan *plan, int flow, int sender, int *rows, int *fwd);

/* Copies behind the rows of a PERMUTE or UNPERMUTE on `rank`: those of the flow group that carries
 * its experts' rows, or one per row where no group deduplicates them. */
int plan_op_copies(const struct plan *plan, int op, int rank);

/* Units of a DEP_UNIT consumer on a rank: blocks of block_m rows of each expert of its range, in
 * order. Rows inside an expert stand in order of source rank. */
int plan_op_num_units(const struct plan *plan, int op, int rank);
/* Rows of unit `unit` that belong to each source rank, added to rows[ranks]. */
void plan_unit_rows(const struct plan *plan, int op, int rank, int unit, int *rows);

/* The steady period of a plan of several layers: its layer time is that from the end of layer *from
 * to the end of layer *to, over *to - *from layers. The last layer has no next one to share its
 * time with, so the period ends before it where there are layers enough. False: there is none, the
 * whole plan is measured. */
bool plan_period(const struct plan *plan, int *from, int *to);

/* after[num_ops], the caller's: after[i] says that op i starts only once `op` has ended, by the
 * order of streams and by END dependencies. */
void plan_ops_after(const struct plan *plan, int op, bool *after);

/* A buffer set carries one exchange (dispatch to combine of one layer and half batch) at a time:
 * the first dispatch of the next must come after the last combine of the one before, by streams and
 * dependencies. *op is the first dispatch for which that does not hold, or -1. ERR_NOMEM. */
int plan_buffer_clash(const struct plan *plan, int *op);

/* Closed sums for conservation tests: over all ranks. */
double plan_total_flops(const struct plan *plan);
double plan_total_message_bytes(const struct plan *plan);

#endif
