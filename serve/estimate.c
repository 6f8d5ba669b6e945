#include "serve/estimate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Prompt tokens that engines put into one step by default (SGLang's chunked_prefill_size, vLLM's
 * and TensorRT-LLM's max_num_batched_tokens on these GPUs). */
enum { STEP_TOKENS = 8192 };

/* What makes two pools' steps equal. */
struct table {
    char key[256];
    struct serve_deployment d;
    struct serve_pool pool;
    struct step_model *model;
    struct table *next;
};

struct serve_tables {
    struct evaluator *e;
    struct table *first;
};

int serve_tables_open(struct serve_tables **out)
{
    struct serve_tables *t = calloc(1, sizeof *t);
    int err = t ? evaluator_open(&t->e) : ERR_NOMEM;

    if (err) {
        free(t);
        t = NULL;
    } else {
        evaluate_hush(t->e);
    }
    *out = t;
    return err;
}

void serve_tables_close(struct serve_tables *t)
{
    while (t && t->first) {
        struct table *x = t->first;

        t->first = x->next;
        step_model_close(x->model);
        free(x);
    }
    if (t)
        evaluator_close(t->e);
    free(t);
}

size_t serve_tables_passes(const struct serve_tables *t)
{
    size_t n = 0;

    for (const struct table *x = t->first; x; x = x->next)
        n += step_model_passes(x->model);
    return n;
}

static int table_new(struct serve_tables *t, const struct serve_deployment *d,
                     const struct serve_pool *pool, const char *key, struct step_model **out)
{
    struct table *x = calloc(1, sizeof *x);
    int err = x ? 0 : ERR_NOMEM;

    if (!err) {
        snprintf(x->key, sizeof x->key, "%s", key);
        x->d = *d;
        x->pool = *pool;
        err = step_model_open(t->e, &x->d, &x->pool, d->isl, &x->model);
    }
    if (err) {
        free(x);
        return err;
    }
    x->next = t->first;
    t->first = x;
    *out = x->model;
    return 0;
}

int serve_tables_pool(struct serve_tables *t, const struct serve_deployment *d,
                      const struct serve_pool *p, struct step_model **out)
{
    char key[256];

    snprintf(key, sizeof key, "%s %s %s %s %s %d | %d %d %d %d %d | %d", d->model, d->profile,
             d->gemm_dtype, d->expert_dtype, d->kv_dtype, d->engine, p->gpus, p->tp, p->dp,
             p->moe_tp, p->ep, d->isl);
    for (const struct table *x = t->first; x; x = x->next)
        if (!strcmp(x->key, key)) {
            *out = x->model;
            return 0;
        }
    return table_new(t, d, p, key, out);
}

static void scale(struct step_parts *p, double by)
{
    p->core_us *= by;
    p->attn_us *= by;
    p->experts_us *= by;
    p->gate_us *= by;
    p->comm_us *= by;
    p->dense_us *= by;
    p->launch_us *= by;
}

/* A drafting step computes two tokens of each request, which read their cache once. */
static int decode_load(struct step_model *m, const struct serve_deployment *d, bool drafts,
                       struct step_parts *out)
{
    struct step_load load = {.decode = serve_batch(d), .context = d->isl + d->osl / 2.0};
    struct step_parts wide;
    int err = step_model_parts(m, &load, out);

    load.decode *= 2;
    if (err || !drafts)
        return err;
    err = step_model_parts(m, &load, &wide);
    wide.core_us = out->core_us;
    *out = wide;
    return err;
}

/* As many prompts as a step takes share its weights. */
static int prompt_load(struct step_model *m, const struct serve_deployment *d, double in_flight,
                       struct serve_load *out)
{
    double tokens = fmin(STEP_TOKENS, d->isl * in_flight);
    struct step_load one = {.prompt = d->isl}, full = {.prompt = tokens};
    int err = step_model_parts(m, &one, &out->prompt);

    out->packed = out->prompt;
    if (err || tokens <= d->isl)
        return err;
    err = step_model_parts(m, &full, &out->packed);
    scale(&out->packed, d->isl / tokens);
    return err;
}

int serve_load_of(struct serve_tables *t, const struct serve_deployment *d, bool drafts,
                  struct serve_load *out, char *why, size_t size)
{
    struct step_model *decode = NULL, *prefill = NULL;
    int err = serve_tables_pool(t, d, &d->decode, &decode);

    if (!err)
        err = serve_tables_pool(t, d, &d->prefill, &prefill);
    if (err)
        return err;
    *out = (struct serve_load){.layers = step_model_layers(decode),
                               .requests = serve_batch(d),
                               .osl = d->osl,
                               .prompt_group = sqrt(d->decode.dp),
                               .in_flight = (double)d->concurrency / d->prefill.workers,
                               .disagg = d->disagg,
                               .drafts = drafts};
    err = decode_load(decode, d, drafts, &out->decode);
    if (err == ERR_INFEASIBLE)
        snprintf(why, size, "%s", step_model_why(decode));
    if (err)
        return err;
    err = prompt_load(prefill, d, d->disagg ? out->in_flight : out->requests, out);
    if (err == ERR_INFEASIBLE)
        snprintf(why, size, "prefill: %s", step_model_why(prefill));
    return err;
}

/* While a request decodes its answer, every other of its instance has its prompt computed once. */
double serve_tpot_ms(const double *v, const struct serve_load *l)
{
    double step = engine_step_us(v, &l->decode, l->layers, l->requests);
    double prompts = l->disagg ? 0
                               : l->requests / l->prompt_group *
                                     engine_prompt_us(v, &l->packed, l->layers) / l->osl;

    return (step / (l->drafts ? v[ENGINE_TOKENS] : 1) + prompts) / 1e3;
}

/* Its own pass, its share of the prompts that stand in front of it, and steps in between. */
double serve_ttft_ms(const double *v, const struct serve_load *l)
{
    double step = engine_step_us(v, &l->decode, l->layers, l->requests);
    double own = engine_prompt_us(v, &l->prompt, l->layers);
    double queue = v[ENGINE_BURST] * l->in_flight * engine_prompt_us(v, &l->packed, l->layers);

    return v[ENGINE_START_MS] + (own + queue + v[ENGINE_WAIT] * step) / 1e3;
}
