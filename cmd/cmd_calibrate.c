#include "cmd/cmd_calibrate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/cmd_validate.h"
#include "study/measured.h"
#include "report/accuracy.h"
#include "report/plot.h"
#include "calib/accuracy.h"
#include "calib/fit.h"
#include "validate/gpu.h"

struct calibrate_args {
    struct measured_args measured;
    char *from, *profile, *out, *assume_from, *only, *rows, *plot, *date;
    bool overwrite, fresh, dry_run, markdown, cv, groups, experimental_gin;
    int starts, seed, gpu;
};

const struct opt calibrate_options[] = {
    {.key = "from",
     .type = OPT_STRING,
     .offset = offsetof(struct calibrate_args, from),
     .help = "measurements; more files may follow"},
    {.key = "gpu",
     .type = OPT_INT,
     .offset = offsetof(struct calibrate_args, gpu),
     .min = 0,
     .max = 64,
     .def = "0",
     .help = "first run the microbenchmarks on so many GPUs of this host; --from names their file, "
             "else microbench.csv"},
    {.key = "experimental_gin",
     .type = OPT_BOOL,
     .offset = offsetof(struct calibrate_args, experimental_gin),
     .def = "false",
     .help = "with --gpu: " GPU_GIN_HELP},
    {.key = "profile",
     .type = OPT_STRING,
     .offset = offsetof(struct calibrate_args, profile),
     .help = "the profile to fit: a path or a shipped name"},
    {.key = "out",
     .type = OPT_STRING,
     .offset = offsetof(struct calibrate_args, out),
     .help = "where the fitted profile goes; default: the profile itself"},
    {.key = "overwrite",
     .type = OPT_BOOL,
     .offset = offsetof(struct calibrate_args, overwrite),
     .def = "false",
     .help = "the output and --rows may replace files"},
    {.key = "fresh",
     .type = OPT_BOOL,
     .offset = offsetof(struct calibrate_args, fresh),
     .def = "false",
     .help = "first forget what was fitted or assumed before"},
    {.key = "dry_run",
     .type = OPT_BOOL,
     .offset = offsetof(struct calibrate_args, dry_run),
     .def = "false",
     .help = "fit and print, write no profile"},
    {.key = "markdown",
     .type = OPT_BOOL,
     .offset = offsetof(struct calibrate_args, markdown),
     .def = "false",
     .help = "print only the README's table: errors in the fit and on groups left out"},
    {.key = "assume_from",
     .type = OPT_STRING,
     .offset = offsetof(struct calibrate_args, assume_from),
     .help = "take what has no data from this profile, scaled by nominal rates"},
    {.key = "only",
     .type = OPT_STRING,
     .offset = offsetof(struct calibrate_args, only),
     .help = "only laws whose name starts so (ll_, normal_, gemm_, grouped_, ...)"},
    {.key = "cv",
     .type = OPT_BOOL,
     .offset = offsetof(struct calibrate_args, cv),
     .def = "false",
     .help = "also leave groups out one at a time and state the error on them"},
    {.key = "groups",
     .type = OPT_BOOL,
     .offset = offsetof(struct calibrate_args, groups),
     .def = "true",
     .help = "print residuals by group"},
    {.key = "rows",
     .type = OPT_STRING,
     .offset = offsetof(struct calibrate_args, rows),
     .help = "write measured and predicted values to this CSV file"},
    {.key = "plot",
     .type = OPT_STRING,
     .offset = offsetof(struct calibrate_args, plot),
     .help = "draw the residuals to THIS.png and THIS.svg (needs --rows)"},
    {.key = "starts",
     .type = OPT_INT,
     .offset = offsetof(struct calibrate_args, starts),
     .min = 0,
     .max = 100,
     .def = "2",
     .help = "random starts besides the present values"},
    {.key = "fit_seed",
     .type = OPT_INT,
     .offset = offsetof(struct calibrate_args, seed),
     .min = 0,
     .max = 2147483647,
     .def = "1",
     .help = "seed of those starts"},
    {.key = "date",
     .type = OPT_STRING,
     .offset = offsetof(struct calibrate_args, date),
     .help = "date for the sources; default today"},
    MEASURED_OPTS(struct calibrate_args),
    {.key = NULL}};

static void print_unseen(const struct fit_result *r)
{
    for (int k = 0; k < FIT_CV_COUNT; k++)
        if (r->unseen[k].n > 0)
            printf("  unseen (%s): median %.1f%%, p90 %.1f%%, max %.1f%%, bias %+.1f%%\n",
                   fit_cv_name((enum fit_cv)k), 100 * r->unseen[k].median_ape,
                   100 * r->unseen[k].p90_ape, 100 * r->unseen[k].max_ape, 100 * r->unseen[k].bias);
}

static void print_law(const struct fit_result *r)
{
    printf("%s: %zu rows", r->law, r->rows);
    if (r->groups > 0)
        printf(" in %zu groups", r->groups);
    if (r->in_sample.n > 0)
        printf("; median %.1f%%, p90 %.1f%%, max %.1f%%", 100 * r->in_sample.median_ape,
               100 * r->in_sample.p90_ape, 100 * r->in_sample.max_ape);
    putchar('\n');
    print_unseen(r);
    for (int i = 0; i < r->num_fields; i++) {
        enum hw_field_id id = (enum hw_field_id)r->field[i].id;

        printf("  %-34s %10.4g +- %-9.2g %s\n", hw_field_name(id), r->field[i].value,
               r->field[i].std_err, hw_field_unit(id));
    }
    for (int i = 0; i < r->num_held; i++)
        printf("  %-34s %10.4g %s\n", hw_field_name((enum hw_field_id)r->held[i].id),
               r->held[i].value,
               r->held[i].at_bound ? "at its bound" : "loosely bounded by these data");
    for (int i = 0; i < r->num_open; i++)
        printf("  %-34s not determined by these data; left as it was\n",
               hw_field_name((enum hw_field_id)r->open[i]));
}

static void print_percent(const struct stats_error *e)
{
    if (e->n > 0)
        printf(" %.1f / %.1f / %+.1f |", 100 * e->median_ape, 100 * e->p90_ape, 100 * e->bias);
    else
        fputs(" |", stdout);
}

/* One line per law: rows, then median / p90 / bias in percent of the fitted rows (in sample), of a
 * shape, an EP size, an SM or group count left out. */
static void print_markdown(const char *profile, const struct fit_report *report)
{
    for (int i = 0; i < report->num; i++) {
        const struct fit_result *r = &report->law[i];

        printf("| %s | %s | %zu |", profile, r->law, r->rows);
        print_percent(&r->in_sample);
        for (int k = FIT_CV_SHAPE; k <= FIT_CV_SMS; k++)
            print_percent(&r->unseen[k]);
        putchar('\n');
    }
}

static int print_residuals(const struct calibrate_args *args, const struct hw_profile *p,
                           const struct measured *m)
{
    struct accuracy **all = calloc(m->num + 1, sizeof *all);
    struct record out;
    size_t num = 0;
    int rc = all ? 0 : ERR_NOMEM;

    record_open(&out, record_format_at(0), stdout);
    for (size_t i = 0; i < m->num && rc == 0; i++) {
        rc = accuracy_open(p, m->set[i], &all[num]);
        if (rc == 0 && all[num]->n > 0)
            accuracy_report(&all[num], 1, args->groups, &out);
        num += rc == 0;
    }
    record_close(&out);
    if (rc == 0 && args->rows)
        rc = accuracy_write_rows(all, num, args->rows);
    if (rc == 0 && args->rows && args->plot)
        plot_draw("calibrate", args->rows, args->plot, p->name, NULL);
    for (size_t i = 0; i < num; i++)
        accuracy_free(all[i]);
    free(all);
    return rc;
}

/* Refused before any work is done, so that nobody waits for a fit that cannot be kept. */
static int check_out(const struct calibrate_args *args, const char *path, const char **files,
                     size_t num)
{
    if (access(path, F_OK) == 0 && !args->overwrite && !args->dry_run) {
        log_error("%s exists; give --overwrite to replace it or --out for another file", path);
        return ERR_USAGE;
    }
    return args->dry_run ? 0 : measured_check_output(path, true, files, num);
}

/* The rows must replace neither the measurements nor a profile, read or about to be written. */
static int check_rows(const struct calibrate_args *args, const struct hw_profile *p,
                      const char *out, const char **files, size_t num)
{
    const char *profiles[] = {p->path, out};
    int rc = measured_check_output(args->rows, args->overwrite, files, num);

    if (rc == 0 && args->rows && strcmp(args->rows, out) == 0) {
        log_error("--rows and the fitted profile are both %s", out);
        rc = ERR_USAGE;
    }
    return rc ? rc : measured_check_output(args->rows, args->overwrite, profiles, 2);
}

static int assume(const struct calibrate_args *args, struct hw_profile *p)
{
    struct hw_profile *from = NULL;
    int rc = hw_profile_read(args->assume_from, &from);

    if (rc == 0)
        rc = hw_profile_assume(p, from);
    hw_profile_free(from);
    return rc;
}

/* The profile says what it was measured with, where a file does. */
static int versions_set(struct hw_profile *p, const struct measured *m)
{
    for (size_t i = 0; i < m->num; i++) {
        const struct data_versions *v = &m->set[i]->versions;
        const char *from[] = {v->driver, v->cuda, v->nccl, v->commit};
        char **to[] = {&p->driver, &p->cuda, &p->nccl, &p->commit};

        for (size_t k = 0; k < sizeof to / sizeof *to; k++) {
            char *copy = from[k][0] ? strdup(from[k]) : NULL;

            if (from[k][0] && !copy)
                return ERR_NOMEM;
            if (!copy)
                continue;
            free(*to[k]);
            *to[k] = copy;
        }
    }
    return 0;
}

static int fit(const struct calibrate_args *args, int threads, struct hw_profile *p,
               const struct measured *m, struct fit_report *report)
{
    struct fit_options o = {.seed = (unsigned long)args->seed,
                            .starts = args->starts,
                            .threads = threads,
                            .cv = args->cv,
                            .only = args->only};
    char today[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    int rc;

    if (gmtime_r(&now, &tm))
        strftime(today, sizeof today, "%Y-%m-%d", &tm);
    o.date = args->date ? args->date : today;
    rc = fit_profile(p, m->set, m->num, &o, report);
    if (rc == 0 && args->markdown)
        print_markdown(p->name, report);
    for (int i = 0; i < report->num && rc == 0 && !args->markdown; i++)
        print_law(&report->law[i]);
    return rc;
}

static int run(const struct calibrate_args *args, const struct cli *cli, struct fit_report *report)
{
    const char *files[CLI_MAX_WORDS + 1];
    size_t num = 0;
    struct measured_args what = args->measured;
    struct measured m = {0};
    struct hw_profile *p = NULL;
    char *out = NULL;
    int rc;

    if (args->from)
        files[num++] = args->from;
    for (int i = 0; i < cli->num_words; i++)
        files[num++] = cli->words[i];
    rc = hw_profile_read(args->profile, &p);
    if (rc == 0 && !(out = strdup(args->out ? args->out : p->path)))
        rc = ERR_NOMEM;
    if (rc == 0)
        rc = check_out(args, out, files, num);
    if (rc == 0)
        rc = check_rows(args, p, out, files, num);
    if (rc == 0)
        what.profile = p->name;
    if (rc == 0)
        rc = measured_read(&what, files, num, &m);
    if (rc == 0 && args->fresh)
        rc = hw_profile_forget(p);
    if (rc == 0 && args->assume_from)
        rc = assume(args, p);
    if (rc == 0 && num > 0)
        rc = fit(args, cli_jobs(cli), p, &m, report);
    if (rc == 0)
        rc = versions_set(p, &m);
    if (rc == 0 && !args->markdown)
        rc = print_residuals(args, p, &m);
    if (rc == 0 && !args->dry_run)
        rc = hw_profile_write(p, out);
    if (rc == 0 && !args->dry_run)
        log_note("wrote %s", out);
    measured_free(&m);
    hw_profile_free(p);
    free(out);
    return rc;
}

/* Under mpirun or srun all ranks measure, and rank 0 fits. */
static bool fits_here(void)
{
    struct gpu_team team;

    return gpu_team_join(&team) <= 0 || team.rank == 0;
}

/* The microbenchmarks are a command of their own, whose ranks start it again. */
static int microbench(const struct calibrate_args *args)
{
    char name[] = "microbench", gpus[] = "--gpus", output[] = "--output", count[16];
    char gin[] = "--experimental-gin";
    char *words[] = {name, gpus, count, output, args->from, args->experimental_gin ? gin : NULL};

    snprintf(count, sizeof count, "%d", args->gpu);
    return cmd_microbench(args->experimental_gin ? 6 : 5, words);
}

int cmd_calibrate(int argc, char **argv)
{
    struct calibrate_args args = {0};
    struct fit_report *report = calloc(1, sizeof *report);
    struct cli cli = {0};
    int rc = report ? cli_parse(&cli, argc, argv, calibrate_options, &args) : ERR_NOMEM;

    if (rc == 0 && cli.help) {
        cli_help(cmd_find(argv[0]));
    } else if (rc == 0 && !args.profile) {
        log_error("calibrate: which --profile? (peosim calibrate --help)");
        rc = ERR_USAGE;
    } else if (rc == 0 && !args.from && !args.gpu && !args.assume_from && !args.fresh) {
        log_error("calibrate: --from which files? (peosim calibrate --help)");
        rc = ERR_USAGE;
    } else if (rc == 0) {
        if (args.gpu && !args.from)
            args.from = strdup("microbench.csv");
        if (args.gpu)
            rc = args.from ? microbench(&args) : ERR_NOMEM;
        if (rc == 0 && (!args.gpu || fits_here()))
            rc = run(&args, &cli, report);
    }
    opt_free_strings(calibrate_options, &args);
    cli_free(&cli);
    free(report);
    return rc;
}
