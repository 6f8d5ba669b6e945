#include "study/capacity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "study/grid.h"
#include "study/pool.h"
#include "model/law/cost.h"
#include "model/pass.h"

/* Plans that must stand on several routings before the search ends, and tries to get there. */
#define CAPACITY_SURE   5
#define CAPACITY_ROUNDS 8
/* Instances of a pool at most. */
#define CAPACITY_MOST 1e13

static double prompt_of(const struct capacity_numbers *n)
{
    return fmax(1, n->isl * (1 - n->prefix_hit));
}

void capacity_point_text(const struct capacity_config *c, const struct capacity_point *p, char *buf,
                         size_t size)
{
    snprintf(buf, size, "%s EP%d %d %s", c->gpus[p->gpu].profile, p->ep, p->size,
             c->policies[p->policy].policy->name);
}

static int buffer_tokens(int tokens, int most)
{
    int n = 16;

    while (n < tokens && n < most)
        n *= 2;
    return n < most ? n : most;
}

void capacity_scenario(const struct capacity_config *c, const struct capacity_point *p,
                       struct scenario *out)
{
    const struct capacity_numbers *n = &c->num;
    int prompt = (int)prompt_of(n);

    *out = c->base;
    out->profile = c->gpus[p->gpu].profile;
    out->nodes = p->ep > c->base.gpus_per_node ? p->ep / c->base.gpus_per_node : 1;
    out->gpus_per_node = p->ep / out->nodes;
    out->attention = ATTENTION_ON;
    if (c->policies[p->policy].policy->auto_comm)
        out->comm = c->policies[p->policy].policy->auto_comm;
    if (p->decode) {
        out->phase = PHASE_OF_DECODE;
        out->tokens_per_request = 1 + n->draft_tokens;
        out->batch = p->size * out->tokens_per_request;
        out->context_len = n->isl + n->osl / 2;
        out->max_dispatch_tokens = buffer_tokens(out->batch, c->base.max_dispatch_tokens);
        return;
    }
    out->phase = PHASE_OF_PREFILL;
    out->batch = p->size;
    out->prompt_len = p->size < prompt ? p->size : prompt;
    out->cached_len = n->isl - prompt + (p->size < prompt ? (prompt - p->size) / 2 : 0);
}

static size_t points_count(const struct capacity_config *c)
{
    return (size_t)c->num_gpus * (size_t)c->num_policies *
           ((size_t)c->decode_ep.n * (size_t)c->decode_batch.n +
            (size_t)c->prefill_ep.n * (size_t)c->prefill_tokens.n);
}

/* GPUs and policies innermost: they share the routing table of an EP size and a batch. */
static size_t points_add(struct capacity *k, size_t at, bool decode)
{
    const struct capacity_config *c = k->config;
    const struct capacity_list *ep = decode ? &c->decode_ep : &c->prefill_ep;
    const struct capacity_list *size = decode ? &c->decode_batch : &c->prefill_tokens;

    for (int i = 0; i < ep->n; i++)
        for (int j = 0; j < size->n; j++)
            for (int g = 0; g < c->num_gpus; g++)
                for (int p = 0; p < c->num_policies; p++)
                    k->points[at++] = (struct capacity_point){.decode = decode,
                                                              .gpu = g,
                                                              .ep = ep->v[i],
                                                              .size = size->v[j],
                                                              .policy = p,
                                                              .knobs = c->policies[p].knobs};
    return at;
}

static int nics_read(struct capacity *k)
{
    int err = 0;

    for (int g = 0; g < k->config->num_gpus && !err; g++) {
        struct hw_profile *p;

        err = hw_profile_read(k->config->gpus[g].profile, &p);
        if (!err) {
            k->nic_GBps[g] = cost_nic_GBps(p);
            if (k->config->base.nic_Gbitps > 0)
                k->nic_GBps[g] *= k->config->base.nic_Gbitps / hw_value(p, HW_NET_NIC_GBITPS);
            hw_profile_free(p);
        }
    }
    return err;
}

int capacity_open(const struct capacity_config *c, struct capacity **out)
{
    struct capacity *k = calloc(1, sizeof *k);
    int err = k ? moe_model_read_but(c->base.model, c->base.ignore_key, &k->model) : ERR_NOMEM;

    *out = NULL;
    if (!err) {
        k->config = c;
        k->points = calloc(points_count(c), sizeof *k->points);
        err = k->points ? nics_read(k) : ERR_NOMEM;
    }
    if (err) {
        capacity_close(k);
        return err;
    }
    k->num_points = points_add(k, points_add(k, 0, true), false);
    *out = k;
    return 0;
}

void capacity_close(struct capacity *k)
{
    if (!k)
        return;
    moe_model_free(k->model);
    free(k->points);
    free(k->plans);
    free(k);
}

static void skip(struct capacity_point *p, const char *why)
{
    p->skipped = true;
    snprintf(p->why, sizeof p->why, "%s", why);
}

/* Room for every request at its full length. */
static int memory_check(const struct capacity_config *c, struct evaluator *e,
                        const struct scenario *s, struct capacity_point *p)
{
    const struct capacity_numbers *n = &c->num;
    int requests = p->decode ? p->size : pass_requests(s);
    double context = p->decode ? n->isl + n->osl : n->isl;
    struct memory_spec spec;
    int err = pass_memory(e, s, requests, context, n->reserve_GB, &spec, &p->memory);

    if (!err && p->memory.total > p->memory.capacity) {
        char text[160];

        memory_text(&p->memory, text, sizeof text);
        p->skipped = true;
        snprintf(p->why, sizeof p->why, "does not fit: %s", text);
    }
    return err;
}

/* What can be said of a point without simulating it. */
static int point_check(const struct capacity_config *c, struct evaluator *e,
                       const struct scenario *s, struct capacity_point *p)
{
    char why[200];
    int err = evaluate_check(e, s, c->policies[p->policy].policy, &p->knobs, why, sizeof why);

    if (err == ERR_INFEASIBLE) {
        skip(p, why);
        return 0;
    }
    return err ? err : memory_check(c, e, s, p);
}

static int pass_fits(const struct capacity_config *c, struct evaluator *e,
                     const struct capacity_point *p, int tokens, bool *fits)
{
    struct capacity_point q = *p;
    struct scenario s;
    int err;

    q.size = tokens;
    capacity_scenario(c, &q, &s);
    err = memory_check(c, e, &s, &q);
    *fits = !q.skipped;
    return err;
}

/* Where most of each prompt is cached, a pass of all its tokens is one of many requests, and their
 * KV caches may not fit: an engine then takes fewer. */
static int pass_shrink(const struct capacity_config *c, struct evaluator *e,
                       struct capacity_point *p)
{
    int prompt = (int)prompt_of(&c->num), least = 0, most = p->size / prompt, err;
    bool fits;

    if (p->decode || most < 2)
        return 0;
    err = pass_fits(c, e, p, p->size, &fits);
    if (err || fits)
        return err;
    while (!err && most - least > 1) {
        int mid = least + (most - least) / 2;

        err = pass_fits(c, e, p, mid * prompt, &fits);
        *(fits ? &least : &most) = mid;
    }
    if (!err && least > 0)
        p->size = least * prompt;
    return err;
}

static void point_fill(const struct capacity_config *c, struct capacity_point *p,
                       const struct pass_result *r)
{
    p->step_us = p->at_us = r->step_us + c->num.step_overhead_us;
    p->layer_us = r->layer_us;
    p->exposed_us = r->exposed_us;
    p->nic_util = r->nic_util;
    p->assumed_share = r->assumed_share;
}

int capacity_point_run(const struct capacity_config *c, struct evaluator *e,
                       struct capacity_point *p)
{
    const struct policy *policy = c->policies[p->policy].policy;
    struct pass_result r;
    struct scenario s;
    int err;

    err = pass_shrink(c, e, p);
    if (err)
        return err;
    capacity_scenario(c, p, &s);
    err = point_check(c, e, &s, p);
    if (err || p->skipped)
        return err;
    err = pass_knobs_resolve(e, &s, policy, &p->knobs);
    if (!err)
        err = pass_run(e, &s, policy, &p->knobs, false, &r);
    if (!err)
        point_fill(c, p, &r);
    return err;
}

/* The percentile over routings. */
static int point_spread(const struct capacity_config *c, struct evaluator *e,
                        struct capacity_point *p)
{
    struct pass_spread spread;
    struct pass_result r;
    struct scenario s;
    int err;

    capacity_scenario(c, p, &s);
    err =
        pass_run_spread(e, &s, c->policies[p->policy].policy, &p->knobs, c->num.draws, &r, &spread);
    if (!err) {
        p->at_us = pass_spread_at(&spread, c->num.percentile) + c->num.step_overhead_us;
        p->spread = true;
    }
    return err;
}

/* The journal's line of a point. */
static void point_print(const struct capacity_point *p, char *buf, size_t size)
{
    const struct memory_sum *m = &p->memory;

    snprintf(buf, size,
             "%d %.17g %.17g %.17g %.17g %.17g %.17g %.17g %.17g %.17g %.17g %.17g %d %d %d %d",
             p->skipped, m->weights, m->kv, m->buffers, m->activations, m->reserve, m->capacity,
             p->step_us, p->layer_us, p->exposed_us, p->nic_util, p->assumed_share,
             p->knobs.pipeline_num, p->knobs.gate_up_gemm, p->knobs.down_gemm, p->size);
}

static int point_scan(struct capacity_point *p, const char *row)
{
    struct memory_sum *m = &p->memory;
    int skipped;

    if (sscanf(row, "%d %lg %lg %lg %lg %lg %lg %lg %lg %lg %lg %lg %d %d %d %d", &skipped,
               &m->weights, &m->kv, &m->buffers, &m->activations, &m->reserve, &m->capacity,
               &p->step_us, &p->layer_us, &p->exposed_us, &p->nic_util, &p->assumed_share,
               &p->knobs.pipeline_num, &p->knobs.gate_up_gemm, &p->knobs.down_gemm, &p->size) != 16)
        return ERR_DATA;
    m->total = m->weights + m->kv + m->buffers + m->activations + m->reserve;
    p->at_us = p->step_us;
    return skipped ? ERR_DATA : 0; /* the reason of a skipped one is found again */
}

struct search {
    struct capacity *k;
    struct journal *journal;
    unsigned char *known; /* [num_points]: taken from the journal */
    size_t *todo;         /* of a round: points to draw further routings for */
};

static int known_take(void *self, const struct journal_point *j)
{
    struct search *s = self;

    if (j->index < s->k->num_points && !point_scan(&s->k->points[j->index], j->row)) {
        s->known[j->index] = 1;
        s->k->num_reused++;
    }
    return 0;
}

static int search_point(void *self, struct evaluator *e, size_t i)
{
    struct search *s = self;
    struct capacity_point *p = &s->k->points[i];
    struct journal_point j = {.index = i, .name = "capacity"};
    int err;

    if (s->known[i])
        return 0;
    err = capacity_point_run(s->k->config, e, p);
    if (err || !s->journal || p->skipped)
        return err;
    j.layer_us = p->layer_us;
    point_print(p, j.row, sizeof j.row);
    return journal_append(s->journal, &j);
}

static int search_spread(void *self, struct evaluator *e, size_t i)
{
    struct search *s = self;

    return point_spread(s->k->config, e, &s->k->points[s->todo[i]]);
}

static double tokens_per_step(const struct capacity_numbers *n)
{
    return pass_tokens_accepted(n->draft_tokens, n->acceptance);
}

/* The first token: the pass in progress ends, the prompt's own passes, its KV cache moves, a decode
 * step. Instances on the two sides are joined NIC to NIC, GPU by GPU. */
static void first_token(const struct capacity *k, const struct capacity_config *c,
                        struct capacity_plan *out)
{
    const struct capacity_point *d = out->decode, *p = out->prefill;
    double passes = ceil(prompt_of(&c->num) / p->size), pass_ms = p->at_us / 1e3;
    double nic =
        fmin(k->nic_GBps[d->gpu] * (1 - d->nic_util), k->nic_GBps[p->gpu] * (1 - p->nic_util));
    double kv_bytes = moe_cache_bytes(k->model, c->num.isl, evaluate_kv_bytes(&c->base, k->model));

    out->wait_ms = pass_ms * c->num.percentile / 100;
    out->prefill_ms = passes * pass_ms;
    out->transfer_ms = out->shared ? 0 : kv_bytes / fmax(nic, 1e-3) / 1e6;
    if (out->shared) /* decode steps go on between the passes of a prompt */
        out->prefill_ms += passes * d->at_us / 1e3;
    out->ttft_ms = out->wait_ms + out->prefill_ms + out->transfer_ms + d->at_us / 1e3;
}

/* How long the steps of one request take per token, and what a GPU yields. */
static void decode_rate(const struct capacity_config *c, struct capacity_plan *out,
                        double *tokens_s)
{
    const struct capacity_numbers *n = &c->num;
    const struct capacity_point *d = out->decode, *p = out->prefill;
    double yield = tokens_per_step(n), step_us = d->at_us, mean_us = d->step_us;

    if (out->shared) { /* each step brings the prompt tokens of the answers that end in it */
        double prompt_tokens = d->size * yield / n->osl * prompt_of(n);

        step_us += prompt_tokens / p->size * p->step_us;
        mean_us += prompt_tokens / p->size * p->step_us;
    }
    out->tpot_ms = step_us / yield / 1e3;
    *tokens_s = d->size * yield / mean_us * 1e6;
}

static void judge(const struct capacity_config *c, struct capacity_plan *out)
{
    double tpot = out->tpot_ms / c->num.tpot_ms, ttft = out->ttft_ms / c->num.ttft_ms;
    double nodes = (double)out->nodes / c->num.max_nodes;

    out->worst = fmax(tpot, fmax(ttft, nodes));
    out->ok = out->worst <= 1;
    out->miss = out->ok              ? NULL
                : out->worst == tpot ? "TPOT"
                : out->worst == ttft ? "TTFT"
                                     : "max_nodes";
}

/* capacity_config bounds the traffic, so that even GPUs that are slow beyond reason stay far below
 * 2^53, where counts are exact. */
static int64_t instances(double need, double each, double utilization)
{
    double n = ceil(need / (each * utilization) - 1e-9);

    return n < 1 ? 1 : n > CAPACITY_MOST ? (int64_t)CAPACITY_MOST : (int64_t)n;
}

static int64_t nodes_of(int64_t gpus, int per_node)
{
    return (gpus + per_node - 1) / per_node;
}

void capacity_plan_of(const struct capacity *k, const struct capacity_config *c,
                      const struct capacity_point *decode, const struct capacity_point *prefill,
                      bool shared, struct capacity_plan *out)
{
    const struct capacity_numbers *n = &c->num;
    double tokens_s, prompt_s = prefill->size / prefill->step_us * 1e6;
    double out_s = n->requests_s * n->osl, gpu_share;
    int64_t decode_gpus, prefill_gpus;

    *out = (struct capacity_plan){.decode = decode, .prefill = prefill, .shared = shared};
    decode_rate(c, out, &tokens_s);
    first_token(k, c, out);
    out->tokens_s_user = 1e3 / out->tpot_ms;
    out->decode_instances = instances(out_s, tokens_s * decode->ep, n->utilization);
    gpu_share = 1 / tokens_s;
    if (!shared) {
        out->prefill_instances =
            instances(n->requests_s * prompt_of(n), prompt_s * prefill->ep, n->utilization);
        gpu_share += prompt_of(n) / n->osl / prompt_s;
    }
    out->tokens_s_gpu = n->utilization / gpu_share;
    decode_gpus = out->decode_instances * decode->ep;
    prefill_gpus = out->prefill_instances * prefill->ep;
    out->gpus = decode_gpus + prefill_gpus;
    out->nodes = nodes_of(decode_gpus, c->base.gpus_per_node) +
                 nodes_of(prefill_gpus, c->base.gpus_per_node);
    out->usd_per_hour = (double)decode_gpus * c->gpus[decode->gpu].usd_per_hour +
                        (double)prefill_gpus * c->gpus[prefill->gpu].usd_per_hour;
    out->usd_per_Mtoken = out->usd_per_hour / (out_s * 3600) * 1e6;
    judge(c, out);
}

/* Those that keep their promises first, cheapest first; the others by how near they come. */
static int plan_cmp(const void *va, const void *vb)
{
    const struct capacity_plan *a = va, *b = vb;

    if (a->ok != b->ok)
        return a->ok ? -1 : 1;
    if (!a->ok && a->worst != b->worst)
        return a->worst < b->worst ? -1 : 1;
    if (a->usd_per_hour != b->usd_per_hour)
        return a->usd_per_hour < b->usd_per_hour ? -1 : 1;
    if (a->tpot_ms != b->tpot_ms)
        return a->tpot_ms < b->tpot_ms ? -1 : 1;
    if (a->ttft_ms != b->ttft_ms)
        return a->ttft_ms < b->ttft_ms ? -1 : 1;
    return a->decode < b->decode ? -1 : a->decode > b->decode;
}

bool capacity_shared_fits(const struct capacity_point *decode, const struct capacity_point *prefill,
                          struct memory_sum *sum)
{
    const struct memory_sum *d = &decode->memory, *p = &prefill->memory;

    /* Decode may hold a prediction layer more. */
    *sum = d->weights >= p->weights ? *d : *p;
    sum->kv = d->kv + p->kv;
    sum->buffers = d->buffers + p->buffers;
    sum->activations = fmax(d->activations, p->activations);
    sum->total = sum->weights + sum->kv + sum->buffers + sum->activations + sum->reserve;
    return sum->total <= sum->capacity;
}

static bool may_share(struct capacity *k, const struct capacity_point *d,
                      const struct capacity_point *p)
{
    struct memory_sum sum;

    if (k->config->num.pools == POOLS_SEPARATE || d->gpu != p->gpu || d->ep != p->ep)
        return false;
    if (capacity_shared_fits(d, p, &sum))
        return true;
    if (!k->num_crowded++)
        memory_text(&sum, k->crowded_why, sizeof k->crowded_why);
    return false;
}

static bool may_join(struct capacity *k, const struct capacity_point *d,
                     const struct capacity_point *p, bool shared)
{
    const struct capacity_config *c = k->config;

    if (shared)
        return may_share(k, d, p);
    return c->num.pools != POOLS_SHARED && (c->num.mix_gpus || d->gpu == p->gpu);
}

/* Every decode point with the prefill point that suits it best. */
static int plans_rank(struct capacity *k)
{
    const struct capacity_config *c = k->config;

    if (!k->plans)
        k->plans = calloc(k->num_points, sizeof *k->plans);
    if (!k->plans)
        return ERR_NOMEM;
    k->num_plans = k->num_crowded = 0; /* ranked anew in every round */
    for (size_t i = 0; i < k->num_points && k->points[i].decode; i++) {
        struct capacity_plan best = {0}, one;

        for (size_t j = 0; j < k->num_points; j++)
            for (int shared = 0; shared < 2; shared++) {
                const struct capacity_point *d = &k->points[i], *p = &k->points[j];

                if (p->decode || p->skipped || d->skipped || !may_join(k, d, p, shared))
                    continue;
                capacity_plan_of(k, c, d, p, shared, &one);
                if (!best.decode || plan_cmp(&one, &best) < 0)
                    best = one;
            }
        if (best.decode)
            k->plans[k->num_plans++] = best;
    }
    qsort(k->plans, k->num_plans, sizeof *k->plans, plan_cmp);
    return 0;
}

static size_t todo_add(struct search *s, size_t n, const struct capacity_point *p)
{
    size_t i = (size_t)(p - s->k->points);

    for (size_t j = 0; j < n; j++)
        if (s->todo[j] == i)
            return n;
    if (p->spread)
        return n;
    s->todo[n] = i;
    return n + 1;
}

/* Points among the best plans that rest on one routing only. */
static size_t todo_find(struct search *s)
{
    size_t n = 0;

    for (size_t i = 0; i < s->k->num_plans && i < CAPACITY_SURE; i++) {
        n = todo_add(s, n, s->k->plans[i].decode);
        n = todo_add(s, n, s->k->plans[i].prefill);
    }
    return n;
}

static int refine(struct search *s, int jobs)
{
    int err = plans_rank(s->k);

    for (int round = 0; round < CAPACITY_ROUNDS && !err && s->k->config->num.draws > 1; round++) {
        size_t n = todo_find(s);

        if (!n)
            break;
        err = pool_run(n, jobs, search_spread, s, NULL, NULL);
        if (!err)
            err = plans_rank(s->k);
    }
    return err;
}

int capacity_search(struct capacity *k, struct journal *journal, int jobs,
                    void (*progress)(void *self, size_t done, size_t all), void *self)
{
    struct search s = {.k = k, .journal = journal};
    int err;

    s.known = calloc(k->num_points, 1);
    s.todo = calloc(k->num_points, sizeof *s.todo);
    err = s.known && s.todo ? 0 : ERR_NOMEM;
    if (!err && journal)
        err = journal_read(journal, 0, k->num_points, known_take, &s);
    if (!err)
        err = pool_run(k->num_points, jobs, search_point, &s, progress, self);
    if (!err)
        err = refine(&s, jobs);
    free(s.known);
    free(s.todo);
    return err;
}
