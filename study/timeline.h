/* study/timeline.h: one point simulated again, this time keeping what happened. */
#ifndef PEOSIM_STUDY_TIMELINE_H
#define PEOSIM_STUDY_TIMELINE_H

#include "study/evaluate.h"
#include "trace/log.h"

struct timeline {
    struct trace_log *log;
    struct evaluation ev;
    int num_layers;
};

/* counter_rank: as evaluate_point's. timeline_free in any case. */
int timeline_of(struct evaluator *e, const struct scenario *s, const struct policy *p,
                const struct knobs *k, int counter_rank, struct timeline *out);
void timeline_free(struct timeline *t);

#endif
