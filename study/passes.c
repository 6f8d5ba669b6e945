#include "study/passes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "model/pass.h"
#include "study/pool.h"

int passes_open(const struct config *c, const struct passes_options *o, struct passes *out)
{
    size_t per = config_num_points_per_scenario(c);
    unsigned char *skip;
    struct evaluator *e = NULL;
    int err;

    *out = (struct passes){.config = c, .options = *o, .n = config_num_points(c)};
    out->points = calloc(out->n, sizeof *out->points);
    skip = calloc(out->n, 1);
    err = out->points && skip ? evaluator_open(&e) : ERR_NOMEM;
    if (!err)
        err = evaluate_config(e, c, skip);
    for (size_t i = 0; i < out->n && !err; i++) {
        struct passes_point *p = &out->points[i];

        p->scenario = i / per;
        p->skipped = skip[i];
        config_knobs(c, i % per, &p->policy, &p->knobs, NULL);
    }
    evaluator_close(e);
    free(skip);
    return err;
}

void passes_free(struct passes *a)
{
    free(a->points);
    a->points = NULL;
}

static int point_memory(struct evaluator *e, const struct scenario *s,
                        const struct passes_options *f, struct passes_point *p)
{
    struct memory_spec spec;
    bool decode = s->phase == PHASE_OF_DECODE;
    int requests =
        decode ? (s->batch + s->tokens_per_request - 1) / s->tokens_per_request : pass_requests(s);
    double context =
        decode ? s->context_len + s->tokens_per_request : s->cached_len + s->prompt_len;
    char text[160];
    int err = pass_memory(e, s, requests, context, f->reserve_GB, &spec, &p->memory);

    if (err || p->memory.total <= p->memory.capacity)
        return err;
    memory_text(&p->memory, text, sizeof text);
    snprintf(p->why, sizeof p->why,
             "batch %d does not fit %s: %s; the largest that fits: %d requests", s->batch,
             s->profile, text,
             memory_max_requests(&spec, decode ? s->tokens_per_request : s->prompt_len));
    p->skipped = true;
    return 0;
}

static int point_run(void *self, struct evaluator *e, size_t i)
{
    struct passes *a = self;
    struct passes_point *p = &a->points[i];
    struct scenario s;
    int err;

    if (!p->skipped && interrupt_came(a->interrupt))
        p->left = p->skipped = true;
    err = p->skipped ? 0 : config_scenario(a->config, p->scenario, &s);
    if (err || p->skipped)
        return err;
    p->batch = s.batch;
    p->phase = s.phase;
    p->ranks = s.nodes * s.gpus_per_node;
    p->requests =
        (double)s.batch / (s.phase == PHASE_OF_DECODE ? s.tokens_per_request : s.prompt_len);
    p->passes = (s.prompt_len + s.batch * s.attention_tp - 1) / (s.batch * s.attention_tp);
    p->tokens =
        s.phase == PHASE_OF_DECODE
            ? p->requests * pass_tokens_accepted(s.tokens_per_request - 1, a->options.acceptance)
            : s.batch;
    err = point_memory(e, &s, &a->options, p);
    if (!err && !p->skipped)
        err = evaluate_settle(e, &s, p->policy, &p->knobs);
    if (!err && !p->skipped)
        err = pass_knobs_resolve(e, &s, p->policy, &p->knobs);
    if (err || p->skipped)
        ;
    else if (a->options.draws > 1)
        err = pass_run_spread(e, &s, p->policy, &p->knobs, a->options.draws, &p->r, &p->spread);
    else
        err = pass_run(e, &s, p->policy, &p->knobs, a->options.all_layers, &p->r);
    scenario_free(&s);
    return err;
}

double passes_tokens_s_gpu(const struct passes_point *p)
{
    return p->tokens / (p->r.step_us * 1e-6);
}

double passes_tpot_ms(const struct passes_point *p)
{
    return p->phase == PHASE_OF_DECODE ? p->r.step_us / 1e3 * p->requests / p->tokens : 0;
}

double passes_ttft_ms(const struct passes_point *p)
{
    return p->phase == PHASE_OF_DECODE ? 0 : p->passes * p->r.step_us / 1e3;
}

/* What does not fit is named once per batch; if nothing does, that is the answer. */
static int unfit_say(const struct passes *a)
{
    size_t left = 0;

    for (size_t i = 0; i < a->n; i++)
        left += !a->points[i].skipped || a->points[i].left;
    for (size_t i = 0; i < a->n; i++) {
        const char *why = a->points[i].why;

        if (!*why || (i && !strcmp(why, a->points[i - 1].why)))
            continue;
        if (!left) {
            log_error("%s", why);
            return ERR_INFEASIBLE;
        }
        log_note("skipped: %s", why);
    }
    return 0;
}

int passes_run(struct passes *a, int jobs, int interrupt,
               void (*progress)(void *self, size_t done, size_t all), void *self)
{
    int err;

    a->interrupt = interrupt;
    err = pool_run(a->n, jobs, point_run, a, progress, self);
    for (size_t i = 0; i < a->n; i++)
        a->num_left += a->points[i].left;

    return err ? err : unfit_say(a);
}

const struct passes_point *passes_best(const struct passes *a)
{
    const struct passes_point *best = NULL;

    for (size_t i = 0; i < a->n; i++)
        if (!a->points[i].skipped &&
            (!best || passes_tokens_s_gpu(&a->points[i]) > passes_tokens_s_gpu(best)))
            best = &a->points[i];
    return best;
}

bool passes_is_best(const struct passes *a, size_t i)
{
    const struct passes_point *p = &a->points[i];
    size_t ran = 0;

    for (size_t j = 0; j < a->n; j++) {
        const struct passes_point *q = &a->points[j];
        double more = q->skipped ? 0 : passes_tokens_s_gpu(q) - passes_tokens_s_gpu(p);

        if (q->scenario != p->scenario || q->skipped)
            continue;
        ran++;
        if (more > 0 || (j < i && more == 0))
            return false;
    }
    return ran > 1;
}

int passes_timeline(const struct passes *a, const struct passes_point *p, char *title, size_t size,
                    struct trace_log **out)
{
    struct evaluator *e = NULL;
    struct scenario s;
    int err = config_scenario(a->config, p->scenario, &s);

    if (err)
        return err;
    err = evaluator_open(&e);
    if (!err)
        err = pass_timeline(e, &s, p->policy, &p->knobs, out);
    snprintf(title, size, "%s on %s, EP%d: %s, batch %d: one pass of all layers, %.1f ms", s.model,
             s.profile, p->ranks, p->policy->name, p->batch, p->r.step_us / 1e3);
    evaluator_close(e);
    scenario_free(&s);
    return err;
}
