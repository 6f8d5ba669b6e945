#include "report/capacity.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "report/report.h"
#include "base/version.h"

#define TABLE_PLANS 8

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

static void plan_line(const struct capacity *k, const struct capacity_plan *p, FILE *f)
{
    char decode[64], prefill[64] = "the same GPUs";

    pool_text(k, p->decode, p->decode_instances, decode, sizeof decode);
    if (!p->shared)
        pool_text(k, p->prefill, p->prefill_instances, prefill, sizeof prefill);
    fprintf(f, "  %-28s %-30s %5" PRId64 " %6" PRId64 " %9.2f %8.3f %8.0f %7.1f %8.0f %8.1f%s\n",
            decode, prefill, p->gpus, p->nodes, p->usd_per_hour, p->usd_per_Mtoken, p->ttft_ms,
            p->tpot_ms, p->tokens_s_gpu, p->tokens_s_user, p->decode->spread ? "" : " *");
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

static void winner_print(const struct capacity *k, const struct capacity_plan *p, FILE *f)
{
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

static void changes_print(const struct capacity *k, const struct capacity_change *changes, int num,
                          FILE *f)
{
    const struct capacity_plan *best = &k->plans[0];

    if (!num)
        return;
    fprintf(f, "\nthe same pools if ...%42s %8s %8s %7s %9s\n", "", "TTFT ms", "TPOT ms", "GPUs",
            "USD/h");
    fprintf(f, "  %-60s %8.0f %8.1f %7" PRId64 " %9.2f\n", "(as asked)", best->ttft_ms,
            best->tpot_ms, best->gpus, best->usd_per_hour);
    for (int i = 0; i < num; i++) {
        const struct capacity_plan *p = &changes[i].plan;

        if (!changes[i].fits)
            fprintf(f, "  %-60s %s\n", changes[i].name, changes[i].why);
        else
            fprintf(f, "  %-60s %8.0f %8.1f %7" PRId64 " %9.2f %+6.1f%%%s%s\n", changes[i].name,
                    p->ttft_ms, p->tpot_ms, p->gpus, p->usd_per_hour,
                    100 * (p->usd_per_hour / best->usd_per_hour - 1), p->ok ? "" : "  misses ",
                    p->ok ? "" : p->miss);
    }
}

void capacity_report_table(const struct capacity *k, const struct capacity_change *changes, int num,
                           FILE *f)
{
    bool any = k->num_plans && k->plans[0].ok, single = false;

    head_print(k, f);
    if (!k->num_plans) {
        fprintf(f, "nothing can run\n");
        skipped_print(k, f);
        return;
    }
    if (!any)
        fprintf(f, "nothing keeps both promises; what comes nearest:\n");
    fprintf(f, "\n  %-28s %-30s %5s %6s %9s %8s %8s %7s %8s %8s\n", "decode (requests per GPU)",
            "prefill (tokens per GPU)", "GPUs", "nodes", "USD/h", "USD/Mtok", "TTFT ms", "TPOT ms",
            "tok/s/GPU", "tok/s/user");
    for (size_t i = 0; i < k->num_plans && i < TABLE_PLANS && (k->plans[i].ok || !any); i++) {
        plan_line(k, &k->plans[i], f);
        single |= !k->plans[i].decode->spread;
    }
    if (single)
        fprintf(f, "  * of one routing; the others at p%.3g over %d\n", k->config->num.percentile,
                k->config->num.draws);
    winner_print(k, &k->plans[0], f);
    skipped_print(k, f);
    changes_print(k, changes, num, f);
}

static void plan_csv(const struct capacity *k, const struct capacity_plan *p, FILE *f)
{
    const struct capacity_point *d = p->decode, *q = p->prefill;

    fprintf(f,
            "%d,%s,%d,%d,%s,%" PRId64 ",%s,%d,%d,%s,%" PRId64 ",%" PRId64 ",%" PRId64
            ",%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g\n",
            p->ok, gpu_of(k, d), d->ep, d->size, policy_of(k, d), p->decode_instances,
            p->shared ? "shared" : gpu_of(k, q), q->ep, q->size, policy_of(k, q),
            p->prefill_instances, p->gpus, p->nodes, p->usd_per_hour, p->usd_per_Mtoken, p->ttft_ms,
            p->tpot_ms, p->tokens_s_gpu, p->tokens_s_user, p->worst);
}

void capacity_report_plans(const struct capacity *k, FILE *f)
{
    fprintf(f, "ok,decode_gpu,decode_ep,decode_batch,decode_policy,decode_instances,prefill_gpu,"
               "prefill_ep,prefill_tokens,prefill_policy,prefill_instances,gpus,nodes,usd_per_hour,"
               "usd_per_Mtoken,ttft_ms,tpot_ms,tokens_s_gpu,tokens_s_user,worst\n");
    for (size_t i = 0; i < k->num_plans; i++)
        plan_csv(k, &k->plans[i], f);
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

void capacity_report_changes(const struct capacity *k, const struct capacity_change *changes,
                             int num, FILE *f)
{
    fprintf(f, "change,fits,ok,ttft_ms,tpot_ms,gpus,usd_per_hour,usd_change_pct\n");
    for (int i = 0; i < num; i++) {
        const struct capacity_plan *p = &changes[i].plan;

        fprintf(f, "\"%s\",%d,%d,%.6g,%.6g,%" PRId64 ",%.6g,%.4g\n", changes[i].name,
                changes[i].fits, p->ok, p->ttft_ms, p->tpot_ms, p->gpus, p->usd_per_hour,
                100 * (p->usd_per_hour / k->plans[0].usd_per_hour - 1));
    }
}

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

static json_t *plan_json(const struct capacity *k, const struct capacity_plan *p)
{
    json_t *o = json_pack("{s:b, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "ok", p->ok, "gpus",
                          (json_int_t)p->gpus, "nodes", (json_int_t)p->nodes, "usd_per_hour",
                          p->usd_per_hour, "usd_per_Mtoken", p->usd_per_Mtoken, "ttft_ms",
                          p->ttft_ms, "tpot_ms", p->tpot_ms, "tokens_s_gpu", p->tokens_s_gpu,
                          "tokens_s_user", p->tokens_s_user);

    json_object_set_new(o, "decode", pool_json(k, p->decode, p->decode_instances));
    if (!p->shared)
        json_object_set_new(o, "prefill", pool_json(k, p->prefill, p->prefill_instances));
    return o;
}

int capacity_report_json(const struct capacity *k, const struct capacity_change *changes, int num,
                         char **text)
{
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:i}", "version", PEOSIM_VERSION, "config", k->config->path,
                  "hash", k->config->hash, "seed", k->config->base.seed);
    json_t *plans = json_array(), *list = json_array();

    for (size_t i = 0; i < k->num_plans && i < 50; i++)
        json_array_append_new(plans, plan_json(k, &k->plans[i]));
    for (int i = 0; i < num; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:b, s:b, s:f, s:f, s:I, s:f}", "change", changes[i].name,
                            "fits", changes[i].fits, "ok", changes[i].plan.ok, "ttft_ms",
                            changes[i].plan.ttft_ms, "tpot_ms", changes[i].plan.tpot_ms, "gpus",
                            changes[i].plan.gpus, "usd_per_hour", changes[i].plan.usd_per_hour));
    json_object_set_new(root, "plans", plans);
    json_object_set_new(root, "sensitivity", list);
    *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(7));
    json_decref(root);
    return *text ? 0 : ERR_NOMEM;
}
