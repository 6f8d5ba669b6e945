/* sim/sim_state.h: the insides of a simulation, shared by sim/sim*.c and by nobody else. */
#ifndef PEOSIM_SIM_SIM_STATE_H
#define PEOSIM_SIM_SIM_STATE_H

#include "base/heap.h"
#include "sim/sim.h"

enum { SIM_BATCHES = 8, SIM_NO_RUN = -1 };

/* A push limit for laws that state none: far above any GPU's copy rate. */
#define PUSH_UNLIMITED_GBPS 1e5

/* Which thing a timer of the event heap belongs to. */
enum timer_kind { TIMER_STREAM, TIMER_WORK, TIMER_RUN, TIMER_FLAGS };
struct timer {
    struct sim_heap_node node;
    enum timer_kind kind;
    bool off_node; /* TIMER_FLAGS: which of the two */
};

/* The parts of a kernel's life, in order; which of them it has depends on its kind. */
enum phase {
    PHASE_QUEUED,     /* waits for SMs */
    PHASE_HEAD_FIXED, /* latency before its own work */
    PHASE_HEAD,       /* its own work */
    PHASE_ISSUE,      /* sends */
    PHASE_UNITS,      /* sends that follow units: waits for the next ones */
    PHASE_POLL,       /* receives: looks for data */
    PHASE_WAIT,       /* receives: waits for data */
    PHASE_MEET,       /* collectives: waits for the other ranks */
    PHASE_PARTS,      /* fused: its parts run */
    PHASE_TAIL_FIXED,
    PHASE_TAIL,
    PHASE_ENDED /* SMs returned; flags may still be on their way */
};

/* CTAs of one run that started together. */
struct cta_batch {
    int ctas;
    double left; /* share of each CTA's work still to do, 1..0 */
};

/* The emulated NIC of a rank: first come, first sent. */
struct pace {
    uint32_t link;  /* without limit or latency; news of what has arrived takes it */
    double from_ns; /* when the queue came to the bytes now put into it */
    double free_ns; /* when it will have sent all */
};

/* One op on one rank, from the time it is ready until all it sent has been delivered. */
struct run {
    struct timer timer;    /* ends a fixed latency or the posting of messages */
    struct timer flags[2]; /* delivers flags to peers without rows: on NVLink, off-node */
    int rank, op, id;
    int next_free;
    enum phase phase;
    struct cost_work w;
    double slow;   /* jitter factor */
    double placed; /* by what ran beside it when it started */
    double ready_ns, start_ns, phase_ns, wait_ns, late_ns;
    enum trace_cause cause;
    int cause_op, data_rank, data_op;
    float part_ns[PART_COUNT];
    int pending_ctas; /* not yet given an SM */
    int sms, most_sms;
    /* a fixed latency that what runs beside it stretches: what is left of it since when, and how
     * slow it runs; 0 = nothing to stretch */
    double fixed_left_ns, fixed_since_ns, fixed_slow;
    /* work in progress */
    struct cta_batch batch[SIM_BATCHES];
    int num_batches;
    double pace; /* share of a CTA's work done per ns */
    bool hbm_bound;
    double sm_ns; /* with interference and jitter */
    /* sending */
    bool posts, posting; /* off-node messages: to be posted at all; being posted */
    uint32_t push_link, post_link;
    double push_slow;                      /* by what others slow the push link now */
    double push_floor_ns, nvlink_floor_ns; /* what its own SMs, its NVLink would take alone */
    bool sent_all;
    bool all_peers; /* rows for every rank: nobody needs a flag alone */
    /* following units */
    int units, sent_units;
    int *out; /* [ranks] flows under way per destination, -1: only the flag is; NULL for others */
    int out_flows;
    /* followed by units */
    int wave;
};

struct stream_state {
    struct timer timer;
    int rank, stream;
    int next; /* in the plan's list of this stream's ops */
    bool busy;
    double last_end_ns;
};

struct rank_state {
    struct timer work; /* the next end of a work segment */
    int rank;
    int free_sms;
    int *queue; /* runs that want SMs, by priority, then first come */
    int queued, cap_queue;
    int *running; /* runs that have started and not ended */
    int num_running, cap_running;
    double work_ns; /* work has been advanced to here */
    bool dirty;     /* paces must be set again */
    int last_release_op;
    int done_ops;
};

struct sim {
    const struct plan *plan;
    const struct cost *cost;
    const struct sim_topology_cfg *topo_cfg;
    struct sim_topology *topo;
    struct sim_options options;
    struct trace_sink *sink;
    struct sim_flow_net *net;
    struct sim_heap heap;
    uint64_t seq, events;
    double now_ns;
    int err;

    int W, num_ops;
    struct rank_state *ranks;
    struct stream_state *streams;   /* [rank * num_streams + stream] */
    int *stream_ops, *stream_first; /* ops of each stream in order */
    int *follower_op;               /* per op: the op that waits for its units, or -1 */
    int *followed_op;               /* per op: the op whose units it follows, or -1 */
    int *send_flow;                 /* per op: its flow group, or -1 */
    int *kernel_of;                 /* per op: the fused kernel it is a part of, or -1 */
    int *num_parts;                 /* per op: parts it has */
    int *parts_done;                /* [rank*num_ops + op]: of these, ended */
    uint8_t *reach;                 /* [src*W + dst]: enum sim_path_kind */
    struct sim_flow_leg *legs;      /* scratch [W]: what a send is about to start */
    uint32_t num_legs;
    int *met;            /* [op*W + group]: ranks that reached a collective */
    double *end_ns;      /* [rank*num_ops + op]: -1 until ended */
    double *issue_ns;    /* [rank*num_ops + op]: when a send began to issue */
    int *run_of;         /* [rank*num_ops + op]: run or SIM_NO_RUN */
    double *jitter;      /* [rank*num_ops + op] or NULL */
    struct run **chunks; /* runs never move */
    int num_chunks, cap_chunks, free_run, num_runs;
    struct pace *pace; /* [W] emulated: what each rank sends to others, or NULL */
    int *rows, *fwd;   /* scratch [W] */
    int done;          /* ops ended over all ranks */
    double last_counter[4];
    double nvlink_bytes, nic_bytes;
    int *dirty_ranks, num_dirty;
};

enum { RUN_CHUNK = 64 };

static inline struct run *run_at(const struct sim *s, int id)
{
    return &s->chunks[id / RUN_CHUNK][id % RUN_CHUNK];
}
static inline size_t cell(const struct sim *s, int rank, int op)
{
    return (size_t)rank * s->num_ops + op;
}
static inline const struct plan_op *op_of(const struct sim *s, const struct run *r)
{
    return &s->plan->ops[r->op];
}

/* Gates of the net: senders that a receive on a rank still waits for, and what still holds the SMs
 * of a send: its flows to NVLink peers and to itself. */
static inline uint32_t gate_recv(const struct sim *s, int op, int rank)
{
    return (uint32_t)op * (uint32_t)s->W + (uint32_t)rank;
}
static inline uint32_t gate_held(const struct sim *s, int rank, int op)
{
    return (uint32_t)s->W * (uint32_t)s->num_ops + (uint32_t)cell(s, rank, op);
}
static inline bool sends_held(const struct sim *s, const struct run *r)
{
    return !sim_flow_gate_open(s->net, gate_held(s, r->rank, r->op));
}

/* sim.c */
void sim_fail(struct sim *s, int err);
void sim_timer_set(struct sim *s, struct timer *t, double t_ns);
struct run *sim_run_new(struct sim *s);
void sim_run_free(struct sim *s, struct run *r); /* once nothing of it is under way */

/* sim_stream.c: order, launch, SMs */
void stream_poke(struct sim *s, int rank, int stream);
void stream_launch(struct sim *s, struct stream_state *st);
void sms_allocate(struct sim *s, int rank);
void sms_release(struct sim *s, struct run *r, int ctas);

/* sim_run.c: the parts of a kernel's life */
void run_begin(struct sim *s, struct run *r);
void run_next(struct sim *s, struct run *r); /* the current part is over */
void run_end(struct sim *s, struct run *r);
void run_enter(const struct sim *s, struct run *r, enum phase phase);
void run_spend(struct sim *s, struct run *r, enum trace_part part, double ns);

/* sim_work.c: segments of work and the HBM they share */
double work_slowdown(const struct sim *s, const struct run *r); /* by all that runs beside it */
void fixed_stretch(struct sim *s, struct run *r); /* after a change of what runs beside it */
bool work_begin(struct sim *s, struct run *r, const struct cost_segment *seg);
void work_more_ctas(struct sim *s, struct run *r, int ctas);
void work_dirty(struct sim *s, int rank);
void work_settle(struct sim *s); /* sets the paces of all dirty ranks */
void work_expire(struct sim *s, struct rank_state *rank);

void sim_reach_set(struct sim *s); /* how every rank reaches every other */
static inline bool sim_off_node(const struct sim *s, int src, int dst)
{
    return s->reach[(size_t)src * (size_t)s->W + (size_t)dst] == SIM_PATH_NIC;
}
int sim_pace_open(struct sim *s); /* the queues of an emulation, if there is one */

/* sim_comm.c: sends, receives, collectives */
void send_begin(struct sim *s, struct run *r);
void send_finish(struct sim *s, struct run *r);
void send_flags(struct sim *s, struct run *r, int off_node);
bool units_step(struct sim *s, struct run *r);
void issue_account(struct sim *s, struct run *r);
void flow_event(struct sim *s, const struct sim_flow_event *e);
bool recv_complete(struct sim *s, struct run *r);
void recv_account(struct sim *s, struct run *r);
bool meet_arrive(struct sim *s, struct run *r);

#endif
