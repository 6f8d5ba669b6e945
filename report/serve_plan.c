#include "report/serve_plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/version.h"

struct line {
    int rank, instances, prefill_instances, gpus, decode_gpus;
    const char *gpu, *engine, *mode, *why;
    char split[32], mark[24];
    double usd_per_hour, usd_per_Mtoken, ttft, tpot, ttft50, ttft90, ttft99, tpot50, tpot90, tpot99;
    double tokens_s_gpu, tokens_s_decode_gpu, busy, batch, cached;
    bool ok, pareto;
};

#define COL(k, h, t, f, w, d, u, v)                                                                \
    {                                                                                              \
        .key = k, .head = h, .type = t, .offset = offsetof(struct line, f), .width = w,            \
        .digits = d, .unit = u, .none = "-", .views = v                                            \
    }
#define BOTH RECORD_ALL
static const struct record_column columns[] = {
    COL("gpu", "GPU", RECORD_WORDS, gpu, -6, 0, NULL, BOTH),
    COL("engine", "engine", RECORD_WORDS, engine, -7, 0, NULL, BOTH),
    COL("mode", "mode", RECORD_WORDS, mode, -7, 0, NULL, BOTH),
    COL("split", "instance", RECORD_STRING, split, -16, 0, NULL, BOTH),
    COL("instances", "decode", RECORD_INT, instances, 6, 0, NULL, BOTH),
    COL("prefill_instances", "prefill", RECORD_INT, prefill_instances, 7, 0, NULL, BOTH),
    COL("gpus", "GPUs", RECORD_INT, gpus, 5, 0, NULL, BOTH),
    COL("decode_gpus", NULL, RECORD_INT, decode_gpus, 5, 0, NULL, RECORD_DATA),
    COL("usd_per_hour", "USD/h", RECORD_REAL, usd_per_hour, 7, 0, NULL, BOTH),
    COL("usd_per_Mtoken", "USD/Mtok", RECORD_REAL, usd_per_Mtoken, 8, 2, NULL, BOTH),
    COL("ttft_ms", NULL, RECORD_REAL, ttft, 8, 0, NULL, RECORD_DATA),
    COL("tpot_ms", NULL, RECORD_REAL, tpot, 8, 1, NULL, RECORD_DATA),
    COL("ttft_p50_ms", "TTFT p50", RECORD_REAL, ttft50, 8, 0, NULL, BOTH),
    COL("ttft_p90_ms", "p90", RECORD_REAL, ttft90, 6, 0, NULL, BOTH),
    COL("ttft_p99_ms", "p99 ms", RECORD_REAL, ttft99, 6, 0, NULL, BOTH),
    COL("tpot_p50_ms", "TPOT p50", RECORD_REAL, tpot50, 8, 1, NULL, BOTH),
    COL("tpot_p90_ms", "p90", RECORD_REAL, tpot90, 6, 1, NULL, BOTH),
    COL("tpot_p99_ms", "p99 ms", RECORD_REAL, tpot99, 6, 1, NULL, BOTH),
    COL("tokens_s_gpu", "tok/s/GPU", RECORD_REAL, tokens_s_gpu, 9, 0, NULL, BOTH),
    COL("tokens_s_decode_gpu", "/decode", RECORD_REAL, tokens_s_decode_gpu, 7, 0, NULL, BOTH),
    COL("busy", NULL, RECORD_REAL, busy, 6, 2, NULL, RECORD_DATA),
    COL("mean_batch", NULL, RECORD_REAL, batch, 6, 1, NULL, RECORD_DATA),
    COL("cached_share", NULL, RECORD_REAL, cached, 6, 2, NULL, RECORD_DATA),
    COL("keeps_promises", NULL, RECORD_BOOL, ok, 6, 0, NULL, RECORD_DATA),
    COL("pareto", NULL, RECORD_BOOL, pareto, 6, 0, NULL, RECORD_DATA),
    COL("why", NULL, RECORD_WORDS, why, 6, 0, NULL, RECORD_DATA),
    COL(NULL, "", RECORD_STRING, mark, -1, 0, NULL, RECORD_PEOPLE),
};
static const struct record_table table = {"deployments", RECORD_ALL, columns,
                                          sizeof columns / sizeof *columns};

static void line_fill(const struct planned *p, bool first, struct line *l)
{
    const struct serve_pool *pool = &p->d.decode;

    *l = (struct line){.instances = pool->workers,
                       .prefill_instances = p->d.disagg ? p->d.prefill.workers : 0,
                       .gpus = p->gpus,
                       .decode_gpus = p->decode_gpus,
                       .gpu = p->d.profile,
                       .engine = serve_engine_name(p->d.engine),
                       .mode = p->d.disagg ? "disagg" : "agg",
                       .why = p->why,
                       .usd_per_hour = p->usd_per_hour,
                       .usd_per_Mtoken = p->usd_per_Mtoken,
                       .ttft = p->ttft_ms,
                       .tpot = p->tpot_ms,
                       .ttft50 = p->r.ttft_ms.p50,
                       .ttft90 = p->r.ttft_ms.p90,
                       .ttft99 = p->r.ttft_ms.p99,
                       .tpot50 = p->r.tpot_ms.p50,
                       .tpot90 = p->r.tpot_ms.p90,
                       .tpot99 = p->r.tpot_ms.p99,
                       .tokens_s_gpu = p->tokens_s_gpu,
                       .tokens_s_decode_gpu = p->tokens_s_decode_gpu,
                       .busy = p->r.busy,
                       .batch = p->r.mean_batch,
                       .cached = p->r.cached_share,
                       .ok = p->ok,
                       .pareto = p->pareto};
    snprintf(l->split, sizeof l->split, "tp%d dp%d ep%d", pool->tp, pool->dp, pool->ep);
    snprintf(l->mark, sizeof l->mark, "%s%s", first && p->ok ? "<- cheapest" : "",
             p->pareto ? first ? ", front" : "<- front" : "");
}

static void reasons_note(const struct planner *p, struct record *r)
{
    for (size_t i = 0; i < p->num; i++) {
        const struct planned *x = &p->row[i];

        if (!x->ok)
            record_note(r, "  left out: %s %s %s tp%d dp%d ep%d: %s\n", x->d.profile,
                        serve_engine_name(x->d.engine), x->d.disagg ? "disagg" : "agg",
                        x->d.decode.tp, x->d.decode.dp, x->d.decode.ep, x->why);
    }
}

void serve_plan_report(const struct planner *p, struct record *r)
{
    const struct planner_keys *k = &p->keys;
    char title[512];

    snprintf(title, sizeof title,
             "peosim %s  %s (%.12s)  model %s  seed %d\n  promised at p%g: TTFT %g ms, TPOT %g ms; "
             "every figure from %zu simulated runs of requests\n",
             PEOSIM_VERSION, p->path, p->hash, k->model, k->seed, k->percentile, k->ttft_ms,
             k->tpot_ms, p->simulations);
    record_title(r, title);
    record_member_text(r, "config", p->path);
    record_member_text(r, "hash", p->hash);
    record_member_text(r, "model", k->model);
    record_member(r, "percentile", json_real(k->percentile));
    record_table(r, &table);
    for (size_t i = 0; i < p->num; i++) {
        struct line l;

        if (!p->row[i].ok && !record_is_for(r, RECORD_DATA))
            continue;
        line_fill(&p->row[i], i == 0, &l);
        record_row(r, &l);
    }
    record_note(r, "tok/s/GPU: output tokens over all GPUs of the deployment; /decode: over those "
                   "of the decode pool alone\nfront: nothing here is cheaper and as fast for a "
                   "user\n");
    reasons_note(p, r);
    record_table_end(r);
}

struct word {
    const char *name;
    char text[256];
};
enum { WORDS = 12 };

static void words_fill(const struct planner *p, const struct planned *row,
                       const struct serve_pool *pool, const char *role, struct word *w)
{
    static const char *const names[WORDS] = {
        "MODEL",   "GPUS", "TP",         "DP",        "EP",           "DP_FLAG",
        "EP_FLAG", "ROLE", "ROLE_FLAGS", "INSTANCES", "MAX_REQUESTS", "STEP_TOKENS"};
    bool sglang = row->d.engine == SERVE_SGLANG, prefill = !strcmp(role, "prefill");
    int numbers[WORDS] = {[1] = pool->gpus,
                          [2] = pool->tp,
                          [3] = pool->dp,
                          [4] = pool->ep,
                          [9] = pool->workers,
                          [10] = p->keys.max_requests,
                          [11] = p->keys.step_tokens};

    for (int i = 0; i < WORDS; i++) {
        w[i].name = names[i];
        snprintf(w[i].text, sizeof w[i].text, "%d", numbers[i]);
    }
    snprintf(w[0].text, sizeof w[0].text, "%s", p->keys.model);
    snprintf(w[5].text, sizeof w[5].text, "%s", pool->dp > 1 ? "--enable-dp-attention" : "");
    snprintf(w[6].text, sizeof w[6].text, "%s", pool->ep > 1 ? "--enable-expert-parallel" : "");
    snprintf(w[7].text, sizeof w[7].text, "%s", role);
    w[8].text[0] = '\0';
    if (row->d.disagg && sglang)
        snprintf(w[8].text, sizeof w[8].text, "--disaggregation-mode %s", role);
    else if (row->d.disagg)
        snprintf(w[8].text, sizeof w[8].text,
                 "--kv-transfer-config '{\"kv_connector\": \"NixlConnector\", \"kv_role\": "
                 "\"kv_%s\"}'",
                 prefill ? "producer" : "consumer");
}

/* A word between two @ at the start of text, or NULL. */
static const struct word *word_at(const char *text, const struct word *w)
{
    for (int i = 0; i < WORDS; i++) {
        size_t n = strlen(w[i].name);

        if (!strncmp(text, w[i].name, n) && text[n] == '@')
            return &w[i];
    }
    return NULL;
}

static int template_write(const char *path, const char *text, const struct word *w, FILE *f)
{
    int line = 1;

    for (const char *c = text; *c; c++) {
        const struct word *found;

        line += *c == '\n';
        if (*c != '@') {
            fputc(*c, f);
            continue;
        }
        found = word_at(c + 1, w);
        if (!found) {
            log_error_at(path, line, "there is no such word between two @");
            return ERR_CONFIG;
        }
        fputs(found->text, f);
        c += strlen(found->name) + 1;
    }
    return 0;
}

static int launch_write(const struct planner *p, const struct planned *row, const char *template,
                        const char *text, const char *folder, const char *role)
{
    const struct serve_pool *pool = !strcmp(role, "prefill") ? &row->d.prefill : &row->d.decode;
    struct word w[WORDS];
    struct file_out out = {0};
    char path[1024];
    int err;

    snprintf(path, sizeof path, "%.900s/launch%s%s.sh", folder, row->d.disagg ? "_" : "",
             row->d.disagg ? role : "");
    words_fill(p, row, pool, row->d.disagg ? role : "serving", w);
    err = file_create(&out, path);
    if (!err)
        err = template_write(template, text, w, out.f);
    if (!err)
        err = file_commit(&out);
    file_abort(&out);
    return err;
}

int serve_plan_launch(const struct planner *p, const struct planned *row, const char *folder,
                      int *written)
{
    char name[64], *path = NULL, *text = NULL;
    size_t len;
    int err;

    *written = 0;
    snprintf(name, sizeof name, "configs/launch/%s.sh", serve_engine_name(row->d.engine));
    if (file_find_shipped(name, &path))
        return 0;
    err = file_read(path, 1 << 20, &text, &len);
    if (!err)
        err = launch_write(p, row, path, text, folder, "decode");
    if (!err && row->d.disagg)
        err = launch_write(p, row, path, text, folder, "prefill");
    *written = err ? 0 : 1 + row->d.disagg;
    free(path);
    free(text);
    return err;
}
