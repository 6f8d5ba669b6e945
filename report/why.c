#include "report/why.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/version.h"
#include "report/bars.h"
#include "report/report.h"

/* Rows of the table of ops; --json has them all. */
enum { ROWS_MAX = 24 };
/* What the bound is made of. */
static void bound_write(const struct grid_point *p, struct record *r)
{
    static const char *const body[BOUND_BY_COUNT] = {
        [BOUND_SMS] = "expert work on its SMs",
        [BOUND_NIC_OUT] = "bytes out of its NIC",
        [BOUND_NIC_IN] = "bytes into its NIC",
        [BOUND_NVLINK_OUT] = "bytes out over NVLink",
        [BOUND_NVLINK_IN] = "bytes in over NVLink",
        [BOUND_ALL_SMS] = "work on the SMs",
        [BOUND_PHYSICAL] = "FLOPs and bytes at nominal rates",
    };
    const struct bound *b = &p->bound;
    char rank[32] = "";

    if (!(b->us > 0))
        return;
    if (b->rank >= 0)
        snprintf(rank, sizeof rank, "rank %d: ", b->rank);
    record_note(r,
                "any schedule of these kernels: %.1f us or more, this one is within %.1f%%\n"
                "  of which %s%.1f before, %.1f %s, %.1f after (docs/bound.md)\n",
                b->us, bound_gap_pct(b, p->ev.layer_us), rank, b->head_us, b->body_us, body[b->by],
                b->tail_us);
}

static void point_write(const struct config *c, const struct why *w, struct record *r)
{
    char name[24], knobs[256], words[256];

    report_title(c, r);
    grid_point_name(&w->point, name, sizeof name);
    report_knob_words(&w->point, knobs, sizeof knobs);
    report_scenario_words(c, w->point.scenario, words, sizeof words);
    record_note(r, "%s%s%s %s: %.1f us a layer, %+.1f%% against none (%.1f us); slowest rank %d\n",
                words, *words ? ", " : "", name, knobs, w->point.ev.layer_us, w->point.ev.gain_pct,
                w->point.ev.none_us, w->point.ev.metrics.slowest_rank);
    if (w->point.ev.moe_us > 0)
        record_note(r, "its MoE part alone: %.1f us, %+.1f%%\n", w->point.ev.moe_us,
                    w->point.ev.moe_gain_pct);
    bound_write(&w->point, r);
}

/* "nic 30.1, sm 12.0": parts of a time, the largest first, those under 1% of it left out. */
static void part_words(const struct why_part *p, char *buf, size_t size)
{
    double part[WHY_PARTS];
    size_t at = 0;

    memcpy(part, p->us, sizeof part);
    buf[0] = '\0';
    for (int n = 0; n < WHY_PARTS && at < size; n++) {
        int top = 0;

        for (int i = 1; i < WHY_PARTS; i++)
            if (part[i] > part[top])
                top = i;
        if (part[top] < 0.01 * p->all_us || part[top] <= 0)
            return;
        at += (size_t)snprintf(buf + at, size - at, "%s%s %.1f", n ? ", " : "", why_part_name(top),
                               part[top]);
        part[top] = -1;
    }
}

struct path_row {
    const char *op;
    double us, share;
    char words[256];
};

static void path_write(const struct why *w, struct record *r)
{
    static const struct record_column columns[] = {
        {.head = "op",
         .type = RECORD_WORDS,
         .offset = offsetof(struct path_row, op),
         .width = -28,
         .views = RECORD_PEOPLE},
        {.head = "us",
         .type = RECORD_REAL,
         .offset = offsetof(struct path_row, us),
         .width = 9,
         .digits = 1,
         .views = RECORD_PEOPLE},
        {.head = "share",
         .type = RECORD_REAL,
         .offset = offsetof(struct path_row, share),
         .width = 6,
         .digits = 1,
         .unit = "%",
         .views = RECORD_PEOPLE},
        {.head = "of which",
         .offset = offsetof(struct path_row, words),
         .wide = true,
         .views = RECORD_PEOPLE},
    };
    static const struct record_table table = {"path", RECORD_PEOPLE, columns,
                                              sizeof columns / sizeof *columns};
    char words[256];

    part_words(&w->total, words, sizeof words);
    record_note(r, "\ncritical path, us per layer: %s\n", words);
    record_table(r, &table);
    for (int i = 0; i < w->num_kinds; i++) {
        const struct why_kind *k = &w->kind[i];
        struct path_row row = {.op = plan_op_kind_name(k->kind),
                               .us = k->part.all_us,
                               .share = 100 * k->part.all_us / w->total.all_us};

        if (!(k->part.all_us > 0.0005 * w->total.all_us))
            continue;
        part_words(&k->part, row.words, sizeof row.words);
        record_row(r, &row);
    }
    record_table_end(r);
}

#define OP_REAL(name, text)                                                                        \
    {                                                                                              \
        .key = #name, .head = text, .type = RECORD_REAL, .offset = offsetof(struct why_op, name),  \
        .width = 9, .digits = 1, .views = RECORD_PEOPLE | RECORD_NESTED                            \
    }

static void ops_write(const struct why *w, struct record *r)
{
    static const struct record_column columns[] = {
        {.key = "op",
         .head = "op",
         .offset = offsetof(struct why_op, label),
         .width = -28,
         .views = RECORD_PEOPLE | RECORD_NESTED},
        {.key = "stream",
         .head = "stream",
         .offset = offsetof(struct why_op, stream),
         .width = -8,
         .views = RECORD_PEOPLE | RECORD_NESTED},
        OP_REAL(start_us, "start us"),
        OP_REAL(end_us, "end us"),
        OP_REAL(path_us, "on path"),
        OP_REAL(slack_us, "slack"),
        OP_REAL(least_slack_us, "all ranks"),
    };
    static const struct record_table table = {"ops", RECORD_PEOPLE | RECORD_NESTED, columns,
                                              sizeof columns / sizeof *columns};
    int most = record_is_for(r, RECORD_PEOPLE) && w->num_ops > ROWS_MAX ? ROWS_MAX : w->num_ops;

    record_note(r,
                "\nops of rank %d: on the path, and by how much each could end later (all ranks: "
                "the least slack)\n",
                w->point.ev.metrics.slowest_rank);
    record_table(r, &table);
    for (int i = 0; i < most; i++)
        record_row(r, &w->op[i]);
    record_table_end(r);
    if (most < w->num_ops)
        record_note(r, "  ... and %d more: --json\n", w->num_ops - most);
}

#define FIX_REAL(name, text, ...)                                                                  \
    {                                                                                              \
        .key = #name, .head = text, .type = RECORD_REAL, .offset = offsetof(struct why_fix, name), \
        .width = 9, .digits = 1, __VA_ARGS__                                                       \
    }

static void fixes_write(const struct why *w, struct record *r)
{
    static const struct record_column columns[] = {
        {.key = "change",
         .head = "",
         .type = RECORD_WORDS,
         .offset = offsetof(struct why_fix, name),
         .width = -34,
         .views = RECORD_ALL},
        FIX_REAL(saves_us, "saves us", .views = RECORD_ALL),
        FIX_REAL(layer_us, "layer us", .views = RECORD_ALL),
        FIX_REAL(none_us, NULL, .views = RECORD_DATA),
        FIX_REAL(gain_pct, "gain", .plus = true, .unit = "%", .views = RECORD_ALL),
        {.head = "against none in that world",
         .type = RECORD_REAL,
         .offset = offsetof(struct why_fix, none_us),
         .digits = 1,
         .unit = " us",
         .wide = true,
         .views = RECORD_PEOPLE},
    };
    static const struct record_table table = {"changes", RECORD_ALL, columns,
                                              sizeof columns / sizeof *columns};

    record_note(r, "\nwhat each change would be worth, each simulated (policy and knobs as they "
                   "are)\n");
    record_table(r, &table);
    for (int i = 0; i < w->num_fixes; i++)
        if (w->fix[i].possible)
            record_row(r, &w->fix[i]);
        else
            record_note(r, "  %-34s %9s %9s %9s  cannot run\n", w->fix[i].name, "-", "-", "-");
    record_table_end(r);
    if (w->point.policy != &policy_mega)
        record_note(r, "One fused kernel (DeepGEMM's MegaMoE) is the policy mega: "
                       "--set policies=none,mega.\n");
}

static json_t *part_json(const struct why_part *p)
{
    json_t *out = json_object();

    for (int i = 0; i < WHY_PARTS; i++)
        json_object_set_new(out, why_part_name(i), json_real(p->us[i]));
    return out;
}

static void members_write(const struct config *c, const struct why *w, struct record *r)
{
    json_t *knobs = json_object();
    char words[256];

    report_scenario_words(c, w->point.scenario, words, sizeof words);
    report_knobs_json(&w->point, knobs);
    record_member_text(r, "version", PEOSIM_VERSION);
    record_member_text(r, "config", c->path);
    record_member_text(r, "config_hash", c->hash);
    record_member_text(r, "scenario", words);
    record_member_text(r, "policy", w->point.policy->name);
    record_member(r, "knobs", knobs);
    record_member(r, "layer_us", json_real(w->point.ev.layer_us));
    record_member(r, "none_us", json_real(w->point.ev.none_us));
    record_member(r, "gain_pct", json_real(w->point.ev.gain_pct));
    if (w->point.bound.us > 0) {
        record_member(r, "lower_bound_us", json_real(w->point.bound.us));
        record_member_text(r, "bound_by", bound_by_name(w->point.bound.by));
        record_member(r, "bound_parts_us",
                      json_pack("{s:f,s:f,s:f}", "head", w->point.bound.head_us, "body",
                                w->point.bound.body_us, "tail", w->point.bound.tail_us));
        record_member(r, "physical_bound_us", json_real(w->point.bound.physical_us));
    }
    record_member(r, "slowest_rank", json_integer(w->point.ev.metrics.slowest_rank));
    record_member(r, "critical_path_us", part_json(&w->total));
}

static void terms_write(const struct terms *t, const char *name, struct record *r)
{
    record_note(r, "\nwhat %s costs and hides, us of a layer (none %.1f)\n", name, t->none_us);
    record_note(
        r,
        "  cutting into pieces   %+9.1f   dispatch %+.1f, experts %+.1f, combine %+.1f, other "
        "kernels %+.1f, launches and waits %+.1f\n",
        t->pieces_us - t->none_us, t->pieces_of_us[TERMS_DISPATCH], t->pieces_of_us[TERMS_EXPERTS],
        t->pieces_of_us[TERMS_COMBINE], t->pieces_of_us[TERMS_OTHER], t->pieces_launch_us);
    record_note(r, "  sharing the SMs       %+9.1f\n", t->shared_us - t->pieces_us);
    record_note(r, "  running side by side  %+9.1f   of which blocked CTAs take back %.1f\n",
                t->layer_us - t->shared_us, t->blocked_us);
    record_note(r, "  together              %+9.1f   %.1f us, %+.1f%% against none\n",
                t->layer_us - t->none_us, t->layer_us, 100 * (t->none_us / t->layer_us - 1));
}

void why_report(const struct config *c, const struct why *w, struct record *r)
{
    char name[24];

    if (record_is_for(r, RECORD_PEOPLE))
        point_write(c, w, r);
    members_write(c, w, r);
    path_write(w, r);
    ops_write(w, r);
    if (w->has_terms) {
        grid_point_name(&w->point, name, sizeof name);
        terms_write(&w->terms, name, r);
    }
    fixes_write(w, r);
    record_member_text(r, "basis", report_basis_name(c));
    if (w->point.ev.moe_us > 0) {
        record_member(r, "moe_us", json_real(w->point.ev.moe_us));
        record_member(r, "moe_gain_pct", json_real(w->point.ev.moe_gain_pct));
    }
}

/* The changes as bars, the one that saves most on top. */
int why_report_bars(const struct why *w, const char *folder, bool draw)
{
    struct bar bars[WHY_MAX_FIXES];
    char name[24], title[160];
    int n = 0;

    for (int i = 0; i < w->num_fixes; i++) {
        const struct why_fix *f = &w->fix[i];

        if (!f->possible)
            continue;
        snprintf(bars[n].label, sizeof bars[n].label, "%s", f->name);
        bars[n].value = bars[n].low = bars[n].high = f->saves_us;
        n++;
    }
    grid_point_name(&w->point, name, sizeof name);
    snprintf(title, sizeof title, "%s: what each change would save of %.1f us", name,
             w->point.ev.layer_us);
    return bars_write(folder, draw, "why", title, "microseconds saved per layer", bars, n);
}
