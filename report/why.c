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
static void point_print(const struct config *c, const struct why *w, FILE *f)
{
    char name[24], knobs[256], words[256];

    report_head(c, f);
    report_basis(c, true, f);
    grid_point_name(&w->point, name, sizeof name);
    report_knob_words(&w->point, knobs, sizeof knobs);
    report_scenario_words(c, w->point.scenario, words, sizeof words);
    fprintf(f, "%s%s%s %s: %.1f us a layer, %+.1f%% against none (%.1f us); slowest rank %d\n",
            words, *words ? ", " : "", name, knobs, w->point.ev.layer_us, w->point.ev.gain_pct,
            w->point.ev.none_us, w->point.ev.metrics.slowest_rank);
    if (w->point.ev.moe_us > 0)
        fprintf(f, "its MoE part alone: %.1f us, %+.1f%%\n", w->point.ev.moe_us,
                w->point.ev.moe_gain_pct);
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

static void path_print(const struct why *w, FILE *f)
{
    char words[256];

    part_words(&w->total, words, sizeof words);
    fprintf(f, "\ncritical path, us per layer: %s\n", words);
    fprintf(f, "  %-28s %9s %6s  %s\n", "op", "us", "share", "of which");
    for (int i = 0; i < w->num_kinds; i++) {
        const struct why_kind *k = &w->kind[i];

        if (!(k->part.all_us > 0.0005 * w->total.all_us))
            continue;
        part_words(&k->part, words, sizeof words);
        fprintf(f, "  %-28s %9.1f %5.1f%%  %s\n", plan_op_kind_name(k->kind), k->part.all_us,
                100 * k->part.all_us / w->total.all_us, words);
    }
}

static void ops_print(const struct why *w, FILE *f)
{
    fprintf(f,
            "\nops of rank %d: on the path, and by how much each could end later (all ranks: the "
            "least slack)\n  %-28s %-8s %9s %9s %9s %9s %9s\n",
            w->point.ev.metrics.slowest_rank, "op", "stream", "start us", "end us", "on path",
            "slack", "all ranks");
    for (int i = 0; i < w->num_ops && i < ROWS_MAX; i++) {
        const struct why_op *o = &w->op[i];

        fprintf(f, "  %-28s %-8s %9.1f %9.1f %9.1f %9.1f %9.1f\n", o->label, o->stream, o->start_us,
                o->end_us, o->path_us, o->slack_us, o->least_slack_us);
    }
    if (w->num_ops > ROWS_MAX)
        fprintf(f, "  ... and %d more: --json\n", w->num_ops - ROWS_MAX);
}

static void fixes_print(const struct why *w, FILE *f)
{
    fprintf(f,
            "\nwhat each change would be worth, each simulated (policy and knobs as they are)\n"
            "  %-34s %9s %9s %9s  %s\n",
            "", "saves us", "layer us", "gain", "against none in that world");
    for (int i = 0; i < w->num_fixes; i++) {
        const struct why_fix *x = &w->fix[i];

        if (x->possible)
            fprintf(f, "  %-34s %9.1f %9.1f %+8.1f%%  %.1f us\n", x->name, x->saves_us, x->layer_us,
                    x->gain_pct, x->none_us);
        else
            fprintf(f, "  %-34s %9s %9s %9s  cannot run\n", x->name, "-", "-", "-");
    }
    fprintf(
        f, "A fused mega-kernel is not simulated: its schedule inside one kernel is not public.\n");
}

static json_t *part_json(const struct why_part *p)
{
    json_t *out = json_object();

    for (int i = 0; i < WHY_PARTS; i++)
        json_object_set_new(out, why_part_name(i), json_real(p->us[i]));
    return out;
}

static json_t *ops_json(const struct why *w)
{
    json_t *out = json_array();

    for (int i = 0; i < w->num_ops; i++) {
        const struct why_op *o = &w->op[i];

        json_array_append_new(out, json_pack("{s:s,s:s,s:f,s:f,s:f,s:f,s:f}", "op", o->label,
                                             "stream", o->stream, "start_us", o->start_us, "end_us",
                                             o->end_us, "path_us", o->path_us, "slack_us",
                                             o->slack_us, "least_slack_us", o->least_slack_us));
    }
    return out;
}

static json_t *fixes_json(const struct why *w)
{
    json_t *out = json_array();

    for (int i = 0; i < w->num_fixes; i++) {
        const struct why_fix *f = &w->fix[i];

        if (f->possible)
            json_array_append_new(out, json_pack("{s:s,s:f,s:f,s:f,s:f}", "change", f->name,
                                                 "saves_us", f->saves_us, "layer_us", f->layer_us,
                                                 "none_us", f->none_us, "gain_pct", f->gain_pct));
    }
    return out;
}

int why_report_json(const struct config *c, const struct why *w, FILE *f)
{
    json_t *knobs = json_object(), *root;
    char words[256], *text;

    report_scenario_words(c, w->point.scenario, words, sizeof words);
    report_knobs_json(&w->point, knobs);
    root =
        json_pack("{s:s,s:s,s:s,s:s,s:s,s:o,s:f,s:f,s:f,s:i,s:o,s:o,s:o}", "version",
                  PEOSIM_VERSION, "config", c->path, "config_hash", c->hash, "scenario", words,
                  "policy", w->point.policy->name, "knobs", knobs, "layer_us", w->point.ev.layer_us,
                  "none_us", w->point.ev.none_us, "gain_pct", w->point.ev.gain_pct, "slowest_rank",
                  w->point.ev.metrics.slowest_rank, "critical_path_us", part_json(&w->total), "ops",
                  ops_json(w), "changes", fixes_json(w));
    if (root) {
        json_object_set_new(root, "basis", json_string(report_basis_name(c)));
        report_moe_json(&w->point.ev, root);
    }
    text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    if (text)
        fprintf(f, "%s\n", text);
    free(text);
    json_decref(root);
    return text ? 0 : ERR_NOMEM;
}

void why_report_csv(const struct why *w, FILE *f)
{
    fprintf(f, "change,saves_us,layer_us,none_us,gain_pct\n");
    for (int i = 0; i < w->num_fixes; i++)
        if (w->fix[i].possible)
            fprintf(f, "%s,%.6g,%.6g,%.6g,%.6g\n", w->fix[i].name, w->fix[i].saves_us,
                    w->fix[i].layer_us, w->fix[i].none_us, w->fix[i].gain_pct);
}

static void terms_print(const struct terms *t, const char *name, FILE *f)
{
    fprintf(f, "what %s costs and hides, us of a layer (none %.1f)\n", name, t->none_us);
    fprintf(f,
            "  cutting into pieces   %+9.1f   dispatch %+.1f, experts %+.1f, combine %+.1f, other "
            "kernels %+.1f, launches and waits %+.1f\n",
            t->pieces_us - t->none_us, t->pieces_of_us[TERMS_DISPATCH],
            t->pieces_of_us[TERMS_EXPERTS], t->pieces_of_us[TERMS_COMBINE],
            t->pieces_of_us[TERMS_OTHER], t->pieces_launch_us);
    fprintf(f, "  sharing the SMs       %+9.1f\n", t->shared_us - t->pieces_us);
    fprintf(f, "  running side by side  %+9.1f   of which blocked CTAs take back %.1f\n",
            t->layer_us - t->shared_us, t->blocked_us);
    fprintf(f, "  together              %+9.1f   %.1f us, %+.1f%% against none\n",
            t->layer_us - t->none_us, t->layer_us, 100 * (t->none_us / t->layer_us - 1));
}

void why_report_table(const struct config *c, const struct why *w, FILE *f)
{
    char name[24];

    point_print(c, w, f);
    path_print(w, f);
    ops_print(w, f);
    if (w->has_terms) {
        grid_point_name(&w->point, name, sizeof name);
        fprintf(f, "\n");
        terms_print(&w->terms, name, f);
    }
    fixes_print(w, f);
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
