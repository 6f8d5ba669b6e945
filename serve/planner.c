#include "serve/planner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/doc.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "serve/estimate.h"

#define KEY(name, kind, field, ...)                                                                \
    {                                                                                              \
        .key = name, .type = kind, .offset = offsetof(struct planner_keys, field), __VA_ARGS__     \
    }
#define PRICE(system, i)                                                                           \
    KEY("usd_per_hour." system, OPT_DOUBLE, usd[i], .min = 0, .max = 1000, .def = "0",             \
        .unit = "USD/h", .help = "price of one " system "; 0 = as its profile has it")

static const char *const systems[PLANNER_SYSTEMS] = {"h20",  "h800", "h100",  "h200",
                                                     "b200", "b300", "gb200", "gb300"};

const struct opt planner_options[] = {
    KEY("model", OPT_STRING, model, .def = "deepseek-v3", .help = "a name in configs/models/"),
    KEY("gpus", OPT_STRING, gpus, .def = "h200", .help = "kinds of GPU, with commas between"),
    KEY("engines", OPT_STRING, engines, .def = "sglang", .help = "of sglang, vllm and trtllm"),
    KEY("modes", OPT_STRING, modes, .def = "agg", .help = "agg, disagg or both"),
    KEY("gemm_dtype", OPT_STRING, gemm_dtype, .def = "fp8", .help = "as in a scenario"),
    KEY("expert_dtype", OPT_STRING, expert_dtype, .def = "auto", .help = "as in a scenario"),
    KEY("kv_dtype", OPT_STRING, kv_dtype, .def = "auto", .help = "as in a scenario"),
    KEY("tp", OPT_STRING, tp, .def = "8", .help = "attention's ranks that split its heads"),
    KEY("dp", OPT_STRING, dp, .def = "1", .help = "groups of data-parallel attention"),
    KEY("ep", OPT_STRING, ep, .def = "1",
        .help = "ranks that experts are spread over; the rest of the instance splits each"),
    KEY("max_workers", OPT_INT, max_workers, .min = 1, .max = 4096, .def = "64",
        .help = "instances of one kind at most"),
    KEY("max_requests", OPT_INT, max_requests, .min = 1, .max = 1048576, .def = "256",
        .help = "requests that an instance decodes at once"),
    KEY("step_tokens", OPT_INT, step_tokens, .min = 16, .max = 1048576, .def = "8192",
        .unit = "tokens", .help = "of one step, prompts included"),
    KEY("reserve_GB", OPT_DOUBLE, reserve_GB, .min = 0, .max = 1000, .def = "6", .unit = "GB",
        .help = "memory of the runtime"),
    KEY("link_GBps", OPT_DOUBLE, link_GBps, .min = 0, .max = 100000, .def = "50", .unit = "GB/s",
        .help = "disaggregated: from a prefill GPU to a decode GPU; 0 = no time"),
    KEY("traffic.kind", OPT_ENUM, kind, .choices = "closed|poisson|gamma|even|trace",
        .def = "poisson", .help = "how requests arrive"),
    KEY("traffic.requests_s", OPT_DOUBLE, requests_s, .min = 0, .max = 1e6, .def = "10",
        .unit = "1/s", .help = "rate; closed: clients"),
    KEY("traffic.variation", OPT_DOUBLE, variation, .min = 0, .max = 100, .def = "1",
        .help = "gamma: spread of the gaps over their mean"),
    KEY("traffic.isl", OPT_INT, isl, .min = 1, .max = 10000000, .def = "2048", .unit = "tokens",
        .help = "prompt; of a trace: of a typical one, its own lengths are taken"),
    KEY("traffic.osl", OPT_INT, osl, .min = 1, .max = 10000000, .def = "512", .unit = "tokens",
        .help = "answer"),
    KEY("traffic.spread", OPT_DOUBLE, spread, .min = 0, .max = 1, .def = "0.2",
        .help = "lengths are even between (1 - spread) and 1 of these"),
    KEY("traffic.trace", OPT_STRING, trace, .def = "", .help = "JSONL as Mooncake publishes it"),
    KEY("traffic.speed", OPT_DOUBLE, speed, .min = 0.001, .max = 1000, .def = "1",
        .help = "a trace's clock runs so many times faster"),
    KEY("traffic.requests", OPT_INT, requests, .min = 0, .max = 100000000, .def = "5000",
        .help = "simulated at most; 0 = the whole trace"),
    KEY("traffic.seed", OPT_INT, seed, .min = 0, .max = 2147483647, .def = "1", .help = "of it"),
    KEY("sla.ttft_ms", OPT_DOUBLE, ttft_ms, .min = 0, .max = 1e9, .def = "2000", .unit = "ms",
        .help = "time to the first token"),
    KEY("sla.tpot_ms", OPT_DOUBLE, tpot_ms, .min = 0, .max = 1e9, .def = "50", .unit = "ms",
        .help = "time per output token"),
    KEY("sla.percentile", OPT_DOUBLE, percentile, .min = 1, .max = 99, .def = "90", .unit = "%",
        .help = "of requests that keep both"),
    PRICE("h20", 0),
    PRICE("h800", 1),
    PRICE("h100", 2),
    PRICE("h200", 3),
    PRICE("b200", 4),
    PRICE("b300", 5),
    PRICE("gb200", 6),
    PRICE("gb300", 7),
    {.key = NULL},
};

static int sets_apply(struct planner_keys *k, const char *const *sets, size_t num)
{
    int err = 0;

    for (size_t i = 0; i < num && !err; i++) {
        const char *eq = strchr(sets[i], '=');
        char key[64];

        snprintf(key, sizeof key, "%.*s", (int)(eq ? eq - sets[i] : 0), sets[i]);
        if (!eq) {
            log_error("--set %s: expected KEY=VALUE", sets[i]);
            return ERR_USAGE;
        }
        err = opt_set(planner_options, k, key, eq + 1, "--set", 0);
    }
    return err;
}

int planner_open(const char *path, const char *const *sets, size_t num_sets, struct planner *p)
{
    struct doc *doc = NULL;
    int err;

    *p = (struct planner){0};
    err = opt_set_defaults(planner_options, &p->keys);
    if (!err)
        err = doc_read(path, &doc);
    if (!err && doc->root->type != DOC_MAP) {
        log_error_at(path, 1, "expected keys and values");
        err = ERR_CONFIG;
    }
    if (!err)
        err = opt_set_map(planner_options, &p->keys, doc, doc->root);
    if (!err)
        err = sets_apply(&p->keys, sets, num_sets);
    if (!err)
        err = file_hash(path, p->hash);
    if (!err)
        p->path = strdup(path);
    if (!err && !p->path)
        err = ERR_NOMEM;
    doc_free(doc);
    if (err)
        planner_close(p);
    return err;
}

void planner_close(struct planner *p)
{
    opt_free_strings(planner_options, &p->keys);
    free(p->path);
    free(p->row);
    *p = (struct planner){0};
}

/* The next word of a list with commas; NULL behind the last. */
static const char *word_next(const char **at, char *buf, size_t size)
{
    size_t n = strcspn(*at, ",");

    if (!**at)
        return NULL;
    snprintf(buf, size, "%.*s", (int)n, *at);
    *at += n + ((*at)[n] == ',');
    return buf + strspn(buf, " ");
}

static int unknown(const char *what, const char *word)
{
    log_error("%s '%s' is not known", what, word);
    return ERR_CONFIG;
}

static int numbers_of(const char *key, const char *list, int *out, int max, int *num)
{
    char buf[32];
    const char *w;

    for (*num = 0; *num < max && (w = word_next(&list, buf, sizeof buf)); ++*num) {
        long long x;

        if (num_int(w, &x) || x < 1 || x > 4096)
            return unknown(key, w);
        out[*num] = (int)x;
    }
    return *num ? 0 : unknown(key, "");
}

enum { MAX_WORDS = 16, MAX_ROWS = 4096 };

/* The lists of the file, as numbers into what they name. */
struct axes {
    int gpu[MAX_WORDS], engine[MAX_WORDS], mode[MAX_WORDS], tp[MAX_WORDS], dp[MAX_WORDS],
        ep[MAX_WORDS];
    int gpus, engines, modes, tps, dps, eps;
};

static int names_of(const char *key, const char *list, const char *const *names, int n, int *out,
                    int *num)
{
    char buf[32];
    const char *w;

    for (*num = 0; *num < MAX_WORDS && (w = word_next(&list, buf, sizeof buf)); ++*num) {
        int i = 0;

        while (i < n && strcmp(names[i], w))
            i++;
        if (i == n)
            return unknown(key, w);
        out[*num] = i;
    }
    return *num ? 0 : unknown(key, "");
}

static int axes_read(const struct planner_keys *k, struct axes *a)
{
    static const char *const modes[] = {"agg", "disagg"};
    const char *engines[SERVE_ENGINES];
    int err;

    for (int i = 0; i < SERVE_ENGINES; i++)
        engines[i] = serve_engine_name((enum serve_engine)i);
    err = names_of("gpus", k->gpus, systems, PLANNER_SYSTEMS, a->gpu, &a->gpus);
    if (!err)
        err = names_of("engines", k->engines, engines, SERVE_ENGINES, a->engine, &a->engines);
    if (!err)
        err = names_of("modes", k->modes, modes, 2, a->mode, &a->modes);
    if (!err)
        err = numbers_of("tp", k->tp, a->tp, MAX_WORDS, &a->tps);
    if (!err)
        err = numbers_of("dp", k->dp, a->dp, MAX_WORDS, &a->dps);
    return err ? err : numbers_of("ep", k->ep, a->ep, MAX_WORDS, &a->eps);
}

static void row_fill(const struct planner_keys *k, const struct axes *a, size_t i,
                     struct planned *row)
{
    struct serve_deployment *d = &row->d;
    struct serve_pool *p = &d->decode;

    *row = (struct planned){0};
    p->ep = a->ep[i % (size_t)a->eps];
    i /= (size_t)a->eps;
    p->dp = a->dp[i % (size_t)a->dps];
    i /= (size_t)a->dps;
    p->tp = a->tp[i % (size_t)a->tps];
    i /= (size_t)a->tps;
    d->disagg = a->mode[i % (size_t)a->modes] == 1;
    i /= (size_t)a->modes;
    d->engine = (enum serve_engine)a->engine[i % (size_t)a->engines];
    d->profile = systems[a->gpu[i / (size_t)a->engines]];
    p->gpus = p->tp * p->dp;
    p->moe_tp = p->gpus / p->ep;
    p->workers = 1;
    d->model = k->model;
    d->gemm_dtype = k->gemm_dtype;
    d->expert_dtype = k->expert_dtype;
    d->kv_dtype = k->kv_dtype;
    d->isl = k->isl;
    d->osl = k->osl;
    d->prefill = d->decode;
    if (p->gpus % p->ep)
        snprintf(row->why, sizeof row->why, "EP %d does not divide tp %d times dp %d", p->ep, p->tp,
                 p->dp);
}

static int rows_make(struct planner *p)
{
    struct axes a;
    int err = axes_read(&p->keys, &a);
    size_t n;

    if (err)
        return err;
    n = (size_t)a.gpus * (size_t)a.engines * (size_t)a.modes * (size_t)a.tps * (size_t)a.dps *
        (size_t)a.eps;
    if (n > MAX_ROWS) {
        log_error("%zu combinations: more than %d", n, MAX_ROWS);
        return ERR_RANGE;
    }
    p->row = calloc(n, sizeof *p->row);
    if (!p->row)
        return ERR_NOMEM;
    p->num = n;
    for (size_t i = 0; i < n; i++)
        row_fill(&p->keys, &a, i, &p->row[i]);
    return 0;
}

/* One candidate being simulated. */
struct trial {
    struct planner *p;
    struct planned *row;
    struct step_model *m;
    struct engine engine;
    struct serve_rules rules;
    struct traffic_spec traffic;
};

static int trial_step_us(void *self, const struct step_load *load, bool prefill, double *us)
{
    struct trial *t = self;
    struct step_parts parts;
    int err = step_model_parts(t->m, load, &parts), layers = step_model_layers(t->m);

    (void)prefill;
    if (load->prompt > 0)
        *us = engine_prompt_us(t->engine.v, &parts, layers) + t->engine.v[ENGINE_STEP_MS] * 1e3 +
              t->engine.v[ENGINE_REQUEST_US] * load->decode;
    else
        *us = engine_step_us(t->engine.v, &parts, layers, load->decode);
    return err;
}

static int price_of(const struct planner *p, struct planned *row, struct hw_profile **profile)
{
    int i = 0, err = hw_profile_read(row->d.profile, profile);

    while (strcmp(systems[i], row->d.profile))
        i++;
    row->usd_per_hour = p->keys.usd[i] > 0 ? p->keys.usd[i]
                        : err              ? 0
                                           : hw_value(*profile, HW_GPU_USD_PER_HOUR);
    return err;
}

static int trial_open(struct trial *t, struct serve_tables *tables)
{
    const struct planner_keys *k = &t->p->keys;
    struct step_cache cache;
    int err = engine_read(t->row->d.engine, &t->engine);

    if (!err)
        err = serve_tables_pool(tables, &t->row->d, &t->row->d.decode, &t->m);
    if (!err)
        err = step_model_cache(t->m, k->max_requests, k->reserve_GB, &cache);
    if (err)
        return err;
    t->row->cache_tokens = cache.tokens;
    if (cache.tokens < k->isl + k->osl) {
        snprintf(t->row->why, sizeof t->row->why,
                 "the GPUs hold the model and a cache of %.0f tokens: no request fits",
                 fmax(cache.tokens, 0));
        return ERR_INFEASIBLE;
    }
    t->rules = (struct serve_rules){.max_requests = k->max_requests,
                                    .step_tokens = k->step_tokens,
                                    .order = t->row->d.engine == SERVE_SGLANG ? SERVE_PROMPTS_FIRST
                                                                              : SERVE_MIXED,
                                    .cache_tokens = cache.tokens,
                                    .cache_bytes = cache.token_bytes / t->row->d.decode.tp,
                                    .link_GBps = k->link_GBps,
                                    .requests = (uint64_t)k->requests,
                                    .step_us = trial_step_us,
                                    .self = t};
    t->traffic = (struct traffic_spec){.kind = (enum traffic_kind)k->kind,
                                       .clients = (int)fmax(k->requests_s, 1),
                                       .requests_s = k->requests_s,
                                       .variation = k->variation,
                                       .prompt = k->isl,
                                       .answer = k->osl,
                                       .spread = k->spread,
                                       .path = k->trace,
                                       .speed = k->speed,
                                       .seed = (unsigned long)k->seed};
    return 0;
}

/* Simulates so many instances; does it keep both promises? */
static int trial_run(struct trial *t, int workers, int prefill, bool *ok)
{
    const struct planner_keys *k = &t->p->keys;
    struct planned *row = t->row;
    int err;

    t->rules.workers = row->d.decode.workers = workers;
    t->rules.prefill_workers = prefill;
    row->d.prefill.workers = prefill ? prefill : workers;
    t->p->simulations++;
    err = serve_simulate(&t->rules, &t->traffic, &row->r);
    row->ttft_ms = serve_times_at(&row->r.ttft_ms, k->percentile) + t->engine.v[ENGINE_START_MS];
    row->tpot_ms = serve_times_at(&row->r.tpot_ms, k->percentile);
    *ok = !err && row->ttft_ms <= k->ttft_ms && !(row->tpot_ms > k->tpot_ms);
    return err;
}

/* The fewest of one kind, the other kind held: doubled until it is enough, then halved between. */
static int fewest(struct trial *t, bool of_prefill, int other, int *found)
{
    int most = t->p->keys.max_workers, lo = 0, hi = 1, err;
    bool ok;

    for (;;) {
        err = of_prefill ? trial_run(t, other, hi, &ok) : trial_run(t, hi, other, &ok);
        if (err || ok || hi == most)
            break;
        lo = hi;
        hi = 2 * hi < most ? 2 * hi : most;
    }
    *found = !err && ok ? hi : 0;
    while (!err && *found && hi - lo > 1) {
        int mid = lo + (hi - lo) / 2;

        err = of_prefill ? trial_run(t, other, mid, &ok) : trial_run(t, mid, other, &ok);
        if (ok)
            *found = hi = mid;
        else
            lo = mid;
    }
    return err;
}

static void figures_set(struct trial *t)
{
    struct planned *row = t->row;
    const struct serve_deployment *d = &row->d;
    double tokens_s = row->r.elapsed_s > 0 ? row->r.tokens / row->r.elapsed_s : 0;

    row->decode_gpus = d->decode.workers * d->decode.gpus;
    row->gpus = row->decode_gpus + (d->disagg ? d->prefill.workers * d->prefill.gpus : 0);
    row->usd_per_hour *= row->gpus;
    row->tokens_s_gpu = tokens_s / row->gpus;
    row->tokens_s_decode_gpu = tokens_s / row->decode_gpus;
    row->usd_per_Mtoken = tokens_s > 0 ? row->usd_per_hour / (tokens_s * 3600) * 1e6 : 0;
}

static void miss_say(struct trial *t)
{
    const struct planner_keys *k = &t->p->keys;

    snprintf(t->row->why, sizeof t->row->why,
             "%d instances: TTFT %.0f ms (promised %.0f), TPOT %.1f ms (promised %.1f)",
             k->max_workers, t->row->ttft_ms, k->ttft_ms, t->row->tpot_ms, k->tpot_ms);
}

static int trial_search(struct trial *t)
{
    int workers = 0, prefill = 0, most = t->p->keys.max_workers, err = 0;
    bool ok;

    if (t->row->d.disagg)
        err = fewest(t, true, most, &prefill);
    if (!err && (!t->row->d.disagg || prefill))
        err = fewest(t, false, prefill, &workers);
    if (err)
        return err;
    t->row->runs = true;
    t->row->ok = workers > 0;
    err = trial_run(t, workers ? workers : most, t->row->d.disagg ? prefill ? prefill : most : 0,
                    &ok);
    if (!workers)
        miss_say(t);
    figures_set(t);
    return err;
}

static int row_run(struct planner *p, struct serve_tables *tables, struct planned *row)
{
    struct trial t = {.p = p, .row = row};
    struct hw_profile *profile = NULL;
    int err = *row->why ? ERR_INFEASIBLE : price_of(p, row, &profile);

    hw_profile_free(profile);
    if (!err)
        err = trial_open(&t, tables);
    if (!err)
        err = trial_search(&t);
    if (err == ERR_INFEASIBLE && !*row->why && t.m)
        snprintf(row->why, sizeof row->why, "%s", step_model_why(t.m));
    return err == ERR_INFEASIBLE ? 0 : err;
}

/* Those that keep the promises first, the cheapest in front; without prices, the fewest GPUs. */
static int by_cost(const void *a, const void *b)
{
    const struct planned *x = a, *y = b;

    if (x->ok != y->ok)
        return y->ok - x->ok;
    if (x->runs != y->runs)
        return y->runs - x->runs;
    if (x->usd_per_hour != y->usd_per_hour)
        return x->usd_per_hour < y->usd_per_hour ? -1 : 1;
    if (x->gpus != y->gpus)
        return x->gpus < y->gpus ? -1 : 1;
    return (x->tpot_ms > y->tpot_ms) - (x->tpot_ms < y->tpot_ms);
}

static void pareto_mark(struct planner *p)
{
    double fastest = HUGE_VAL;

    for (size_t i = 0; i < p->num; i++)
        if (p->row[i].ok && p->row[i].tpot_ms < fastest) {
            p->row[i].pareto = true;
            fastest = p->row[i].tpot_ms;
        }
}

int planner_run(struct planner *p)
{
    struct serve_tables *tables = NULL;
    int err = rows_make(p);

    if (!err)
        err = serve_tables_open(&tables);
    for (size_t i = 0; i < p->num && !err; i++)
        err = row_run(p, tables, &p->row[i]);
    if (!err) {
        qsort(p->row, p->num, sizeof *p->row, by_cost);
        pareto_mark(p);
    }
    serve_tables_close(tables);
    return err;
}
