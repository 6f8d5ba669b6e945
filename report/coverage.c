#include "report/coverage.h"

#include <math.h>
#include <string.h>

#include <jansson.h>

#include "base/version.h"
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
static void closing_write(const struct coverage *c, struct record *r)
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
                record_note(r, "  to measure: %s\n", said[num++] = what);
        }
    }
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

static json_t *ops_json(const struct coverage_row *r)
{
    json_t *ops = json_object();

    for (int k = 0; k < OP_KIND_COUNT; k++)
        if (r->kind_ns[k][0] + r->kind_ns[k][1] + r->kind_ns[k][2] > 0)
            json_object_set_new(ops, plan_op_kind_name((enum plan_op_kind)k),
                                shares_json(r->kind_ns[k]));
    return ops;
}

struct row {
    const char *phase, *exchange;
    int ep, nodes;
    double measured, transferred, assumed, moe_measured;
    double pct[4]; /* of the same */
    char gaps[256];
    json_t *moe, *ops;
};

#define AT(field) .offset = offsetof(struct row, field)
#define SHARE(name, shown)                                                                         \
    {                                                                                              \
        .key = #name, .type = RECORD_REAL, AT(name), .views = shown                                \
    }
#define PERCENT(text, i, columns)                                                                  \
    {                                                                                              \
        .head = text, .type = RECORD_REAL, AT(pct[i]), .width = columns, .unit = "%",              \
        .views = RECORD_PEOPLE                                                                     \
    }
static const struct record_column columns[] = {
    {.key = "phase",
     .head = "phase",
     .type = RECORD_WORDS,
     AT(phase),
     .width = -8,
     .views = RECORD_ALL},
    {.key = "ep", .head = "EP", .type = RECORD_INT, AT(ep), .width = 4, .views = RECORD_ALL},
    {.key = "nodes",
     .head = "nodes",
     .type = RECORD_INT,
     AT(nodes),
     .width = 5,
     .views = RECORD_ALL},
    {.key = "exchange",
     .head = "exchange",
     .type = RECORD_WORDS,
     AT(exchange),
     .width = -12,
     .wide = true,
     .views = RECORD_ALL},
    PERCENT("measured", 0, 8),
    PERCENT("transferred", 1, 11),
    PERCENT("assumed", 2, 8),
    PERCENT("MoE part", 3, 8),
    {.head = "not measured", .type = RECORD_STRING, AT(gaps), .wide = true, .views = RECORD_PEOPLE},
    SHARE(measured, RECORD_DATA),
    SHARE(transferred, RECORD_DATA),
    SHARE(assumed, RECORD_DATA),
    SHARE(moe_measured, RECORD_FLAT),
    {.key = "moe", .type = RECORD_OBJECT, AT(moe), .views = RECORD_NESTED},
    {.key = "ops", .type = RECORD_OBJECT, AT(ops), .views = RECORD_NESTED},
};
static const struct record_table table = {.key = "coverage",
                                          .views = RECORD_ALL,
                                          .column = columns,
                                          .num_columns = sizeof columns / sizeof *columns};

static void row_write(const struct coverage_row *c, struct record *r)
{
    struct row row = {.phase = phase_name(c),
                      .exchange = c->exchange,
                      .ep = c->ranks,
                      .nodes = c->nodes,
                      .measured = rounded(coverage_share(c, COVERAGE_MEASURED, false)),
                      .transferred = rounded(coverage_share(c, COVERAGE_TRANSFERRED, false)),
                      .assumed = rounded(coverage_share(c, COVERAGE_ASSUMED, false)),
                      .moe_measured = rounded(coverage_share(c, COVERAGE_MEASURED, true)),
                      .moe = shares_json(c->moe_ns),
                      .ops = ops_json(c)};

    for (int b = 0; b < COVERAGE_BASES; b++)
        row.pct[b] = 100 * coverage_share(c, (enum coverage_basis)b, false);
    row.pct[3] = 100 * coverage_share(c, COVERAGE_MEASURED, true);
    gaps_text(c, row.gaps, sizeof row.gaps);
    record_row(r, &row);
    json_decref(row.moe);
    json_decref(row.ops);
}

void coverage_report(const struct coverage *c, const char *profile, struct record *r)
{
    record_member_text(r, "version", PEOSIM_VERSION);
    record_member_text(r, "profile", profile);
    record_note(
        r, "share of op time by where its law has its figures from (DeepSeek-V3 layer, FP8)\n");
    record_table(r, &table);
    for (size_t i = 0; i < c->num; i++)
        row_write(&c->rows[i], r);
    record_table_end(r);
    closing_write(c, r);
}
