#include "serve/engine.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/doc.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"

const struct engine_param_info engine_param_info[ENGINE_PARAM_COUNT] = {
#define ENGINE_INFO(name, text, unit, usual, lo, hi, scale, help)                                  \
    {text, unit, usual, lo, hi, scale, help},
    ENGINE_PARAMS(ENGINE_INFO)
#undef ENGINE_INFO
};

void engine_usual(struct engine *e)
{
    *e = (struct engine){0};
    for (int i = 0; i < ENGINE_PARAM_COUNT; i++)
        e->v[i] = engine_param_info[i].usual;
}

static int fault(const struct doc *doc, int line, const char *key, const char *what)
{
    log_error_at(doc->path, line, "%s: %s", key, what);
    return ERR_CONFIG;
}

static int param_find(const char *name)
{
    for (int i = 0; i < ENGINE_PARAM_COUNT; i++)
        if (!strcmp(name, engine_param_info[i].name))
            return i;
    return -1;
}

static int param_read(const struct doc *doc, const struct doc_node *n, struct engine *e)
{
    int i = param_find(n->key);
    const struct engine_param_info *info = &engine_param_info[i < 0 ? 0 : i];

    if (i < 0)
        return fault(doc, n->line, n->key, "there is no such parameter");
    if (n->type != DOC_MAP || !doc_get(n, "value") || doc_to_double(doc_get(n, "value"), &e->v[i]))
        return fault(doc, n->line, n->key, "expected {value: NUMBER, std_err: NUMBER}");
    if (doc_get(n, "std_err") && doc_to_double(doc_get(n, "std_err"), &e->std_err[i]))
        return fault(doc, n->line, n->key, "std_err is no number");
    if (e->v[i] < info->lo || e->v[i] > info->hi)
        return fault(doc, n->line, n->key, "out of its range");
    return 0;
}

static void text_read(const struct doc_node *map, const char *key, char *buf, size_t size)
{
    const struct doc_node *n = doc_get(map, key);

    snprintf(buf, size, "%s", n && n->type == DOC_SCALAR && n->text ? n->text : "");
}

static int drafts_read(const struct doc *doc, const struct doc_node *list, struct engine *e)
{
    for (const struct doc_node *n = list ? list->child : NULL; n; n = n->next) {
        struct engine_drafts *d = &e->drafts[e->num_drafts];
        long long ep = 0;

        if (n->type != DOC_MAP || e->num_drafts == ENGINE_MAX_DRAFTS)
            return fault(doc, n->line, "drafts", "expected up to 8 {version, model, min_ep}");
        text_read(n, "version", d->version, sizeof d->version);
        text_read(n, "model", d->model, sizeof d->model);
        if (doc_get(n, "min_ep") && (doc_to_int(doc_get(n, "min_ep"), &ep) || ep < 0 || ep > 4096))
            return fault(doc, n->line, "min_ep", "is no number of ranks");
        d->min_ep = (int)ep;
        e->num_drafts++;
    }
    return 0;
}

static int engine_parse(const struct doc *doc, struct engine *e)
{
    const struct doc_node *params =
        doc->root->type == DOC_MAP ? doc_get(doc->root, "parameters") : NULL;
    int err = 0, seen = 0;

    engine_usual(e);
    if (!params || params->type != DOC_MAP)
        return fault(doc, doc->root->line, "parameters", "a map of them is missing");
    text_read(doc->root, "source", e->source, sizeof e->source);
    for (const struct doc_node *n = params->child; n && !err; n = n->next, seen++)
        err = param_read(doc, n, e);
    if (!err && seen < ENGINE_PARAM_COUNT)
        err = fault(doc, params->line, "parameters", "one is missing");
    return err ? err : drafts_read(doc, doc_get(doc->root, "drafts"), e);
}

int engine_read(enum serve_engine which, struct engine *e)
{
    char name[64], *path = NULL;
    struct doc *doc = NULL;
    int err;

    snprintf(name, sizeof name, "hw/profiles/engines/%s.yaml", serve_engine_name(which));
    err = file_find_shipped(name, &path);
    if (err)
        log_error("%s is not installed", name);
    if (!err)
        err = doc_read(path, &doc);
    if (!err)
        err = engine_parse(doc, e);
    doc_free(doc);
    free(path);
    return err;
}

int engine_write(enum serve_engine which, const struct engine *e, const char *path)
{
    struct file_out out;
    int err = file_create(&out, path);

    if (err)
        return err;
    fprintf(out.f,
            "# What %s makes of the kernels of a step, and adds to them (serve/engine.h); written "
            "by\n# `peosim accuracy e2e_deployments.csv --fit-engines`. No parameter is a model's "
            "or a GPU's.\nname: %s\nsource: \"%s\"\nparameters:\n",
            serve_engine_name(which), serve_engine_name(which), e->source);
    for (int i = 0; i < ENGINE_PARAM_COUNT; i++)
        fprintf(out.f, "  %s: {value: %.6g, std_err: %.3g} # %s%s%s\n", engine_param_info[i].name,
                e->v[i], e->std_err[i], engine_param_info[i].unit,
                *engine_param_info[i].unit ? ": " : "", engine_param_info[i].help);
    if (e->num_drafts)
        fprintf(out.f, "# Published runs that draft one token a step, which their rows do not say: "
                       "told by the version.\ndrafts:\n");
    for (int i = 0; i < e->num_drafts; i++)
        fprintf(out.f, "  - {version: \"%s\", model: \"%s\", min_ep: %d}\n", e->drafts[i].version,
                e->drafts[i].model, e->drafts[i].min_ep);
    return file_commit(&out);
}

/* Does the published name hold the word, whatever its case? */
static bool names_model(const char *published, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = published; *p; p++)
        if (strncasecmp(p, word, n) == 0)
            return true;
    return n == 0;
}

bool engine_drafts(const struct engine *e, const struct e2e_row *row,
                   const struct serve_deployment *d)
{
    for (int i = 0; i < e->num_drafts; i++)
        if (!strcmp(row->version, e->drafts[i].version) && d->decode.ep >= e->drafts[i].min_ep &&
            names_model(row->model, e->drafts[i].model))
            return true;
    return false;
}

static double kernels_us(const double *v, const struct step_parts *p)
{
    return v[ENGINE_ATTN] * (p->core_us + p->attn_us) + v[ENGINE_EXPERTS] * p->experts_us +
           v[ENGINE_GATE] * p->gate_us + v[ENGINE_COMM] * p->comm_us + p->dense_us + p->launch_us;
}

double engine_step_us(const double *v, const struct step_parts *p, int layers, double requests)
{
    return kernels_us(v, p) + layers * v[ENGINE_LAYER_US] + v[ENGINE_STEP_MS] * 1e3 +
           requests * v[ENGINE_REQUEST_US];
}

/* Prompts are bound by tensor cores, where measured modules are what engines run. */
double engine_prompt_us(const double *v, const struct step_parts *p, int layers)
{
    (void)layers;
    return v[ENGINE_PROMPT] * step_parts_sum(p);
}
