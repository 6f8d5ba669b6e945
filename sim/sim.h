/* sim/sim.h: back end 1: runs a plan on simulated GPUs and links. Knows ops, flows and rates; what
 * an op costs it asks plan/cost.h, what a path is it asks the fabric.
 *
 * The rules, in the order of a kernel's life:
 *  - ready: its stream's previous op has ended, its dependencies too; plus the launch gap (CUDA
 *    graph), or the host's launch of it (eager mode), whichever is later.
 *  - SMs: requests of a rank are served by stream priority, then first come; a cooperative kernel
 *    waits until its whole grid fits and lets nobody behind it pass; any other kernel starts with
 *    what is free, and the CTAs left over take SMs as they come free: tiles are assigned to CTAs
 *    statically, so one CTA that starts late does its whole share late.
 *  - work: a segment of plan/cost.h advances at the pace of its SMs or of its share of HBM,
 *    whichever is slower; kernels that run together share HBM max-min and slow each other by
 *    cost.interference.
 *  - sends: flows to NVLink peers and the local copy pass the kernel's own push limit and hold its
 *    SMs until drained; off-node flows only need their messages posted.
 *  - receives: wait for every sender's flow and flags of every flow group that ends in them.
 * Equal input gives equal output: ties are broken by the order of events. */
#ifndef PEOSIM_SIM_SIM_H
#define PEOSIM_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "plan/cost.h"
#include "plan/plan.h"
#include "trace/trace.h"
#include "sim/flow/flow.h"
#include "sim/topology.h"

/* What `peosim validate` emulates on fewer GPUs or faster links (slices, paced receives), by the
 * same rules, so that a prediction beside such a measurement is one of the emulation: rank r lives
 * on GPU r % gpus, kernels store to all peers and hold their SMs while they do (the topology should
 * have one NVLink domain), and what a rank sends to others arrives no earlier than behind a queue
 * of pace_GBps per rank, pace_latency_ns after it left that. */
struct sim_emulation {
    int gpus;         /* 0: no emulation */
    double pace_GBps; /* 0: receives are not held back */
    double pace_latency_ns;
};

struct sim_options {
    struct sim_emulation emulation;
    enum sim_flow_fidelity fidelity;
    double tolerance;       /* coalesced: 0 = the engine's default */
    bool eager;             /* host launches one op after another; else a CUDA graph */
    const double *start_ns; /* [ranks] when each rank starts; NULL = all at 0 */
    double jitter_sigma;    /* log-normal factor on each op's own work; 0 = none */
    unsigned long seed;     /* of the jitter */
    int counter_rank;       /* whose counters go to the sink; -1 = none */
};

struct sim_stats {
    uint64_t events; /* op and flow events processed */
    uint64_t flows;
    double end_ns; /* the last op of the slowest rank */
    size_t memory_bytes;
    double nvlink_bytes, nic_bytes; /* sent by all ranks inside domains and over NICs */
};

/* Runs the plan once. ERR_STALLED (the ops cannot all finish: logged, with the first that hangs),
 * ERR_NOMEM, what cost.check says of an op without a law, or what the sink returned. plan must have
 * passed plan_check; topo has plan->ranks endpoints; off-node is what it routes over NICs. stats
 * may be NULL. */
int sim_run(const struct plan *plan, const struct cost *cost, const struct sim_topology_cfg *topo,
            const struct sim_options *options, struct trace_sink *sink, struct sim_stats *stats);

#endif
