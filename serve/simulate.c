#include "serve/simulate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/heap.h"
#include "base/log.h"
#include "serve/histogram.h"

struct request {
    struct request *next; /* in a queue, or of the free ones */
    struct sim_heap_node node;
    struct traffic_request r;
    double ready_s; /* its cache is there (disaggregated) */
    double first_s; /* its first token */
    int done;       /* prompt tokens computed or cached */
};

struct queue {
    struct request *head, *tail;
    size_t n;
};

struct instance {
    bool prefill, working;
    double end_s, link_s; /* of its step; when its link is free */
    double busy_s;
    struct queue waiting;    /* prompts not yet done */
    struct sim_heap answers; /* decoding, by the step of their last token */
    uint64_t step;
    double context_sum; /* tokens in the caches of those that decode */
    double held;        /* cache tokens promised */
    size_t admitted;
    struct step_load load;  /* of the step in progress */
    struct queue finishing; /* prompts that end with it */
};

struct sim {
    const struct serve_rules *rules;
    struct traffic *traffic;
    bool closed, more;
    struct traffic_request next;
    struct instance *at; /* decode instances, then prefill instances */
    int num;
    struct sim_heap coming; /* caches on their way to a decode instance, by arrival */
    struct request *free_ones;
    uint64_t seq, decoded_steps;
    double now_s, batch_sum, prompt_tokens, cached_tokens;
    size_t in_flight;
    struct histogram ttft, tpot;
    struct serve_result *out;
};

static void queue_add(struct queue *q, struct request *r)
{
    r->next = NULL;
    if (q->tail)
        q->tail->next = r;
    else
        q->head = r;
    q->tail = r;
    q->n++;
}

static struct request *queue_take(struct queue *q)
{
    struct request *r = q->head;

    if (r) {
        q->head = r->next;
        if (!q->head)
            q->tail = NULL;
        q->n--;
    }
    return r;
}

static bool fits(const struct sim *s)
{
    double tokens = (double)s->next.prompt + s->next.answer;

    if (!(s->rules->cache_tokens > 0) || tokens <= s->rules->cache_tokens)
        return true;
    log_error("a request of %d + %d tokens is more than an instance's cache of %.0f tokens",
              s->next.prompt, s->next.answer, s->rules->cache_tokens);
    return false;
}

/* The request that was read last, in flight from now on. */
static int request_new(struct sim *s, struct request **out)
{
    struct request *r = s->free_ones;

    if (!fits(s))
        return ERR_INFEASIBLE;
    if (r)
        s->free_ones = r->next;
    else
        r = malloc(sizeof *r);
    if (r) {
        *r = (struct request){.r = s->next, .done = s->next.cached};
        sim_heap_node_init(&r->node);
        s->in_flight++;
        s->out->most_in_flight = fmax(s->out->most_in_flight, (double)s->in_flight);
    }
    *out = r;
    return r ? 0 : ERR_NOMEM;
}

static int next_read(struct sim *s, double now_s)
{
    return traffic_next(s->traffic, now_s, &s->next, &s->more);
}

static bool done(const struct sim *s)
{
    return s->rules->requests && s->out->requests >= s->rules->requests;
}

/* The last token of a request. */
static int answered(struct sim *s, struct request *r)
{
    histogram_add(&s->ttft, (r->first_s - r->r.arrival_s) * 1e3);
    if (r->r.answer > 1)
        histogram_add(&s->tpot, (s->now_s - r->first_s) * 1e3 / (r->r.answer - 1));
    s->out->requests++;
    s->out->tokens += r->r.answer;
    s->in_flight--;
    r->next = s->free_ones;
    s->free_ones = r;
    return 0;
}

static double cache_of(const struct request *r)
{
    return (double)r->r.prompt + r->r.answer;
}

static int decode_begin(struct sim *s, struct instance *i, struct request *r)
{
    i->context_sum += r->r.prompt + 1.0;
    return sim_heap_push(&i->answers, &r->node, (double)(i->step + (uint64_t)r->r.answer - 1),
                         s->seq++);
}

static void forget(struct instance *i, const struct request *r)
{
    i->held -= cache_of(r);
    i->admitted--;
}

static struct instance *emptiest(struct sim *s, bool prefill)
{
    int first = prefill ? s->rules->workers : 0;
    int last = prefill ? s->num : s->rules->workers;
    struct instance *best = &s->at[first];

    for (int i = first + 1; i < last; i++)
        if (s->at[i].admitted + s->at[i].waiting.n < best->admitted + best->waiting.n)
            best = &s->at[i];
    return best;
}

/* May the request stand first in line and begin now? */
static bool admits(const struct sim *s, const struct instance *i, const struct request *r)
{
    const struct serve_rules *rules = s->rules;

    if (r->ready_s < 0)
        return true; /* it has begun */
    if (i->prefill)
        return true;
    return i->admitted < (size_t)rules->max_requests &&
           (!(rules->cache_tokens > 0) || i->held + cache_of(r) <= rules->cache_tokens);
}

static void admit(struct instance *i, struct request *r)
{
    if (r->ready_s < 0)
        return;
    r->ready_s = -1;
    i->held += cache_of(r);
    i->admitted++;
}

/* Puts prompts into the step, in order, until `room` tokens are full. */
static void prompts_take(struct sim *s, struct instance *i, double room)
{
    double cached = 0;
    int prompts = 0;

    while (i->waiting.head && room >= 1 && admits(s, i, i->waiting.head)) {
        struct request *r = i->waiting.head;
        double left = r->r.prompt - r->done, take = fmin(left, room);

        admit(i, r);
        cached += r->done;
        prompts++;
        r->done += (int)take;
        room -= take;
        i->load.prompt += take;
        if (r->done < r->r.prompt)
            break;
        queue_add(&i->finishing, queue_take(&i->waiting));
    }
    i->load.cached = prompts ? cached / prompts : 0;
}

/* Decode instances of disaggregated pools take requests whose prompt is done. */
static int arrived_take(struct sim *s, struct instance *i)
{
    int err = 0;

    while (!err && i->waiting.head && admits(s, i, i->waiting.head)) {
        struct request *r = queue_take(&i->waiting);

        admit(i, r);
        r->first_s = s->now_s;
        if (r->r.answer > 1) {
            err = decode_begin(s, i, r);
        } else {
            forget(i, r);
            err = answered(s, r);
        }
    }
    return err;
}

static int step_begin(struct sim *s, struct instance *i)
{
    const struct serve_rules *rules = s->rules;
    bool split = rules->prefill_workers > 0;
    double us = 0;
    int err = 0;

    i->load = (struct step_load){0};
    if (split && !i->prefill)
        err = arrived_take(s, i);
    if (err)
        return err;
    if (!split || i->prefill)
        prompts_take(s, i,
                     rules->order == SERVE_MIXED ? rules->step_tokens - (double)i->answers.count
                                                 : rules->step_tokens);
    if (i->answers.count && (!(i->load.prompt > 0) || rules->order == SERVE_MIXED)) {
        i->load.decode = i->answers.count;
        i->load.context = i->context_sum / i->answers.count;
    }
    if (!(i->load.prompt > 0) && !(i->load.decode > 0)) {
        i->working = false;
        return 0;
    }
    err = rules->step_us(rules->self, &i->load, i->prefill, &us);
    i->working = true;
    i->end_s = s->now_s + us / 1e6;
    i->busy_s += us / 1e6;
    s->out->steps++;
    return err;
}

static void transfer(struct sim *s, struct instance *i, struct request *r)
{
    double GBps = s->rules->link_GBps;
    double took = GBps > 0 ? r->r.prompt * s->rules->cache_bytes / GBps / 1e9 : 0;

    i->link_s = fmax(i->link_s, s->now_s) + took;
    r->ready_s = i->link_s;
}

static int prompts_end(struct sim *s, struct instance *i)
{
    struct request *r;
    int err = 0;

    while (!err && (r = queue_take(&i->finishing))) {
        s->prompt_tokens += r->r.prompt;
        s->cached_tokens += r->r.cached;
        if (i->prefill) {
            forget(i, r);
            transfer(s, i, r);
            err = sim_heap_push(&s->coming, &r->node, r->ready_s, s->seq++);
            continue;
        }
        r->first_s = s->now_s;
        if (r->r.answer > 1) {
            err = decode_begin(s, i, r);
        } else {
            forget(i, r);
            err = answered(s, r);
        }
    }
    return err;
}

static int tokens_end(struct sim *s, struct instance *i)
{
    struct sim_heap_node *n;
    int err = 0;

    s->batch_sum += i->load.decode;
    s->decoded_steps++;
    i->step++;
    i->context_sum += i->load.decode;
    while (!err && (n = sim_heap_peek(&i->answers)) && n->t_ns <= (double)i->step) {
        struct request *r = sim_heap_entry(sim_heap_pop(&i->answers), struct request, node);

        i->context_sum -= (double)r->r.prompt + r->r.answer;
        forget(i, r);
        err = answered(s, r);
    }
    return err;
}

static int arrive(struct sim *s)
{
    struct request *r;
    struct instance *i = emptiest(s, s->rules->prefill_workers > 0);
    int err = request_new(s, &r);

    if (err)
        return err;
    queue_add(&i->waiting, r);
    return i->working ? 0 : step_begin(s, i);
}

static int cache_arrives(struct sim *s)
{
    struct request *r = sim_heap_entry(sim_heap_pop(&s->coming), struct request, node);
    struct instance *i = emptiest(s, false);

    r->ready_s = 0;
    queue_add(&i->waiting, r);
    return i->working ? 0 : step_begin(s, i);
}

/* Clients whose request was just answered send the next one. */
static int clients_send(struct sim *s, uint64_t before)
{
    int err = 0;

    for (uint64_t k = before; s->closed && k < s->out->requests && !done(s) && !err; k++) {
        err = next_read(s, s->now_s);
        if (!err)
            err = arrive(s);
    }
    return err;
}

static int step_end(struct sim *s, struct instance *i)
{
    uint64_t before = s->out->requests;
    int err = 0;

    i->working = false;
    if (i->load.decode > 0)
        err = tokens_end(s, i);
    if (!err)
        err = prompts_end(s, i);
    /* Nothing starts before the clients' next requests stand in line. */
    i->working = true;
    if (!err)
        err = clients_send(s, before);
    return err ? err : step_begin(s, i);
}

static struct instance *earliest(struct sim *s)
{
    struct instance *best = NULL;

    for (int i = 0; i < s->num; i++)
        if (s->at[i].working && (!best || s->at[i].end_s < best->end_s))
            best = &s->at[i];
    return best;
}

/* One event: an arrival, a cache that has come, or the end of a step, in this order at one time. */
static int event(struct sim *s, bool *idle)
{
    struct instance *i = earliest(s);
    struct sim_heap_node *cache = sim_heap_peek(&s->coming);
    double step_s = i ? i->end_s : HUGE_VAL, cache_s = cache ? cache->t_ns : HUGE_VAL;
    double arrival_s = s->more && !s->closed ? s->next.arrival_s : HUGE_VAL;
    int err;

    *idle = !isfinite(fmin(arrival_s, fmin(step_s, cache_s)));
    if (*idle)
        return 0;
    if (arrival_s <= cache_s && arrival_s <= step_s) {
        s->now_s = arrival_s;
        err = arrive(s);
        return err ? err : next_read(s, s->now_s);
    }
    if (cache_s <= step_s) {
        s->now_s = cache_s;
        return cache_arrives(s);
    }
    s->now_s = step_s;
    return step_end(s, i);
}

static int first_requests(struct sim *s, int clients)
{
    int err = next_read(s, 0);

    for (int k = 0; s->closed && k < clients && !err; k++) {
        struct request *r;

        err = request_new(s, &r);
        if (!err)
            queue_add(&emptiest(s, s->rules->prefill_workers > 0)->waiting, r);
        if (!err && k + 1 < clients)
            err = next_read(s, 0);
    }
    for (int i = 0; i < s->num && s->closed && !err; i++)
        err = step_begin(s, &s->at[i]);
    return err;
}

static void result_set(struct sim *s)
{
    struct serve_result *out = s->out;
    double busy[2] = {0, 0};

    for (int i = 0; i < s->num; i++)
        busy[s->at[i].prefill] += s->at[i].busy_s;
    out->elapsed_s = s->now_s;
    if (s->now_s > 0) {
        out->busy = fmin(busy[0] / s->rules->workers / s->now_s, 1);
        if (s->rules->prefill_workers)
            out->prefill_busy = fmin(busy[1] / s->rules->prefill_workers / s->now_s, 1);
    }
    out->mean_batch = s->decoded_steps ? s->batch_sum / (double)s->decoded_steps : 0;
    out->cached_share = s->prompt_tokens > 0 ? s->cached_tokens / s->prompt_tokens : 0;
    histogram_times(&s->ttft, &out->ttft_ms);
    histogram_times(&s->tpot, &out->tpot_ms);
}

static void requests_free(struct request *r)
{
    while (r) {
        struct request *next = r->next;

        free(r);
        r = next;
    }
}

static void sim_close(struct sim *s)
{
    struct sim_heap_node *n;

    for (int i = 0; i < s->num && s->at; i++) {
        requests_free(s->at[i].waiting.head);
        requests_free(s->at[i].finishing.head);
        while ((n = sim_heap_pop(&s->at[i].answers)))
            free(sim_heap_entry(n, struct request, node));
        sim_heap_close(&s->at[i].answers);
    }
    while ((n = sim_heap_pop(&s->coming)))
        free(sim_heap_entry(n, struct request, node));
    sim_heap_close(&s->coming);
    requests_free(s->free_ones);
    histogram_close(&s->ttft);
    histogram_close(&s->tpot);
    traffic_close(s->traffic);
    free(s->at);
}

static int sim_open(struct sim *s, const struct serve_rules *rules,
                    const struct traffic_spec *traffic)
{
    int err;

    sim_heap_open(&s->coming);
    s->num = rules->workers + rules->prefill_workers;
    s->at = calloc((size_t)s->num, sizeof *s->at);
    if (!s->at)
        return ERR_NOMEM;
    for (int i = 0; i < s->num; i++) {
        s->at[i].prefill = i >= rules->workers;
        sim_heap_open(&s->at[i].answers);
    }
    err = histogram_open(&s->ttft);
    if (!err)
        err = histogram_open(&s->tpot);
    return err ? err : traffic_open(traffic, &s->traffic);
}

int serve_simulate(const struct serve_rules *rules, const struct traffic_spec *traffic,
                   struct serve_result *out)
{
    struct sim s = {.rules = rules, .closed = traffic->kind == TRAFFIC_CLOSED, .out = out};
    bool idle = false;
    int err;

    *out = (struct serve_result){0};
    err = sim_open(&s, rules, traffic);
    if (!err)
        err = first_requests(&s, traffic->clients);
    while (!err && !idle && !done(&s))
        err = event(&s, &idle);
    if (!err)
        result_set(&s);
    sim_close(&s);
    return err;
}

double serve_times_at(const struct serve_times *t, double percentile)
{
    if (percentile <= 50)
        return t->p50;
    if (percentile <= 90)
        return t->p50 + (t->p90 - t->p50) * (percentile - 50) / 40;
    return t->p90 + (t->p99 - t->p90) * fmin(percentile - 90, 9) / 9;
}
