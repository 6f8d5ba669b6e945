#include "serve/deployment.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

/* Published names by how they begin, in lower case and without the publisher; the longer one
 * first. A model of another size stands under the name of the one it was trained from. */
static const struct {
    const char *prefix, *shipped;
} names[] = {
    {"deepseek-v3.2", "deepseek-v3.2"},
    {"deepseek-v4-pro", "deepseek-v4-pro"},
    {"deepseek-v4-flash", "deepseek-v4-flash"},
    {"deepseek-v3", "deepseek-v3"},
    {"deepseek-r1", "deepseek-v3"},
    {"deepseek-v2-lite", "deepseek-v2-lite"},
    {"deepseek-v2", "deepseek-v2"},
    {"gpt-oss-120b", "gpt-oss-120b"},
    {"gpt-oss-20b", "gpt-oss-20b"},
    {"qwen3-235b", "qwen3-235b"},
    {"qwen3-30b", "qwen3-30b"},
    {"qwen3-coder-480b", "qwen3-coder-480b"},
    {"qwen3-next-80b", "qwen3-next-80b"},
    {"qwen3.5-397b", "qwen3.5-397b"},
    {"minimax-m2", "minimax-m2.5"},
    {"minimax-m3", "minimax-m3"},
    {"kimi-k2.", "kimi-k2.5"},
    {"kimi-k2", "kimi-k2"},
    {"kimi-k3", "kimi-k3"},
    {"glm-5", "glm-5"},
    {"glm-4.5-air", "glm-4.5-air"},
    {"glm-4.5", "glm-4.5"},
    {"mixtral-8x22b", "mixtral-8x22b"},
    {"mixtral-8x7b", "mixtral-8x7b"},
    {"llama-4-maverick", "llama-4-maverick"},
    {"llama-4-scout", "llama-4-scout"},
};

static const char *const systems[] = {"h100", "h200", "h20",   "h800",
                                      "b200", "b300", "gb200", "gb300"};

static const char *const engine_names[SERVE_ENGINES] = {"sglang", "vllm", "trtllm"};

/* More ranks than this share no attention: no engine splits heads over so many. */
enum { MOST_TP = 16 };

const char *serve_engine_name(enum serve_engine e)
{
    return engine_names[e];
}

static int no(char *why, size_t size, const char *what, const char *value)
{
    snprintf(why, size, "%s '%s' is not known", what, value);
    return ERR_INFEASIBLE;
}

static const char *shipped_name(const char *published)
{
    const char *slash = strrchr(published, '/');
    char low[96];
    size_t n = 0;

    for (const char *p = slash ? slash + 1 : published; *p && n + 1 < sizeof low; p++)
        low[n++] = (char)tolower((unsigned char)*p);
    low[n] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(low, names[i].prefix, strlen(names[i].prefix)) == 0)
            return names[i].shipped;
    return NULL;
}

static const char *one_of(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(name, list[i]) == 0)
            return list[i];
    return NULL;
}

/* What engines make of a row's types. Weights of four bits alone leave the rest of the model in
 * BF16; gpt-oss comes in one type, whatever the row calls it. */
static void types_set(const struct e2e_row *row, struct serve_deployment *d)
{
    const char *t = row->moe_dtype;
    bool hopper = d->profile[0] == 'h';

    d->gemm_dtype = d->expert_dtype = "auto";
    d->kv_dtype = hopper && d->engine != SERVE_TRTLLM ? "bf16" : "fp8";
    if (strncmp(d->model, "gpt-oss", 7) == 0)
        return;
    if (strcmp(t, "int4_wo") == 0) {
        d->gemm_dtype = d->kv_dtype = "bf16";
        d->expert_dtype = "w4a16";
    } else if (strcmp(t, "nvfp4") == 0) {
        d->gemm_dtype = d->expert_dtype = "nvfp4";
    } else if (strncmp(t, "fp8", 3) == 0) {
        d->gemm_dtype = d->expert_dtype = "fp8";
    } else {
        d->gemm_dtype = d->expert_dtype = d->kv_dtype = "bf16";
    }
}

static int at_least_one(int x)
{
    return x > 0 ? x : 1;
}

static void note_add(struct serve_deployment *d, const char *text)
{
    size_t n = strlen(d->note);

    snprintf(d->note + n, sizeof d->note - n, "%s%s", n ? "; " : "", text);
}

/* One instance as its cells say, before anything is doubted. */
static void pool_as_written(const struct e2e_row *row, const struct e2e_workers *w,
                            struct serve_pool *p)
{
    int dp = w->dp;

    if (dp == 0 && w->batch > 0 && row->concurrency % w->batch == 0)
        dp = row->concurrency / w->batch;
    *p = (struct serve_pool){.workers = at_least_one(w->workers),
                             .tp = at_least_one(w->tp),
                             .dp = at_least_one(dp),
                             .moe_tp = at_least_one(w->moe_tp),
                             .ep = at_least_one(w->moe_ep)};
    p->gpus = p->moe_tp * p->ep;
    if (p->tp > p->gpus)
        p->gpus = p->tp;
}

/* An id names the GPUs of an instance and how many ways its experts are spread. */
static void pool_by_id(const struct e2e_row *row, struct serve_pool *p)
{
    bool dp = p->dp > 1;

    p->gpus = row->id_tp;
    p->ep = at_least_one(row->id_ep);
    if (p->ep > p->gpus || p->gpus % p->ep)
        p->ep = p->gpus;
    p->moe_tp = p->gpus / p->ep;
    p->dp = dp ? p->gpus : 1;
    p->tp = dp ? 1 : p->gpus;
}

static bool counted_twice(const struct serve_pool *p)
{
    return (p->moe_tp > 1 && p->moe_tp == p->ep) || (p->tp > 1 && p->tp == p->dp);
}

static void halve(struct serve_pool *p)
{
    bool dp = p->tp == 1;

    p->gpus = p->moe_tp > 1 && p->moe_tp == p->ep ? p->ep : p->tp;
    p->ep = p->gpus;
    p->moe_tp = 1;
    p->dp = dp ? p->gpus : 1;
    p->tp = dp ? 1 : p->gpus;
}

/* Attention's ranks fill the instance. */
static bool splits_heads(int tp)
{
    return tp <= MOST_TP && (tp & (tp - 1)) == 0;
}

static void attention_fill(struct serve_pool *p)
{
    if (!splits_heads(p->tp) || p->gpus > MOST_TP) {
        p->ep = p->gpus;
        p->moe_tp = p->tp = 1;
    }
    if (p->gpus % p->tp)
        p->tp = 1;
    p->dp = p->gpus / p->tp;
}

static void pool_settle(const struct e2e_row *row, const struct e2e_workers *w, bool use_id,
                        struct serve_deployment *d, struct serve_pool *p)
{
    pool_as_written(row, w, p);
    if (use_id && row->stated == E2E_CONTRADICTS_ID && row->id_tp) {
        pool_by_id(row, p);
        note_add(d, "parallelism as its id says");
    } else if (!row->id_tp && counted_twice(p)) {
        halve(p);
        note_add(d, "ranks counted twice");
    }
    if (!splits_heads(p->tp))
        note_add(d, "tp that splits no heads read as data-parallel attention with EP");
    attention_fill(p);
}

int serve_deployment_of(const struct e2e_row *row, struct serve_deployment *d, char *why,
                        size_t size)
{
    int engine = 0;

    *d = (struct serve_deployment){
        .model = shipped_name(row->model),
        .profile = one_of(row->system, systems, sizeof systems / sizeof *systems),
        .disagg = row->disagg,
        .concurrency = row->concurrency,
        .isl = row->isl,
        .osl = row->osl};
    if (!d->model)
        return no(why, size, "model", row->model);
    if (!d->profile)
        return no(why, size, "system", row->system);
    while (engine < SERVE_ENGINES && strcmp(engine_names[engine], row->engine))
        engine++;
    if (engine == SERVE_ENGINES)
        return no(why, size, "engine", row->engine);
    d->engine = (enum serve_engine)engine;
    if (row->pp > 1) {
        snprintf(why, size, "pipeline parallelism (pp %d) is not modelled", row->pp);
        return ERR_INFEASIBLE;
    }
    types_set(row, d);
    pool_settle(row, &row->pool[E2E_DECODE], !row->disagg, d, &d->decode);
    d->prefill = d->decode;
    if (row->disagg)
        pool_settle(row, &row->pool[E2E_PREFILL], false, d, &d->prefill);
    d->assumed = row->stated == E2E_NOT_STATED;
    if (d->assumed)
        note_add(d, "worker counts not stated, taken as one");
    return 0;
}
