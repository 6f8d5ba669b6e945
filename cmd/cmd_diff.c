#include "cmd/cmd_diff.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/opt.h"
#include "report/plot.h"
#include "trace/chrome.h"
#include "trace/diff.h"

struct diff_args {
    const char *path[2];
    char *map, *output_dir, *names, *window;
    int layer;
    bool json, help;
    double tolerance_us, tolerance_pct;
};

const struct opt diff_options[] = {
    {.key = "map",
     .type = OPT_STRING,
     .offset = offsetof(struct diff_args, map),
     .help = "pattern=kind,...: op kinds of another program's kernels; others are left out"},
    {.key = "window",
     .type = OPT_STRING,
     .offset = offsetof(struct diff_args, window),
     .unit = "us",
     .help = "compare only what starts within FROM-TO, or FROM-TO,FROM-TO for A and B apart"},
    {.key = "layer",
     .type = OPT_INT,
     .offset = offsetof(struct diff_args, layer),
     .min = -1,
     .max = 100000,
     .def = "-1",
     .help = "compare one layer of peosim's traces; -1 = all"},
    {.key = "names",
     .type = OPT_STRING,
     .offset = offsetof(struct diff_args, names),
     .def = "A,B",
     .help = "what the pictures call the two traces, as in predicted,measured"},
    {.key = "output_dir",
     .type = OPT_STRING,
     .offset = offsetof(struct diff_args, output_dir),
     .def = "results/diff",
     .help = "where diff.csv, compare.csv, trace.json and the picture go"},
    {.key = "tolerance_us",
     .type = OPT_DOUBLE,
     .offset = offsetof(struct diff_args, tolerance_us),
     .min = 0,
     .max = 1e9,
     .def = "0.5",
     .unit = "us",
     .help = "smaller differences of a span are no divergence"},
    {.key = "tolerance_pct",
     .type = OPT_DOUBLE,
     .offset = offsetof(struct diff_args, tolerance_pct),
     .min = 0,
     .max = 1000,
     .def = "2",
     .unit = "%",
     .help = "nor are smaller parts of its length"},
    {.key = "json",
     .type = OPT_BOOL,
     .offset = offsetof(struct diff_args, json),
     .def = "false",
     .help = "print JSON instead of tables"},
    {.key = "help",
     .type = OPT_BOOL,
     .offset = offsetof(struct diff_args, help),
     .def = "false",
     .help = "print this"},
    {.key = NULL}};

static void diff_usage(FILE *f)
{
    fputs(
        "usage: peosim diff A B [options]\n"
        "A, B: spans.csv or trace.json of peosim, a torch-profiler trace (JSON), Nsight Systems'\n"
        "exports (nsys stats --report cuda_gpu_trace --format csv; nsys export --type sqlite), "
        "each\n"
        "packed by gzip or not, or a folder of them, one for each rank.\n"
        "Without --map all kernels of other programs are kept under their own names.\n\n",
        f);
    opt_print_help(diff_options, f);
    fputs("\nop kinds for --map:", f);
    for (int k = 0; k < OP_KIND_COUNT; k++)
        fprintf(f, "%s%s", k % 6 ? " " : "\n  ", plan_op_kind_name((enum plan_op_kind)k));
    fputc('\n', f);
}

/* --key value, --key=value, or --flag for what is true or false. Moves *i past what it took. */
static int diff_flag(struct diff_args *a, int argc, char **argv, int *i)
{
    char key[64];
    const char *word = argv[*i] + 2, *eq = strchr(word, '=');
    const char *value = eq ? eq + 1 : NULL;
    const struct opt *o;

    snprintf(key, sizeof key, "%.*s", eq ? (int)(eq - word) : (int)strlen(word), word);
    for (char *c = key; *c; c++)
        if (*c == '-')
            *c = '_';
    o = opt_find(diff_options, key);
    if (!value && o && o->type == OPT_BOOL)
        value = "true";
    else if (!value && o && *i + 1 < argc)
        value = argv[++*i];
    if (o && !value) {
        log_error("%s wants a value", argv[*i]);
        return ERR_USAGE;
    }
    return opt_set(diff_options, a, key, value ? value : "", "command line", 0) ? ERR_USAGE : 0;
}

static int diff_parse(struct diff_args *a, int argc, char **argv)
{
    int num = 0, err = opt_set_defaults(diff_options, a);

    for (int i = 1; i < argc && !err; i++) {
        if (!strncmp(argv[i], "--", 2) && argv[i][2]) {
            err = diff_flag(a, argc, argv, &i);
        } else if (num < 2) {
            a->path[num++] = argv[i];
        } else {
            log_error("diff: a third trace '%.200s'; two are compared", argv[i]);
            err = ERR_USAGE;
        }
    }
    if (!err && !a->help && num < 2) {
        log_error("diff: two traces are wanted (peosim diff --help)");
        err = ERR_USAGE;
    }
    return err;
}

/* "predicted,measured" -> two names; one without a comma leaves B. */
static void diff_names(const char *text, char name[2][64])
{
    const char *comma = strchr(text, ',');

    snprintf(name[0], 64, "%.*s", comma ? (int)(comma - text) : 63, text);
    snprintf(name[1], 64, "%.63s", comma ? comma + 1 : "B");
}

struct diff_out {
    const struct diff_args *args;
    const struct trace_log *log[2];
    const struct trace_diff *diff;
    char name[2][64];
    bool drawn;
};

static int write_diff(const struct diff_out *o, FILE *f)
{
    return trace_diff_write_csv(o->diff, f);
}

static int write_lanes(const struct diff_out *o, FILE *f)
{
    return trace_diff_write_lanes(o->diff, o->name[0], o->name[1], f);
}

static int write_chrome(const struct diff_out *o, FILE *f)
{
    struct trace_chrome c;

    trace_chrome_begin(&c, f, "peosim diff", NULL);
    for (int i = 0; i < 2; i++)
        trace_chrome_add(&c, o->log[i], o->name[i]);
    return trace_chrome_end(&c);
}

static int diff_write(const struct diff_out *o, const char *file,
                      int (*write)(const struct diff_out *, FILE *), char *path, size_t size)
{
    struct file_out out = {0};
    int err;

    snprintf(path, size, "%s/%s", o->args->output_dir, file);
    err = file_create(&out, path);
    if (err)
        return err;
    write(o, out.f); /* a write that failed shows in file_commit */
    err = file_commit(&out);
    file_abort(&out);
    return err;
}

static int diff_draw(const struct diff_out *o, const char *csv)
{
    char out[4096], title[512], rank[16];
    const char *extra[] = {rank, "0", NULL};
    double a_us = o->diff->a_ns / 1e3, b_us = o->diff->b_ns / 1e3;

    snprintf(out, sizeof out, "%s/compare", o->args->output_dir);
    snprintf(rank, sizeof rank, "%d", o->diff->b_rank);
    snprintf(title, sizeof title, "%s: %.1f µs, %s: %.1f µs (%+.1f%%), rank %d", o->name[0], a_us,
             o->name[1], b_us, a_us > 0 ? (b_us / a_us - 1) * 100 : 0, o->diff->b_rank);
    return plot_draw("compare", csv, out, title, extra);
}

static int diff_files(struct diff_out *o)
{
    char path[4096];
    int err = file_mkdirs(o->args->output_dir);

    if (!err)
        err = diff_write(o, "diff.csv", write_diff, path, sizeof path);
    if (!err)
        err = diff_write(o, "trace.json", write_chrome, path, sizeof path);
    if (!err)
        err = diff_write(o, "compare.csv", write_lanes, path, sizeof path);
    o->drawn = !err && !diff_draw(o, path);
    if (!err && !o->drawn)
        log_warn("the picture was not drawn; everything else is in %s", o->args->output_dir);
    return err;
}

/* "1200-1900" or "0-700,1200-1900", in us; without it everything. */
static int window_of(const struct diff_args *a, int which, struct trace_window *part)
{
    const char *text = a->window, *comma = text ? strchr(text, ',') : NULL;
    char rest;

    *part = (struct trace_window){.from_ns = -HUGE_VAL, .to_ns = HUGE_VAL, .layer = a->layer};
    if (!text)
        return 0;
    if (which && comma)
        text = comma + 1;
    if (sscanf(text, "%lf-%lf%c", &part->from_ns, &part->to_ns, &rest) < 2 ||
        !(part->from_ns < part->to_ns)) {
        log_error("--window wants FROM-TO in us, for A and B apart FROM-TO,FROM-TO; not '%.100s'",
                  a->window);
        return ERR_USAGE;
    }
    part->from_ns *= 1e3;
    part->to_ns *= 1e3;
    return 0;
}

static int log_read(const struct diff_args *a, int which, const struct trace_map *map,
                    struct trace_log **out)
{
    struct trace_window part;
    int err = window_of(a, which, &part);

    if (!err)
        err = trace_log_read(a->path[which], map, out);
    if (!err && (a->window || a->layer >= 0))
        err = trace_log_keep(*out, &part, a->path[which]);
    return err;
}

static int diff_run(const struct diff_args *a)
{
    struct trace_diff_opts tolerance = {a->tolerance_us * 1e3, a->tolerance_pct / 100};
    struct trace_map map = {0};
    struct trace_log *log[2] = {NULL, NULL};
    struct trace_diff *diff = NULL;
    struct diff_out out = {.args = a};
    int err = a->map ? trace_map_parse(a->map, &map) : 0;

    for (int i = 0; i < 2 && !err; i++) {
        err = log_read(a, i, &map, &log[i]);
        out.log[i] = log[i];
    }
    if (!err)
        err = trace_diff_new(&diff, log[0], log[1], &tolerance);
    if (err)
        goto out;
    out.diff = diff;
    diff_names(a->names, out.name);
    err = diff_files(&out);
    if (err)
        goto out;
    if (a->json)
        err = trace_diff_print_json(diff, a->path[0], a->path[1], stdout);
    else
        err = trace_diff_print(diff, a->path[0], a->path[1], stdout);
    if (!err && !a->json)
        printf("\nfiles: %s/{diff.csv,compare.csv,trace.json%s}\n", a->output_dir,
               out.drawn ? ",compare.png,compare.svg" : "");
out:
    trace_diff_free(diff);
    for (int i = 0; i < 2; i++)
        trace_log_free(log[i]);
    trace_map_free(&map);
    return err;
}

int cmd_diff(int argc, char **argv)
{
    struct diff_args args = {0};
    int err = diff_parse(&args, argc, argv);

    if (!err && args.help)
        diff_usage(stdout);
    else if (!err)
        err = diff_run(&args);
    opt_free_strings(diff_options, &args);
    return err;
}
