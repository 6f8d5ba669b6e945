/* sim/flow/flow.h: fluid flows over links, sharing bandwidth max-min fairly.
 *
 * A link has a capacity (GB/s, which is bytes per ns) and a latency (ns). A flow crosses 1 to
 * SIM_FLOW_PATH_MAX links, carries bytes, and may have a rate cap of its own. At every instant the
 * rates are max-min fair (Bertsekas and Gallager, Data Networks, 6.5.2): no flow's rate can be
 * raised without lowering that of a flow that is no faster. A flow is *drained* when its last byte
 * has left the source, and *delivered* one path latency later:
 *     delivered_ns = drained_ns + sum of the latencies of its links + its own extra latency.
 *
 * How: every saturated link has a level, the rate of the flows that it holds back. A set of levels
 * in which each flow runs at the least level of its path (or at its cap) and each link with a level
 * is full is the max-min allocation, and there is only one. So the engine keeps levels, one virtual
 * clock of bytes served per link, and per link the flows that it holds back; a change of level
 * costs one addition for each of those flows and moves only the flows whose bottleneck changes.
 * Most changes pass no other level; a sweep over the links in the order of their levels then solves
 * and tells each in a few instructions.
 *
 * Three fidelities:
 *   exact      levels are solved to 1e-12 at every event.
 *   fast       flows between ports of a plane (sim_flow_plane_add) are served pair by pair over
 * short epochs (docs/flow-engine.md); flows on other links are served exactly. What is owed when an
 * epoch ends is paid in the next, so that full links carry their capacity. coalesced  for links
 * that are in no plane, drains are taken together: what is done waits for company for up to 0.7
 * tolerance of the time since the youngest member of its bottleneck started, and a flow may be
 * drained early by up to `tolerance` of its own duration; the bytes not carried, or carried in
 * excess, are owed by or credited to the flows that stay on that bottleneck. The last flows of a
 * link leave together when they are done on average, and otherwise at most a quarter of `tolerance`
 * early. A level is told to other links only when it is off by more than `tolerance`, and a flow
 * changes its bottleneck only for one that is lower by twice that. No link is loaded above 1 + 3
 * tolerances of its capacity (fuzzed). Over 120 skewed all-to-alls among 8 to 64 endpoints the
 * makespan was off by 0.41% at worst, 0.09% root mean square (tests/sim/test_flow.c); single flows
 * may be off by several percent.
 *
 * One thread per net; any number of nets. At one time deliveries come before drains, each in the
 * order in which the flows were started. Units are ns, bytes and GB/s (1e9 bytes/s) throughout.
 */
#ifndef PEOSIM_SIM_FLOW_FLOW_H
#define PEOSIM_SIM_FLOW_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_flow_net;

enum { SIM_FLOW_PATH_MAX = 8 };

enum sim_flow_fidelity { SIM_FLOW_EXACT, SIM_FLOW_COALESCED, SIM_FLOW_FAST };

#define SIM_FLOW_NO_GATE UINT32_MAX
#define SIM_FLOW_NO_PORT UINT32_MAX

/* The default relative tolerance of coalesced mode. */
#define SIM_FLOW_TOLERANCE 1e-2

struct sim_flow_cfg {
    enum sim_flow_fidelity fidelity;
    double tolerance;    /* coalesced only, 0 < tolerance <= 0.1; 0 takes SIM_FLOW_TOLERANCE */
    uint32_t links_hint; /* how many links and flows to make room for at once; 0 is fine */
    uint32_t flows_hint;
};

/* Which events a flow reports; 0 reports nothing. SIM_FLOW_GATE is a gate's. */
enum { SIM_FLOW_DRAINED = 1, SIM_FLOW_DELIVERED = 2, SIM_FLOW_GATE = 4 };

struct sim_flow_spec {
    const uint32_t *links; /* read during the call only; no link twice */
    uint32_t link_count;   /* 1..SIM_FLOW_PATH_MAX */
    unsigned events;       /* SIM_FLOW_DRAINED | SIM_FLOW_DELIVERED */
    double bytes;          /* >= 0; a flow of no bytes drains at once */
    double cap_GBps;       /* > 0; INFINITY for none */
    double latency_ns;     /* added to the latencies of the links; >= 0 */
    uint64_t tag;          /* given back with its events */
};

struct sim_flow_event {
    double t_ns;
    uint64_t tag;
    unsigned kind; /* SIM_FLOW_DRAINED, SIM_FLOW_DELIVERED; SIM_FLOW_GATE: tag is the gate */
    uint32_t who;  /* SIM_FLOW_GATE: of what came last */
};

/* A flow between two ports of a plane (sim_flow_plane_add), under a limit of the sender's own. */
struct sim_flow_leg {
    uint32_t plane, out, in; /* in SIM_FLOW_NO_PORT: it stays there and meets only the limit */
    uint32_t limit;          /* a link that only flows from this port cross; 0: none */
    double bytes;            /* > 0 */
    double latency_ns;
    uint32_t drain, arrive; /* gates it takes down by one; SIM_FLOW_NO_GATE: none */
    uint32_t who;
    unsigned events; /* as in sim_flow_spec, and told besides what the gates tell */
    uint64_t tag;
};

struct sim_flow_stats {
    uint64_t flows_started, flows_drained, flows_delivered;
    double bytes_started, bytes_drained;
    uint64_t instants;      /* distinct times at which rates were solved */
    uint64_t levels_solved; /* link levels published */
    uint64_t moves;         /* flows that changed their bottleneck */
    uint64_t refills;       /* times that all rates were filled from scratch */
    uint32_t flows_peak;    /* flows not yet delivered, at most */
    size_t memory_bytes;    /* held by the net now, which is also its peak: it never shrinks */
};

/* Opens an empty net at time 0. ERR_RANGE for a bad tolerance, ERR_NOMEM. cfg may be NULL (exact).
 */
int sim_flow_net_open(const struct sim_flow_cfg *cfg, struct sim_flow_net **net);
/* Frees everything, running flows too. NULL is fine. */
void sim_flow_net_close(struct sim_flow_net *net);

/* Adds a link; returns its id (> 0), ERR_RANGE or ERR_NOMEM. capacity is finite and >= 0 (flows on
 * a link of 0 stand still), latency finite and >= 0. Ids of removed links are used again. */
int sim_link_add(struct sim_flow_net *net, double capacity_GBps, double latency_ns);
/* Takes effect at the current time. Returns 0 or ERR_RANGE. */
int sim_link_capacity_set(struct sim_flow_net *net, uint32_t link, double capacity_GBps);
/* Removes a link that no undrained flow crosses; ERR_RANGE if one does or there is no such link. */
int sim_link_remove(struct sim_flow_net *net, uint32_t link);
/* The rate now crossing a link, the number of undrained flows on it, and the bytes of the flows
 * drained over it so far. Solves rates if something changed at this instant (hence not const). */
double sim_link_rate_GBps(struct sim_flow_net *net, uint32_t link);
uint32_t sim_link_flow_count(const struct sim_flow_net *net, uint32_t link);
double sim_link_drained_bytes(const struct sim_flow_net *net, uint32_t link);

/* Starts a flow at the current time. Rates are solved when time next moves or is asked about, so
 * thousands of starts at one instant cost one solution. ERR_RANGE for a bad spec, ERR_NOMEM; after
 * an error the net is as before. */
int sim_flow_start(struct sim_flow_net *net, const struct sim_flow_spec *spec);

/* A plane of ports, each with a link out and a link in (links without latency, in one plane only).
 * Returns its number, or ERR_NOMEM. */
int sim_flow_plane_add(struct sim_flow_net *net, const uint32_t *out, const uint32_t *in,
                       uint32_t ports);
/* Starts many flows at the current time. ERR_NOMEM; ERR_RANGE for a limit shared by ports. */
int sim_flow_legs_start(struct sim_flow_net *net, const struct sim_flow_leg *legs, uint32_t count);
/* Removes the link as soon as no undrained flow crosses it. */
int sim_link_retire(struct sim_flow_net *net, uint32_t link);

/* Gates: counters, all 0 when made, that flows take down; one that comes to 0 is an event, at the
 * time of the last drain or arrival that it counted. Once per net. ERR_NOMEM. */
int sim_flow_gates_make(struct sim_flow_net *net, uint32_t count);
/* That many more are to come. A gate whose event has been reported may be raised again. */
void sim_flow_gate_raise(struct sim_flow_net *net, uint32_t gate, int by);
/* One has come now, without a flow: 1 if it was the last of all, and then there is no event. */
int sim_flow_gate_drop(struct sim_flow_net *net, uint32_t gate, uint32_t who);
/* Whether all that it was raised by has come by now. */
bool sim_flow_gate_open(const struct sim_flow_net *net, uint32_t gate);

/* The current time. It only ever moves forward, by sim_flow_pop and sim_flow_advance. */
double sim_flow_now_ns(const struct sim_flow_net *net);
/* When something next happens: the time of the next event, which is the current time if events are
 * waiting, or of the next drain even if its flow reports nothing; INFINITY if nothing will. */
double sim_flow_next_ns(struct sim_flow_net *net);
/* Moves time to the next event at or before until_ns, fills *event and returns 1; or moves time to
 * until_ns (to the last event, if until_ns is INFINITY) and returns 0. ERR_NOMEM on failure,
 * ERR_RANGE if until_ns is before now or NaN. */
int sim_flow_pop(struct sim_flow_net *net, double until_ns, struct sim_flow_event *event);
/* sim_flow_pop until it returns 0, calling report for each event. report may start flows and add or
 * change links; these act at the event's time. A report that returns other than 0 ends the advance
 * with that value. */
int sim_flow_advance(struct sim_flow_net *net, double until_ns,
                     int (*report)(void *user, const struct sim_flow_event *event), void *user);

void sim_flow_stats_get(const struct sim_flow_net *net, struct sim_flow_stats *stats);

#endif
