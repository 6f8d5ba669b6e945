/* peosim sweep: every combination of a configuration's lists, on all threads of one machine or as
 * several MPI processes; what is done survives an interrupt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "study/grid.h"
#include "study/journal.h"
#include "report/plot.h"
#include "report/progress.h"
#include "report/points.h"
#include "report/report.h"
#include "study/sweep_mpi.h"
#include "report/sweep.h"

/* More points than this are likely a mistake: an hour and more of work. */
#define SWEEP_MAX_POINTS 100000

struct flags {
    bool yes, restart;
};

const struct opt sweep_options[] = {
    {.key = "yes",
     .type = OPT_BOOL,
     .offset = offsetof(struct flags, yes),
     .def = "false",
     .help = "run grids of more than 100,000 points too"},
    {.key = "restart",
     .type = OPT_BOOL,
     .offset = offsetof(struct flags, restart),
     .def = "false",
     .help = "discard what the output folder's journal holds"},
    {.key = NULL},
};

struct sweep {
    struct cli *cli;
    struct flags flags;
    struct config *c;
    char folder[512];
    struct mpi_world world;
    struct journal *journal;
    struct progress progress;
    size_t next, done, skipped; /* chunk to hand out; points finished, and not possible, here */
};

static int size_check(const struct sweep *s)
{
    size_t n = config_num_points(s->c);

    if (n <= SWEEP_MAX_POINTS || s->flags.yes)
        return 0;
    log_error_at(s->c->path, 0, "%zu points, more than %d; --yes runs them all", n,
                 SWEEP_MAX_POINTS);
    return ERR_USAGE;
}

/* Adds the hash of a file's bytes to the text that the key is made of. */
static int key_add_file(char **text, const char *path)
{
    char hex[65], *more = NULL;
    int err = file_hash(path, hex);

    if (err)
        return err;
    if (asprintf(&more, "%s %s", *text, hex) < 0)
        return ERR_NOMEM;
    free(*text);
    *text = more;
    return 0;
}

static int key_add_profile(char **text, const char *name)
{
    struct hw_profile *p;
    int err = hw_profile_read(name, &p);

    if (err)
        return err;
    err = key_add_file(text, p->path);
    hw_profile_free(p);
    return err;
}

static int key_add_model(char **text, const char *name)
{
    struct moe_model *m;
    int err = moe_model_read(name, &m);

    if (err)
        return err;
    err = key_add_file(text, m->path);
    moe_model_free(m);
    return err;
}

static int key_add_axis(char **text, const struct config *c, const char *key,
                        int (*add)(char **text, const char *name))
{
    const struct axis *a = config_axis(c, key);
    const char *dflt = opt_find(scenario_options, key)->def;
    int err = 0;

    for (int i = 0; a && i < a->num_values && !err; i++)
        if (*a->values[i])
            err = add(text, a->values[i]);
    return a || !*dflt ? err : add(text, dflt);
}

/* What results depend on: the config, the files it names, and this program. */
static int key_make(const struct config *c, char key[65])
{
    char *text = strdup(c->hash);
    int err = text ? key_add_file(&text, "/proc/self/exe") : ERR_NOMEM;

    if (!err)
        err = key_add_axis(&text, c, "cluster.profile", key_add_profile);
    if (!err)
        err = key_add_axis(&text, c, "model", key_add_model);
    if (!err)
        err = key_add_axis(&text, c, "routing.file", key_add_file);
    if (!err)
        file_hash_text(text, strlen(text), key);
    free(text);
    return err;
}

/* The folder and what it holds already; by the first process alone, before the others look. */
static int output_prepare(struct sweep *s)
{
    struct evaluator *e = NULL;
    int err = evaluator_open(&e);

    if (!err)
        err = evaluate_config(e, s->c, NULL);
    evaluator_close(e);
    if (!err)
        err = file_mkdirs(s->folder);
    if (!err && s->flags.restart)
        err = journal_remove(s->folder);
    return err;
}

static int output_open(struct sweep *s)
{
    char key[65];
    int err = key_make(s->c, key);

    if (!err && s->world.rank == 0)
        err = output_prepare(s);
    err = mpi_agree(&s->world, err);
    if (!err)
        err = journal_open(s->folder, key, config_num_points(s->c), &s->journal);
    /* Nobody begins to write before everybody has read. */
    err = mpi_agree(&s->world, err);
    if (!err)
        err = journal_begin(s->journal, s->world.rank);
    err = mpi_agree(&s->world, err);
    if (!err && s->world.rank == 0 && journal_count(s->journal))
        log_note("%s: %zu of %zu points are there already", s->folder, journal_count(s->journal),
                 config_num_points(s->c));
    return err;
}

static bool chunk_missing(const struct sweep *s, size_t chunk)
{
    size_t first, count;

    grid_chunk(s->c, chunk, &first, &count);
    for (size_t i = first; i < first + count; i++)
        if (!journal_has(s->journal, i))
            return true;
    return false;
}

static bool sweep_take(void *self, size_t *chunk, int *err)
{
    struct sweep *s = self;
    size_t all = grid_num_chunks(s->c);

    do {
        if (s->world.size > 1)
            *err = mpi_counter_next(&s->world, &s->next);
        *chunk = s->world.size > 1 ? s->next : s->next++;
    } while (!*err && *chunk < all && !chunk_missing(s, *chunk));
    return !*err && *chunk < all;
}

static bool sweep_have(void *self, size_t index)
{
    const struct sweep *s = self;

    return journal_has(s->journal, index);
}

/* One process knows what it has done; of several, how far the chunks handed out have come. */
static void sweep_progress(struct sweep *s)
{
    size_t all = config_num_points(s->c), there = journal_count(s->journal), done = s->done;

    if (s->world.size > 1) {
        size_t chunks = grid_num_chunks(s->c), next = s->next < chunks ? s->next : chunks;

        done = (size_t)((double)next / (double)chunks * (double)(all - there));
    }
    progress_step(&s->progress, done, all - there);
}

static int point_append(struct sweep *s, size_t index, const struct grid_point *p)
{
    struct journal_point line = {
        .index = index, .layer_us = p->ev.layer_us, .gain_pct = p->ev.gain_pct};
    FILE *f = fmemopen(line.row, sizeof line.row, "w");
    size_t len;
    int err;

    if (!f)
        return ERR_NOMEM;
    grid_point_name(p, line.name, sizeof line.name);
    report_csv_row(s->c, p, NULL, f);
    err = fclose(f) ? ERR_RANGE : 0;
    len = strlen(line.row);
    if (err || !len || line.row[len - 1] != '\n') {
        log_error("point %zu: its line is too long", index);
        return ERR_RANGE;
    }
    line.row[len - 1] = '\0';
    return journal_append(s->journal, &line);
}

static int sweep_done(void *self, size_t index, const struct grid_point *p)
{
    struct sweep *s = self;
    int err = p->skipped ? 0 : point_append(s, index, p);

    s->done++;
    s->skipped += p->skipped;
    sweep_progress(s);
    return err;
}

/* Threads: what was asked for, else a fair share of this machine's processors. */
static int jobs_of(const struct sweep *s)
{
    int n = cli_jobs(s->cli);

    if (s->cli->jobs == 0)
        n = n / s->world.local_size;
    return n > 0 ? n : 1;
}

static int points_run(struct sweep *s)
{
    struct grid_work work = {
        .config = s->c, .self = s, .take = sweep_take, .have = sweep_have, .done = sweep_done};
    int err;

    progress_open(&s->progress, "points", s->cli->quiet || s->world.rank > 0);
    err = grid_work_run(&work, jobs_of(s));
    progress_close(&s->progress);
    if (err && s->world.size > 1) {
        log_error("process %d of %d failed: %s; the points finished so far are kept in %s",
                  s->world.rank, s->world.size, err_text(err), s->folder);
        mpi_die(&s->world);
    }
    return err;
}

/* Every point that can run is in a journal that this process sees. */
static int rows_check(const struct sweep *s, size_t rows, size_t skipped)
{
    size_t want = config_num_points(s->c) - skipped;

    if (rows == want)
        return 0;
    log_error("%s: %zu of %zu points are here: the folder must be one that all processes share",
              s->folder, rows, want);
    return ERR_IO;
}

static int results_write(struct sweep *s, size_t skipped)
{
    bool draw = !s->cli->no_plots && plot_available();
    struct record r;
    size_t rows;
    int err = sweep_report_write(s->c, s->journal, s->folder, draw, &rows);

    if (!err)
        err = rows_check(s, rows, skipped);
    if (err)
        return err;
    if (!s->cli->no_plots && !draw)
        log_warn("gnuplot is not installed: the results are in %s, without pictures", s->folder);
    record_open(&r, s->cli->format, stdout);
    err = sweep_report(s->c, s->folder, &r);
    if (!err)
        err = record_close(&r);
    if (!err && s->cli->format == record_format_at(0))
        printf("%zu points, %zu skipped because they cannot run\n"
               "results: %s/points.csv, best.csv%s\n",
               rows, skipped, s->folder, draw ? ", pictures beside them" : "");
    return err;
}

static int sweep(struct sweep *s)
{
    size_t skipped;
    int err = config_read(s->cli->words[0], s->cli->sets, (size_t)s->cli->num_sets, &s->c);

    if (!err)
        err = size_check(s);
    if (err)
        return err;
    cli_folder(s->cli, s->c->name, s->folder, sizeof s->folder);
    err = mpi_open(&s->world);
    if (!err)
        err = output_open(s);
    if (!err)
        err = points_run(s);
    if (s->world.rank > 0) { /* the first takes in what they have written */
        journal_close(s->journal);
        s->journal = NULL;
    }
    err = mpi_agree(&s->world, err);
    skipped = mpi_sum(&s->world, s->skipped);
    if (!err && s->world.rank == 0)
        err = results_write(s, skipped);
    mpi_close(&s->world);
    journal_close(s->journal);
    return err;
}

int cmd_sweep(int argc, char **argv)
{
    struct cli cli = {0};
    struct sweep s = {.cli = &cli};
    int err = cli_parse_config(&cli, argc, argv, sweep_options, &s.flags);

    if (!err && !cli.help)
        err = sweep(&s);
    config_free(s.c);
    cli_free(&cli);
    return err;
}
