/* validate/gpu_backend.h: one plan on this rank's GPU: its streams, events and kernels. Inside back
 * end 2 only. */
#ifndef PEOSIM_VALIDATE_GPU_BACKEND_H
#define PEOSIM_VALIDATE_GPU_BACKEND_H

#include "validate/gpu_a2a.h"
#include "validate/gpu_attn.h"
#include "validate/gpu_cupti.h"
#include "validate/gpu_experts.h"
#include "validate/gpu_session.h"

#define GPU_MAX_STREAMS 8

/* What a kernel of one op left; times of this rank's GPU, in ns. */
struct gpu_mark {
    long long start_ns, end_ns, wait_ns;
    long long free_ns; /* its stream could go on: end_ns, or the end of the mark behind it */
    int sms;
    enum gpu_source source;
};

struct gpu_op {
    bool event_wanted; /* another stream waits for it */
    bool mark; /* a library kernel before another one: when traced, a mark tells them apart */
    cudaEvent_t event;
    bool signals, follows; /* tiles: counts them, waits for them */
    int *rows_each;        /* expert GEMMs: rows of each of its experts on this rank, as planned */
    int hot_rows;          /* dispatches: most rows of one expert from one rank, as planned */
    struct gpu_dense_entry *dense;
    struct gpu_experts *experts; /* an expert GEMM as one library GEMM per expert, or NULL */
};

/* Where the steady period of a plan of several layers begins and ends: behind the last op of a
 * layer on every stream. */
struct gpu_bound {
    int layer;
    int last[GPU_MAX_STREAMS]; /* op, or -1 */
    cudaEvent_t event[GPU_MAX_STREAMS];
};

/* A plan made ready. A graph runs it `passes` times. Stamps: [passes][num_ops + 2], the last two
 * being marks at the pass's start and, in the last pass, at its end. */
struct gpu_run {
    struct gpu_session *s;
    const struct plan *plan;
    const struct gpu_options *o;
    int hidden, inter, topk;
    struct gpu_op *op;
    cudaStream_t stream[GPU_MAX_STREAMS];
    cudaEvent_t fork, join[GPU_MAX_STREAMS];
    struct kernel_stamp *stamps; /* device */
    struct kernels_pacing pacing;
    struct gpu_a2a *a2a;   /* NULL: the plan has no library all-to-alls */
    struct gpu_attn *attn; /* NULL: the plan has no attention */
    int *act_strides;      /* device [batches][El], or NULL: how far apart the activation's scales
                              lie where the down GEMM is one per expert */
    int passes;
    bool periodic; /* the steady period between the bounds is measured, not the whole */
    struct gpu_bound bound[2];
    bool marked;   /* a pass ends with a library kernel: only a mark after it shows when */
    uint64_t hash; /* of this rank's checked output */
};

static inline int run_marks(const struct gpu_run *r)
{
    return r->plan->num_ops + 2;
}

/* Looks at the plan, opens the layer's memory, makes streams and events. ERR_UNSUPPORTED,
 * ERR_INFEASIBLE: this plan cannot run; on all ranks alike. */
int run_open(struct gpu_run *r, struct gpu_session *s, const struct plan *plan,
             const struct gpu_options *o);
void run_close(struct gpu_run *r);

/* Enqueues the plan once, or captures it: all streams start after what is on stream 0, and stream 0
 * goes on after all of them. stamps: of this pass, or NULL; last: of the passes in a row. */
int run_pass(struct gpu_run *r, struct kernel_stamp *stamps, bool last);
/* Does `next` wait for `op`, by its stream or by a dependency? */
bool run_op_follows(const struct plan *plan, int op, int next);

/* One op on its stream (gpu_ops.c). */
int run_op(struct gpu_run *r, int op, cudaStream_t stream, struct kernel_stamp *stamp);
/* Can its kernel run at all? Logs why not. */
int run_op_check(struct gpu_run *r, int op);
/* Rows that go through library all-to-alls? Then the host knows how many each expert has. */
bool run_has_a2a(const struct plan *plan);
/* Does it launch a library GEMM of the plan's shape (gpu_op.dense)? */
bool run_op_has_dense(const struct plan_op *op);
/* Begins with kernels that leave no stamp: CUPTI times them, or their times follow from their
 * neighbours'. */
bool run_op_is_library(const struct plan_op *op);
/* A library kernel, but followed by one of ours: only the start follows from its neighbours. */
bool run_op_ends_stamped(const struct plan_op *op);

/* One pass, as it is measured (a graph, or eager), on poisoned memory (gpu_replay.c). */
int run_poisoned(struct gpu_run *r);
/* Totals, then stamps (gpu_measure.c). */
int run_measure(struct gpu_run *r, struct gpu_result *result, struct trace **trace);

#endif
