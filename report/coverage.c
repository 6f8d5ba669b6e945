#include "report/coverage.h"

#include <math.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "study/config.h"

#define GAPS_NAMED 3
#define GAP_LEAST  0.01 /* of the time: what is less closes nothing */

static const char *phase_name(const struct coverage_row *r)
{
    return r->phase == PHASE_OF_DECODE ? "decode" : "prefill";
}

/* "down_gemm 12%, combine 3%": what was not measured, the largest first. */
static void gaps_text(const struct coverage_row *r, char *buf, size_t size)
{
    unsigned long long named = 0;
    size_t at = 0;

    buf[0] = '\0';
    for (int i = 0; i < GAPS_NAMED; i++) {
        double share;
        int kind = coverage_gap(r, named, &share);

        if (kind < 0 || share < GAP_LEAST || at + 1 >= size)
            return;
        named |= 1ull << kind;
        at += (size_t)snprintf(buf + at, size - at, "%s%s %.0f%%", at ? ", " : "",
                               plan_op_kind_name((enum plan_op_kind)kind), 100 * share);
    }
}

/* Each measurement that would close a gap of any row, once. */
static void closing_print(const struct coverage *c, FILE *f)
{
    const char *said[OP_KIND_COUNT * 2];
    size_t num = 0;

    for (size_t i = 0; i < c->num; i++) {
        unsigned long long named = 0;
        double share;
        int kind;

        while ((kind = coverage_gap(&c->rows[i], named, &share)) >= 0 && share >= GAP_LEAST) {
            const char *what = coverage_closed_by((enum plan_op_kind)kind, c->rows[i].nodes);
            bool new = true;

            named |= 1ull << kind;
            for (size_t j = 0; j < num; j++)
                new &= strcmp(said[j], what) != 0;
            if (new)
                fprintf(f, "  to measure: %s\n", said[num++] = what);
        }
    }
}

void coverage_print(const struct coverage *c, FILE *f)
{
    fprintf(f,
            "share of op time by where its law has its figures from (DeepSeek-V3 layer, FP8)\n"
            "  %-8s %4s %5s  %-12s %8s %11s %8s %8s  %s\n",
            "phase", "EP", "nodes", "exchange", "measured", "transferred", "assumed", "MoE part",
            "not measured");
    for (size_t i = 0; i < c->num; i++) {
        const struct coverage_row *r = &c->rows[i];
        char gaps[256];

        gaps_text(r, gaps, sizeof gaps);
        fprintf(f, "  %-8s %4d %5d  %-12s %7.0f%% %10.0f%% %7.0f%% %7.0f%%  %s\n", phase_name(r),
                r->ranks, r->nodes, r->exchange, 100 * coverage_share(r, COVERAGE_MEASURED, false),
                100 * coverage_share(r, COVERAGE_TRANSFERRED, false),
                100 * coverage_share(r, COVERAGE_ASSUMED, false),
                100 * coverage_share(r, COVERAGE_MEASURED, true), gaps);
    }
    closing_print(c, f);
}

void coverage_print_markdown(const struct coverage *c, const char *profile, FILE *f)
{
    for (size_t i = 0; i < c->num; i++) {
        const struct coverage_row *r = &c->rows[i];
        double share;
        int kind = coverage_gap(r, 0, &share);
        char gaps[256];

        gaps_text(r, gaps, sizeof gaps);
        fprintf(f, "| %s | %s | %d | %d | %s | %.0f%% | %.0f%% | %.0f%% | %.0f%% | %s | %s |\n",
                profile, phase_name(r), r->ranks, r->nodes, r->exchange,
                100 * coverage_share(r, COVERAGE_MEASURED, false),
                100 * coverage_share(r, COVERAGE_TRANSFERRED, false),
                100 * coverage_share(r, COVERAGE_ASSUMED, false),
                100 * coverage_share(r, COVERAGE_MEASURED, true), gaps,
                kind >= 0 && share >= GAP_LEAST
                    ? coverage_closed_by((enum plan_op_kind)kind, r->nodes)
                    : "");
    }
}

static double rounded(double x)
{
    return round(x * 1e6) / 1e6;
}

static json_t *shares_json(const double *ns)
{
    json_t *o = json_object();
    double all = 0;

    for (int b = 0; b < COVERAGE_BASES; b++)
        all += ns[b];
    for (int b = 0; o && b < COVERAGE_BASES; b++)
        json_object_set_new(o, coverage_basis_name((enum coverage_basis)b),
                            json_real(all > 0 ? rounded(ns[b] / all) : 0));
    return o;
}

static json_t *row_json(const struct coverage_row *r)
{
    json_t *o = shares_json(r->ns), *ops = json_object();

    if (!o || !ops) {
        json_decref(o);
        json_decref(ops);
        return NULL;
    }
    json_object_set_new(o, "ep", json_integer(r->ranks));
    json_object_set_new(o, "nodes", json_integer(r->nodes));
    json_object_set_new(o, "phase", json_string(phase_name(r)));
    json_object_set_new(o, "exchange", json_string(r->exchange));
    json_object_set_new(o, "moe", shares_json(r->moe_ns));
    for (int k = 0; k < OP_KIND_COUNT; k++)
        if (r->kind_ns[k][0] + r->kind_ns[k][1] + r->kind_ns[k][2] > 0)
            json_object_set_new(ops, plan_op_kind_name((enum plan_op_kind)k),
                                shares_json(r->kind_ns[k]));
    json_object_set_new(o, "ops", ops);
    return o;
}

int coverage_print_json(const struct coverage *c, const char *profile, FILE *f)
{
    json_t *root = json_object(), *rows = json_array();
    int rc = root && rows ? 0 : ERR_NOMEM;

    for (size_t i = 0; rc == 0 && i < c->num; i++)
        if (json_array_append_new(rows, row_json(&c->rows[i])) != 0)
            rc = ERR_NOMEM;
    if (rc == 0) {
        json_object_set_new(root, "profile", json_string(profile));
        json_object_set(root, "coverage", rows);
        if (json_dumpf(root, f, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(9)) != 0)
            rc = ERR_IO;
        fputc('\n', f);
    }
    json_decref(rows);
    json_decref(root);
    return rc;
}
