#include "study/why.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "study/recommend.h"

const char *why_part_name(int part)
{
    return part == PART_COUNT ? "launch" : trace_part_name((enum trace_part)part);
}

int why_find(const struct config *c, int jobs, struct grid_point *out)
{
    const struct recommend_pick *best;
    struct recommend *r = NULL;
    bool any = false;
    int err;

    for (int i = 0; i < c->num_policies; i++)
        any |= c->policies[i].policy != &policy_none;
    if (config_num_points(c) == 1 || !any) {
        *out = (struct grid_point){.scenario = config_num_scenarios(c) - 1};
        config_knobs(c, 0, &out->policy, &out->knobs, &out->entry);
        return 0;
    }
    err = recommend_run(c, jobs, 0, &r);
    best = err ? NULL : recommend_best(r);
    if (!err && !best) {
        log_error_at(c->path, 0, "no policy can run with knobs that the lists allow");
        err = ERR_INFEASIBLE;
    }
    if (!err)
        *out = (struct grid_point){.scenario = best->scenario,
                                   .policy = c->policies[best->best].policy,
                                   .entry = best->best,
                                   .knobs = best->entry[best->best].knobs};
    recommend_free(r);
    return err;
}

static void part_add(struct why_part *p, const struct trace_step *s, int layers)
{
    for (int i = 0; i < WHY_PARTS; i++) {
        double us = (i == PART_COUNT ? s->launch_ns : s->part_ns[i]) / 1e3 / layers;

        p->us[i] += us;
        p->all_us += us;
    }
}

static int kind_cmp(const void *va, const void *vb)
{
    const struct why_kind *a = va, *b = vb;

    if (a->part.all_us != b->part.all_us)
        return a->part.all_us < b->part.all_us ? 1 : -1;
    return (int)a->kind - (int)b->kind;
}

/* path_us[op]: time on the critical path, for the table of ops. */
static int path_sum(struct why *w, const struct trace *trace, const struct plan *plan,
                    double *path_us)
{
    int layers = plan->period_layers > 0 && plan->period_layers < plan->num_layers
                     ? plan->period_layers
                 : plan->num_layers > 0 ? plan->num_layers
                                        : 1;
    struct trace_step *steps = NULL;
    size_t n = 0;
    int err = trace_path(trace, plan, &steps, &n);

    w->num_kinds = OP_KIND_COUNT;
    for (int i = 0; i < OP_KIND_COUNT; i++)
        w->kind[i].kind = (enum plan_op_kind)i;
    for (size_t i = 0; i < n && !err; i++) {
        struct why_part one = {0};

        part_add(&one, &steps[i], layers);
        path_us[steps[i].op] += one.all_us * layers;
        part_add(&w->total, &steps[i], layers);
        part_add(&w->kind[plan->ops[steps[i].op].kind].part, &steps[i], layers);
    }
    qsort(w->kind, OP_KIND_COUNT, sizeof *w->kind, kind_cmp);
    free(steps);
    return err;
}

static int op_cmp(const void *va, const void *vb)
{
    const struct why_op *a = va, *b = vb;

    if (a->start_us != b->start_us)
        return a->start_us > b->start_us ? 1 : -1;
    return strcmp(a->label, b->label);
}

static int ops_fill(struct why *w, const struct trace *trace, const struct plan *plan,
                    const double *path_us)
{
    double *slack = malloc((size_t)trace->ranks * (size_t)plan->num_ops * sizeof *slack);
    /* Of a policy whose layers stand apart, those of the layer that is measured. */
    int first = w->point.policy->spans_layers ? 0 : plan->num_layers - 1, err;
    double from_us;

    w->op = calloc((size_t)plan->num_ops, sizeof *w->op);
    err = slack && w->op ? trace_slack(trace, plan, slack) : ERR_NOMEM;
    for (size_t i = 0; i < trace->num_spans && !err; i++) {
        const struct trace_span *s = &trace->spans[i];
        struct why_op *o;

        if (s->rank != w->point.ev.metrics.slowest_rank || plan->ops[s->op].layer < first)
            continue;
        o = &w->op[w->num_ops++];
        plan_op_label(plan, s->op, o->label, sizeof o->label);
        memcpy(o->stream, plan->streams[plan->ops[s->op].stream].name, sizeof o->stream);
        o->start_us = s->start_ns / 1e3;
        o->end_us = s->end_ns / 1e3;
        o->path_us = path_us[s->op];
        o->slack_us = slack[(size_t)s->rank * (size_t)plan->num_ops + (size_t)s->op] / 1e3;
        o->least_slack_us = o->slack_us;
        for (int r = 0; r < trace->ranks; r++)
            o->least_slack_us = fmin(
                o->least_slack_us, slack[(size_t)r * (size_t)plan->num_ops + (size_t)s->op] / 1e3);
    }
    if (!err)
        qsort(w->op, (size_t)w->num_ops, sizeof *w->op, op_cmp);
    from_us = w->num_ops ? w->op[0].start_us : 0;
    for (int i = 0; i < w->num_ops && first > 0; i++) {
        w->op[i].start_us -= from_us;
        w->op[i].end_us -= from_us;
    }
    free(slack);
    return err;
}

static int timeline(struct why *w, const struct scenario *s)
{
    struct evaluator *e = NULL;
    struct trace *trace = NULL;
    struct plan *plan = NULL;
    double *path_us = NULL;
    char reason[200] = "";
    int err = evaluator_open(&e);

    if (!err)
        evaluator_whole_layers(e);
    if (!err)
        err = evaluate_settle(e, s, w->point.policy, &w->point.knobs);
    if (!err)
        err = evaluate_check(e, s, w->point.policy, &w->point.knobs, reason, sizeof reason);
    if (err == ERR_INFEASIBLE)
        log_error("this point cannot run: %s", reason);
    if (!err)
        err = grid_evaluate(e, s, w->point.policy, &w->point.knobs, &w->point.ev);
    if (!err)
        err =
            evaluate_point(e, s, w->point.policy, &w->point.knobs, -1, &w->point.ev, &trace, &plan);
    if (!err) {
        path_us = calloc((size_t)plan->num_ops, sizeof *path_us);
        err = path_us ? path_sum(w, trace, plan, path_us) : ERR_NOMEM;
    }
    if (!err)
        err = ops_fill(w, trace, plan, path_us);
    if (!err)
        err = bound_of(e, s, w->point.policy, &w->point.knobs, &w->point.bound);
    if (!err)
        err = evaluate_moe_part(e, s, w->point.policy, &w->point.knobs, &w->point.ev);
    free(path_us);
    trace_free(trace);
    plan_free(plan);
    evaluator_close(e);
    return err;
}

/* A policy measured over several layers has no such steps, nor has one fused kernel. */
static int terms_fill(struct why *w, const struct scenario *s)
{
    struct evaluator *e = NULL;
    int err;

    if (w->point.policy == &policy_none || w->point.policy->spans_layers)
        return 0;
    err = evaluator_open(&e);
    if (!err) {
        evaluator_whole_layers(e);
        err = terms_of(e, s, w->point.policy, &w->point.knobs, &w->terms);
    }
    evaluator_close(e);
    w->has_terms = !err;
    return err == ERR_INFEASIBLE ? 0 : err;
}

static void fixes_list(struct why *w)
{
    static const struct why_fix all[] = {
        {.name = "no skew between ranks", .what = {.no_skew = true}},
        {.name = "no jitter of ranks", .what = {.no_jitter = true}},
        {.name = "perfectly balanced routing", .what = {.perfect_routing = true}},
        {.name = "infinite NIC", .what = {.infinite_nic = true}},
        {.name = "infinite NVLink", .what = {.infinite_nvlink = true}},
        {.name = "twice the SMs", .what = {.sm_factor = 2}},
        {.name = "zero-SM copy-engine sends", .what = {.zero_sm_comm = true}},
        {.name = "no launch gaps", .what = {.no_launch_gap = true}},
        {.name = "no interference between kernels", .what = {.no_interference = true}},
    };

    memcpy(w->fix, all, sizeof all);
    w->num_fixes = sizeof all / sizeof *all;
}

struct fixing {
    struct why *w;
    const struct scenario *s;
};

static int fix_task(void *self, struct evaluator *e, size_t i)
{
    const struct fixing *f = self;
    const struct grid_point *p = &f->w->point;
    struct why_fix *fix;
    struct evaluation ev;
    char reason[200];
    int err;

    if (i == 0) { /* takes longest */
        err = timeline(f->w, f->s);
        return err ? err : terms_fill(f->w, f->s);
    }
    fix = &f->w->fix[i - 1];
    evaluator_what_if(e, &fix->what);
    err = evaluate_check(e, f->s, p->policy, &p->knobs, reason, sizeof reason);
    if (!err)
        err = evaluate_point(e, f->s, p->policy, &p->knobs, -1, &ev, NULL, NULL);
    fix->possible = !err;
    if (!err) {
        fix->layer_us = ev.layer_us;
        fix->none_us = ev.none_us;
        fix->gain_pct = ev.gain_pct;
    }
    evaluator_what_if(e, NULL);
    return err == ERR_INFEASIBLE ? 0 : err;
}

static int fix_cmp(const void *va, const void *vb)
{
    const struct why_fix *a = va, *b = vb;

    if (a->possible != b->possible)
        return a->possible ? -1 : 1;
    if (a->saves_us != b->saves_us)
        return a->saves_us < b->saves_us ? 1 : -1;
    return strcmp(a->name, b->name);
}

int why_run(const struct config *c, const struct grid_point *point, int jobs, struct why **out)
{
    struct why *w = calloc(1, sizeof *w);
    struct scenario s;
    struct fixing fixing = {w, &s};
    int err = w ? config_scenario(c, point->scenario, &s) : ERR_NOMEM;

    if (err) {
        free(w);
        return err;
    }
    w->point = *point;
    fixes_list(w);
    err = grid_each(1 + (size_t)w->num_fixes, jobs, fix_task, &fixing);
    if (!err) {
        for (int i = 0; i < w->num_fixes; i++)
            if (w->fix[i].possible)
                w->fix[i].saves_us = w->point.ev.layer_us - w->fix[i].layer_us;
        qsort(w->fix, (size_t)w->num_fixes, sizeof *w->fix, fix_cmp);
    }
    scenario_free(&s);
    if (err)
        why_free(w);
    else
        *out = w;
    return err;
}

void why_free(struct why *w)
{
    if (!w)
        return;
    free(w->op);
    free(w);
}
