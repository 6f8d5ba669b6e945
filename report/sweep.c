#include "report/sweep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "report/plot.h"
#include "report/points.h"
#include "report/points_line.h"
#include "report/report.h"

enum { ROWS_MAX = 32, PICTURES_MAX = 24, PATH_SIZE = 1024 };

/* A picture over one or two axes of the grid; the other axes are held at one value. */
struct picture {
    const char *script;
    char name[64]; /* of its files, without ending */
    char title[256];
    const struct axis *x, *y; /* y NULL: one axis */
    char ycol[32], ylabel[96];
    bool best_only; /* one line per scenario: the best policy */
    struct file_out csv;
};

struct writer {
    const struct config *c;
    const char *folder;
    struct file_out points, best;
    struct picture pictures[PICTURES_MAX];
    int num_pictures;
    size_t scenario, rows;
    struct journal_point row[ROWS_MAX]; /* best of each row name in this scenario */
    int num_rows;
    /* The scenario whose rounds and SMs are drawn: the one that gains most. */
    size_t heat_scenario;
    int heat_entry;
    char heat_name[32]; /* its row: "peo 3"; the map is of that method alone */
    double heat_gain;
};

static size_t axis_value(const struct config *c, const struct axis *a, size_t scenario)
{
    for (int i = c->num_axes - 1; i >= 0 && &c->axes[i] != a; i--)
        scenario /= (size_t)c->axes[i].num_values;
    return scenario % (size_t)a->num_values;
}

static bool axis_is_number(const struct axis *a)
{
    return a->opt->type == OPT_INT || a->opt->type == OPT_DOUBLE;
}

/* Where an axis stands in pictures over other axes: the middle of numbers, the first of names. */
static size_t axis_held(const struct axis *a)
{
    return axis_is_number(a) ? (size_t)a->num_values / 2 : 0;
}

static bool picture_has(const struct config *c, const struct picture *p, size_t scenario)
{
    for (int i = 0; i < c->num_axes; i++) {
        const struct axis *a = &c->axes[i];

        if (a != p->x && a != p->y && axis_value(c, a, scenario) != axis_held(a))
            return false;
    }
    return true;
}

/* ", cluster.nodes 4": what a picture holds still. */
static void held_words(const struct config *c, const struct picture *p, char *buf, size_t size)
{
    size_t at = 0;

    buf[0] = '\0';
    for (int i = 0; i < c->num_axes && at < size; i++) {
        const struct axis *a = &c->axes[i];

        if (a->num_values > 1 && a != p->x && a != p->y)
            at += (size_t)snprintf(buf + at, size - at, ", %s %s", a->opt->key,
                                   a->values[axis_held(a)]);
    }
}

static int path_of(const struct writer *w, const char *name, char *buf)
{
    if (snprintf(buf, PATH_SIZE, "%s/%s", w->folder, name) < PATH_SIZE)
        return 0;
    log_error("%s: the path is too long", w->folder);
    return ERR_RANGE;
}

static int out_open(const struct writer *w, const char *name, struct file_out *f)
{
    char path[PATH_SIZE];
    int err = path_of(w, name, path);

    return err ? err : file_create(f, path);
}

static int picture_add(struct writer *w, const char *script, const char *what, const struct axis *x,
                       const struct axis *y)
{
    struct picture *p = &w->pictures[w->num_pictures];
    const char *dot = y ? strrchr(y->opt->key, '.') : NULL;
    bool is_ep = y && (!strcmp(y->opt->key, "cluster.nodes") ||
                       !strcmp(y->opt->key, "cluster.gpus_per_node"));
    const char *ycol = is_ep ? "ep" : dot ? dot + 1 : y ? y->opt->key : "";
    char held[160], file[80];
    int err;

    if (w->num_pictures == PICTURES_MAX)
        return 0;
    *p = (struct picture){.script = script, .x = x, .y = y, .best_only = y != NULL};
    if (y) {
        snprintf(p->ycol, sizeof p->ycol, "%s", ycol);
        snprintf(p->ylabel, sizeof p->ylabel, "%s%s%s%s", is_ep ? "EP size" : ycol,
                 is_ep || y->opt->unit ? " (" : "",
                 is_ep          ? "GPUs"
                 : y->opt->unit ? y->opt->unit
                                : "",
                 is_ep || y->opt->unit ? ")" : "");
    }
    snprintf(p->name, sizeof p->name, "%s%s%s", script, y ? "_" : "", ycol);
    held_words(w->c, p, held, sizeof held);
    snprintf(p->title, sizeof p->title, "%s: %s%s", w->c->name, what, held);
    snprintf(file, sizeof file, "%s.csv", p->name);
    err = out_open(w, file, &p->csv);
    if (err)
        return err;
    fprintf(p->csv.f, "batch,%s%spolicy,layer_us,gain_pct,num_rounds,num_sms\n", "ep,",
            y && !is_ep ? strcat(strcpy(file, p->ycol), ",") : "");
    w->num_pictures++;
    return 0;
}

static const struct axis *axis_varied(const struct config *c, const char *key)
{
    const struct axis *a = config_axis(c, key);

    return a && a->num_values > 1 ? a : NULL;
}

/* Every picture that the axes allow. */
static int pictures_open(struct writer *w)
{
    const struct axis *batch = axis_varied(w->c, "batch");
    const struct axis *nodes = axis_varied(w->c, "cluster.nodes");
    const struct axis *ep = nodes ? nodes : axis_varied(w->c, "cluster.gpus_per_node");
    int err = 0;

    if (batch) {
        err = picture_add(w, "latency_batch", "layer time, best knobs of each policy", batch, NULL);
        if (!err)
            err = picture_add(w, "gain_batch", "gain over no overlap, best knobs of each policy",
                              batch, NULL);
    }
    for (int i = 0; i < w->c->num_axes && batch && !err; i++) {
        const struct axis *a = &w->c->axes[i];

        if (a != batch && a->num_values > 1 && axis_is_number(a))
            err = picture_add(w, "gainmap", "gain of the best policy", batch, a);
    }
    if (ep && !err)
        err = picture_add(w, "scaling_ep", "best knobs of each policy", ep, NULL);
    return err;
}

static void best_line(const struct writer *w, const struct journal_point *p)
{
    char row[JOURNAL_ROW_MAX], *cells[CELLS_MAX];
    int vary = points_line_vary(w->c), n;

    memcpy(row, p->row, sizeof row);
    n = points_line_split(row, cells);
    for (int i = 0; i < n; i++)
        fprintf(w->best.f, "%s%s", i ? "," : "", i == vary + CELL_POLICY ? p->name : cells[i]);
    fputc('\n', w->best.f);
}

static void picture_line(const struct writer *w, struct picture *p, const struct scenario *s,
                         const struct journal_point *row, const char *name, double layer_us,
                         double gain_pct)
{
    char text[JOURNAL_ROW_MAX], *cells[CELLS_MAX];
    int vary = points_line_vary(w->c);

    memcpy(text, row->row, sizeof text);
    points_line_split(text, cells);
    fprintf(p->csv.f, "%d,%d,", s->batch, s->nodes * s->gpus_per_node);
    if (p->y && strcmp(p->ycol, "ep"))
        fprintf(p->csv.f, "%s,", p->y->values[axis_value(w->c, p->y, w->scenario)]);
    fprintf(p->csv.f, "%s,%.6g,%.6g,%s,%s\n", name, layer_us, gain_pct, cells[vary + CELL_ROUNDS],
            cells[vary + CELL_SMS]);
}

static const struct journal_point *best_of(const struct writer *w)
{
    const struct journal_point *best = NULL;

    for (int i = 0; i < w->num_rows; i++)
        if (strcmp(w->row[i].name, "none") && (!best || w->row[i].gain_pct > best->gain_pct))
            best = &w->row[i];
    return best;
}

static void picture_lines(const struct writer *w, struct picture *p, const struct scenario *s)
{
    const struct journal_point *best = best_of(w);

    if (p->best_only && best)
        picture_line(w, p, s, best, best->name, best->layer_us, best->gain_pct);
    for (int i = 0; i < w->num_rows && !p->best_only; i++) {
        const struct journal_point *row = &w->row[i];

        picture_line(w, p, s, row, row->name, row->layer_us, row->gain_pct);
    }
}

/* All points of the scenario are in: its lines of best.csv and of the pictures. */
static int scenario_flush(struct writer *w)
{
    struct scenario s;
    int err = w->num_rows ? config_scenario(w->c, w->scenario, &s) : 0;

    if (err || !w->num_rows)
        return err;
    for (int i = 0; i < w->num_rows; i++)
        best_line(w, &w->row[i]);
    for (int i = 0; i < w->num_pictures; i++)
        if (picture_has(w->c, &w->pictures[i], w->scenario))
            picture_lines(w, &w->pictures[i], &s);
    w->num_rows = 0;
    scenario_free(&s);
    return 0;
}

static void row_keep(struct writer *w, const struct journal_point *p)
{
    int i = 0;

    while (i < w->num_rows && strcmp(w->row[i].name, p->name))
        i++;
    if (i == ROWS_MAX)
        return;
    if (i == w->num_rows)
        w->row[w->num_rows++] = *p;
    else if (p->layer_us < w->row[i].layer_us)
        w->row[i] = *p;
}

/* The entry of a point whose rounds and SMs both vary, or -1. */
static int heat_entry_of(const struct config *c, size_t index)
{
    const struct policy *policy;
    struct knobs k;
    int entry, varied = 0;

    config_knobs(c, index % config_num_points_per_scenario(c), &policy, &k, &entry);
    for (int i = 0; i < c->policies[entry].num_axes; i++) {
        const struct axis *a = &c->policies[entry].axes[i];

        if (a->num_values > 1 &&
            (!strcmp(a->opt->key, "num_rounds") || !strcmp(a->opt->key, "pipeline_num") ||
             !strcmp(a->opt->key, "num_sms")))
            varied++;
    }
    return varied == 2 ? entry : -1;
}

static int point_write(void *self, const struct journal_point *p)
{
    struct writer *w = self;
    size_t scenario = p->index / config_num_points_per_scenario(w->c);
    int err = 0;

    if (scenario != w->scenario)
        err = scenario_flush(w);
    w->scenario = scenario;
    w->rows++;
    fprintf(w->points.f, "%s\n", p->row);
    row_keep(w, p);
    if (p->gain_pct > w->heat_gain || w->heat_entry < 0) {
        int entry = heat_entry_of(w->c, p->index);

        if (entry >= 0) {
            w->heat_entry = entry;
            w->heat_gain = p->gain_pct;
            w->heat_scenario = scenario;
            memcpy(w->heat_name, p->name, sizeof w->heat_name);
        }
    }
    return err;
}

/* The heat map's cells: over the knobs that are not drawn, the best. */
struct heat {
    const struct writer *w;
    struct heat_cell {
        int rounds, sms;
        double layer_us, gain_pct;
    } cell[1024];
    int num;
};

static int heat_note(void *self, const struct journal_point *p)
{
    struct heat *h = self;
    char row[JOURNAL_ROW_MAX], *cells[CELLS_MAX];
    int vary = points_line_vary(h->w->c), rounds, sms, i = 0;

    if (heat_entry_of(h->w->c, p->index) != h->w->heat_entry ||
        strcmp(p->name, h->w->heat_name) != 0)
        return 0;
    memcpy(row, p->row, sizeof row);
    points_line_split(row, cells);
    rounds = atoi(cells[vary + CELL_ROUNDS]);
    sms = atoi(cells[vary + CELL_SMS]);
    while (i < h->num && (h->cell[i].rounds != rounds || h->cell[i].sms != sms))
        i++;
    if (i == (int)(sizeof h->cell / sizeof *h->cell))
        return 0;
    if (i < h->num && h->cell[i].layer_us <= p->layer_us)
        return 0;
    h->cell[i] = (struct heat_cell){rounds, sms, p->layer_us, p->gain_pct};
    h->num += i == h->num;
    return 0;
}

static int heat_cmp(const void *va, const void *vb)
{
    const struct heat_cell *a = va, *b = vb;

    return a->rounds != b->rounds ? a->rounds - b->rounds : a->sms - b->sms;
}

static int heatmap_write(struct writer *w, struct journal *j, bool draw)
{
    size_t per = config_num_points_per_scenario(w->c);
    struct heat *h = calloc(1, sizeof *h);
    struct file_out f = {0};
    char csv[PATH_SIZE], out[PATH_SIZE], words[160], title[256];
    int err = h ? 0 : ERR_NOMEM;

    if (err)
        return err;
    h->w = w;
    err = journal_read(j, w->heat_scenario * per, (w->heat_scenario + 1) * per, heat_note, h);
    if (!err)
        err = out_open(w, "heatmap.csv", &f);
    if (!err) {
        qsort(h->cell, (size_t)h->num, sizeof *h->cell, heat_cmp);
        fprintf(f.f, "num_rounds,num_sms,layer_us,gain_pct\n");
        for (int i = 0; i < h->num; i++)
            fprintf(f.f, "%d,%d,%.6g,%.6g\n", h->cell[i].rounds, h->cell[i].sms,
                    h->cell[i].layer_us, h->cell[i].gain_pct);
        err = file_commit(&f);
    }
    file_abort(&f);
    free(h);
    if (err || !draw)
        return err;
    report_scenario_words(w->c, w->heat_scenario, words, sizeof words);
    snprintf(title, sizeof title, "%s: gain of %s%s%s", w->c->name, w->heat_name,
             *words ? ", " : "", words);
    err = path_of(w, "heatmap.csv", csv);
    if (!err)
        err = path_of(w, "heatmap", out);
    if (!err)
        plot_draw("heatmap", csv, out, title, NULL);
    return err;
}

static void picture_draw(const struct writer *w, const struct picture *p)
{
    const char *extra[] = {p->ycol, p->ylabel, NULL};
    char csv[PATH_SIZE], out[PATH_SIZE], file[80];

    snprintf(file, sizeof file, "%s.csv", p->name);
    if (!path_of(w, file, csv) && !path_of(w, p->name, out))
        plot_draw(p->script, csv, out, p->title, p->y ? extra : NULL);
}

static int files_commit(struct writer *w)
{
    int err = file_commit(&w->points);

    if (!err)
        err = file_commit(&w->best);
    for (int i = 0; i < w->num_pictures && !err; i++)
        err = file_commit(&w->pictures[i].csv);
    return err;
}

/* The points as columns of the journal's database. */
static int results_put(const struct writer *w, struct journal *j)
{
    char csv[PATH_SIZE];
    int err = path_of(w, "points.csv", csv);

    return err ? err : journal_results(j, csv);
}

int sweep_report_write(const struct config *c, struct journal *j, const char *folder, bool draw,
                       size_t *rows)
{
    struct writer *w = calloc(1, sizeof *w);
    int err = w ? 0 : ERR_NOMEM;

    if (err)
        return err;
    w->c = c;
    w->folder = folder;
    w->heat_entry = -1;
    err = out_open(w, "points.csv", &w->points);
    if (!err)
        err = out_open(w, "best.csv", &w->best);
    if (!err)
        err = pictures_open(w);
    if (!err) {
        report_csv_head(c, w->points.f);
        report_csv_head(c, w->best.f);
        err = journal_read(j, 0, config_num_points(c), point_write, w);
    }
    if (!err)
        err = scenario_flush(w);
    if (!err)
        err = files_commit(w);
    if (!err)
        err = results_put(w, j);
    for (int i = 0; i < w->num_pictures && !err && draw; i++)
        picture_draw(w, &w->pictures[i]);
    if (!err && w->heat_entry >= 0)
        err = heatmap_write(w, j, draw);
    *rows = w->rows;
    file_abort(&w->points);
    file_abort(&w->best);
    for (int i = 0; i < w->num_pictures; i++)
        file_abort(&w->pictures[i].csv);
    free(w);
    return err;
}
