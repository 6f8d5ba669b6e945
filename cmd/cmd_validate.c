/* peosim validate: runs the plans of a configuration on the GPUs of this machine and holds the
 * prediction against them. The ranks are processes of their own that build plans and never see a
 * prediction; those are made here, after everything has been measured. */
#include "cmd/cmd_validate.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "report/plot.h"
#include "report/validate.h"
#include "trace/chrome.h"
#include "trace/csv.h"
#include "trace/log.h"
#include "validate/gpu.h"
#include "validate/shape.h"

/* For one point: its check against the reference, and its replays. */
#define PATIENCE_S        180.0
#define PATIENCE_REPLAY_S 0.15

struct validate_args {
    int repeats, layers, check_tokens, check_replays, gpus;
    double pace_GBps, pace_us, delay_us;
    bool cupti, experimental_gin, resume;
    char *measured, *plan;
};

#define FIELD(name) .key = #name, .offset = offsetof(struct validate_args, name)
const struct opt validate_options[] = {
    {FIELD(repeats), .type = OPT_INT, .min = 3, .max = 10000, .def = "30",
     .help = "samples of a layer's time"},
    {FIELD(layers), .type = OPT_INT, .min = 2, .max = 64, .def = "4",
     .help = "layers in one CUDA graph"},
    {FIELD(check_tokens), .type = OPT_INT, .min = 0, .max = 65536, .def = "16",
     .help = "tokens per rank compared with the reference; 0 = all"},
    {FIELD(check_replays), .type = OPT_INT, .min = 0, .max = 1000000, .def = "0",
     .help = "test: so many more replays, every output compared bit by bit"},
    {FIELD(delay_us), .type = OPT_DOUBLE, .min = 0, .max = 1e5, .def = "0", .unit = "us",
     .help = "test: random delays of up to so much in every CTA of dispatch and combine"},
    {FIELD(gpus), .type = OPT_INT, .min = 0, .max = 64, .def = "0",
     .help = "GPUs, one process each; 0 = as many as ranks; fewer emulate the group (slice mode)"},
    {FIELD(pace_GBps), .type = OPT_DOUBLE, .min = 0, .max = 1e6, .def = "0", .unit = "GB/s",
     .help = "hold receives back as a network of this rate would: emulation; 0 = off"},
    {FIELD(pace_us), .type = OPT_DOUBLE, .min = 0, .max = 1e6, .def = "5", .unit = "us",
     .help = "latency of that network"},
    {FIELD(experimental_gin), .type = OPT_BOOL, .def = "false", .help = GPU_GIN_HELP},
    {FIELD(cupti), .type = OPT_BOOL, .def = "true",
     .help = "time library kernels with CUPTI where it is installed; else from their neighbours"},
    {FIELD(resume), .type = OPT_BOOL, .def = "false",
     .help = "go on from the points that an interrupted run left in the results folder"},
    {FIELD(measured), .type = OPT_STRING,
     .help = "a results folder of an earlier run: compare with it and its timelines, run nothing"},
    {FIELD(plan), .type = OPT_STRING, .help = "a plan file: its schedule is one more point"},
    {.key = NULL},
};

/* What rank 0 sends: one head, then its spans. index SIZE_MAX: the machine's versions. */
struct message {
    size_t index, num_spans;
    struct gpu_result gpu;
    char versions[256];
};

struct context {
    struct cli *cli;
    struct validate_args *args;
    struct config *config;
    struct evaluator *evaluator;
    unsigned char *skip;
    struct validate_set set;
    char folder[512];
    size_t to_run, run; /* points that this run measures; that it has */
};

#define KEY_FILE "measured-as.txt"

static int keep(struct context *x, struct validate_point *p);

static void point_of(const struct context *x, size_t index, struct validate_point *p)
{
    size_t per = config_num_points_per_scenario(x->config);
    int entry;

    memset(p, 0, sizeof *p);
    p->index = index;
    p->scenario = index / per;
    config_knobs(x->config, index % per, &p->policy, &p->knobs, &entry);
}

/* --- a rank ------------------------------------------------------------------------------------
 */

static int largest_batch(const struct context *x, int *out)
{
    int err = 0;

    *out = 1;
    for (size_t i = 0; !err && i < config_num_scenarios(x->config); i++) {
        struct scenario s;

        err = config_scenario(x->config, i, &s);
        if (!err && s.batch > *out)
            *out = s.batch;
        if (!err)
            scenario_free(&s);
    }
    return err;
}

static int result_send(struct gpu_team *team, size_t index, const struct gpu_result *result,
                       const struct trace *trace)
{
    size_t spans = trace ? trace->num_spans : 0, bytes = sizeof(struct message);
    char *buf = calloc(1, bytes + spans * sizeof *trace->spans);
    struct message head = {.index = index, .num_spans = spans, .gpu = *result};
    int err;

    if (!buf)
        return ERR_NOMEM;
    memcpy(buf, &head, sizeof head);
    if (spans)
        memcpy(buf + bytes, trace->spans, spans * sizeof *trace->spans);
    err = gpu_team_send(team, buf, bytes + spans * sizeof *trace->spans);
    free(buf);
    return err;
}

static int rank_point(struct context *x, struct gpu_session *session, struct gpu_team *team,
                      size_t index, struct gpu_options o)
{
    struct validate_point p;
    struct scenario s;
    struct plan *plan = NULL;
    struct trace *trace = NULL;
    struct gpu_result result = {0};
    int err;

    point_of(x, index, &p);
    err = config_scenario(x->config, p.scenario, &s);
    if (err)
        return err;
    o.eager = s.eager;
    o.seed = (uint64_t)s.seed;
    err = evaluate_plan(x->evaluator, &s, p.policy, &p.knobs, &plan);
    if (!err)
        err = gpu_session_run(session, plan, &o, &result, &trace);
    if (!err && team->rank == 0)
        err = result_send(team, index, &result, trace);
    if (err == ERR_UNSUPPORTED || err == ERR_INFEASIBLE) /* said why; the other points go on */
        err = 0;
    trace_free(trace);
    plan_free(plan);
    scenario_free(&s);
    return err;
}

static int rank_main(struct context *x, struct gpu_team *team)
{
    struct gpu_session *session = NULL;
    struct gpu_options o = {.repeats = x->args->repeats,
                            .layers = x->args->layers,
                            .check_tokens = x->args->check_tokens,
                            .pace_GBps = x->args->pace_GBps,
                            .pace_us = x->args->pace_us,
                            .delay_us = x->args->delay_us,
                            .check_replays = x->args->check_replays,
                            .cupti = x->args->cupti};
    struct message head = {.index = SIZE_MAX};
    int err = largest_batch(x, &o.max_tokens);

    if (!err)
        err = gpu_session_open(&session, team, x->args->experimental_gin);
    if (!err && team->rank == 0) {
        gpu_versions(session, head.versions, sizeof head.versions);
        err = gpu_team_send(team, &head, sizeof head);
    }
    for (size_t i = 0; !err && i < config_num_points(x->config); i++)
        if (!x->skip[i])
            err = rank_point(x, session, team, i, o);
    gpu_session_close(session);
    return err;
}

/* --- the parent --------------------------------------------------------------------------------
 */

static int trace_restore(const struct message *head, const struct trace_span *spans, int ranks,
                         struct trace **out)
{
    struct trace_sink sink;
    int err = trace_new(out, "gpu", ranks);

    if (err)
        return err;
    sink = trace_collect(*out);
    for (size_t i = 0; !err && i < head->num_spans; i++)
        err = sink.span(sink.self, &spans[i]);
    if (!err)
        trace_sort(*out);
    return err;
}

static int result_take(void *self, const void *data, size_t bytes)
{
    struct context *x = self;
    struct validate_point *p;
    struct message head;
    char name[200];
    int err = 0;

    if (bytes < sizeof head)
        return ERR_DATA;
    memcpy(&head, data, sizeof head);
    if (head.index == SIZE_MAX) {
        memcpy(x->set.versions, head.versions, sizeof x->set.versions);
        return 0;
    }
    if (head.index >= x->set.num_points ||
        bytes != sizeof head + head.num_spans * sizeof(struct trace_span))
        return ERR_DATA;
    p = &x->set.point[head.index];
    p->measured = true;
    p->gpu = head.gpu;
    x->run++;
    policy_knobs_text(p->policy, &p->knobs, name, sizeof name);
    if (!x->cli->quiet)
        fprintf(stderr, "measured %zu of %zu: %s %s: %.1f us\n", x->run, x->to_run, p->policy->name,
                name, p->gpu.median_us);
    p->kinds = head.num_spans > 0;
    if (head.num_spans)
        err = trace_restore(
            &head, (const struct trace_span *)(const void *)((const char *)data + sizeof head),
            x->args->gpus, &p->trace);
    return err ? err : keep(x, p);
}

/* As the GPU back end sums them up: mean over ranks, waiting excluded but in fused kernels. */
static void kinds_of(const struct trace *trace, const struct plan *plan, double *us,
                     double *wait_us)
{
    for (int k = 0; k < OP_KIND_COUNT; k++)
        us[k] = wait_us[k] = 0;
    for (size_t i = 0; i < trace->num_spans; i++) {
        const struct trace_span *s = &trace->spans[i];
        enum plan_op_kind kind = plan->ops[s->op].kind;
        double wait = plan_op_sends(kind) && plan_op_recvs(kind) ? 0 : s->wait_ns;

        us[kind] += (s->end_ns - s->start_ns - wait) * 1e-3 / trace->ranks;
        wait_us[kind] += wait * 1e-3 / trace->ranks;
    }
}

static int path_of(const struct context *x, const char *name, char *buf, size_t size)
{
    if ((size_t)snprintf(buf, size, "%s/%s", x->folder, name) < size)
        return 0;
    log_error("%s: the path is too long", x->folder);
    return ERR_RANGE;
}

static int file_write(const struct context *x, const char *name,
                      int (*write)(const void *self, FILE *f), const void *self)
{
    struct file_out f = {0};
    char path[1024];
    int err = path_of(x, name, path, sizeof path);

    if (!err)
        err = file_create(&f, path);
    if (!err)
        err = write(self, f.f);
    if (!err)
        err = file_commit(&f);
    file_abort(&f);
    return err;
}

struct pair {
    const struct trace_log *predicted, *measured;
    const char *title;
};

static int write_pair_chrome(const void *self, FILE *f)
{
    const struct pair *p = self;
    struct trace_chrome c;

    trace_chrome_begin(&c, f, p->title, NULL);
    trace_chrome_add(&c, p->predicted, "predicted");
    trace_chrome_add(&c, p->measured, "measured");
    return trace_chrome_end(&c);
}

/* What plots/compare.gp reads: spans of both, with the trace's name before them. */
static int write_pair_csv(const void *self, FILE *f)
{
    const struct pair *p = self;
    const struct trace_log *log[] = {p->predicted, p->measured};
    static const char *const names[] = {"predicted", "measured"};

    fprintf(f, "trace,");
    trace_csv_header(f);
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < log[i]->num_records; k++) {
            fprintf(f, "%s,", names[i]);
            trace_csv_record(&log[i]->records[k], f);
        }
    return 0;
}

static int write_spans(const void *self, FILE *f)
{
    return trace_csv_write(self, f);
}

static int write_chrome(const void *self, FILE *f)
{
    return trace_chrome_write(self, f, NULL, NULL);
}

static void picture(const struct context *x, const struct pair *pair, const char *stem, int num_sms)
{
    char csv[1200], out[1200], rank[16], sms[16];
    const char *extra[] = {rank, sms, NULL};

    snprintf(csv, sizeof csv, "%s/%s-compare.csv", x->folder, stem);
    snprintf(out, sizeof out, "%s/%s-compare", x->folder, stem);
    snprintf(rank, sizeof rank, "%d", trace_log_slowest_rank(pair->measured));
    snprintf(sms, sizeof sms, "%d", num_sms);
    plot_draw("compare", csv, out, pair->title, extra);
}

static void stem_of(const struct validate_point *p, char *buf, size_t size)
{
    snprintf(buf, size, "%03zu-%s-b%d", p->index, p->policy->name, p->batch);
}

/* The measured timeline: of this run, or the one that an earlier run left. *out stays NULL where
 * there is none. */
static int measured_log(const struct context *x, const struct validate_point *p,
                        const struct plan *plan, struct trace_log **out)
{
    const char *from = p->kept ? x->folder : x->args->measured;
    char stem[64], path[1024];

    if (p->trace)
        return trace_log_of(p->trace, plan, out);
    stem_of(p, stem, sizeof stem);
    snprintf(path, sizeof path, "%s/%s-measured-spans.csv", from ? from : "", stem);
    return from && access(path, R_OK) == 0 ? trace_log_read(path, NULL, out) : 0;
}

static int pair_write(const struct context *x, const struct validate_point *p,
                      const struct trace *predicted, const struct plan *plan, bool draw)
{
    struct trace_log *log[2] = {NULL, NULL};
    char title[256], stem[64], name[96];
    struct pair pair = {.title = title};
    int err = trace_log_of(predicted, plan, &log[0]);

    if (!err)
        err = measured_log(x, p, plan, &log[1]);
    if (err || !log[1])
        goto out;
    pair.predicted = log[0];
    pair.measured = log[1];
    stem_of(p, stem, sizeof stem);
    snprintf(title, sizeof title, "%s%s, batch %d: predicted %.1f us, measured %.1f us",
             x->set.emulation[0] ? "emulation: " : "", p->policy->name, p->batch, p->predicted_us,
             p->gpu.median_us);
    static const struct {
        const char *ending;
        int (*write)(const void *, FILE *);
        int which;
    } files[] = {{"predicted-spans.csv", write_spans, 0}, {"measured-spans.csv", write_spans, 1},
                 {"predicted.json", write_chrome, 0},     {"measured.json", write_chrome, 1},
                 {"merged.json", write_pair_chrome, 2},   {"compare.csv", write_pair_csv, 2}};
    for (size_t i = 0; !err && i < sizeof files / sizeof *files; i++) {
        snprintf(name, sizeof name, "%s-%s", stem, files[i].ending);
        err = file_write(x, name, files[i].write,
                         files[i].which < 2 ? (const void *)log[files[i].which] : &pair);
    }
    if (!err && draw)
        picture(x, &pair, stem, plan->num_sms);
out:
    trace_log_free(log[0]);
    trace_log_free(log[1]);
    return err;
}

/* Times read from a folder must be of the model and group that are predicted. */
static int shape_check(const struct context *x, const struct validate_point *p,
                       const struct layer_spec *spec)
{
    const struct {
        const char *name;
        int have, want;
    } all[] = {{"experts", p->experts, spec->model->experts},
               {"hidden", p->hidden, spec->model->hidden},
               {"inter", p->inter, spec->model->inter},
               {"ranks", p->ranks, spec->ranks}};

    const char *from = p->kept ? x->folder : x->args->measured;

    for (size_t i = 0; from && i < sizeof all / sizeof *all; i++)
        if (all[i].have != all[i].want) {
            log_error("%s: measured with %s %d, but %s has %d", from, all[i].name, all[i].have,
                      x->config->path, all[i].want);
            return ERR_DATA;
        }
    return 0;
}

static void describe(struct validate_point *p, const struct scenario *s,
                     const struct layer_spec *spec)
{
    p->batch = s->batch;
    p->experts = spec->model->experts;
    p->hidden = spec->model->hidden;
    p->inter = spec->model->inter;
    p->ranks = spec->ranks;
}

static int predict(struct context *x, struct validate_point *p, bool draw)
{
    struct scenario s;
    struct layer_spec spec;
    struct evaluation ev;
    struct trace *trace = NULL;
    struct plan *plan = NULL;
    int err = config_scenario(x->config, p->scenario, &s);

    if (err)
        return err;
    err = evaluate_spec(x->evaluator, &s, p->policy, &spec);
    if (!err)
        err = evaluate_point(x->evaluator, &s, p->policy, &p->knobs, -1, &ev, &trace, &plan);
    if (!err)
        err = shape_check(x, p, &spec);
    if (!err) {
        describe(p, &s, &spec);
        p->predicted_us = ev.layer_us;
        kinds_of(trace, plan, p->kind_us, p->kind_wait_us);
        err = pair_write(x, p, trace, plan, draw);
    }
    trace_free(trace);
    plan_free(plan);
    scenario_free(&s);
    return err;
}

static int write_layers(const void *self, FILE *f)
{
    validate_layers_csv(self, f);
    return 0;
}

static int write_ops(const void *self, FILE *f)
{
    validate_ops_csv(self, f);
    return 0;
}

static int write_text(const void *self, FILE *f)
{
    return fputs(self, f) < 0 ? ERR_IO : 0;
}

/* The timeline as measured, at once: no prediction has been made. */
static int spans_keep(const struct context *x, const struct validate_point *p,
                      const struct scenario *s)
{
    struct plan *plan = NULL;
    struct trace_log *log = NULL;
    char stem[64], name[96];
    int err = p->trace ? evaluate_plan(x->evaluator, s, p->policy, &p->knobs, &plan) : 0;

    if (!err && p->trace)
        err = trace_log_of(p->trace, plan, &log);
    stem_of(p, stem, sizeof stem);
    snprintf(name, sizeof name, "%s-measured-spans.csv", stem);
    if (!err && log)
        err = file_write(x, name, write_spans, log);
    trace_log_free(log);
    plan_free(plan);
    return err;
}

/* What is measured is written as it comes: a run that ends early loses nothing. Predictions are
 * made at the end; until then their columns hold 0. */
static int keep(struct context *x, struct validate_point *p)
{
    struct scenario s;
    struct layer_spec spec;
    int err = config_scenario(x->config, p->scenario, &s);

    if (err)
        return err;
    err = evaluate_spec(x->evaluator, &s, p->policy, &spec);
    if (!err) {
        describe(p, &s, &spec);
        err = spans_keep(x, p, &s);
    }
    if (!err)
        err = file_write(x, "layers.csv", write_layers, &x->set);
    if (!err)
        err = file_write(x, "ops.csv", write_ops, &x->set);
    scenario_free(&s);
    return err;
}

/* What all points of a folder were measured as: the configuration and the options that change
 * times. */
static void key_of(const struct context *x, char *buf, size_t size)
{
    const struct validate_args *a = x->args;

    snprintf(buf, size, "%.64s gpus=%d layers=%d pace=%g/%g delay=%g gin=%d", x->config->hash,
             a->gpus, a->layers, a->pace_GBps, a->pace_us, a->delay_us, a->experimental_gin);
}

static int write_key(const void *self, FILE *f)
{
    return fprintf(f, "%s\n", (const char *)self) < 0 ? ERR_IO : 0;
}

static int key_check(const struct context *x)
{
    char path[1024], want[256], have[256] = "";
    FILE *f;
    int err = path_of(x, KEY_FILE, path, sizeof path);

    if (err)
        return err;
    key_of(x, want, sizeof want);
    f = fopen(path, "r");
    if (f && fgets(have, sizeof have, f))
        have[strcspn(have, "\n")] = '\0';
    if (f)
        fclose(f);
    if (strcmp(have, want) == 0)
        return 0;
    log_error("%s: what is there was measured as '%s', this run measures as '%s'; without --resume "
              "it begins anew",
              path, have, want);
    return ERR_USAGE;
}

/* --resume: the points of the folder are not measured again. All ranks read it before the first of
 * them is measured. */
static int resume(struct context *x, bool say)
{
    char path[1024];
    size_t kept = 0;
    int err = path_of(x, "layers.csv", path, sizeof path);

    if (err || access(path, R_OK))
        return err;
    err = key_check(x);
    if (!err)
        err = validate_read(&x->set, x->folder);
    for (size_t i = 0; !err && i < x->set.num_points; i++) {
        if (!x->set.point[i].measured)
            continue;
        x->set.point[i].kept = true;
        x->skip[i] = 1;
        kept++;
    }
    if (!err && !x->cli->quiet && say)
        log_note("%zu points are kept from %s", kept, x->folder);
    return err;
}

/* Points that the kernels cannot run are named, with the dimension, before a GPU is touched.
 * say: by one process only. ERR_UNSUPPORTED: none is left. */
static int shapes_check(struct context *x, bool say)
{
    char last[200] = "", why[200];
    bool any = false, kept = false;
    int err = 0;

    for (size_t i = 0; !err && i < x->set.num_points; i++) {
        struct validate_point p;
        struct scenario s;
        struct plan *plan = NULL;

        kept |= x->set.point[i].kept;
        if (x->skip[i])
            continue;
        point_of(x, i, &p);
        err = config_scenario(x->config, p.scenario, &s);
        if (err)
            break;
        err = evaluate_plan(x->evaluator, &s, p.policy, &p.knobs, &plan);
        if (!err && gpu_shape_check(plan, why, sizeof why)) {
            x->skip[i] = 1;
            if (say && strcmp(why, last) != 0)
                log_warn("%s at batch %d cannot run on GPUs: %s", p.policy->name, s.batch, why);
            snprintf(last, sizeof last, "%s", why);
        }
        any |= !x->skip[i];
        plan_free(plan);
        scenario_free(&s);
    }
    if (!err && !any && !kept && say)
        log_error("%s: no point can run on GPUs", x->config->path);
    return err ? err : any || kept ? 0 : ERR_UNSUPPORTED;
}

/* Were any of the measured points of the normal kernels? The GPU back end has library all-to-alls
 * in their stead. */
static bool stands_in(struct context *x)
{
    bool found = false;

    for (size_t i = 0; i < x->set.num_points && !found; i++) {
        struct validate_point *p = &x->set.point[i];
        struct scenario s;
        struct layer_spec spec;

        if (!p->measured || config_scenario(x->config, p->scenario, &s))
            continue;
        found = evaluate_spec(x->evaluator, &s, p->policy, &spec) == 0 && spec.comm == COMM_NORMAL;
        scenario_free(&s);
    }
    return found;
}

/* Slices, paced receives and other kernels stand for what is not here: the outputs must say so. */
static void emulation_say(struct context *x)
{
    struct validate_set *v = &x->set;
    int ranks = 0;
    char slice[160] = "", pace[96] = "";

    if (x->args->pace_GBps > 0)
        v->pace_GBps = x->args->pace_GBps;
    for (size_t i = 0; i < v->num_points; i++)
        if (v->point[i].gpu.emulated_ranks > ranks)
            ranks = v->point[i].gpu.emulated_ranks;
    if (ranks > 0)
        snprintf(slice, sizeof slice,
                 "each GPU carries one rank of %d, and what goes to the ranks that it stands for "
                 "stays in its memory; ",
                 ranks);
    if (v->pace_GBps > 0)
        snprintf(pace, sizeof pace, "receives held back as by a network of %g GB/s; ",
                 v->pace_GBps);
    snprintf(v->emulation, sizeof v->emulation, "%s%s%s", slice, pace,
             stands_in(x) ? "NCCL all-to-alls stand in for DeepEP's normal kernels; " : "");
    if (v->emulation[0])
        v->emulation[strlen(v->emulation) - 2] = '\0';
}

/* Beside an emulated measurement stands a prediction of the emulation. */
static void emulation_predict(struct context *x)
{
    struct sim_emulation emulation = {.gpus = x->args->gpus,
                                      .pace_GBps = x->set.pace_GBps,
                                      .pace_latency_ns = x->args->pace_us * 1e3};

    if (x->set.emulation[0])
        evaluator_emulate(x->evaluator, &emulation);
}

static int report(struct context *x)
{
    bool draw = !x->cli->no_plots && plot_available();
    char *json = NULL;
    int err = file_mkdirs(x->folder);

    emulation_say(x);
    emulation_predict(x);
    for (size_t i = 0; !err && i < x->set.num_points; i++)
        if (x->set.point[i].measured)
            err = predict(x, &x->set.point[i], draw);
    if (!err)
        err = file_write(x, "layers.csv", write_layers, &x->set);
    if (!err)
        err = file_write(x, "ops.csv", write_ops, &x->set);
    if (!err)
        err = validate_json(&x->set, &json);
    if (!err)
        err = file_write(x, "validate.json", write_text, json);
    if (err) {
        free(json);
        return err;
    }
    if (x->cli->json) {
        printf("%s\n", json);
    } else if (x->cli->csv) {
        validate_layers_csv(&x->set, stdout);
    } else {
        validate_table(&x->set, stdout);
        validate_summary(&x->set, stdout);
        printf("results: %s/\n", x->folder);
    }
    free(json);
    err = validate_predicted(&x->set);
    return err ? err : validate_bits(&x->set);
}

static int set_open(struct context *x)
{
    x->set.config = x->config;
    x->set.num_points = config_num_points(x->config);
    x->set.point = calloc(x->set.num_points, sizeof *x->set.point);
    if (!x->set.point)
        return ERR_NOMEM;
    for (size_t i = 0; i < x->set.num_points; i++)
        point_of(x, i, &x->set.point[i]);
    return 0;
}

static int parent_main(struct context *x, int argc, char **argv)
{
    struct gpu_receiver receiver = {x, result_take};
    char **child = calloc((size_t)argc + 2, sizeof *child), program[] = "peosim";
    double patience_s =
        PATIENCE_S + PATIENCE_REPLAY_S * (x->args->repeats + x->args->check_replays);
    int err = child ? 0 : ERR_NOMEM;

    if (!err && x->to_run > 0) {
        child[0] = program;
        memcpy(child + 1, argv, (size_t)argc * sizeof *argv);
        err = gpu_team_spawn(x->args->gpus, child, patience_s, &receiver);
    }
    free(child);
    if (err && x->run && !x->cli->quiet)
        log_note("%zu of %zu points are kept in %s; --resume goes on from there", x->run, x->to_run,
                 x->folder);
    if (!err && x->to_run > 0 && x->run == 0) {
        log_error("%s: none of %zu points could be measured", x->config->path, x->to_run);
        err = ERR_UNSUPPORTED;
    }
    return err ? err : report(x);
}

static int measured_main(struct context *x)
{
    int err = validate_read(&x->set, x->args->measured);

    for (size_t i = 0; !err && i < x->set.num_points; i++)
        if (x->set.point[i].gpu.emulated_ranks > 0 &&
            x->set.point[i].gpu.emulated_ranks <= x->args->gpus) {
            log_error("%s was measured on fewer GPUs than ranks: --gpus says how many",
                      x->args->measured);
            err = ERR_USAGE;
        }
    return err ? err : report(x);
}

static int team_main(struct context *x, struct gpu_team *team)
{
    int err;

    if (team->rank == 0 && team->result_fd < 0) /* started by mpirun or srun: no parent */
        team->receiver = (struct gpu_receiver){x, result_take};
    err = rank_main(x, team);
    return err || team->rank != 0 || team->result_fd >= 0 ? err : report(x);
}

/* What is to be measured, and where it is kept. first: the process that tells the user. */
static int work_choose(struct context *x, bool first)
{
    char key[256];
    int err = x->args->resume ? resume(x, first) : 0;

    if (!err)
        err = shapes_check(x, first);
    for (size_t i = 0; i < x->set.num_points; i++)
        x->to_run += !x->skip[i];
    if (err || !first)
        return err;
    key_of(x, key, sizeof key);
    err = file_mkdirs(x->folder);
    return err ? err : file_write(x, KEY_FILE, write_key, key);
}

static int ranks_of(struct context *x)
{
    struct scenario s;
    int err = config_scenario(x->config, 0, &s);

    if (!err && x->args->gpus == 0)
        x->args->gpus = s.nodes * s.gpus_per_node;
    if (!err)
        scenario_free(&s);
    return err;
}

static int validate(struct cli *cli, struct validate_args *args, int argc, char **argv)
{
    struct context x = {.cli = cli, .args = args};
    struct gpu_team team;
    int joined = args->measured ? 0 : gpu_team_join(&team), err = joined < 0 ? joined : 0;

    if (joined > 0)
        args->gpus = team.ranks;
    if (!err && args->experimental_gin && args->pace_GBps > 0) {
        log_error("--pace-GBps emulates a network; --experimental-gin uses one: give one of them");
        err = ERR_USAGE;
    }
    if (!err && !gpu_built() && !args->measured) {
        log_error("this program was built without CUDA; `make gpu` builds it with the GPU half");
        err = ERR_UNSUPPORTED;
    }
    if (!err)
        err = config_read(cli->words[0], cli->sets, (size_t)cli->num_sets, &x.config);
    if (!err && args->plan)
        err = config_use_plan(x.config, args->plan);
    if (!err)
        err = evaluator_open(&x.evaluator);
    if (!err && joined && (team.spawned || team.rank > 0))
        evaluate_hush(x.evaluator);
    if (!err)
        err = set_open(&x);
    if (!err)
        err = ranks_of(&x);
    if (!err)
        evaluator_fold(x.evaluator, args->gpus);
    x.skip = x.set.num_points ? calloc(x.set.num_points, 1) : NULL;
    if (!err)
        err = x.skip ? evaluate_config(x.evaluator, x.config, x.skip) : ERR_NOMEM;
    if (cli->output_dir)
        snprintf(x.folder, sizeof x.folder, "%s", cli->output_dir);
    else if (!err)
        snprintf(x.folder, sizeof x.folder, "results/validate-%s", x.config->name);
    if (!err && !args->measured)
        err = work_choose(&x, !joined || (!team.spawned && team.rank == 0));
    if (!err && args->measured)
        err = measured_main(&x);
    else if (!err)
        err = joined ? team_main(&x, &team) : parent_main(&x, argc, argv);
    for (size_t i = 0; x.set.point && i < x.set.num_points; i++)
        trace_free(x.set.point[i].trace);
    free(x.set.point);
    free(x.skip);
    evaluator_close(x.evaluator);
    config_free(x.config);
    return err;
}

int cmd_validate(int argc, char **argv)
{
    struct cli cli = {0};
    struct validate_args args = {0};
    int err;

    opt_set_defaults(validate_options, &args);
    err = cli_parse_config(&cli, argc, argv, validate_options, &args);
    if (!err && !cli.help)
        err = validate(&cli, &args, argc, argv);
    opt_free_strings(validate_options, &args);
    cli_free(&cli);
    return err;
}
