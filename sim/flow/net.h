/* sim/flow/net.h: the insides of a flow net, shared by sim/flow*.c and by nobody else.
 *
 * Terms. The *members* of a link are the flows that it holds back; they all run at its *level*.
 * `others` is the rate of the link's remaining flows. A link with members is full:
 *     level = (capacity - others) / members.
 * A link without members has level INFINITY. Flows that run at their own cap are the members of the
 * pseudo-link LINK_CAP. A link's *service* is the virtual clock of its members: the bytes that a
 * member would have received since the link last had none. A member that joined at service s with b
 * bytes to go finishes when the service reaches s + b, whatever the level does meanwhile.
 */
#ifndef PEOSIM_SIM_FLOW_NET_H
#define PEOSIM_SIM_FLOW_NET_H

#include <math.h>

#include "sim/flow/flow.h"
#include "base/heap.h"

/* LINK_NONE pads the paths of flows with one link, so that loops need not test for it. */
enum { LINK_NONE = 0, LINK_CAP = 1, LINK_FIRST = 2 };
/* In members' `other`: more than three links, look at the path. */
#define OTHER_LONG UINT32_MAX
#define NONE       UINT32_MAX

enum { FLOW_CHUNK_BITS = 10, FLOW_CHUNK = 1 << FLOW_CHUNK_BITS, HOPS_INLINE = 3 };
/* Places in the order of levels start here: place 0 takes the marks of LINK_NONE. */
enum { ORDER_FIRST = 8 };
/* Links share the search for the next finish in blocks. */
enum { BLOCK_BITS = 5, BLOCK = 1 << BLOCK_BITS };
enum { LANES = 8 };
/* Lists of other links are told a full group at a time, which spares a loop over the rest. */
enum { GROUP = 4, CACHE_LINE = 64 };

struct hop {
    uint32_t link;
    uint32_t at; /* index in the link's list of all flows */
};

/* The first 64 bytes are what solving and draining touch. */
struct flow {
    struct hop *path; /* hops, or a block of SIM_FLOW_PATH_MAX when the path is long */
    struct hop hops[HOPS_INLINE];
    uint32_t bottleneck; /* the link it is a member of; NONE before rates are solved */
    uint32_t member;     /* index among its members */
    double cap;
    double start_ns;
    uint32_t next; /* in a free list or a lane */
    uint8_t links;
    uint8_t events;

    double left; /* bytes to go, kept only while it is a member of nothing */
    double bytes;
    double latency_ns;
    uint64_t tag;
    uint32_t drain, arrive, who;   /* gates, and what they are told */
    struct sim_heap_node delivery; /* seq is the order of starts */
    uint32_t id;
};

/* What solving looks at of many links. */
struct link_hot {
    double level;
    double capacity;
    uint32_t place; /* in the order of levels */
    uint32_t members;
};

/* The first 64 bytes are what a change of level touches. */
struct link {
    double service, service_ns;
    uint32_t *other; /* of the members, a second link; filled up with LINK_NONE to full groups */
    double finish_first;    /* of member first */
    double cap_least;       /* no member has a lower cap */
    double capped_most;     /* no capped flow that crosses the link has a higher cap */
    uint32_t third_members; /* members with a third link */
    uint32_t long_members;  /* members with OTHER_LONG */
    uint32_t first;         /* the member that finishes first, NONE if not known */
    uint16_t slots; /* bit i: some flow had the link as hop i; alike single bits share no flow */
    bool live, touched;

    /* Of the members, in no order; room for all flows of the link. One block, owned by finish. */
    double *finish;
    uint32_t *third; /* LINK_NONE if a member has none, and as in other */
    uint32_t *flow;
    uint32_t *all; /* every flow that crosses the link, member or not */
    uint32_t all_count, room;
    double ceiling; /* no flow on it is faster: its capacity since it was last solved, at most */
    double latency_ns;
    double drained_bytes;
    double start_last_ns; /* coalesced: no member started later, */
    double finish_last;   /* none finishes later, */
    double finish_mean;   /* and this is the mean, or once was */
    bool rounded, retired;
};

/* Flows that wait to be delivered and have the same latency: first in, first out. */
struct lane {
    double latency_ns;
    double t_ns; /* of the first */
    uint64_t seq;
    uint32_t head, tail;
};

struct ranked {
    double key;
    uint32_t id;
};

/* Counts down; in the heap of those that are due once it is at 0. */
struct gate {
    struct sim_heap_node node;
    double last_ns; /* the latest of what it counted */
    int left;
    uint32_t who;
};

/* Links of a plane, in exact mode. */
struct ports {
    uint32_t *out, *in, count;
};

struct sim_flow_net {
    enum sim_flow_fidelity fidelity;
    double tolerance;  /* relative change of a level that is worth telling */
    double hysteresis; /* how much slower another link must be for a member to change to it */
    double slack;      /* how much of its own duration a flow may be drained early */
    double patience;   /* and how much of it a drain may wait for others */
    double now_ns;
    uint64_t seq;

    double *others; /* per link, what it carries that is not of its members */
    struct link_hot *hot;
    struct link *links;
    double *next_ns; /* per link, when its first member finishes */
    double *block_ns;
    double drain_ns; /* when the first of all finishes, as of the last solution */
    uint8_t *block_stale;
    uint32_t link_count, link_room;
    uint32_t *links_free;
    uint32_t links_free_count;

    uint32_t *order; /* links by rising level, from place ORDER_FIRST */
    double *rank;    /* per place, the level of the link there */
    uint8_t *dirty;  /* per place: others or members changed */
    uint32_t order_end, cursor;
    bool sweep; /* any link from the cursor on may be dirty */
    bool unsolved;

    uint32_t *touched; /* links whose next_ns is to be computed again */
    uint32_t touched_count;
    uint32_t *rounded; /* links whose others may keep the rounding of far larger rates */
    uint32_t rounded_count;
    double capacity_least; /* of all links so far that have any */

    struct flow **chunks;
    uint32_t chunk_count, chunk_room;
    uint32_t flows_free; /* list through next */
    uint32_t flow_room;
    struct hop **long_blocks;
    uint32_t long_count, long_room;
    struct hop *long_free;
    uint32_t running, undelivered;

    uint32_t *fresh; /* started, not yet member of anything */
    uint32_t fresh_count;
    uint32_t *done; /* drained, their events not yet reported; from done_at */
    uint32_t done_count, done_at;
    struct ranked *ranked; /* scratch, as many as flows, and as links */
    struct ranked *queue;
    double *spare; /* scratch, as many as links */
    uint32_t *unfilled;

    struct lane lanes[LANES];
    struct sim_heap late; /* deliveries that found no lane */

    struct gate *gates;
    uint32_t gate_count;
    struct sim_heap gates_due;
    struct ports *planes;
    uint32_t plane_count;
    struct pairs *pairs; /* the fast fidelity's; NULL else */

    double busy_since_ns, longest_ns;
    struct sim_flow_stats stats;
    size_t memory;
};

/* flow.c: a longer array, laid out by cache lines; what is new is zero. */
int net_lines_grow(struct sim_flow_net *net, void *array, size_t size, size_t from, size_t to);

/* gates.c: one less to come, at or after now. */
int net_gate_drop(struct sim_flow_net *net, uint32_t gate, double t_ns, uint32_t who);
double net_gate_next_ns(const struct sim_flow_net *net);
void net_gate_take(struct sim_flow_net *net, struct sim_flow_event *event);

/* pairs*.c */
int pairs_open(struct sim_flow_net *net);
void pairs_close(struct pairs *f);
int pairs_plane_add(struct sim_flow_net *net, const uint32_t *out, const uint32_t *in,
                    uint32_t ports);
int pairs_start(struct sim_flow_net *net, const struct sim_flow_leg *legs, uint32_t count);
/* Whether the link is one of a plane's ports, or a limit there. */
bool pairs_has(const struct pairs *f, uint32_t link);
void pairs_capacity_changed(struct sim_flow_net *net, uint32_t link, double was_GBps);
/* False while flows cross the limit. */
bool pairs_limit_remove(struct sim_flow_net *net, uint32_t link, bool retire);
double pairs_rate_GBps(struct sim_flow_net *net, uint32_t link);
uint32_t pairs_flow_count(const struct sim_flow_net *net, uint32_t link);
/* When something is next to be done; does it, and may push events. */
double pairs_next_ns(const struct pairs *f);
int pairs_act(struct sim_flow_net *net);
double pairs_event_ns(const struct pairs *f);
void pairs_event_take(struct sim_flow_net *net, struct sim_flow_event *event);

static inline struct flow *flow_at(const struct sim_flow_net *net, uint32_t id)
{
    return &net->chunks[id >> FLOW_CHUNK_BITS][id & (FLOW_CHUNK - 1)];
}

static inline void flow_prefetch(const struct sim_flow_net *net, uint32_t id)
{
    const char *f = (const char *)flow_at(net, id);

    __builtin_prefetch(f);
    __builtin_prefetch(f + CACHE_LINE);
}

static inline double flow_rate(const struct sim_flow_net *net, const struct flow *f)
{
    return f->bottleneck == LINK_CAP ? f->cap : net->hot[f->bottleneck].level;
}

/* Brings the service of a link to the current time. That of LINK_CAP is the time itself. */
static inline void link_sync(struct sim_flow_net *net, uint32_t l)
{
    struct link *k = &net->links[l];

    if (k->service_ns == net->now_ns)
        return;
    if (l == LINK_CAP)
        k->service = net->now_ns;
    else if (net->hot[l].members)
        k->service += net->hot[l].level * (net->now_ns - k->service_ns);
    k->service_ns = net->now_ns;
}

static inline void link_touch(struct sim_flow_net *net, uint32_t l)
{
    if (!net->links[l].touched) {
        net->links[l].touched = true;
        net->touched[net->touched_count++] = l;
    }
}

/* Computes when the first member of a link finishes, given that it is known and the service is
 * that of now. */
static inline void link_next_set(struct sim_flow_net *net, uint32_t l)
{
    double left = net->links[l].finish_first - net->links[l].service;
    double level = net->hot[l].level, next_ns = net->now_ns;

    if (left > 0)
        next_ns = level > 0 ? next_ns + left / level : INFINITY;
    /* Drains wait for company, but not for longer than until the members are done on average: if
     * all are drained then, the link has carried their bytes and no others. */
    if (net->patience > 0 && level > 0) {
        const struct link *k = &net->links[l];
        double wait_ns = net->patience * (next_ns - k->start_last_ns);
        double mean_ns = (k->finish_mean - k->finish_first) / level;

        if (mean_ns > 0)
            next_ns += wait_ns < mean_ns ? wait_ns : mean_ns;
    }
    net->next_ns[l] = next_ns;
    net->block_stale[l >> BLOCK_BITS] = 1;
}

/* sim/flow/members.c */
void member_add(struct sim_flow_net *net, uint32_t l, uint32_t id);
void member_remove(struct sim_flow_net *net, uint32_t id);  /* leaves the bytes to go in left */
void members_release(struct sim_flow_net *net, uint32_t l); /* all of them */
void touched_settle(struct sim_flow_net *net);              /* and drain_ns */

/* sim/flow/rates.c */
void rounding_note(struct sim_flow_net *net, uint32_t l);
void order_settle(struct sim_flow_net *net, uint32_t l);
void link_mark(struct sim_flow_net *net, uint32_t l);
void others_add(struct sim_flow_net *net, const struct flow *f, double rate_GBps);
void rates_solve(struct sim_flow_net *net);

/* sim/flow/fill.c */
void rates_fill(struct sim_flow_net *net);

#endif
