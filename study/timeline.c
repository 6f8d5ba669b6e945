#include "study/timeline.h"

int timeline_of(struct evaluator *e, const struct scenario *s, const struct policy *p,
                const struct knobs *k, int counter_rank, struct timeline *out)
{
    struct trace *trace = NULL;
    struct plan *plan = NULL;
    int err;

    *out = (struct timeline){0};
    err = evaluate_point(e, s, p, k, counter_rank, &out->ev, &trace, &plan);
    if (!err) {
        out->num_layers = plan->num_layers;
        err = trace_log_of(trace, plan, &out->log);
    }
    trace_free(trace);
    plan_free(plan);
    return err;
}

void timeline_free(struct timeline *t)
{
    trace_log_free(t->log);
    t->log = NULL;
}
