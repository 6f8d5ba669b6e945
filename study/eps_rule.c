#include "study/eps_rule.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"

/* Time in all-to-alls and in expert kernels on the slowest rank, without waiting for peers. */
static int kernel_times(struct evaluator *e, const struct scenario *s, const struct knobs *k,
                        double *comm_us, double *gemm_us)
{
    struct evaluation ev;
    struct trace *trace = NULL;
    struct plan *plan = NULL;
    int err = evaluate_point(e, s, &policy_eps, k, -1, &ev, &trace, &plan);

    *comm_us = *gemm_us = 0;
    for (size_t i = 0; !err && i < trace->num_spans; i++) {
        const struct trace_span *span = &trace->spans[i];
        enum plan_op_kind kind = plan->ops[span->op].kind;
        double us = (span->end_ns - span->start_ns - span->part_ns[PART_WAIT]) / 1e3;

        if (span->rank != ev.metrics.slowest_rank)
            continue;
        if (kind == OP_A2A_DISPATCH || kind == OP_A2A_COMBINE)
            *comm_us += us;
        if (plan_op_is_expert_gemm(kind))
            *gemm_us += us;
    }
    trace_free(trace);
    plan_free(plan);
    return err;
}

int eps_rule_of(struct evaluator *e, const struct scenario *s, const struct knobs *k,
                struct eps_rule *out)
{
    struct knobs one = *k, two = *k;
    double comm1, gemm1, comm, gemm;
    int err;

    one.pipeline_num = 1;
    /* The slope needs a second PN; where 1 is the choice, the next divisor is asked about. */
    for (two.pipeline_num = k->pipeline_num > 1 ? k->pipeline_num : 2;; two.pipeline_num++) {
        char why[200];

        err = evaluate_check(e, s, &policy_eps, &two, why, sizeof why);
        if (err != ERR_INFEASIBLE || two.pipeline_num > 128)
            break;
    }
    if (!err)
        err = kernel_times(e, s, &one, &comm1, &gemm1);
    if (!err)
        err = kernel_times(e, s, &two, &comm, &gemm);
    if (err)
        return err;
    out->comm_us = comm1;
    out->k_us = fmax((comm + gemm - comm1 - gemm1) / (two.pipeline_num - 1), 0);
    out->best_pn = out->k_us > 0 ? sqrt(out->comm_us / out->k_us) : INFINITY;
    out->comm_ratio = comm / comm1;
    out->gemm_ratio = gemm / gemm1;
    out->worthwhile = out->comm_ratio <= 1 + EPS_RULE_E0 && out->gemm_ratio <= 1 + EPS_RULE_E1;
    return 0;
}

int eps_rules_of(const struct grid *g, struct eps_rule **out, size_t *n)
{
    size_t scenarios = config_num_scenarios(g->config);
    struct evaluator *e = NULL;
    int err;

    *n = 0;
    *out = NULL;
    if (!config_has_policy(g->config, policy_eps.name))
        return 0;
    *out = calloc(scenarios, sizeof **out);
    err = *out ? evaluator_open(&e) : ERR_NOMEM;
    for (size_t i = 0; i < scenarios && !err; i++) {
        const struct grid_point *p = grid_best(g, i, &policy_eps);
        struct scenario s;

        if (!p || config_scenario(g->config, i, &s))
            continue;
        err = eps_rule_of(e, &s, &p->knobs, &(*out)[*n]);
        (*out)[*n].batch = s.batch;
        (*out)[*n].simulated_pn = p->knobs.pipeline_num;
        *n += !err;
        scenario_free(&s);
    }
    evaluator_close(e);
    return err;
}
