/* study/bound.h: what no schedule can beat: lower bounds on the time of a layer, proven in
 * docs/bound.md from the rules of sim/ and the laws of model/law/.
 *
 *   kernel    any schedule of a point's own kernels: its library, one batch or two halves, with
 *             rounds of experts where the library has them; any order, overlap, streams, rounds
 *             and split of SMs
 *   physical  any kernels at all: nominal rates, weights read once, one copy per token and rank
 *             over NVLink (and node over NICs), partial sums back
 *
 * It stands in study/ because it needs a plan's shapes, the laws' least costs and the network at
 * once, which no room below sees together. */
#ifndef PEOSIM_STUDY_BOUND_H
#define PEOSIM_STUDY_BOUND_H

#include "study/evaluate.h"

/* What the largest of the bounds is made of. */
enum bound_by {
    BOUND_NONE,    /* nothing is proven: jitter, an emulation, layers without experts */
    BOUND_SMS,     /* head, the experts' SM time (or HBM bytes) on one rank, tail */
    BOUND_NIC_OUT, /* head, bytes out of one NIC, tail */
    BOUND_NIC_IN,
    BOUND_NVLINK_OUT,
    BOUND_NVLINK_IN,
    BOUND_CHAIN,   /* the longest chain of one batch without what one rank's load adds */
    BOUND_ALL_SMS, /* SM time of a whole layer, nothing before or after it */
    BOUND_PHYSICAL,
    BOUND_BY_COUNT
};

struct bound {
    double us;          /* of a layer; 0: BOUND_NONE */
    double physical_us; /* never above us */
    enum bound_by by;
    int rank;                         /* of the body, -1: all alike */
    double head_us, body_us, tail_us; /* sum to us */
};

const char *bound_by_name(enum bound_by by);
/* How far a time is from any schedule, in percent; NAN where nothing is proven. */
double bound_gap_pct(const struct bound *b, double layer_us);

/* Have two points of one scenario the same bound? */
bool bound_same(const struct knobs *a, const struct policy *p, const struct knobs *b,
                const struct policy *q);

/* Of a point that evaluate_check accepts. Uses the evaluator's routing. ERR_NOMEM. */
int bound_of(struct evaluator *e, const struct scenario *s, const struct policy *p,
             const struct knobs *k, struct bound *out);

#endif
