/* peosim why: what the time of one point is made of, op by op, and what the world would have to be
 * like for it to be shorter: each change is simulated. */
#include <stdio.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "report/why.h"

static int answer_print(const struct cli *cli, const struct config *c, const struct why *w)
{
    struct record out;

<<<<<<< HEAD
    record_open(&out, cli->format, stdout);
    why_report(c, w, &out);
    return record_close(&out);
=======
    for (int i = 0; i < c->num_policies; i++)
        any |= c->policies[i].policy != &policy_none;
    if (config_num_points(c) == 1 || !any) {
        *out = (struct grid_point){.scenario = config_num_scenarios(c) - 1};
        config_knobs(c, 0, &out->policy, &out->knobs, &out->entry);
        return 0;
    }
    err = recommend_run(c, jobs, 0, &r);
    best = err ? NULL : recommend_best(r);
    if (!err && !best) {
        log_error_at(c->path, 0, "no policy can run with knobs that the lists allow");
        err = ERR_INFEASIBLE;
    }
    if (!err)
        *out = (struct grid_point){.scenario = best->scenario,
                                   .policy = c->policies[best->best].policy,
                                   .entry = best->best,
                                   .knobs = best->entry[best->best].knobs};
    recommend_free(r);
    return err;
}

static void point_print(const struct config *c, const struct why *w)
{
    char name[24], knobs[256], words[256];

    report_head(c, stdout);
    grid_point_name(&w->point, name, sizeof name);
    report_knob_words(&w->point, knobs, sizeof knobs);
    report_scenario_words(c, w->point.scenario, words, sizeof words);
    printf("%s%s%s %s: %.1f us a layer, %+.1f%% against none (%.1f us); slowest rank %d\n", words,
           *words ? ", " : "", name, knobs, w->point.ev.layer_us, w->point.ev.gain_pct,
           w->point.ev.none_us, w->point.ev.metrics.slowest_rank);
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

static void path_print(const struct why *w)
{
    char words[256];

    part_words(&w->total, words, sizeof words);
    printf("\ncritical path, us per layer: %s\n", words);
    printf("  %-28s %9s %6s  %s\n", "op", "us", "share", "of which");
    for (int i = 0; i < w->num_kinds; i++) {
        const struct why_kind *k = &w->kind[i];

        if (!(k->part.all_us > 0.0005 * w->total.all_us))
            continue;
        part_words(&k->part, words, sizeof words);
        printf("  %-28s %9.1f %5.1f%%  %s\n", plan_op_kind_name(k->kind), k->part.all_us,
               100 * k->part.all_us / w->total.all_us, words);
    }
}

static void ops_print(const struct why *w)
{
    printf("\nops of rank %d: on the path, and by how much each could end later (all ranks: the "
           "least slack)\n  %-28s %-8s %9s %9s %9s %9s %9s\n",
           w->point.ev.metrics.slowest_rank, "op", "stream", "start us", "end us", "on path",
           "slack", "all ranks");
    for (int i = 0; i < w->num_ops && i < ROWS_MAX; i++) {
        const struct why_op *o = &w->op[i];

        printf("  %-28s %-8s %9.1f %9.1f %9.1f %9.1f %9.1f\n", o->label, o->stream, o->start_us,
               o->end_us, o->path_us, o->slack_us, o->least_slack_us);
    }
    if (w->num_ops > ROWS_MAX)
        printf("  ... and %d more: --json\n", w->num_ops - ROWS_MAX);
}

static void fixes_print(const struct why *w)
{
    printf("\nwhat each change would be worth, each simulated (policy and knobs as they are)\n"
           "  %-34s %9s %9s %9s  %s\n",
           "", "saves us", "layer us", "gain", "against none in that world");
    for (int i = 0; i < w->num_fixes; i++) {
        const struct why_fix *f = &w->fix[i];

        if (f->possible)
            printf("  %-34s %9.1f %9.1f %+8.1f%%  %.1f us\n", f->name, f->saves_us, f->layer_us,
                   f->gain_pct, f->none_us);
        else
            printf("  %-34s %9s %9s %9s  cannot run\n", f->name, "-", "-", "-");
    }
    printf("One fused kernel (DeepGEMM's MegaMoE) is the policy mega: --set policies=none,mega.\n");
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

static int json_print(const struct config *c, const struct why *w)
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
    text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    if (text)
        printf("%s\n", text);
    free(text);
    json_decref(root);
    return text ? 0 : ERR_NOMEM;
}

static void csv_print(const struct why *w)
{
    printf("change,saves_us,layer_us,none_us,gain_pct\n");
    for (int i = 0; i < w->num_fixes; i++)
        if (w->fix[i].possible)
            printf("%s,%.6g,%.6g,%.6g,%.6g\n", w->fix[i].name, w->fix[i].saves_us,
                   w->fix[i].layer_us, w->fix[i].none_us, w->fix[i].gain_pct);
}

/* Terms are told of a layer by itself: a policy measured over several layers has no such steps. */
static int terms(const struct config *c, const struct why *w)
{
    struct evaluator *e = NULL;
    struct scenario s;
    struct terms t;
    char name[24];
    int err;

    if (w->point.policy == &policy_none || w->point.policy->spans_layers)
        return 0;
    err = config_scenario(c, w->point.scenario, &s);
    if (err)
        return err;
    err = evaluator_open(&e);
    if (!err)
        err = terms_of(e, &s, w->point.policy, &w->point.knobs, &t);
    if (!err) {
        grid_point_name(&w->point, name, sizeof name);
        printf("\n");
        terms_print(&t, name, stdout);
    }
    evaluator_close(e);
    scenario_free(&s);
    return err;
}

/* The changes as bars, the one that saves most on top. */
static int fixes_draw(const struct cli *cli, const struct config *c, const struct why *w)
{
    struct bar bars[WHY_MAX_FIXES];
    char name[24], title[160], folder[512];
    int n = 0;

    cli_folder(cli, c->name, folder, sizeof folder);
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
    return bars_write(folder, !cli->no_plots, "why", title, "microseconds saved per layer", bars,
                      n);
>>>>>>> f6637d71c3858cd624bb75ef453d085e0573a408
}

static int explain(const struct cli *cli)
{
    struct config *c = NULL;
    struct why *w = NULL;
    struct grid_point point;
    char folder[512];
    int err = config_read(cli->words[0], cli->sets, (size_t)cli->num_sets, &c);

    if (err)
        return err;
    cli_folder(cli, c->name, folder, sizeof folder);
    err = why_find(c, cli_jobs(cli), &point);
    if (!err)
        err = why_run(c, &point, cli_jobs(cli), &w);
    if (!err)
        err = answer_print(cli, c, w);
    if (!err)
        err = why_report_bars(w, folder, !cli->no_plots);
    why_free(w);
    config_free(c);
    return err;
}

int cmd_why(int argc, char **argv)
{
    struct cli cli = {0};
    int err = cli_parse_config(&cli, argc, argv, NULL, NULL);

    if (!err && !cli.help)
        err = explain(&cli);
    cli_free(&cli);
    return err;
}