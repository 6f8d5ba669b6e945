/* sim/flow/pairs.h: the insides of the fast fidelity (docs/flow-engine.md), shared by
 * sim/flow/pairs*.c, flow.c and nobody else.
 *
 * A *plane* joins ports, each with a link out and a link in. All flows from one port to another
 * share a path and hence a rate, however many there are: they are one *pair*, a cell of a dense
 * matrix. A *row* of it is what one port sends under one limit of its own: one row for all that has
 * none, and one for each limit. A pair's flows wait in the order in which they end; the cell holds
 * what its first still has to send, each later one what it sends after the one before. */
#ifndef PEOSIM_SIM_FLOW_PAIRS_H
#define PEOSIM_SIM_FLOW_PAIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/heap.h"
#include "sim/flow/flow.h"

/* Who ends within so much of the first one's duration is taken with the same rates. */
#define PAIRS_EPS 0.005
/* No level: the link is not full. */
#define PAIRS_FREE 1e9f
#define PAIRS_NONE UINT32_MAX
/* Rows and columns come in whole vectors of so many. */
enum { PAIRS_LANES = 8 };

/* One cache line. */
struct pair_flow {
    float gap; /* bytes that a flow of the pair gets after the one before it has ended */
    uint32_t next, id;
    uint32_t row, col; /* col PAIRS_NONE: it stays on its port and meets only the row's limit */
    float latency_ns, bytes;
    uint32_t arrive, drain, who;
    double start_ns;
    uint32_t report; /* where it tells events of its own, or PAIRS_NONE */
} __attribute__((aligned(64)));

/* Events that a flow tells itself. */
struct pair_report {
    struct sim_heap_node node;
    uint64_t tag;
    unsigned events;
    uint32_t next, who;
    float latency_ns;
};

/* Links of one side, as vectors padded to whole lanes. */
struct pair_links {
    float *cap, *n, *share; /* capacity and flows not settled yet, and their quotient */
    float *level;           /* of the flows that the link holds back; PAIRS_FREE: of none */
    float *bound, *ended;   /* how many those are; how many of them end in the epoch */
    float *freed;           /* bytes that flows which end in the epoch leave over */
    float *raised;          /* the level with those spread over the flows that stay */
};

/* The first flow of a cell ends in the epoch. */
struct pair_end {
    uint32_t row, col; /* col PAIRS_NONE: one that stays */
    float left;
    float after_ns; /* when, if that is known better than by rates; else negative */
};

enum pair_state { PAIRS_IDLE, PAIRS_RUNNING, PAIRS_COMMITTED };

struct plane {
    uint32_t id, ports, cols;     /* cols: ports in whole lanes */
    uint32_t rows, row_room;      /* every row in use is below rows; both in whole lanes */
    uint32_t *out_link, *in_link; /* per port */
    uint32_t *merged;             /* per port, its row without a limit, or PAIRS_NONE */

    /* [row * cols + col]; weight_in is [col * row_room + row] */
    float *weight, *weight_in, *left;
    uint32_t *head;

    /* per row */
    uint32_t *port, *limit; /* limit: its link, 0 for none */
    uint32_t *leader;       /* the row that stands for its port's link out */
    uint32_t *limit_next;   /* the next row of the same limit, or PAIRS_NONE */
    uint32_t *flows;        /* running or waiting to join */
    uint8_t *used, *retired;
    float *count;            /* running flows to other ports */
    float *solo, *solo_left; /* those that stay, and what their first still has to send */
    uint32_t *solo_head;
    float *open, *cells;        /* not settled: 1 or 0; flows */
    float *level, *raised;      /* the lower of its limit's and its port's */
    float *need_ns;             /* until its first flow ends */
    struct pair_links own, out; /* of limits; of ports, at their leaders */
    float *own_cap, *limited;   /* of its limit; 1 or 0 */
    float *own_credit, *served, *solo_served;

    /* per column */
    struct pair_links in;
    float *in_open, *in_count, *in_served;

    /* per port: bytes owed to its links' flows (negative: had too much), GB/s of the last epoch */
    float *out_credit, *in_credit, *out_load, *in_load;
    float *out_cap, *in_cap;                 /* capacities */
    float *out_left, *in_left;               /* bytes that their flows still have to send */
    float *out_waits, *in_waits;             /* for how long flows that join have waited; scratch */
    float *out_idle, *in_idle;               /* bytes not carried meanwhile */
    float *out_sent, *out_count, *out_level; /* of all rows of a port; scratch */
    uint32_t *settled;                       /* links that are settled together; scratch */
    float *settled_level;                    /* and their levels */
    uint32_t *port_first;                    /* leader, or PAIRS_NONE */
    bool limits, shared;                     /* some rows have limits; some ports several rows */
    bool spread;                             /* some limits are shared by ports */
    bool led;                                /* leaders are those of the rows that have flows */
    uint32_t retiring;                       /* rows whose limit goes when their flows have ended */
    uint32_t running;                        /* flows in the matrix */
    enum pair_state state;
    double from_ns, next_ns;       /* rates hold from; when something is next to be done */
    double first_ns;               /* from from_ns to the first end */
    double busy_ns;                /* and how much longer the epoch is */
    float tail_ns;                 /* what the link with most left to carry takes for it */
    uint32_t first_row;            /* of the first end */
    double epoch_ns, typical_ns;   /* length of the last epoch; how long flows took of late */
    struct pair_end *ends, **last; /* in the order of cells; scratch */
    uint32_t end_count, end_at, end_room;
    uint32_t *pending, pending_count, pending_room; /* flows that wait to join */
};

/* The first row of a limit; where a sender has several ports, others follow it, and share the limit
 * by their flows. */
struct limit_row {
    uint32_t plane, row; /* 1 + the plane; 0: in none */
};

struct pairs {
    struct plane **planes;
    uint32_t plane_count;
    struct pair_flow **chunks;
    uint32_t chunk_count, flows_free;
    struct limit_row *limit_row; /* per link; a port's has PAIRS_NONE for a row */
    uint32_t limit_room;
    struct pair_report **report_chunks;
    uint32_t report_chunk_count, reports_free;
    struct sim_heap events;
    double eps;
    const struct pairs_code *code;
};

/* The inner loops, for the processor at hand. */
struct pairs_code {
    /* Caps and counts of all links for an epoch like the last one. */
    void (*begin)(struct plane *p);
    /* What those that stay on a link get of what others leave over, in busy_ns. */
    void (*raise)(struct plane *p, float busy_ns);
    /* What the links owe and are owed after ns. */
    void (*credits)(struct plane *p, float ns);
    /* Max-min levels of all links from caps and counts. */
    void (*fill)(struct plane *p);
    /* need_ns of all rows; the least, and its row. */
    float (*need)(struct plane *p);
    /* Who ends within total_ns: what they leave over, and how many are bound to each link then. */
    void (*ending)(struct plane *p, float total_ns);
    /* Serves quiet_ns at level and busy_ns at raised; calls end for cells whose first flow is done.
     */
    void (*advance)(struct plane *p, float quiet_ns, float busy_ns,
                    void (*end)(void *self, uint32_t row, uint32_t col, float served), void *self);
};
const struct pairs_code *pairs_code_plain(void);
const struct pairs_code *pairs_code_avx2(void); /* NULL where there is none */

/* The library's are calls, for the sake of NaN. */
static inline float lesser(float a, float b)
{
    return a < b ? a : b;
}
static inline double least_of(double a, double b)
{
    return a < b ? a : b;
}
static inline double most_of(double a, double b)
{
    return a > b ? a : b;
}

enum { PAIR_CHUNK_BITS = 10, PAIR_CHUNK = 1 << PAIR_CHUNK_BITS };

static inline struct pair_flow *pair_flow_at(const struct pairs *f, uint32_t id)
{
    return &f->chunks[id >> PAIR_CHUNK_BITS][id & (PAIR_CHUNK - 1)];
}

/* The flow's cell has one flow more, or one less. */
static inline void pairs_cell_count(struct plane *p, uint32_t row, uint32_t col, float by)
{
    if (col == PAIRS_NONE) {
        p->solo[row] += by;
        return;
    }
    p->weight[(size_t)row * p->cols + col] += by;
    p->weight_in[(size_t)col * p->row_room + row] += by;
    p->led &= p->count[row] > 0;
    p->count[row] += by;
    p->led &= p->count[row] > 0;
    p->in_count[col] += by;
}

/* pairs.c */
/* Puts a flow with so many bytes to send into its pair's queue. */
void pairs_queue_insert(struct pairs *f, float *left, uint32_t *head, struct pair_flow *w,
                        float bytes);
/* The flow has ended at t_ns: tells its gates, and frees it once it has no more to report. */
int pairs_flow_end(struct sim_flow_net *net, struct pair_flow *w, double t_ns);
/* Frees rows of limits that are no longer needed. */
void pairs_rows_retire(struct sim_flow_net *net, struct plane *p);

#endif
