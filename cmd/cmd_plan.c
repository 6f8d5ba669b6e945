/* peosim plan: the schedule of every point, as text. */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "model/policy/program.h"
#include "study/evaluate.h"

struct plan_flags {
    char *save;
};

const struct opt plan_options[] = {
    {.key = "save",
     .type = OPT_STRING,
     .offset = offsetof(struct plan_flags, save),
     .help = "write the schedule of the first point to a plan file, to edit and run with --plan"},
    {.key = NULL},
};

static int print_point(struct evaluator *e, const struct config *c, const struct scenario *s,
                       size_t j)
{
    const struct policy *policy;
    struct knobs k;
    struct plan *plan = NULL;
    char text[512];
    int err;

    config_knobs(c, j, &policy, &k, NULL);
    err = evaluate_settle(e, s, policy, &k);
    if (!err)
        err = evaluate_plan(e, s, policy, &k, &plan);
    if (err)
        return err;
    policy_knobs_text(policy, &k, text, sizeof text);
    printf("# batch=%d %s %s\n", s->batch, policy->name, text);
    err = plan_print(plan, stdout);
    plan_free(plan);
    return err;
}

static int print_all(struct evaluator *e, const struct config *c, const unsigned char *skip)
{
    size_t per = config_num_points_per_scenario(c);
    int err = 0;

    for (size_t i = 0; i < config_num_scenarios(c) && !err; i++) {
        struct scenario s;

        err = config_scenario(c, i, &s);
        for (size_t j = 0; j < per && !err; j++)
            if (!skip[i * per + j])
                err = print_point(e, c, &s, j);
        scenario_free(&s);
    }
    return err;
}

static int save_file(const struct program *p, const char *path)
{
    struct file_out f;
    int err = file_create(&f, path);

    if (!err)
        err = program_write(p, f.f);
    if (!err)
        err = file_commit(&f);
    file_abort(&f);
    return err;
}

/* Of the first point whose schedule steps describe. */
static int save(struct evaluator *e, const struct config *c, const unsigned char *skip,
                const char *path)
{
    size_t per = config_num_points_per_scenario(c);
    const struct policy *policy;
    struct layer_spec spec;
    struct scenario s;
    struct program p;
    struct knobs k;
    int err = config_scenario(c, 0, &s), found = ERR_UNSUPPORTED;

    for (size_t j = 0; j < per && !err && found == ERR_UNSUPPORTED; j++) {
        config_knobs(c, j, &policy, &k, NULL);
        if (skip[j])
            continue;
        err = evaluate_settle(e, &s, policy, &k);
        if (!err)
            err = evaluate_spec(e, &s, policy, &spec);
        found = err ? err : program_of(&spec, policy, &k, &p);
    }
    if (!err && found)
        log_error("no schedule of %s can be saved: plan files describe none, peo and sbo on the "
                  "low-latency kernels",
                  c->path);
    if (!err && !found)
        err = save_file(&p, path);
    scenario_free(&s);
    return err ? err : found;
}

int cmd_plan(int argc, char **argv)
{
    struct cli cli = {0};
    struct plan_flags flags = {0};
    struct config *c = NULL;
    struct evaluator *e = NULL;
    unsigned char *skip = NULL;
    int err = cli_parse_config(&cli, argc, argv, plan_options, &flags);

    if (!err && cli.help)
        goto out;
    if (!err)
        err = config_read(cli.words[0], cli.sets, (size_t)cli.num_sets, &c);
    if (!err)
        err = evaluator_open(&e);
    if (!err) {
        skip = calloc(config_num_points(c), 1);
        err = skip ? evaluate_config(e, c, skip) : ERR_NOMEM;
    }
    if (!err && flags.save)
        err = save(e, c, skip, flags.save);
    else if (!err)
        err = print_all(e, c, skip);
out:
    opt_free_strings(plan_options, &flags);
    free(skip);
    evaluator_close(e);
    config_free(c);
    cli_free(&cli);
    return err;
}
