#include "serve/step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "study/pass.h"

/* Grids: tokens 1, 2, 3, 4, 6, 8, 12, ...; contexts 0 (prompts without a cache), 256, 512, ... */
enum { TOKEN_CELLS = 48, CONTEXT_CELLS = 24, CONTEXT_UNIT = 256, PROMPT_UNIT = 64 };
/* Ranks from which experts are spread with an all-to-all instead of collectives of all tokens. */
enum { WIDE_RANKS = 9 };
enum { NODE_GPUS = 8 };
/* Layers differ in their popular experts: where the fullest rank decides and tokens are few, the
 * mean over so many draws stands for them. */
enum { DRAWS = 4, DRAW_TOKENS = 256 };
/* Trained gates favour some experts: few tokens choose fewer distinct ones than an even choice
 * would, and the fullest rank of an expert-parallel layer has more. Wide expert parallelism is run
 * with copies of popular experts, so there an even choice stands. */
#define ROUTING_SIGMA "1"

struct cell {
    bool known;
    struct step_parts parts;
};

struct step_model {
    struct evaluator *e;
    const struct serve_deployment *d;
    const struct serve_pool *pool;
    int prompt_len, layers, max_context;
    struct scenario s; /* what all passes share */
    const struct policy *policy;
    size_t passes;
    char why[200];
    struct cell cell[2][TOKEN_CELLS][CONTEXT_CELLS]; /* by phase */
};

double step_parts_sum(const struct step_parts *p)
{
    return p->core_us + p->attn_us + p->experts_us + p->gate_us + p->comm_us + p->dense_us +
           p->launch_us;
}

static bool is_wide(const struct serve_pool *p)
{
    return p->dp > 1 && p->ep == p->gpus && p->gpus >= WIDE_RANKS;
}

static int key_set(struct scenario *s, const char *key, const char *value)
{
    return opt_set(scenario_options, s, key, value, "deployment", 0);
}

static int key_number(struct scenario *s, const char *key, int value)
{
    char text[16];

    snprintf(text, sizeof text, "%d", value);
    return key_set(s, key, text);
}

/* GPUs of an instance as machines: those of one NVLink domain are one. */
static int cluster_set(struct scenario *s, const struct serve_deployment *d, int gpus)
{
    bool rack = strncmp(d->profile, "gb", 2) == 0;
    int per_node = rack || gpus < NODE_GPUS ? gpus : NODE_GPUS;
    int err = key_set(s, "cluster.profile", d->profile);

    if (!err)
        err = key_number(s, "cluster.gpus_per_node", per_node);
    return err ? err : key_number(s, "cluster.nodes", (gpus + per_node - 1) / per_node);
}

static int types_set(struct scenario *s, const struct serve_deployment *d)
{
    int err = key_set(s, "gemm_dtype", d->gemm_dtype);

    if (!err)
        err = key_set(s, "expert_dtype", d->expert_dtype);
    return err ? err : key_set(s, "attention.kv_dtype", d->kv_dtype);
}

/* Experts that do not divide among the ranks get copies until they do. */
static int placement_set(struct step_model *m, const struct moe_model *model)
{
    int groups = m->pool->gpus / m->pool->moe_tp, rest = model->experts % groups;
    int err = 0;

    if (rest)
        err = key_number(&m->s, "placement.redundant_experts", groups - rest);
    if (rest && !err)
        err = key_set(&m->s, "placement.kind", "balanced");
    return err;
}

static int scenario_set(struct step_model *m)
{
    const struct serve_deployment *d = m->d;
    const struct moe_model *model;
    int err = opt_set_defaults(scenario_options, &m->s);

    if (!err)
        err = key_set(&m->s, "model", d->model);
    if (!err)
        err = cluster_set(&m->s, d, m->pool->gpus);
    if (!err)
        err = types_set(&m->s, d);
    if (!err)
        err = key_set(&m->s, "attention.include", "on");
    if (!err && !is_wide(m->pool))
        err = key_set(&m->s, "routing.kind", "lognormal");
    if (!err)
        err = key_set(&m->s, "routing.sigma", ROUTING_SIGMA);
    if (!err)
        err = key_set(&m->s, "attention.engine", serve_engine_name(d->engine));
    if (!err)
        err = key_number(&m->s, "attention.tp", m->pool->tp);
    if (!err)
        err = key_number(&m->s, "max_dispatch_tokens", 1 << 20);
    if (!err)
        err = evaluate_model(m->e, &m->s, &model);
    if (err)
        return err;
    m->layers = model->num_layers;
    m->max_context = model->max_context;
    return placement_set(m, model);
}

int step_model_open(struct evaluator *e, const struct serve_deployment *d,
                    const struct serve_pool *pool, int prompt_len, struct step_model **out)
{
    struct step_model *m = calloc(1, sizeof *m);
    int err = m ? 0 : ERR_NOMEM;

    *out = m;
    if (err)
        return err;
    m->e = e;
    m->d = d;
    m->pool = pool;
    m->prompt_len = prompt_len;
    m->policy = is_wide(pool) ? &policy_none : &policy_tp;
    err = scenario_set(m);
    if (err) {
        step_model_close(m);
        *out = NULL;
    }
    return err;
}

void step_model_close(struct step_model *m)
{
    if (m)
        scenario_free(&m->s);
    free(m);
}

const char *step_model_why(const struct step_model *m)
{
    return m->why;
}

int step_model_layers(const struct step_model *m)
{
    return m->layers;
}

size_t step_model_passes(const struct step_model *m)
{
    return m->passes;
}

/* A token's bytes are what a longer context takes more. */
int step_model_cache(struct step_model *m, int requests, double reserve_GB, struct step_cache *out)
{
    enum { SHORT = 4096, LONG = 8192 };
    struct scenario s = m->s;
    struct memory_spec spec;
    struct memory_sum less, more;
    double per_token;
    int err;

    s.batch = requests / m->pool->gpus + 1;
    s.max_dispatch_tokens = s.batch;
    err = pass_memory(m->e, &s, 1, SHORT, reserve_GB, &spec, &less);
    if (!err)
        err = pass_memory(m->e, &s, 1, LONG, reserve_GB, &spec, &more);
    if (err)
        return err;
    per_token = (more.kv - less.kv) / (LONG - SHORT);
    out->token_bytes = per_token * m->pool->tp;
    out->tokens =
        per_token > 0 ? m->pool->dp * (less.capacity - less.total + less.kv) / per_token : HUGE_VAL;
    return 0;
}

static int token_at(int i, bool prompt)
{
    int unit = prompt ? PROMPT_UNIT : 1;

    return i % 2 ? unit * (1 << i / 2) * 3 / 2 : unit * (1 << i / 2);
}

static int context_at(int i)
{
    return i ? CONTEXT_UNIT * (1 << (i - 1)) : 0;
}

static void knobs_set(const struct step_model *m, int tokens, struct knobs *k)
{
    knobs_default(m->policy, k);
    if (m->policy != &policy_tp)
        return;
    knob_set(opt_find(m->policy->knobs, "moe_tp"), k, m->pool->moe_tp);
    knob_set(opt_find(m->policy->knobs, "tp_attention"), k, m->pool->dp > 1);
    knob_set(opt_find(m->policy->knobs, "tp_experts"), k, 1);
    knob_set(opt_find(m->policy->knobs, "tp_tokens"), k, tokens);
}

/* Tokens per rank that the scenario gets: with data-parallel attention, those of the rank that has
 * most. A prompt stays on one of attention's groups. */
static int batch_of(const struct step_model *m, double tokens, bool prompt)
{
    const struct serve_pool *p = m->pool;
    double most = tokens / p->dp;

    if (prompt)
        most = fmax(most, fmin(tokens, m->prompt_len));
    return (int)ceil(fmax(ceil(most) / p->tp, 1));
}

static void parts_of(const struct pass_result *r, struct step_parts *out)
{
    const double *k = r->kind_us;

    out->core_us = k[OP_ATTN_CORE];
    out->attn_us = k[OP_ATTN_PROJ] + k[OP_ATTN_OUT];
    out->gate_us = k[OP_ROUTER];
    out->experts_us = k[OP_EXPERTS] + k[OP_GEMM_UP] + k[OP_ACT_QUANT] + k[OP_GEMM_DOWN] +
                      k[OP_PERMUTE] + k[OP_UNPERMUTE];
    out->dense_us = k[OP_MLP_UP] + k[OP_MLP_ACT] + k[OP_MLP_DOWN] + k[OP_LM_HEAD];
    out->launch_us = r->launch_us;
    out->comm_us = fmax(r->step_us - out->core_us - out->attn_us - out->experts_us - out->gate_us -
                            out->dense_us - out->launch_us,
                        0);
}

static void mix(struct step_parts *a, double wa, const struct step_parts *b, double wb)
{
    a->core_us = a->core_us * wa + b->core_us * wb;
    a->attn_us = a->attn_us * wa + b->attn_us * wb;
    a->experts_us = a->experts_us * wa + b->experts_us * wb;
    a->gate_us = a->gate_us * wa + b->gate_us * wb;
    a->comm_us = a->comm_us * wa + b->comm_us * wb;
    a->dense_us = a->dense_us * wa + b->dense_us * wb;
    a->launch_us = a->launch_us * wa + b->launch_us * wb;
}

static int draws_mean(struct step_model *m, const struct scenario *s, const struct knobs *k,
                      int draws, struct step_parts *out)
{
    int err = evaluate_check(m->e, s, m->policy, k, m->why, sizeof m->why);

    *out = (struct step_parts){0};
    for (int d = 0; d < draws && !err; d++) {
        struct scenario drawn = *s;
        struct step_parts parts;
        struct pass_result r;

        drawn.draw += d;
        drawn.seed += d;
        err = pass_run(m->e, &drawn, m->policy, k, false, &r);
        if (err)
            return err;
        parts_of(&r, &parts);
        mix(out, 1, &parts, 1.0 / draws);
        m->passes++;
    }
    return err;
}

static int pass_simulate(struct step_model *m, bool prompt, int tokens, int context,
                         struct step_parts *out)
{
    struct scenario s = m->s;
    struct knobs k;

    s.batch = batch_of(m, tokens, prompt);
    s.phase = prompt ? PHASE_OF_PREFILL : PHASE_OF_DECODE;
    if (prompt) {
        s.prompt_len = tokens < m->prompt_len ? tokens : m->prompt_len;
        s.cached_len = context;
    } else {
        s.context_len = context;
    }
    knobs_set(m, tokens, &k);
    return draws_mean(m, &s, &k, !prompt && m->pool->ep > 1 && tokens <= DRAW_TOKENS ? DRAWS : 1,
                      out);
}

static int cell_of(struct step_model *m, bool prompt, int i, int j, const struct step_parts **out)
{
    struct cell *c = &m->cell[prompt][i][j];
    int err = 0, context = context_at(j);

    if (m->max_context && context > m->max_context)
        context = m->max_context;
    if (!c->known)
        err = pass_simulate(m, prompt, token_at(i, prompt), context, &c->parts);
    c->known = !err;
    *out = &c->parts;
    return err;
}

/* Between contexts j and j + 1. */
static int context_mix(struct step_model *m, bool prompt, int i, double context,
                       struct step_parts *out)
{
    const struct step_parts *p;
    int j = 0, err;
    double w;

    while (j + 2 < CONTEXT_CELLS && context_at(j + 1) <= context)
        j++;
    w = (context - context_at(j)) / (context_at(j + 1) - context_at(j));
    err = cell_of(m, prompt, i, j, &p);
    *out = *p;
    if (err || w <= 0)
        return err;
    err = cell_of(m, prompt, i, j + 1, &p);
    mix(out, 1 - w, p, w);
    return err;
}

static int grid_look_up(struct step_model *m, bool prompt, double tokens, double context,
                        struct step_parts *out)
{
    struct step_parts more;
    int i = 0, err;
    double w;

    while (i + 2 < TOKEN_CELLS && token_at(i + 1, prompt) <= tokens)
        i++;
    w = (tokens - token_at(i, prompt)) / (token_at(i + 1, prompt) - token_at(i, prompt));
    err = context_mix(m, prompt, i, context, out);
    if (err || w <= 0)
        return err;
    err = context_mix(m, prompt, i + 1, context, &more);
    mix(out, 1 - w, &more, w);
    return err;
}

/* A step of both: the chunk's GEMMs take the decoding tokens along; their attention reads their
 * caches besides. */
int step_model_parts(struct step_model *m, const struct step_load *load, struct step_parts *out)
{
    struct step_parts decode;
    double tokens = load->prompt + load->decode;
    int err = 0;

    *out = (struct step_parts){0};
    if (load->prompt > 0)
        err = grid_look_up(m, true, tokens, load->cached, out);
    if (err || !(load->decode > 0))
        return err;
    err = grid_look_up(m, false, load->decode, load->context, &decode);
    if (load->prompt > 0)
        out->core_us += decode.core_us;
    else
        *out = decode;
    return err;
}
