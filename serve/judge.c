#include "serve/judge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Repeats of a configuration that differ by more are set apart: nothing predicts both. */
#define REPEATS_AGREE 1.10

static int row_load(struct judged *j, struct judged_row *r)
{
    int err = serve_deployment_of(r->row, &r->d, r->why, sizeof r->why);

    if (!err) {
        r->drafts = engine_drafts(&j->engine[r->d.engine], r->row, &r->d);
        err = serve_load_of(j->tables, &r->d, r->drafts, &r->load, r->why, sizeof r->why);
    }
    r->answered = !err;
    if (err && !*r->why)
        snprintf(r->why, sizeof r->why, "%s", err_text(err));
    return err == ERR_NOMEM ? err : 0;
}

static bool same_pool(const struct serve_pool *a, const struct serve_pool *b)
{
    return a->workers == b->workers && a->tp == b->tp && a->dp == b->dp && a->ep == b->ep &&
           a->moe_tp == b->moe_tp;
}

static bool same_load(const struct judged_row *a, const struct judged_row *b)
{
    return !strcmp(a->d.model, b->d.model) && !strcmp(a->d.profile, b->d.profile) &&
           a->d.isl == b->d.isl && a->d.osl == b->d.osl && a->d.concurrency == b->d.concurrency;
}

static bool same_configuration(const struct judged_row *a, const struct judged_row *b)
{
    return same_load(a, b) && a->d.engine == b->d.engine && a->d.disagg == b->d.disagg &&
           !strcmp(a->row->precision, b->row->precision) && a->drafts == b->drafts &&
           same_pool(&a->d.decode, &b->d.decode) && same_pool(&a->d.prefill, &b->d.prefill);
}

static void repeats_of(struct judged *j, size_t i)
{
    double lo = j->row[i].row->tpot_ms, hi = lo;

    for (size_t k = 0; k < j->num; k++)
        if (j->row[k].answered && same_configuration(&j->row[i], &j->row[k])) {
            if (k < i)
                return; /* seen from its first row */
            lo = fmin(lo, j->row[k].row->tpot_ms);
            hi = fmax(hi, j->row[k].row->tpot_ms);
        }
    if (hi <= lo * REPEATS_AGREE)
        return;
    j->apart++;
    for (size_t k = i; k < j->num; k++)
        if (j->row[k].answered && same_configuration(&j->row[i], &j->row[k]))
            j->row[k].apart = true;
}

static void repeats_find(struct judged *j)
{
    for (size_t i = 0; i < j->num; i++)
        if (j->row[i].answered)
            repeats_of(j, i);
}

int judge_open(const char *path, struct judged *j)
{
    int err;

    *j = (struct judged){0};
    err = e2e_read(path, &j->e2e);
    for (int i = 0; i < SERVE_ENGINES && !err; i++)
        err = engine_read((enum serve_engine)i, &j->engine[i]);
    if (!err)
        err = serve_tables_open(&j->tables);
    if (!err)
        j->row = calloc(j->e2e.num, sizeof *j->row);
    if (!err && !j->row)
        err = ERR_NOMEM;
    j->num = err ? 0 : j->e2e.num;
    for (size_t i = 0; i < j->num && !err; i++) {
        j->row[i].row = &j->e2e.row[i];
        err = row_load(j, &j->row[i]);
        j->answered += j->row[i].answered;
    }
    if (!err) {
        repeats_find(j);
        judge_predict(j, j->engine);
    } else {
        judge_close(j);
    }
    return err;
}

void judge_close(struct judged *j)
{
    serve_tables_close(j->tables);
    free(j->row);
    e2e_free(&j->e2e);
    *j = (struct judged){0};
}

void judge_predict(struct judged *j, const struct engine engines[SERVE_ENGINES])
{
    for (size_t i = 0; i < j->num; i++) {
        struct judged_row *r = &j->row[i];

        r->tpot_ms = r->answered ? serve_tpot_ms(engines[r->d.engine].v, &r->load) : NAN;
        r->ttft_ms = r->answered ? serve_ttft_ms(engines[r->d.engine].v, &r->load) : NAN;
    }
}

const char *judge_by_name(enum judge_by by)
{
    static const char *const names[JUDGE_BYS] = {"",      "mode", "engine",   "system",
                                                 "model", "EP",   "precision"};

    return names[by];
}

static const char *ep_group(const struct judged_row *r)
{
    int ep = r->row->disagg || r->answered ? r->d.decode.ep : r->row->pool[E2E_DECODE].moe_ep;

    return ep >= 4 ? "EP 4 and more" : ep > 1 ? "EP 2, 3" : "EP 1";
}

void judge_group(const struct judged_row *r, enum judge_by by, char *buf, size_t size)
{
    const char *slash = strrchr(r->row->model, '/');
    const char *text[JUDGE_BYS] = {"all",
                                   r->row->disagg ? "disaggregated" : "aggregated",
                                   r->row->engine,
                                   r->row->system,
                                   slash ? slash + 1 : r->row->model,
                                   ep_group(r),
                                   r->row->precision};

    snprintf(buf, size, "%s", text[by]);
}

static bool counts(const struct judged_row *r, bool stated, bool apart)
{
    return judged_is_stated(r) == stated && (apart || !r->apart);
}

static void line_errors(const struct judged *j, enum judge_by by, bool stated, bool apart,
                        double *x, struct judge_line *line)
{
    double *tpot = x, *ttft = x + j->num, *tpot_is = x + 2 * j->num, *ttft_is = x + 3 * j->num;
    size_t n = 0;
    char group[64];

    line->rows = 0;
    for (size_t i = 0; i < j->num; i++) {
        const struct judged_row *r = &j->row[i];

        judge_group(r, by, group, sizeof group);
        if (!counts(r, stated, apart) || strcmp(group, line->group))
            continue;
        line->rows++;
        if (!r->answered)
            continue;
        tpot[n] = r->tpot_ms;
        ttft[n] = r->ttft_ms;
        tpot_is[n] = r->row->tpot_ms;
        ttft_is[n++] = r->row->ttft_ms;
    }
    stats_error_of(tpot, tpot_is, n, &line->tpot);
    stats_error_of(ttft, ttft_is, n, &line->ttft);
}

static bool has_line(const struct judge_line *lines, int n, const char *by, const char *group)
{
    for (int i = 0; i < n; i++)
        if (lines[i].by == by && !strcmp(lines[i].group, group))
            return true;
    return false;
}

int judge_lines(const struct judged *j, bool stated, bool apart, struct judge_line *out)
{
    double *x = malloc((4 * j->num + 1) * sizeof *x);
    int n = 0;

    for (int by = 0; by < JUDGE_BYS && x; by++)
        for (size_t i = 0; i < j->num && n < JUDGE_MAX_LINES; i++) {
            const char *name = judge_by_name((enum judge_by)by);
            char group[64];

            judge_group(&j->row[i], (enum judge_by)by, group, sizeof group);
            if (!counts(&j->row[i], stated, apart) || has_line(out, n, name, group))
                continue;
            out[n] = (struct judge_line){.by = name};
            snprintf(out[n].group, sizeof out[n].group, "%s", group);
            line_errors(j, (enum judge_by)by, stated, apart, x, &out[n++]);
        }
    free(x);
    return n;
}

/* Rows at the load of row i, each configuration once; 0 where an earlier row has that load. */
static size_t rivals_of(const struct judged *j, size_t i, double *is, double *said)
{
    size_t n = 0;

    for (size_t k = 0; k < j->num; k++) {
        const struct judged_row *r = &j->row[k];
        bool first = true;

        if (!r->answered || !judged_is_stated(r) || r->apart || !same_load(&j->row[i], r))
            continue;
        if (k < i)
            return 0;
        for (size_t m = i; m < k && first; m++)
            first = !(j->row[m].answered && same_configuration(&j->row[m], r));
        if (!first)
            continue;
        is[n] = r->row->tpot_ms;
        said[n++] = r->tpot_ms;
    }
    return n;
}

double judge_order(const struct judged *j, size_t *sets)
{
    double *is = malloc((2 * j->num + 1) * sizeof *is), sum = 0, weight = 0;

    *sets = 0;
    for (size_t i = 0; i < j->num && is; i++) {
        size_t n;
        double tau;

        if (!j->row[i].answered || !judged_is_stated(&j->row[i]) || j->row[i].apart)
            continue;
        n = rivals_of(j, i, is, is + j->num);
        tau = n >= 3 ? stats_kendall_tau(is, is + j->num, n) : NAN;
        if (isnan(tau))
            continue;
        sum += tau * (double)(n * (n - 1) / 2);
        weight += (double)(n * (n - 1) / 2);
        *sets += 1;
    }
    free(is);
    return weight > 0 ? sum / weight : NAN;
}
