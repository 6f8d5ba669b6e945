/* trace/trace.h: what came out of running a plan, from either back end. Times in ns from the common
 * start of all ranks. A trace is a flat array of spans with one owner. */
#ifndef PEOSIM_TRACE_TRACE_H
#define PEOSIM_TRACE_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "plan/plan.h"

/* Why a span started when it did: what it waited for last. */
enum trace_cause {
    CAUSE_START,  /* nothing: the rank's own start (skew) */
    CAUSE_STREAM, /* the op before it on its stream */
    CAUSE_DEP,    /* an op on another stream */
    CAUSE_SMS,    /* SMs that cause_op held */
    CAUSE_LAUNCH, /* the host had not launched it yet (eager mode) */
    CAUSE_UNKNOWN /* measured traces */
};

/* What a span's time was spent on, in order of the parts of plan/cost.h. */
enum trace_part {
    PART_FIXED,   /* fixed latencies */
    PART_SM,      /* limited by its SMs */
    PART_HBM,     /* limited by HBM bandwidth */
    PART_PUSH,    /* sending, limited by its own SMs */
    PART_NVLINK,  /* sending or waiting, limited by NVLink */
    PART_NIC,     /* sending or waiting, limited by the NIC or the fabric */
    PART_WAIT,    /* waiting for a peer that had not sent yet (skew, imbalance) */
    PART_BLOCKED, /* CTAs that found no SM: second passes */
    PART_COUNT
};
const char *trace_part_name(enum trace_part part);
const char *trace_cause_name(enum trace_cause cause);

struct trace_span {
    int rank, stream, op;
    double ready_ns; /* stream order and dependencies met */
    double start_ns; /* first CTA starts */
    double end_ns;   /* last CTA ends */
    double wait_ns;  /* inside [start, end]: waiting for data from peers */
    int sms;         /* SMs obtained (the most at any time) */
    enum trace_cause cause;
    int cause_op;           /* on the same rank; -1 = none */
    int data_rank, data_op; /* whose data ended the wait last; -1 = did not wait */
    float
        part_ns[PART_COUNT]; /* sums to end - start; measured traces: only PART_WAIT and PART_SM */
};

struct trace_counter { /* a step function: value from t_ns on */
    int rank;
    int which; /* 0: SMs in use; 1: NVLink egress GB/s; 2: NIC egress GB/s; 3: HBM GB/s */
    double t_ns, value;
};

struct trace {
    char backend[8]; /* "sim" or "gpu" */
    int ranks;
    struct trace_span *spans;
    size_t num_spans, cap_spans;
    struct trace_counter *counters;
    size_t num_counters, cap_counters;
    uint64_t events; /* simulator events processed; 0 for measured traces */
    double end_ns;   /* last op of the slowest rank */
};

/* Where a back end puts spans as they finish; a trace is the sink that keeps them all. */
struct trace_sink {
    void *self;
    int (*span)(void *self, const struct trace_span *span);          /* 0 or an error code */
    int (*counter)(void *self, const struct trace_counter *counter); /* may be NULL */
};

int trace_new(struct trace **out, const char *backend, int ranks);
void trace_free(struct trace *trace); /* accepts NULL */
struct trace_sink trace_collect(struct trace *trace);
/* Sorts by rank, then start, then op, so that equal runs give equal bytes. */
void trace_sort(struct trace *trace);

/* What the tables print; computed from spans and the plan alone, for either back end. */
struct trace_metrics {
    double layer_ns; /* to the end of the last op, or the steady period */
    int slowest_rank;
    double exposed_comm_ns;        /* slowest rank: comm in progress and no compute op running */
    double comm_ns, compute_ns;    /* slowest rank: union of comm spans, of compute spans */
    double sm_util;                /* mean over ranks: SM-ns held / (num_sms * layer time), 0..1 */
    double part_ns[PART_COUNT];    /* along the critical path, in the layer measured */
    double launch_ns;              /* along the critical path: gaps, launches */
    double kind_ns[OP_KIND_COUNT]; /* the critical path again, by kind of op; with launch_ns it adds
                                      up to layer_ns as the parts do */
};
int trace_measure(const struct trace *trace, const struct plan *plan, struct trace_metrics *out);

/* A stretch of the critical path: the time that one span is on it, and what that time was. */
struct trace_step {
    int rank, op;
    double part_ns[PART_COUNT];
    double launch_ns; /* the gap before it */
};
/* The path whose parts trace_measure adds up, from its end to its beginning; all layers measured
 * together. The caller frees *steps. */
int trace_path(const struct trace *trace, const struct plan *plan, struct trace_step **steps,
               size_t *num);

/* By how much each span could end later without moving the end of the trace: slack_ns[rank *
 * plan->num_ops + op], the caller's array of ranks * num_ops; NAN for ops without a span. Waits for
 * SMs and for data count where the trace names them as what was waited for last, so that a slack is
 * an upper bound: using it up may make another wait the last one. */
int trace_slack(const struct trace *trace, const struct plan *plan, double *slack_ns);

#endif
