#include "study/layers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/csv.h"
#include "base/err.h"
#include "base/log.h"
#include "calib/read_peo.h"
#include "study/evaluate.h"

enum { MAX_BYTES = 1 << 22, DRAWS = 4 };

static const char *const columns[] = {"shape", "hidden",          "inter",    "experts",    "topk",
                                      "ep",    "tokens_per_rank", "schedule", "num_rounds", "sms",
                                      "us"};

static bool has_columns(const struct csv *csv)
{
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        if (csv_col(csv, columns[i]) < 0)
            return false;
    return csv->num_cols == (int)(sizeof columns / sizeof *columns);
}

bool layers_matches(const char *path)
{
    struct csv *csv = NULL;
    bool found = strstr(path, "layers") && csv_read(path, MAX_BYTES, &csv) == 0 && has_columns(csv);

    csv_free(csv);
    return found;
}

/* A cell as a number, -1 and a word on stderr where it is none. */
static double number(const struct csv *csv, size_t row, const char *col)
{
    double x;

    if (csv_double(csv, row, csv_col(csv, col), &x) == 0 && x >= 0)
        return x;
    log_error_at(csv->path, csv->line[row], "%s '%s' is no number", col,
                 csv_at(csv, row, csv_col(csv, col)));
    return -1;
}

static int model_of(const struct csv *csv, size_t row, struct moe_model **out)
{
    char text[512];
    int n =
        snprintf(text, sizeof text,
                 "{\"model_type\": \"qwen3_moe\", \"hidden_size\": %.0f, \"intermediate_size\": "
                 "%.0f, \"moe_intermediate_size\": %.0f, \"num_experts\": %.0f, "
                 "\"num_experts_per_tok\": %.0f, \"num_hidden_layers\": 1, "
                 "\"num_attention_heads\": 8, \"num_key_value_heads\": 8, \"head_dim\": 128, "
                 "\"vocab_size\": 1024}",
                 number(csv, row, "hidden"), number(csv, row, "inter"), number(csv, row, "inter"),
                 number(csv, row, "experts"), number(csv, row, "topk"));

    return moe_model_parse(text, (size_t)n, csv->path, out);
}

struct layer_case {
    struct evaluator *e;
    struct scenario s;
    const struct policy *policy;
    struct knobs knobs;
    const char *part; /* "" = the layer, else which kernels of it */
};

static bool in_part(const char *part, enum plan_op_kind kind)
{
    bool comm = plan_op_kind_class(kind) == OP_CLASS_COMM;

    return strcmp(part, "dispatch+combine") == 0 ? comm : !comm && kind != OP_ROUTER;
}

/* From the first dispatch of the layer on, or the sum of a part's kernels and the gaps between. */
static double simulated_ns(const struct layer_case *c, const struct plan *plan,
                           const struct trace *trace, double layer_ns, double gap_ns)
{
    double first = layer_ns, sum = 0;
    int parts = 0;

    for (size_t i = 0; i < trace->num_spans; i++) {
        const struct trace_span *s = &trace->spans[i];
        enum plan_op_kind kind = plan->ops[s->op].kind;

        if (plan_op_kind_class(kind) == OP_CLASS_COMM)
            first = fmin(first, s->start_ns);
        if (s->rank == 0 && in_part(c->part, kind)) {
            sum += s->end_ns - s->start_ns + (parts ? gap_ns : 0);
            parts++;
        }
    }
    return *c->part ? sum : layer_ns - first;
}

static int predict_draws(struct layer_case *c, double *us)
{
    double sum = 0;
    int err = 0;

    for (c->s.draw = 0; c->s.draw < DRAWS && !err; c->s.draw++) {
        struct evaluation ev;
        struct trace *trace = NULL;
        struct plan *plan = NULL;

        err = evaluate_point(c->e, &c->s, c->policy, &c->knobs, -1, &ev, &trace, &plan);
        if (!err)
            sum += simulated_ns(c, plan, trace, ev.layer_us * 1e3,
                                hw_value(evaluate_profile(c->e), HW_LAUNCH_GRAPH_GAP_US) * 1e3);
        trace_free(trace);
        plan_free(plan);
    }
    *us = sum / DRAWS / 1e3;
    return err;
}

static bool case_of(const struct layers_row *row, struct layer_case *c)
{
    int method = peo_schedule(row->schedule);

    c->part = "";
    c->policy = method > 0 ? &policy_peo : &policy_none;
    knobs_default(c->policy, &c->knobs);
    c->knobs.shared_expert = SHARED_LEFT_OUT;
    c->knobs.overlap_method = method;
    c->knobs.num_rounds = row->num_rounds;
    c->knobs.num_sms = row->sms;
    if (method >= 0)
        return true;
    c->part = row->schedule;
    return row->num_rounds == 0 && row->sms == 132 &&
           (!strcmp(row->schedule, "ffn_only") || !strcmp(row->schedule, "dispatch+combine"));
}

static int predict_row(struct evaluator *e, const struct csv *csv, size_t i, const char *profile,
                       struct layers_row *row)
{
    struct layer_case c = {.e = e};
    char name[32];
    int err = opt_set_defaults(scenario_options, &c.s);

    if (err || !case_of(row, &c))
        return err;
    snprintf(name, sizeof name, "%d", (int)number(csv, i, "ep"));
    err = opt_set(scenario_options, &c.s, "cluster.gpus_per_node", name, csv->path, row->line);
    if (!err)
        err = opt_set(scenario_options, &c.s, "cluster.nodes", "1", csv->path, row->line);
    if (!err)
        err = opt_set(scenario_options, &c.s, "cluster.profile", profile, csv->path, row->line);
    if (!err)
        err = opt_set(scenario_options, &c.s, "model", csv_at(csv, i, csv_col(csv, "shape")),
                      csv->path, row->line);
    c.s.batch = row->tokens;
    c.s.max_dispatch_tokens =
        row->tokens > c.s.max_dispatch_tokens ? row->tokens : c.s.max_dispatch_tokens;
    if (!err)
        err = predict_draws(&c, &row->predicted_us);
    scenario_free(&c.s);
    return err;
}

static int read_row(const struct csv *csv, size_t i, struct layers_row *row)
{
    double tokens = number(csv, i, "tokens_per_rank"), rounds = number(csv, i, "num_rounds");
    double sms = number(csv, i, "sms"), us = number(csv, i, "us");

    if (tokens < 0 || rounds < 0 || sms < 0 || us < 0)
        return ERR_DATA;
    *row = (struct layers_row){.line = csv->line[i],
                               .tokens = (int)tokens,
                               .num_rounds = (int)rounds,
                               .sms = (int)sms,
                               .measured_us = us,
                               .predicted_us = NAN};
    snprintf(row->schedule, sizeof row->schedule, "%.23s",
             csv_at(csv, i, csv_col(csv, "schedule")));
    row->overlaps = peo_schedule(row->schedule) > 0;
    return 0;
}

static void gains(struct layers *l)
{
    for (size_t i = 0; i < l->num; i++)
        for (size_t j = 0; j < l->num && l->rows[i].overlaps; j++) {
            struct layers_row *row = &l->rows[i];
            const struct layers_row *none = &l->rows[j];

            if (peo_schedule(none->schedule) != 0 || none->tokens != row->tokens)
                continue;
            row->measured_gain_pct = (none->measured_us / row->measured_us - 1) * 100;
            row->predicted_gain_pct = (none->predicted_us / row->predicted_us - 1) * 100;
            l->schedules++;
            l->false_gains += row->predicted_gain_pct > 0 && row->measured_gain_pct <= 0;
            l->false_losses += row->predicted_gain_pct <= 0 && row->measured_gain_pct > 0;
        }
}

static int errors(struct layers *l)
{
    double *p = malloc(2 * (l->num + 1) * sizeof *p), *m = p + l->num + 1;
    size_t n = 0;

    if (!p)
        return ERR_NOMEM;
    for (size_t i = 0; i < l->num; i++)
        if (isfinite(l->rows[i].predicted_us)) {
            p[n] = l->rows[i].predicted_us;
            m[n++] = l->rows[i].measured_us;
        }
    stats_error_of(p, m, n, &l->err);
    free(p);
    return 0;
}

int layers_predict(const struct hw_profile *profile, const char *path, struct layers *out)
{
    struct moe_model *model = NULL;
    struct evaluator *e = NULL;
    struct csv *csv = NULL;
    int err = csv_read(path, MAX_BYTES, &csv);

    memset(out, 0, sizeof *out);
    if (!err && (!has_columns(csv) || csv->num_rows == 0))
        err = ERR_PARSE;
    if (!err)
        err = evaluator_open(&e);
    if (!err)
        err = model_of(csv, 0, &model);
    if (!err)
        err = evaluator_use_model(e, csv_at(csv, 0, csv_col(csv, "shape")), model);
    if (!err)
        evaluator_use_profile(e, profile);
    out->rows = err ? NULL : calloc(csv->num_rows, sizeof *out->rows);
    if (!err && !out->rows)
        err = ERR_NOMEM;
    for (size_t i = 0; !err && i < csv->num_rows; i++) {
        err = read_row(csv, i, &out->rows[i]);
        out->num += !err;
        if (!err)
            err = predict_row(e, csv, i, profile->name, &out->rows[i]);
    }
    if (!err) {
        gains(out);
        err = errors(out);
    }
    evaluator_close(e);
    csv_free(csv);
    if (err)
        layers_free(out);
    return err;
}

void layers_free(struct layers *l)
{
    free(l->rows);
    memset(l, 0, sizeof *l);
}
