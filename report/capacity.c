#include "report/capacity.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "report/report.h"
#include "base/version.h"

#define TABLE_PLANS  8
#define NESTED_PLANS 50

static const char *gpu_of(const struct capacity *k, const struct capacity_point *p)
{
    return k->config->gpus[p->gpu].profile;
}

static const char *policy_of(const struct capacity *k, const struct capacity_point *p)
{
    return k->config->policies[p->policy].policy->name;
}

static void pool_text(const struct capacity *k, const struct capacity_point *p, int64_t instances,
                      char *buf, size_t size)
{
    snprintf(buf, size, "%" PRId64 "x EP%d %s, %d, %s", instances, p->ep, gpu_of(k, p), p->size,
             policy_of(k, p));
}

static void head_print(const struct capacity *k, FILE *f)
{
    const struct capacity_config *c = k->config;

    fprintf(f, "peosim %s  capacity %s (%.12s)  model %s  seed %d\n", PEOSIM_VERSION, c->path,
            c->hash, c->base.model, c->base.seed);
    fprintf(f,
            "traffic %.4g requests/s, prompts %d, answers %d tokens; TTFT %.4g ms and TPOT %.4g ms "
            "at p%.3g\n",
            c->num.requests_s, c->num.isl, c->num.osl, c->num.ttft_ms, c->num.tpot_ms,
            c->num.percentile);
    fprintf(f, "prices per GPU and hour:");
    for (int g = 0; g < c->num_gpus; g++)
        fprintf(f, "%s %s %.4g USD", g ? "," : "", c->gpus[g].profile, c->gpus[g].usd_per_hour);
    fprintf(f, "; planned utilisation %.0f%%\n", 100 * c->num.utilization);
    for (int g = 0; g < c->num_gpus; g++)
        report_nics_of(c->gpus[g].profile, c->base.nics_per_gpu, c->base.nic_Gbitps, f);
}

struct row {
    char decode_pool[64], prefill_pool[64];
    const char *decode_gpu, *decode_policy, *prefill_gpu, *prefill_policy, *mark;
    int ok, decode_ep, decode_batch, prefill_ep, prefill_tokens;
    bool keeps;
    int64_t decode_instances, prefill_instances, gpus, nodes;
    double usd_per_hour, usd_per_Mtoken, ttft_ms, tpot_ms, tokens_s_gpu, tokens_s_user, worst;
    json_t *decode, *prefill;
};

#define COLUMN(name, form, shown)                                                                  \
    {                                                                                              \
        .key = #name, .type = form, .offset = offsetof(struct row, name), .views = shown           \
    }
#define SHOWN(name, text, form, columns, digits_)                                                  \
    {                                                                                              \
        .key = #name, .head = text, .type = form, .offset = offsetof(struct row, name),            \
        .width = columns, .digits = digits_, .views = RECORD_ALL                                   \
    }
#define POOL(name, text, columns)                                                                  \
    {                                                                                              \
        .head = text, .type = RECORD_STRING, .offset = offsetof(struct row, name),                 \
        .width = columns, .views = RECORD_PEOPLE                                                   \
    }
/* Flat files have the pools' members as columns, nested ones as objects. */
static const struct record_column plan_columns[] = {
    POOL(decode_pool, "decode (requests per GPU)", -28),
    POOL(prefill_pool, "prefill (tokens per GPU)", -30),
    COLUMN(ok, RECORD_INT, RECORD_FLAT),
    {.key = "ok",
     .type = RECORD_BOOL,
     .offset = offsetof(struct row, keeps),
     .views = RECORD_NESTED},
    COLUMN(decode_gpu, RECORD_WORDS, RECORD_FLAT),
    COLUMN(decode_ep, RECORD_INT, RECORD_FLAT),
    COLUMN(decode_batch, RECORD_INT, RECORD_FLAT),
    COLUMN(decode_policy, RECORD_WORDS, RECORD_FLAT),
    COLUMN(decode_instances, RECORD_INT64, RECORD_FLAT),
    COLUMN(prefill_gpu, RECORD_WORDS, RECORD_FLAT),
    COLUMN(prefill_ep, RECORD_INT, RECORD_FLAT),
    COLUMN(prefill_tokens, RECORD_INT, RECORD_FLAT),
    COLUMN(prefill_policy, RECORD_WORDS, RECORD_FLAT),
    COLUMN(prefill_instances, RECORD_INT64, RECORD_FLAT),
    SHOWN(gpus, "GPUs", RECORD_INT64, 5, 0),
    SHOWN(nodes, "nodes", RECORD_INT64, 6, 0),
    SHOWN(usd_per_hour, "USD/h", RECORD_REAL, 9, 2),
    SHOWN(usd_per_Mtoken, "USD/Mtok", RECORD_REAL, 8, 3),
    SHOWN(ttft_ms, "TTFT ms", RECORD_REAL, 8, 0),
    SHOWN(tpot_ms, "TPOT ms", RECORD_REAL, 7, 1),
    SHOWN(tokens_s_gpu, "tok/s/GPU", RECORD_REAL, 8, 0),
    SHOWN(tokens_s_user, "tok/s/user", RECORD_REAL, 8, 1),
    {.head = "",
     .type = RECORD_WORDS,
     .offset = offsetof(struct row, mark),
     .wide = true,
     .views = RECORD_PEOPLE},
    COLUMN(worst, RECORD_REAL, RECORD_FLAT),
    COLUMN(decode, RECORD_OBJECT, RECORD_NESTED),
    COLUMN(prefill, RECORD_OBJECT, RECORD_NESTED),
};
#define TABLE(name, columns)                                                                       \
    {                                                                                              \
        .key = name, .views = RECORD_ALL, .column = columns,                                       \
        .num_columns = sizeof columns / sizeof *columns                                            \
    }
static const struct record_table plan_table = TABLE("plans", plan_columns);

static json_t *pool_json(const struct capacity *k, const struct capacity_point *p,
                         int64_t instances)
{
    char knobs[256];

    policy_knobs_text(k->config->policies[p->policy].policy, &p->knobs, knobs, sizeof knobs);
    return json_pack("{s:s, s:i, s:I, s:i, s:s, s:s, s:f, s:f, s:f}", "gpu", gpu_of(k, p), "ep",
                     p->ep, "instances", (json_int_t)instances, "batch", p->size, "policy",
                     policy_of(k, p), "knobs", knobs, "step_ms", p->step_us / 1e3,
                     "at_percentile_ms", p->at_us / 1e3, "memory_GB", p->memory.total / 1e9);
}

static void plan_write(const struct capacity *k, const struct capacity_plan *p, struct record *r)
{
    const struct capacity_point *d = p->decode, *q = p->prefill;
    struct row row = {.prefill_pool = "the same GPUs",
                      .mark = d->spread ? "" : "*",
                      .ok = p->ok,
                      .keeps = p->ok,
                      .decode_gpu = gpu_of(k, d),
                      .decode_ep = d->ep,
                      .decode_batch = d->size,
                      .decode_policy = policy_of(k, d),
                      .decode_instances = p->decode_instances,
                      .prefill_gpu = p->shared ? "shared" : gpu_of(k, q),
                      .prefill_ep = q->ep,
                      .prefill_tokens = q->size,
                      .prefill_policy = policy_of(k, q),
                      .prefill_instances = p->prefill_instances,
                      .gpus = p->gpus,
                      .nodes = p->nodes,
                      .usd_per_hour = p->usd_per_hour,
                      .usd_per_Mtoken = p->usd_per_Mtoken,
                      .ttft_ms = p->ttft_ms,
                      .tpot_ms = p->tpot_ms,
                      .tokens_s_gpu = p->tokens_s_gpu,
                      .tokens_s_user = p->tokens_s_user,
                      .worst = p->worst};

    pool_text(k, d, p->decode_instances, row.decode_pool, sizeof row.decode_pool);
    if (!p->shared)
        pool_text(k, q, p->prefill_instances, row.prefill_pool, sizeof row.prefill_pool);
    row.decode = pool_json(k, d, p->decode_instances);
    row.prefill = p->shared ? NULL : pool_json(k, q, p->prefill_instances);
    record_row(r, &row);
    json_decref(row.decode);
    json_decref(row.prefill);
}

/* People want those that keep the promises, or the nearest; programs every one, nested the first
 * ones. */
static void plans_write(const struct capacity *k, struct record *r)
{
    bool people = record_is_for(r, RECORD_PEOPLE), any = k->num_plans && k->plans[0].ok;
    size_t most = people ? TABLE_PLANS : record_is_for(r, RECORD_FLAT) ? SIZE_MAX : NESTED_PLANS;
    bool single = false;

    record_table(r, &plan_table);
    for (size_t i = 0; i < k->num_plans && i < most && (!people || k->plans[i].ok || !any); i++) {
        plan_write(k, &k->plans[i], r);
        single |= !k->plans[i].decode->spread;
    }
    record_table_end(r);
    if (single)
        record_note(r, "  * of one routing; the others at p%.3g over %d\n",
                    k->config->num.percentile, k->config->num.draws);
}

/* Reasons for which points were left out, each once. */
static void skipped_print(const struct capacity *k, FILE *f)
{
    size_t fit = 0, policy = 0;
    const char *fit_why = NULL, *policy_why = NULL;

    for (size_t i = 0; i < k->num_points; i++) {
        const struct capacity_point *p = &k->points[i];

        if (!p->skipped)
            continue;
        if (!strncmp(p->why, "does not fit", 12)) {
            fit++;
            fit_why = p->why;
        } else {
            policy++;
            policy_why = p->why;
        }
    }
    if (fit)
        fprintf(f, "left out: %zu points that do not fit, such as: %s\n", fit, fit_why + 14);
    if (k->num_crowded)
        fprintf(f, "left out: %zu pair%s that cannot share GPUs, such as: %s\n", k->num_crowded,
                k->num_crowded == 1 ? "" : "s", k->crowded_why);
    if (policy)
        fprintf(f, "left out: %zu points that cannot run, such as: %s\n", policy, policy_why);
}

static void winner_print(const struct capacity *k, FILE *f)
{
    const struct capacity_plan *p = &k->plans[0];
    struct memory_sum both;
    char text[160];

    fprintf(
        f,
        "TTFT of the first: waiting %.0f + prefill %.0f + KV transfer %.1f + decode step %.0f ms",
        p->wait_ms, p->prefill_ms, p->transfer_ms,
        p->ttft_ms - p->wait_ms - p->prefill_ms - p->transfer_ms);
    if (!p->shared)
        fprintf(f, "; GPUs prefill : decode %" PRId64 " : %" PRId64,
                p->prefill_instances * p->prefill->ep, p->decode_instances * p->decode->ep);
    if (p->shared && capacity_shared_fits(p->decode, p->prefill, &both)) {
        memory_text(&both, text, sizeof text);
        fprintf(f, "; memory per GPU: %s\n", text);
    } else {
        fprintf(f, "; memory per GPU: prefill %.1f, decode %.1f GB\n",
                p->prefill->memory.total / 1e9, p->decode->memory.total / 1e9);
    }
    fprintf(f,
            "TTFT counts no queue but the pass in progress; percentiles are over %d routing%s, "
            "interpolated, not over arrivals and lengths\n",
            k->config->num.draws, k->config->num.draws == 1 ? "" : "s");
    fprintf(f, "%.0f%% of its decode time rests on profile fields without data of their own\n",
            100 * p->decode->assumed_share);
}

struct change_row {
    const char *change, *why;
    int fits, ok;
    bool can, keeps;
    double ttft_ms, tpot_ms, usd_per_hour, usd_change_pct;
    int64_t gpus;
};

#define CHANGE(name, form, shown)                                                                  \
    {                                                                                              \
        .key = #name, .type = form, .offset = offsetof(struct change_row, name), .views = shown    \
    }
static const struct record_column change_columns[] = {
    CHANGE(change, RECORD_WORDS, RECORD_DATA),
    CHANGE(fits, RECORD_INT, RECORD_FLAT),
    CHANGE(ok, RECORD_INT, RECORD_FLAT),
    {.key = "fits",
     .type = RECORD_BOOL,
     .offset = offsetof(struct change_row, can),
     .views = RECORD_NESTED},
    {.key = "ok",
     .type = RECORD_BOOL,
     .offset = offsetof(struct change_row, keeps),
     .views = RECORD_NESTED},
    CHANGE(ttft_ms, RECORD_REAL, RECORD_DATA),
    CHANGE(tpot_ms, RECORD_REAL, RECORD_DATA),
    CHANGE(gpus, RECORD_INT64, RECORD_DATA),
    CHANGE(usd_per_hour, RECORD_REAL, RECORD_DATA),
    CHANGE(usd_change_pct, RECORD_REAL, RECORD_DATA),
    CHANGE(why, RECORD_WORDS, RECORD_NESTED),
};
static const struct record_table change_table = {.key = "sensitivity",
                                                 .views = RECORD_DATA,
                                                 .column = change_columns,
                                                 .num_columns = sizeof change_columns /
                                                                sizeof *change_columns};

static void change_note(const struct capacity_change *c, double usd_per_hour, struct record *r)
{
    const struct capacity_plan *p = &c->plan;

    if (!c->fits)
        record_note(r, "  %-60s %s\n", c->name, c->why);
    else
        record_note(r, "  %-60s %8.0f %8.1f %7" PRId64 " %9.2f %+6.1f%%%s%s\n", c->name, p->ttft_ms,
                    p->tpot_ms, p->gpus, p->usd_per_hour,
                    100 * (p->usd_per_hour / usd_per_hour - 1), p->ok ? "" : "  misses ",
                    p->ok ? "" : p->miss);
}

void capacity_report_changes(const struct capacity *k, const struct capacity_change *changes,
                             int num, struct record *r)
{
    const struct capacity_plan *best = k->num_plans ? &k->plans[0] : NULL;

    record_table(r, &change_table);
    if (num && best)
        record_note(r,
                    "\nthe same pools if ...%42s %8s %8s %7s %9s\n"
                    "  %-60s %8.0f %8.1f %7" PRId64 " %9.2f\n",
                    "", "TTFT ms", "TPOT ms", "GPUs", "USD/h", "(as asked)", best->ttft_ms,
                    best->tpot_ms, best->gpus, best->usd_per_hour);
    for (int i = 0; i < num && best; i++) {
        const struct capacity_plan *p = &changes[i].plan;
        const struct change_row row = {.change = changes[i].name,
                                       .why = changes[i].fits ? NULL : changes[i].why,
                                       .fits = changes[i].fits,
                                       .can = changes[i].fits,
                                       .ok = p->ok,
                                       .keeps = p->ok,
                                       .ttft_ms = p->ttft_ms,
                                       .tpot_ms = p->tpot_ms,
                                       .gpus = p->gpus,
                                       .usd_per_hour = p->usd_per_hour,
                                       .usd_change_pct =
                                           100 * (p->usd_per_hour / best->usd_per_hour - 1)};

        record_row(r, &row);
        change_note(&changes[i], best->usd_per_hour, r);
    }
    record_table_end(r);
}

static void members_write(const struct capacity *k, struct record *r)
{
    record_member_text(r, "version", PEOSIM_VERSION);
    record_member_text(r, "config", k->config->path);
    record_member_text(r, "config_hash", k->config->hash);
    record_member(r, "seed", json_integer(k->config->base.seed));
}

static void text_write(const struct capacity *k, struct record *r, bool title,
                       void (*write)(const struct capacity *k, FILE *f))
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return;
    write(k, f);
    fclose(f);
    if (title)
        record_title(r, text);
    else
        record_note(r, "%s", text);
    free(text);
}

void capacity_report(const struct capacity *k, const struct capacity_change *changes, int num,
                     struct record *r)
{
    members_write(k, r);
    if (record_is_for(r, RECORD_PEOPLE))
        text_write(k, r, true, head_print);
    if (!k->num_plans)
        record_note(r, "nothing can run\n");
    else
        record_note(r, "%s\n",
                    k->plans[0].ok ? "" : "nothing keeps both promises; what comes nearest:\n");
    if (k->num_plans || !record_is_for(r, RECORD_PEOPLE))
        plans_write(k, r);
    if (k->num_plans)
        text_write(k, r, false, winner_print);
    text_write(k, r, false, skipped_print);
    if (!record_is_for(r, RECORD_FLAT))
        capacity_report_changes(k, changes, num, r);
}

void capacity_report_plans(const struct capacity *k, struct record *r)
{
    plans_write(k, r);
}

void capacity_report_points(const struct capacity *k, FILE *f)
{
    fprintf(f, "phase,gpu,ep,size,policy,step_ms,at_percentile_ms,layer_us,exposed_ms,memory_GB,"
               "left_out\n");
    for (size_t i = 0; i < k->num_points; i++) {
        const struct capacity_point *p = &k->points[i];

        fprintf(f, "%s,%s,%d,%d,%s,%.6g,%.6g,%.6g,%.6g,%.6g,\"%s\"\n",
                p->decode ? "decode" : "prefill", gpu_of(k, p), p->ep, p->size, policy_of(k, p),
                p->step_us / 1e3, p->at_us / 1e3, p->layer_us, p->exposed_us / 1e3,
                p->memory.total / 1e9, p->why);
    }
}

static int by_user(const void *va, const void *vb)
{
    const struct capacity_plan *a = *(const struct capacity_plan *const *)va;
    const struct capacity_plan *b = *(const struct capacity_plan *const *)vb;

    if (a->tokens_s_user != b->tokens_s_user)
        return a->tokens_s_user < b->tokens_s_user ? -1 : 1;
    return a->decode < b->decode ? -1 : a->decode > b->decode;
}

int capacity_report_pareto(const struct capacity *k, FILE *f)
{
    const struct capacity_plan **list = calloc(k->num_plans + 1, sizeof *list);
    size_t n = 0;

    if (!list)
        return ERR_NOMEM;
    for (size_t i = 0; i < k->num_plans; i++)
        if (k->plans[i].ttft_ms <= k->config->num.ttft_ms)
            list[n++] = &k->plans[i];
    qsort(list, n, sizeof *list, by_user);
    fprintf(f, "gpu,tokens_s_user,tokens_s_gpu,pareto,label\n");
    for (size_t i = 0; i < n; i++) {
        bool front = true;

        for (size_t j = 0; j < n && front; j++)
            front = !(list[j]->tokens_s_user >= list[i]->tokens_s_user &&
                      list[j]->tokens_s_gpu > list[i]->tokens_s_gpu);
        fprintf(f, "%s,%.6g,%.6g,%d,EP%d b%d %s\n", gpu_of(k, list[i]->decode),
                list[i]->tokens_s_user, list[i]->tokens_s_gpu, front, list[i]->decode->ep,
                list[i]->decode->size, policy_of(k, list[i]->decode));
    }
    free(list);
    return 0;
}
