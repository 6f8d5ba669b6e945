#include "cmd/cmd_accuracy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "study/layers.h"
#include "study/measured.h"
#include "report/accuracy.h"
#include "report/plot.h"
#include "calib/accuracy.h"
#include "calib/e2e.h"

struct accuracy_args {
    struct measured_args measured;
    char *profile, *rows, *plot, *fit_engines;
    bool groups, markdown, overwrite;
    int left_out;
};

const struct opt accuracy_options[] = {
    {.key = "profile",
     .type = OPT_STRING,
     .offset = offsetof(struct accuracy_args, profile),
     .help = "a profile or several with commas; default: every shipped one that has rows"},
    {.key = "rows",
     .type = OPT_STRING,
     .offset = offsetof(struct accuracy_args, rows),
     .help = "write every row with its prediction to this CSV file"},
    {.key = "overwrite",
     .type = OPT_BOOL,
     .offset = offsetof(struct accuracy_args, overwrite),
     .def = "false",
     .help = "--rows may replace a file"},
    {.key = "plot",
     .type = OPT_STRING,
     .offset = offsetof(struct accuracy_args, plot),
     .help = "draw predicted against measured to THIS.png and THIS.svg (needs --rows)"},
    {.key = "groups",
     .type = OPT_BOOL,
     .offset = offsetof(struct accuracy_args, groups),
     .def = "true",
     .help = "one line per group of rows, not only per law"},
    {.key = "markdown",
     .type = OPT_BOOL,
     .offset = offsetof(struct accuracy_args, markdown),
     .def = "false",
     .help = "the README's table"},
    {.key = "left_out",
     .type = OPT_ENUM,
     .offset = offsetof(struct accuracy_args, left_out),
     .choices = "none|model|system|engine",
     .def = "none",
     .help = "deployments: predict each of these with engine parameters fitted on the others"},
    {.key = "fit_engines",
     .type = OPT_STRING,
     .offset = offsetof(struct accuracy_args, fit_engines),
     .help = "deployments: fit the engines' parameters and write them to this folder"},
    MEASURED_OPTS(struct accuracy_args),
    {.key = NULL}};

#define MAX_PROFILES 16
#define MAX_RESULTS  1024

struct results {
    struct hw_profile *profile[MAX_PROFILES];
    int num_profiles;
    struct accuracy *all[MAX_RESULTS];
    size_t num;
};

static int read_profiles(const char *names, struct results *r)
{
    char list[1024], *save = NULL;
    int rc = 0;

    snprintf(list, sizeof list, "%s", names);
    for (char *name = strtok_r(list, ",", &save); name && rc == 0;
         name = strtok_r(NULL, ",", &save)) {
        if (r->num_profiles == MAX_PROFILES) {
            log_error("at most %d profiles at once", MAX_PROFILES);
            return ERR_USAGE;
        }
        rc = hw_profile_read(name, &r->profile[r->num_profiles]);
        r->num_profiles += rc == 0;
    }
    return rc;
}

static int predict_files(struct results *r, const struct measured *m)
{
    int rc = 0;

    for (size_t i = 0; i < m->num; i++)
        for (int p = 0; p < r->num_profiles && rc == 0; p++) {
            struct accuracy *a = NULL;

            if (r->num == MAX_RESULTS)
                return ERR_RANGE;
            rc = accuracy_open(r->profile[p], m->set[i], &a);
            if (rc == 0 && (a->n > 0 || a->no_law > 0))
                r->all[r->num++] = a;
            else
                accuracy_free(a);
        }
    if (rc == 0 && r->num == 0) {
        log_error(
            "no profile's laws predict any row of these files: they are of another system, or of "
            "what no law has");
        rc = ERR_DATA;
    }
    return rc;
}

static int print_results(const struct accuracy_args *args, const struct cli *cli,
                         const struct results *r)
{
    struct record out;

    if (args->markdown)
        return accuracy_report_markdown(r->all, r->num, stdout);
    record_open(&out, cli->format, stdout);
    accuracy_report(r->all, r->num, args->groups, &out);
    return record_close(&out);
}

/* Pictures are extra: a missing gnuplot is said and forgiven. */
static void draw(const struct accuracy_args *args, const struct cli *cli)
{
    if (!args->plot || cli->no_plots)
        return;
    if (!args->rows) {
        log_warn("--plot reads what --rows writes; give both");
        return;
    }
    plot_draw("accuracy", args->rows, args->plot, "predicted against measured", NULL);
}

/* The rows must replace neither the measurements nor a profile. */
static int check_rows(const struct accuracy_args *args, const struct cli *cli,
                      const struct results *r)
{
    const char *inputs[CLI_MAX_WORDS + MAX_PROFILES];
    size_t num = 0;

    for (int i = 0; i < cli->num_words; i++)
        inputs[num++] = cli->words[i];
    for (int i = 0; i < r->num_profiles; i++)
        inputs[num++] = r->profile[i]->path;
    return measured_check_output(args->rows, args->overwrite, inputs, num);
}

static int run(const struct accuracy_args *args, const struct cli *cli, struct results *r)
{
    struct measured_args what = args->measured;
    struct measured m = {0};
    int rc = read_profiles(
        args->profile ? args->profile : "h20,h800,h100,h200,b200,b300,gb200,gb300", r);

    if (rc == 0)
        rc = check_rows(args, cli, r);
    if (rc == 0)
        what.profile = r->num_profiles == 1 ? r->profile[0]->name : NULL;
    if (rc == 0)
        rc = measured_read(&what, cli->words, (size_t)cli->num_words, &m);
    if (rc == 0)
        rc = predict_files(r, &m);
    if (rc == 0)
        rc = print_results(args, cli, r);
    if (rc == 0 && args->rows)
        rc = accuracy_write_rows(r->all, r->num, args->rows);
    if (rc == 0)
        draw(args, cli);
    for (size_t i = 0; i < r->num; i++)
        accuracy_free(r->all[i]);
    for (int i = 0; i < r->num_profiles; i++)
        hw_profile_free(r->profile[i]);
    measured_free(&m);
    return rc;
}

/* A file of layers is simulated, not predicted kernel by kernel: it stands alone. */
static int run_layers(const struct accuracy_args *args, const struct cli *cli)
{
    struct layers all[CLI_MAX_WORDS] = {0};
    struct hw_profile *profile = NULL;
    struct record out;
    size_t num = 0;
    int rc = hw_profile_read(args->profile ? args->profile : "h200", &profile);

    for (; num < (size_t)cli->num_words && rc == 0; num++)
        rc = layers_predict(profile, cli->words[num], &all[num]);
    if (rc == 0) {
        record_open(&out, cli->format, stdout);
        layers_report(all, cli->words, num, profile->name, &out);
        rc = record_close(&out);
    }
    for (size_t i = 0; i < num; i++)
        layers_free(&all[i]);
    hw_profile_free(profile);
    return rc;
}

/* Deployments are judged row by row with the engines' parameters (serve/judge.h). */
static int run_deployments(const struct accuracy_args *args, const struct cli *cli)
{
    const char *inputs[] = {cli->words[0]};
    struct deployments_args what = {.path = cli->words[0],
                                    .left_out = args->left_out,
                                    .fit_folder = args->fit_engines,
                                    .rows = args->rows,
                                    .format = cli->format};
    int rc = cli->num_words == 1 ? 0 : ERR_USAGE;

    if (rc)
        log_error("accuracy: a file of deployments stands alone");
    if (rc == 0 && args->rows)
        rc = measured_check_output(args->rows, args->overwrite, inputs, 1);
    if (rc == 0)
        rc = accuracy_deployments(&what);
    if (rc == 0)
        draw(args, cli);
    return rc;
}

int cmd_accuracy(int argc, char **argv)
{
    struct accuracy_args args = {0};
    struct results *results = calloc(1, sizeof *results);
    struct cli cli = {0};
    int rc = results ? cli_parse(&cli, argc, argv, accuracy_options, &args) : ERR_NOMEM;

    if (rc == 0 && cli.help) {
        cli_help(cmd_find(argv[0]));
    } else if (rc == 0 && cli.num_words == 0) {
        log_error("accuracy: which files? (peosim accuracy --help)");
        rc = ERR_USAGE;
    } else if (rc == 0 && e2e_matches(cli.words[0])) {
        rc = run_deployments(&args, &cli);
    } else if (rc == 0 && layers_matches(cli.words[0])) {
        rc = run_layers(&args, &cli);
    } else if (rc == 0) {
        rc = run(&args, &cli, results);
    }
    opt_free_strings(accuracy_options, &args);
    cli_free(&cli);
    free(results);
    return rc;
}
