#include "study/pass.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_rng.h>

#include "base/err.h"
#include "base/log.h"
#include "base/stats.h"
#include "study/grid.h"
#include "model/pass.h"

/* Layers simulated in a row: the first fill the overlap, the last ones are the steady period. Where
 * kernels of several layers wait for each other on two streams (tbo in prefill), ranks drift apart
 * for some layers before they keep a common pace. */
#define PASS_LAYERS       6
#define PASS_PERIOD       2
#define PASS_DRIFT_LAYERS 16
#define PASS_DRIFT_PERIOD 2
#define PASS_STEPS        2000

const char pass_metrics_help[] =
    "Metrics:\n"
    "  step time      one pass through all layers on the slowest rank: embedding, dense and MoE\n"
    "                 layers, prediction layers, LM head\n"
    "  TPOT           time per output token of one request: decode step time / tokens it yields\n"
    "                 per request; with shared pools, prefill work in between included\n"
    "  tokens/s/user  1 / TPOT\n"
    "  TTFT           time to the first token: wait for the pass in progress (the percentile's "
    "share\n"
    "                 of a pass), all passes of the prompt, transfer of its KV cache, one decode "
    "step;\n"
    "                 requests queue for nothing else: bursts, full batches and other prompts'\n"
    "                 chunks are left out, so at high utilisation it is a lower bound; in tables\n"
    "                 of one pass, the passes alone of a prompt that finds the GPUs idle\n"
    "  tokens/s/GPU   output tokens per second over all GPUs of the pools; in tables of one pass,\n"
    "                 that pass's tokens over its time and GPUs (prompt tokens in prefill)\n"
    "  percentile     over steps whose tokens choose experts anew; layer times come from `draws`\n"
    "                 simulated routings (capacity: 8), and what lies between p50, p90 and p99 is\n"
    "                 interpolated; arrivals and lengths are means and do not vary\n"
    "  USD/Mtoken     price of all GPUs per hour over the output tokens of an hour\n"
    "  batch          decode: requests per GPU; prefill: prompt tokens per GPU and pass\n";

const char *pass_part_name(enum pass_part part)
{
    static const char *const names[] = {"dense", "moe", "mtp", "ends"};

    return names[part];
}

int pass_requests(const struct scenario *s)
{
    int per = s->phase == PHASE_OF_DECODE ? s->tokens_per_request : s->prompt_len;

    return (s->batch + per - 1) / per;
}

/* One section simulated: the whole of what was simulated, and its steady period per layer. */
struct section {
    struct trace_metrics whole, steady; /* whole: per layer, of `layers` */
    struct evaluation ev;
    int layers;
};

static int section_run(struct evaluator *e, const struct scenario *s, struct plan *plan,
                       struct section *out)
{
    struct trace *trace = NULL;
    int err = evaluate_simulate(e, s, plan, -1, &out->ev, &trace);

    out->steady = out->ev.metrics;
    out->layers = plan->num_layers;
    if (!err) {
        plan->period_layers = plan->num_layers;
        err = trace_measure(trace, plan, &out->whole);
    }
    trace_free(trace);
    return err;
}

/* Adds n times one layer of x. */
static void result_add(struct pass_result *r, enum pass_part part, const struct trace_metrics *x,
                       double n)
{
    r->step_us += n * x->layer_ns / 1e3;
    r->part_us[part] += n * x->layer_ns / 1e3;
    r->launch_us += n * x->launch_ns / 1e3;
    for (int k = 0; k < OP_KIND_COUNT; k++)
        r->kind_us[k] += n * x->kind_ns[k] / 1e3;
    for (int p = 0; p < PART_COUNT; p++)
        r->cause_us[p] += n * x->part_ns[p] / 1e3;
}

static void section_add(struct pass_result *r, enum pass_part part, const struct section *sec,
                        int count)
{
    int whole = count < sec->layers ? count : sec->layers;

    result_add(r, part, &sec->whole, whole);
    result_add(r, part, &sec->steady, count - whole);
    r->events += sec->ev.events;
}

static int spec_of(struct evaluator *e, const struct scenario *s, const struct policy *p,
                   struct layer_spec *out)
{
    int err = evaluate_spec(e, s, p, out);

    if (!err) /* Nemotron's layers of experts have no attention */
        out->attention = out->model->attn.kind != ATTN_NONE;
    return err;
}

/* How many layers stand for count; exact != 0: just so many. */
static void repeated_layers(struct layer_spec *spec, const struct policy *p, int exact, int count)
{
    bool drift = p->spans_layers && !spec->decode;
    int layers = drift ? PASS_DRIFT_LAYERS : PASS_LAYERS;
    int period = drift ? PASS_DRIFT_PERIOD : PASS_PERIOD;

    spec->layers = exact ? exact : count < layers ? count : layers;
    spec->period_layers = spec->layers > period ? period : spec->layers;
}

static int moe_section(struct evaluator *e, const struct scenario *s, const struct policy *p,
                       const struct knobs *k, int count, bool all, struct section *out)
{
    struct layer_spec spec;
    struct plan *plan = NULL;
    char why[200];
    int err = spec_of(e, s, p, &spec);

    if (err)
        return err;
    repeated_layers(&spec, p, all ? count : 0, count);
    err = p->check(&spec, k, why, sizeof why);
    if (err == ERR_INFEASIBLE)
        log_error("policy %s cannot run: %s", p->name, why);
    if (!err)
        err = p->build(&spec, k, &plan);
    if (!err)
        err = section_run(e, s, plan, out);
    plan_free(plan);
    return err;
}

/* A routing table that sends nothing: dense layers have no experts. */
static int routing_none(int ranks, int tokens, struct plan_routing *r)
{
    size_t n = (size_t)ranks * (size_t)tokens;

    *r = (struct plan_routing){.ranks = ranks, .tokens = tokens, .topk = 1, .experts = ranks};
    r->expert = malloc(n * sizeof *r->expert);
    if (!r->expert)
        return ERR_NOMEM;
    memset(r->expert, 0xff, n * sizeof *r->expert);
    return 0;
}

/* Dense layers and the two ends run without a policy; the plan borrows *none. */
static int plain_plan(struct evaluator *e, const struct scenario *s, bool ends, int layers,
                      struct plan_routing *none, struct plan **out)
{
    struct layer_spec spec;
    struct knobs k;
    int rows = s->phase == PHASE_OF_DECODE ? s->batch : pass_requests(s);
    int err = spec_of(e, s, &policy_none, &spec);

    if (!err)
        err = routing_none(spec.ranks, spec.tokens, none);
    if (err)
        return err;
    spec.dense = true;
    spec.routing = none;
    spec.layers = layers;
    spec.period_layers = layers > PASS_PERIOD ? PASS_PERIOD : layers;
    knobs_default(&policy_none, &k);
    return ends ? pass_ends_build(&spec, rows, out) : policy_none.build(&spec, &k, out);
}

static int plain_section(struct evaluator *e, const struct scenario *s, bool ends, int count,
                         struct section *out)
{
    struct plan_routing none = {0};
    struct plan *plan = NULL;
    int layers = count < PASS_LAYERS ? count : PASS_LAYERS;
    int err = plain_plan(e, s, ends, layers, &none, &plan);

    if (!err)
        err = section_run(e, s, plan, out);
    plan_free(plan);
    free(none.expert);
    return err;
}

static int layers_of(struct evaluator *e, const struct scenario *s, struct pass_layers *out)
{
    const struct moe_model *m;
    int err = evaluate_model(e, s, &m);

    if (!err)
        pass_layers_of(m, s->phase == PHASE_OF_DECODE ? s->tokens_per_request - 1 : 0, out);
    return err;
}

/* Calls `each` for every kind of layer, with the evaluator set to it. */
static int kinds_each(struct evaluator *e, const struct scenario *s,
                      int (*each)(void *self, const struct moe_layer *l), void *self)
{
    const struct moe_model *m;
    int err = evaluate_model(e, s, &m);

    for (int i = 0; !err && i < m->num_kinds; i++) {
        evaluator_use_layer(e, i);
        err = each(self, &m->layer[i]);
    }
    evaluator_use_layer(e, -1);
    return err;
}

/* One pass in the making: what its kinds of layers add to. */
struct passing {
    struct evaluator *e;
    const struct scenario *s;
    const struct policy *p;
    const struct knobs *k;
    bool all;
    struct pass_result *r;
    struct section moe; /* of most MoE layers */
    int moe_count;
    double steady_us; /* all MoE layers, each at its steady period */
};

static void moe_add(struct passing *g, const struct section *moe, int count)
{
    section_add(g->r, PASS_MOE, moe, count);
    g->steady_us += count * moe->steady.layer_ns / 1e3;
    g->r->exposed_us += count * moe->steady.exposed_comm_ns / 1e3;
    if (count > g->moe_count) {
        g->moe = *moe;
        g->moe_count = count;
    }
}

static int kind_add(void *self, const struct moe_layer *l)
{
    struct passing *g = self;
    struct section sec;
    int err;

    if (l->experts) {
        err = moe_section(g->e, g->s, g->p, g->k, l->count, g->all, &sec);
        if (!err)
            moe_add(g, &sec, l->count);
        return err;
    }
    err = plain_section(g->e, g->s, false, l->count, &sec);
    if (!err)
        section_add(g->r, PASS_DENSE, &sec, l->count);
    return err;
}

/* Drafting layers are as most MoE layers, and what stands for all of these. */
static void moe_finish(struct passing *g, const struct pass_layers *n)
{
    struct pass_result *r = g->r;
    const struct trace_metrics *steady = &g->moe.steady;

    result_add(r, PASS_MTP, steady, n->mtp);
    r->layer_us = g->steady_us / n->moe;
    r->extra_us = r->part_us[PASS_MOE] - n->moe * r->layer_us;
    r->num_moe = n->moe + n->mtp;
    r->exposed_us += n->mtp * steady->exposed_comm_ns / 1e3;
    r->sm_util = steady->sm_util;
    r->nic_util = g->moe.ev.nic_util;
    r->nvlink_util = g->moe.ev.nvlink_util;
    r->assumed_share = g->moe.ev.assumed_share;
}

static int ends_add(struct evaluator *e, const struct scenario *s, const struct pass_layers *n,
                    struct pass_result *r)
{
    struct section sec;
    int err = plain_section(e, s, true, 1, &sec);

    if (!err) {
        section_add(r, PASS_ENDS, &sec, 1);
        result_add(r, PASS_MTP, &sec.whole, n->mtp);
    }
    return err;
}

int pass_run(struct evaluator *e, const struct scenario *s, const struct policy *p,
             const struct knobs *k, bool all, struct pass_result *out)
{
    struct passing g = {.e = e, .s = s, .p = p, .k = k, .all = all, .r = out};
    struct pass_layers n;
    int err = layers_of(e, s, &n);

    *out = (struct pass_result){0};
    if (!err)
        err = kinds_each(e, s, kind_add, &g);
    if (!err)
        moe_finish(&g, &n);
    if (!err)
        err = ends_add(e, s, &n, out);
    return err;
}

int pass_knobs_resolve(struct evaluator *e, const struct scenario *s, const struct policy *p,
                       struct knobs *k)
{
    struct scenario on = *s;
    struct evaluation ev;

    if (!policy_has_auto(p, k))
        return 0;
    on.attention = ATTENTION_ON;
    return grid_evaluate(e, &on, p, k, &ev);
}

/* Times of PASS_STEPS steps: every layer takes one of the layer times at random. */
static int steps_draw(const double *layer_us, int draws, int layers, double rest_us,
                      unsigned long seed, struct pass_spread *out)
{
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    double *step = malloc(PASS_STEPS * sizeof *step), sum = 0;
    int err = rng && step ? 0 : ERR_NOMEM;

    if (!err)
        gsl_rng_set(rng, seed + 15485863);
    for (int i = 0; i < PASS_STEPS && !err; i++) {
        step[i] = rest_us;
        for (int l = 0; l < layers; l++)
            step[i] += layer_us[gsl_rng_uniform_int(rng, (unsigned long)draws)];
        sum += step[i];
    }
    if (!err)
        *out = (struct pass_spread){.mean_us = sum / PASS_STEPS,
                                    .p50_us = stats_quantile(step, PASS_STEPS, 0.5),
                                    .p90_us = stats_quantile(step, PASS_STEPS, 0.9),
                                    .p99_us = stats_quantile(step, PASS_STEPS, 0.99)};
    if (rng)
        gsl_rng_free(rng);
    free(step);
    return err;
}

static bool single_kind(struct evaluator *e, const struct scenario *s)
{
    const struct moe_model *m;
    int kinds = 0;

    if (evaluate_model(e, s, &m))
        return true;
    for (int i = 0; i < m->num_kinds; i++)
        kinds += m->layer[i].experts > 0;
    return kinds == 1;
}

int pass_run_spread(struct evaluator *e, const struct scenario *s, const struct policy *p,
                    const struct knobs *k, int draws, struct pass_result *mean,
                    struct pass_spread *spread)
{
    double *layer_us = malloc((size_t)draws * sizeof *layer_us), rest_us;
    struct scenario step = *s;
    struct pass_layers n;
    struct section moe;
    double first_us = 0;
    int err = layer_us ? pass_run(e, s, p, k, false, mean) : ERR_NOMEM;

    if (!err)
        err = layers_of(e, s, &n);
    /* Layers of most MoE layers' kind; others are taken to vary as they do. */
    for (int d = 0; d < draws && !err; d++) {
        step.draw = s->draw + d;
        step.seed = s->seed + d; /* another layer: other experts are popular */
        if (d > 0 || !single_kind(e, s))
            err = moe_section(e, &step, p, k, n.moe, false, &moe);
        else
            moe.steady.layer_ns = mean->layer_us * 1e3;
        if (!err && d == 0)
            first_us = moe.steady.layer_ns / 1e3;
        if (!err)
            layer_us[d] = moe.steady.layer_ns / 1e3 * mean->layer_us / first_us;
    }
    if (!err) {
        rest_us = mean->step_us - mean->num_moe * mean->layer_us;
        err = steps_draw(layer_us, draws, mean->num_moe, rest_us, (unsigned long)s->seed, spread);
    }
    free(layer_us);
    return err;
}

double pass_spread_at(const struct pass_spread *x, double percentile)
{
    if (percentile <= 50)
        return x->p50_us;
    if (percentile <= 90)
        return x->p50_us + (x->p90_us - x->p50_us) * (percentile - 50) / 40;
    return x->p90_us + (x->p99_us - x->p90_us) * fmin(percentile - 90, 9) / 9;
}

int pass_memory(struct evaluator *e, const struct scenario *s, int requests, double context_len,
                double reserve_GB, struct memory_spec *spec, struct memory_sum *sum)
{
    struct layer_spec layer;
    bool decode = s->phase == PHASE_OF_DECODE;
    int err = evaluate_shape(e, s, &policy_none, &layer);

    if (err)
        return err;
    *spec = (struct memory_spec){
        .model = layer.model,
        .decode = decode,
        .ranks = layer.ranks,
        .ranks_per_node = layer.ranks_per_node,
        .attention_tp = s->attention_tp,
        .requests = requests,
        .context_len = context_len,
        .tokens = s->batch,
        .max_dispatch_tokens = s->max_dispatch_tokens,
        .comm = layer.comm,
        .normal_num_sms = s->normal_num_sms,
        .weight_dtype = layer.gemm_dtype,
        .typed = layer.typed,
        .kv_bytes_per_element = layer.kv_bytes_per_element,
        .mtp_layers = decode && s->tokens_per_request > 1 ? 1 : 0,
        .reserve_bytes = reserve_GB * 1e9,
        .capacity_bytes = hw_value(evaluate_profile(e), HW_GPU_HBM_GB) * 1e9,
    };
    memory_sum(spec, sum);
    return 0;
}

#define WARN_RESERVE_GB 4 /* as `pass` has it by default */

static int scenario_memory(struct evaluator *e, const struct scenario *s, struct memory_sum *sum)
{
    struct memory_spec spec;
    bool decode = s->phase == PHASE_OF_DECODE;
    double context =
        decode ? s->context_len + s->tokens_per_request : s->cached_len + s->prompt_len;

    return pass_memory(e, s, pass_requests(s), context, WARN_RESERVE_GB, &spec, sum);
}

int pass_memory_warn(struct evaluator *e, const struct config *c)
{
    struct memory_sum sum, worst = {0};
    size_t n = config_num_scenarios(c), over = 0;
    char text[160], profile[64] = "";
    int err = 0, batch = 0;

    for (size_t i = 0; i < n && !err; i++) {
        struct scenario s;

        err = config_scenario(c, i, &s);
        if (!err)
            err = scenario_memory(e, &s, &sum);
        if (!err && sum.total > sum.capacity && !over++) {
            worst = sum;
            batch = s.batch;
            snprintf(profile, sizeof profile, "%s", s.profile);
        }
        scenario_free(&s);
    }
    if (err || !over)
        return err;
    memory_text(&worst, text, sizeof text);
    log_warn("%zu of %zu scenarios do not fit their GPUs, batch %d on %s: %s; layers are simulated "
             "all the same, `peosim pass` refuses them",
             over, n, batch, profile, text);
    return 0;
}

/* Lanes of the timeline of a whole pass. */
enum stage {
    STAGE_ATTENTION,
    STAGE_MLP,
    STAGE_EXPERTS,
    STAGE_DISPATCH,
    STAGE_COMBINE,
    STAGE_OTHER
};

static enum stage stage_of(enum plan_op_kind kind)
{
    static const enum stage of[PLAN_PART_COUNT] = {
        [PLAN_PART_ATTENTION] = STAGE_ATTENTION,
        [PLAN_PART_ROUTER] = STAGE_ATTENTION,
        [PLAN_PART_MLP] = STAGE_MLP,
        [PLAN_PART_EXPERTS] = STAGE_EXPERTS,
        [PLAN_PART_DISPATCH] = STAGE_DISPATCH,
        [PLAN_PART_COMBINE] = STAGE_COMBINE,
        [PLAN_PART_OTHER] = STAGE_OTHER,
    };

    return of[plan_op_traits(kind)->part];
}

struct timeline {
    struct trace_log *log;
    double from_ns; /* where the next section begins */
    int layer;
};

static int stretch_add(struct timeline *t, const struct trace_span *s, const struct plan *plan,
                       double start_ns, double end_ns)
{
    static const char *const names[] = {"attention", "dense/shared", "experts",
                                        "dispatch",  "combine",      "LM head"};
    const struct plan_op *op = &plan->ops[s->op];
    enum stage stage = stage_of(op->kind);
    char label[32];
    struct trace_record r = {.rank = 0,
                             .stream = (int)stage,
                             .op = s->op,
                             .stream_name = names[stage],
                             .label = label,
                             .kind = plan_op_kind_name(op->kind),
                             .layer = t->layer + op->layer,
                             .batch = op->batch,
                             .round = -1,
                             .ready_ns = t->from_ns + start_ns,
                             .start_ns = t->from_ns + start_ns,
                             .end_ns = t->from_ns + end_ns,
                             .sms = s->sms,
                             .cause = CAUSE_UNKNOWN,
                             .cause_op = -1,
                             .data_rank = -1,
                             .data_op = -1};

    r.class_name = plan_op_kind_class(op->kind) == OP_CLASS_COMPUTE ? "compute" : "comm";
    snprintf(label, sizeof label, "L%d", r.layer);
    return trace_log_add(t->log, &r);
}

/* Consecutive ops of one stage, layer and half on the rank become one record. */
static int section_record(struct timeline *t, const struct trace *trace, const struct plan *plan,
                          int rank)
{
    const struct trace_span *open = NULL;
    double from = 0, to = 0, last = 0;
    int err = 0;

    for (size_t i = 0; i < trace->num_spans && !err; i++) {
        const struct trace_span *s = &trace->spans[i];
        const struct plan_op *op = &plan->ops[s->op], *was = open ? &plan->ops[open->op] : NULL;

        if (s->rank != rank)
            continue;
        last = fmax(last, s->end_ns);
        if (was && stage_of(op->kind) == stage_of(was->kind) && op->layer == was->layer &&
            op->batch == was->batch) {
            to = fmax(to, s->end_ns);
            continue;
        }
        if (open)
            err = stretch_add(t, open, plan, from, to);
        open = s;
        from = s->start_ns;
        to = s->end_ns;
    }
    if (open && !err)
        err = stretch_add(t, open, plan, from, to);
    t->from_ns += last;
    t->layer += plan->num_layers;
    return err;
}

static int section_timeline(struct timeline *t, struct evaluator *e, const struct scenario *s,
                            struct plan *plan)
{
    struct trace *trace = NULL;
    struct evaluation ev;
    int err;

    plan->period_layers = plan->num_layers;
    err = evaluate_simulate(e, s, plan, -1, &ev, &trace);
    if (!err)
        err = section_record(t, trace, plan, ev.metrics.slowest_rank);
    trace_free(trace);
    return err;
}

static int plain_timeline(struct timeline *t, struct evaluator *e, const struct scenario *s,
                          bool ends, int layers)
{
    struct plan_routing none = {0};
    struct plan *plan = NULL;
    int err = plain_plan(e, s, ends, layers, &none, &plan);

    if (!err)
        err = section_timeline(t, e, s, plan);
    plan_free(plan);
    free(none.expert);
    return err;
}

static int moe_timeline(struct timeline *t, struct evaluator *e, const struct scenario *s,
                        const struct policy *p, const struct knobs *k, int layers)
{
    struct layer_spec spec;
    struct plan *plan = NULL;
    int err = spec_of(e, s, p, &spec);

    spec.layers = spec.period_layers = layers;
    if (!err)
        err = p->build(&spec, k, &plan);
    if (!err)
        err = section_timeline(t, e, s, plan);
    plan_free(plan);
    return err;
}

struct kinds_timeline {
    struct timeline *t;
    const struct passing *g;
    int drafting, moe_left; /* layers that draft tokens follow the last MoE layers */
};

static int kind_timeline(void *self, const struct moe_layer *l)
{
    struct kinds_timeline *k = self;
    const struct passing *g = k->g;

    if (!l->experts)
        return plain_timeline(k->t, g->e, g->s, false, l->count);
    k->moe_left -= l->count;
    return moe_timeline(k->t, g->e, g->s, g->p, g->k,
                        l->count + (k->moe_left == 0 ? k->drafting : 0));
}

/* Layers of a kind stand together, kinds in the order in which they first appear. */
int pass_timeline(struct evaluator *e, const struct scenario *s, const struct policy *p,
                  const struct knobs *k, struct trace_log **out)
{
    struct timeline t = {0};
    struct passing g = {.e = e, .s = s, .p = p, .k = k};
    struct pass_layers n;
    int err = layers_of(e, s, &n);
    struct kinds_timeline kinds = {.t = &t, .g = &g};

    *out = NULL;
    if (!err)
        err = trace_log_new(&t.log, "sim");
    if (!err) {
        kinds.drafting = n.mtp;
        kinds.moe_left = n.moe;
        err = kinds_each(e, s, kind_timeline, &kinds);
    }
    if (!err)
        err = plain_timeline(&t, e, s, true, 1);
    if (err) {
        trace_log_free(t.log);
        return err;
    }
    trace_log_sort(t.log);
    *out = t.log;
    return 0;
}
