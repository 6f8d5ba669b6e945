#include "study/validate_predict.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

int validate_set_open(struct validate_set *v, const struct config *c)
{
    size_t per = config_num_points_per_scenario(c);

    *v = (struct validate_set){.config = c, .num_points = config_num_points(c)};
    v->point = calloc(v->num_points + 1, sizeof *v->point);
    if (!v->point)
        return ERR_NOMEM;
    for (size_t i = 0; i < v->num_points; i++) {
        struct validate_point *p = &v->point[i];
        int entry;

        p->index = i;
        p->scenario = i / per;
        config_knobs(c, i % per, &p->policy, &p->knobs, &entry);
    }
    return 0;
}

void validate_set_close(struct validate_set *v)
{
    for (size_t i = 0; v->point && i < v->num_points; i++)
        trace_free(v->point[i].trace);
    free(v->point);
    v->point = NULL;
}

int validate_largest_batch(const struct validate_set *v, int *out)
{
    int err = 0;

    *out = 1;
    for (size_t i = 0; !err && i < config_num_scenarios(v->config); i++) {
        struct scenario s;

        err = config_scenario(v->config, i, &s);
        if (!err && s.batch > *out)
            *out = s.batch;
        if (!err)
            scenario_free(&s);
    }
    return err;
}

int validate_plan(const struct validate_set *v, struct evaluator *e, size_t index,
                  struct scenario *s, struct plan **plan)
{
    const struct validate_point *p = &v->point[index];
    int err = config_scenario(v->config, p->scenario, s);

    if (err)
        return err;
    err = evaluate_plan(e, s, p->policy, &p->knobs, plan);
    if (err)
        scenario_free(s);
    return err;
}

static void describe(struct validate_point *p, const struct scenario *s,
                     const struct layer_spec *spec)
{
    p->batch = s->batch;
    p->experts = spec->model->experts;
    p->hidden = spec->model->hidden;
    p->inter = spec->model->inter;
    p->ranks = spec->ranks;
}

int validate_describe(const struct validate_set *v, struct evaluator *e, struct validate_point *p)
{
    struct scenario s;
    struct layer_spec spec;
    int err = config_scenario(v->config, p->scenario, &s);

    if (err)
        return err;
    err = evaluate_spec(e, &s, p->policy, &spec);
    if (!err)
        describe(p, &s, &spec);
    scenario_free(&s);
    return err;
}

/* As the GPU back end sums them up: mean over ranks, waiting excluded but in fused kernels. */
static void kinds_of(const struct trace *trace, const struct plan *plan, double *us,
                     double *wait_us)
{
    for (int k = 0; k < OP_KIND_COUNT; k++)
        us[k] = wait_us[k] = 0;
    for (size_t i = 0; i < trace->num_spans; i++) {
        const struct trace_span *s = &trace->spans[i];
        enum plan_op_kind kind = plan->ops[s->op].kind;
        double wait = plan_op_sends(kind) && plan_op_recvs(kind) ? 0 : s->wait_ns;

        us[kind] += (s->end_ns - s->start_ns - wait) * 1e-3 / trace->ranks;
        wait_us[kind] += wait * 1e-3 / trace->ranks;
    }
}

/* Times read from a folder must be of the model and group that are predicted. */
static int shape_check(const struct validate_set *v, const struct validate_point *p,
                       const char *from, const struct layer_spec *spec)
{
    const struct {
        const char *name;
        int have, want;
    } all[] = {{"experts", p->experts, spec->model->experts},
               {"hidden", p->hidden, spec->model->hidden},
               {"inter", p->inter, spec->model->inter},
               {"ranks", p->ranks, spec->ranks}};

    for (size_t i = 0; from && i < sizeof all / sizeof *all; i++)
        if (all[i].have != all[i].want) {
            log_error("%s: measured with %s %d, but %s has %d", from, all[i].name, all[i].have,
                      v->config->path, all[i].want);
            return ERR_DATA;
        }
    return 0;
}

int validate_predict(const struct validate_set *v, struct evaluator *e, struct validate_point *p,
                     const char *from, struct trace **trace, struct plan **plan)
{
    struct scenario s;
    struct layer_spec spec;
    struct evaluation ev;
    int err = config_scenario(v->config, p->scenario, &s);

    if (err)
        return err;
    err = evaluate_spec(e, &s, p->policy, &spec);
    if (!err)
        err = evaluate_point(e, &s, p->policy, &p->knobs, -1, &ev, trace, plan);
    if (!err)
        err = shape_check(v, p, from, &spec);
    if (!err) {
        describe(p, &s, &spec);
        p->predicted_us = ev.layer_us;
        kinds_of(*trace, *plan, p->kind_us, p->kind_wait_us);
    }
    scenario_free(&s);
    return err;
}

/* Were any of the measured points of the normal kernels? The GPU back end has library all-to-alls
 * in their stead. */
static bool stands_in(const struct validate_set *v, struct evaluator *e)
{
    bool found = false;

    for (size_t i = 0; i < v->num_points && !found; i++) {
        const struct validate_point *p = &v->point[i];
        struct scenario s;
        struct layer_spec spec;

        if (!p->measured || config_scenario(v->config, p->scenario, &s))
            continue;
        found = evaluate_spec(e, &s, p->policy, &spec) == 0 && spec.comm == COMM_NORMAL;
        scenario_free(&s);
    }
    return found;
}

/* Slices, paced receives and other kernels stand for what is not here: the outputs must say so. */
static void emulation_say(struct validate_set *v, struct evaluator *e, double pace_GBps)
{
    int ranks = 0;
    char slice[160] = "", pace[96] = "";

    if (pace_GBps > 0)
        v->pace_GBps = pace_GBps;
    for (size_t i = 0; i < v->num_points; i++)
        if (v->point[i].gpu.emulated_ranks > ranks)
            ranks = v->point[i].gpu.emulated_ranks;
    if (ranks > 0)
        snprintf(slice, sizeof slice,
                 "each GPU carries one rank of %d, and what goes to the ranks that it stands for "
                 "stays in its memory; ",
                 ranks);
    if (v->pace_GBps > 0)
        snprintf(pace, sizeof pace, "receives held back as by a network of %g GB/s; ",
                 v->pace_GBps);
    snprintf(v->emulation, sizeof v->emulation, "%s%s%s", slice, pace,
             stands_in(v, e) ? "NCCL all-to-alls stand in for DeepEP's normal kernels; " : "");
    if (v->emulation[0])
        v->emulation[strlen(v->emulation) - 2] = '\0';
}

void validate_emulate(struct validate_set *v, struct evaluator *e,
                      const struct sim_emulation *asked)
{
    struct sim_emulation emulation = *asked;

    emulation_say(v, e, asked->pace_GBps);
    emulation.pace_GBps = v->pace_GBps;
    if (v->emulation[0])
        evaluator_emulate(e, &emulation);
}
