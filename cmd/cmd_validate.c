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
#include "report/validate_files.h"
#include "study/validate_predict.h"
#include "validate/rank.h"
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

struct context {
    struct cli *cli;
    struct validate_args *args;
    struct config *config;
    struct evaluator *evaluator;
    unsigned char *skip;
    struct validate_set set;
    struct validate_files files; /* of folder */
    char folder[512];
    size_t to_run, run; /* points that this run measures; that it has */
};

/* A measured point is written as it comes. */
static int keep(struct context *x, struct validate_point *p)
{
    struct plan *plan = NULL;
    struct scenario s;
    int err = validate_describe(&x->set, x->evaluator, p);

    if (!err && p->trace) {
        err = validate_plan(&x->set, x->evaluator, p->index, &s, &plan);
        if (!err)
            scenario_free(&s);
    }
    if (!err)
        err = validate_files_keep(&x->files, p, plan);
    plan_free(plan);
    return err;
}

/* --- a rank ------------------------------------------------------------------------------------
 */

static int rank_plan(void *self, size_t index, struct gpu_options *o, struct plan **plan)
{
    struct context *x = self;
    struct scenario s;
    int err = validate_plan(&x->set, x->evaluator, index, &s, plan);

    if (err)
        return err;
    o->eager = s.eager;
    o->seed = (uint64_t)s.seed;
    scenario_free(&s);
    return 0;
}

static int rank_main(struct context *x, struct gpu_team *team)
{
    const struct validate_args *a = x->args;
    struct gpu_work work = {.num_points = x->set.num_points,
                            .skip = x->skip,
                            .options = {.repeats = a->repeats,
                                        .layers = a->layers,
                                        .check_tokens = a->check_tokens,
                                        .pace_GBps = a->pace_GBps,
                                        .pace_us = a->pace_us,
                                        .delay_us = a->delay_us,
                                        .check_replays = a->check_replays,
                                        .cupti = a->cupti},
                            .experimental_gin = a->experimental_gin,
                            .plan = rank_plan,
                            .self = x};
    int err = validate_largest_batch(&x->set, &work.options.max_tokens);

    return err ? err : gpu_rank_run(team, &work);
}

/* --- the parent --------------------------------------------------------------------------------
 */

static void progress_say(const struct context *x, const struct validate_point *p)
{
    char name[200];

    policy_knobs_text(p->policy, &p->knobs, name, sizeof name);
    if (!x->cli->quiet)
        fprintf(stderr, "measured %zu of %zu: %s %s: %.1f us\n", x->run, x->to_run, p->policy->name,
                name, p->gpu.median_us);
}

static int result_take(void *self, const void *data, size_t bytes)
{
    struct context *x = self;
    struct validate_point *p;
    struct gpu_answer answer;
    int err = gpu_answer_read(data, bytes, x->args->gpus, &answer);

    if (err)
        return err;
    if (answer.index == GPU_ANSWER_MACHINE) {
        memcpy(x->set.versions, answer.versions, sizeof x->set.versions);
        return 0;
    }
    if (answer.index >= x->set.num_points) {
        trace_free(answer.trace);
        return ERR_DATA;
    }
    p = &x->set.point[answer.index];
    p->measured = true;
    p->gpu = answer.gpu;
    p->kinds = answer.trace != NULL;
    p->trace = answer.trace;
    x->run++;
    progress_say(x, p);
    return keep(x, p);
}

static int predict(struct context *x, struct validate_point *p)
{
    struct trace *trace = NULL;
    struct plan *plan = NULL;
    int err = validate_predict(&x->set, x->evaluator, p, p->kept ? x->folder : x->args->measured,
                               &trace, &plan);

    if (!err)
        err = validate_files_pair(&x->files, p, trace, plan);
    trace_free(trace);
    plan_free(plan);
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

/* --resume: the points of the folder are not measured again. All ranks read it before the first of
 * them is measured. */
static int resume(struct context *x, bool say)
{
    char path[1024], key[256];
    size_t kept = 0;
    int err;

    snprintf(path, sizeof path, "%s/layers.csv", x->folder);
    if (access(path, R_OK))
        return 0;
    key_of(x, key, sizeof key);
    err = validate_key_check(x->folder, key);
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
        const struct validate_point *p = &x->set.point[i];
        struct scenario s;
        struct plan *plan = NULL;

        kept |= p->kept;
        if (x->skip[i])
            continue;
        err = validate_plan(&x->set, x->evaluator, i, &s, &plan);
        if (err)
            break;
        if (gpu_shape_check(plan, why, sizeof why)) {
            x->skip[i] = 1;
            if (say && strcmp(why, last) != 0)
                log_warn("%s at batch %d cannot run on GPUs: %s", p->policy->name, s.batch, why);
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

static int report(struct context *x)
{
    const struct sim_emulation emulation = {.gpus = x->args->gpus,
                                            .pace_GBps = x->args->pace_GBps,
                                            .pace_latency_ns = x->args->pace_us * 1e3};
    char *json = NULL;
    int err = file_mkdirs(x->folder);

    x->files.draw = !x->cli->no_plots && plot_available();
    validate_emulate(&x->set, x->evaluator, &emulation);
    for (size_t i = 0; !err && i < x->set.num_points; i++)
        if (x->set.point[i].measured)
            err = predict(x, &x->set.point[i]);
    if (!err)
        err = validate_files_tables(&x->files);
    if (!err)
        err = validate_json(&x->set, &json);
    if (!err)
        err = validate_files_json(&x->files, json);
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
    return validate_files_key(&x->files, key);
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
        err = validate_set_open(&x.set, x.config);
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
    x.files =
        (struct validate_files){.set = &x.set, .folder = x.folder, .measured = args->measured};
    if (!err && !args->measured)
        err = work_choose(&x, !joined || (!team.spawned && team.rank == 0));
    if (!err && args->measured)
        err = measured_main(&x);
    else if (!err)
        err = joined ? team_main(&x, &team) : parent_main(&x, argc, argv);
    validate_set_close(&x.set);
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
