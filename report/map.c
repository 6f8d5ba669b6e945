#include "report/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/version.h"
#include "report/plot.h"
#include "report/report.h"

static const char *row_key(const struct map *m)
{
    return m->other ? m->other->opt->key : "all";
}

static const char *row_value(const struct map *m, int row)
{
    return m->other ? m->other->values[row] : "";
}

static const struct map_cell *cell_at(const struct map *m, int row, int column)
{
    return &m->cell[row * m->columns + column];
}

static bool is_tuned(const struct map_cell *cell)
{
    return bound_gap_pct(&cell->best->bound, cell->best->ev.layer_us) < MAP_TUNED_PCT;
}

/* "mega +22.1%", with ~ where another is as good and ! where the lead is clear; = where no tuning
 * helps. */
static void cell_words(const struct map_cell *cell, char *buf, size_t size)
{
    static const char *const marks[] = {"~", "", "!"};
    char name[24];

    snprintf(buf, size, "-");
    if (!cell->best)
        return;
    grid_point_name(cell->best, name, sizeof name);
    snprintf(buf, size, "%s %+.1f%%%s%s", name, cell->best->ev.gain_pct, marks[cell->sure],
             is_tuned(cell) ? "=" : "");
}

static void edges_print(const struct map *m, FILE *f)
{
    for (int i = 0; i < m->num_edges; i++) {
        const struct map_edge *e = &m->edge[i];
        char from[24], to[24];

        grid_point_name(e->from, from, sizeof from);
        grid_point_name(e->to, to, sizeof to);
        fprintf(f, "break-even: %s%s%s%s gives way to %s near batch %.0f\n",
                m->other ? row_key(m) : "", m->other ? " " : "", row_value(m, e->row),
                m->other ? ":" : "", to, e->batch);
        (void)from;
    }
}

static double assumed_pct(const struct map *m)
{
    double share = 0;
    int n = 0;

    for (int i = 0; i < m->rows * m->columns; i++)
        if (m->cell[i].best) {
            share += m->cell[i].best->ev.assumed_share;
            n++;
        }
    return n ? 100 * share / n : 0;
}

void report_map_table(const struct map *m, FILE *f)
{
    report_head(m->config, f);
    report_basis(m->config, false, f);
    fprintf(f, "  %-24s", m->other ? row_key(m) : "");
    for (int i = 0; i < m->columns; i++) {
        char words[32];

        snprintf(words, sizeof words, "batch %s", m->batch->values[i]);
        fprintf(f, " %-16s", words);
    }
    fputc('\n', f);
    for (int row = 0; row < m->rows; row++) {
        fprintf(f, "  %-24s", row_value(m, row));
        for (int i = 0; i < m->columns; i++) {
            char words[48];

            cell_words(cell_at(m, row, i), words, sizeof words);
            fprintf(f, " %-16s", words);
        }
        fputc('\n', f);
    }
    edges_print(m, f);
    fprintf(f,
            "winner and its gain over no overlap; ! ahead of the next by %.0f%% of the layer or "
            "more, ~ by less than %.0f%%: measure both; = within %.0f%% of any schedule\n",
            MAP_CLEAR_PCT, MAP_LIKELY_PCT, MAP_TUNED_PCT);
    if (assumed_pct(m) > 0)
        fprintf(f,
                "%.0f%% of the winners' op time rests on profile fields without data of their "
                "own\n",
                assumed_pct(m));
}

void report_map_csv(const struct map *m, FILE *f)
{
    fprintf(f,
            "row,%s,batch,winner,layer_us,none_us,gain_pct,second,margin_pct,sure,assumed_pct,"
            "within_pct\n",
            m->other ? row_key(m) : "key");
    for (int row = 0; row < m->rows; row++)
        for (int i = 0; i < m->columns; i++) {
            const struct map_cell *cell = cell_at(m, row, i);
            char best[24], second[24] = "";

            if (!cell->best)
                continue;
            grid_point_name(cell->best, best, sizeof best);
            if (cell->second)
                grid_point_name(cell->second, second, sizeof second);
            fprintf(f, "%d,%s,%s,%s,%.6g,%.6g,%.6g,%s,%.6g,%s,%.4g,%.4g\n", row + 1,
                    row_value(m, row), m->batch->values[i], best, cell->best->ev.layer_us,
                    cell->best->ev.none_us, cell->best->ev.gain_pct, second, cell->margin_pct,
                    map_sure_name(cell->sure), 100 * cell->best->ev.assumed_share,
                    bound_gap_pct(&cell->best->bound, cell->best->ev.layer_us));
        }
}

static json_t *cell_json(const struct map *m, int row, int column)
{
    const struct map_cell *cell = cell_at(m, row, column);
    char best[24], second[24] = "";
    json_t *knobs = json_object(), *j;

    grid_point_name(cell->best, best, sizeof best);
    if (cell->second)
        grid_point_name(cell->second, second, sizeof second);
    report_knobs_json(cell->best, knobs);
    j = json_pack("{s:f,s:s,s:f,s:f,s:f,s:s,s:f,s:s,s:f,s:o}", "batch",
                  atof(m->batch->values[column]), "winner", best, "layer_us",
                  cell->best->ev.layer_us, "none_us", cell->best->ev.none_us, "gain_pct",
                  cell->best->ev.gain_pct, "second", second, "margin_pct", cell->margin_pct, "sure",
                  map_sure_name(cell->sure), "assumed_share", cell->best->ev.assumed_share, "knobs",
                  knobs);
    if (cell->best->bound.us > 0) {
        json_object_set_new(j, "lower_bound_us", json_real(cell->best->bound.us));
        json_object_set_new(j, "bound_by", json_string(bound_by_name(cell->best->bound.by)));
    }
    if (m->other)
        json_object_set_new(j, row_key(m), json_string(row_value(m, row)));
    return j;
}

static json_t *edge_json(const struct map *m, const struct map_edge *e)
{
    char from[24], to[24];
    json_t *j;

    grid_point_name(e->from, from, sizeof from);
    grid_point_name(e->to, to, sizeof to);
    j = json_pack("{s:f,s:s,s:s}", "batch", e->batch, "from", from, "to", to);
    if (m->other)
        json_object_set_new(j, row_key(m), json_string(row_value(m, e->row)));
    return j;
}

int report_map_json(const struct map *m, char **text)
{
    json_t *cells = json_array(), *edges = json_array(), *root;

    for (int row = 0; row < m->rows; row++)
        for (int i = 0; i < m->columns; i++)
            if (cell_at(m, row, i)->best)
                json_array_append_new(cells, cell_json(m, row, i));
    for (int i = 0; i < m->num_edges; i++)
        json_array_append_new(edges, edge_json(m, &m->edge[i]));
    root = json_pack("{s:s,s:s,s:s,s:o,s:o}", "version", PEOSIM_VERSION, "config", m->config->path,
                     "config_hash", m->config->hash, "break_even", edges, "cells", cells);
    *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    return *text ? 0 : ERR_NOMEM;
}

static void edges_csv(const struct map *m, FILE *f)
{
    fprintf(f, "row,batch,from,to\n");
    for (int i = 0; i < m->num_edges; i++) {
        char from[24], to[24];

        grid_point_name(m->edge[i].from, from, sizeof from);
        grid_point_name(m->edge[i].to, to, sizeof to);
        fprintf(f, "%d,%.6g,%s,%s\n", m->edge[i].row + 1, m->edge[i].batch, from, to);
    }
}

static int csv_file(const struct map *m, const char *folder, const char *name,
                    void (*write)(const struct map *m, FILE *f), char *path, size_t size)
{
    FILE *f;
    int bad;

    snprintf(path, size, "%s/%s", folder, name);
    f = fopen(path, "w");
    if (!f) {
        log_error("%s: %s", path, strerror(errno));
        return ERR_IO;
    }
    write(m, f);
    bad = ferror(f);
    bad |= fclose(f);
    return bad ? ERR_IO : 0;
}

int report_map_write(const struct map *m, const char *folder, bool draw)
{
    char csv[1200], edges[1200], out[1200], title[256];
    const char *extra[] = {m->other ? row_key(m) : "key", NULL};
    int err = file_mkdirs(folder);

    if (!err)
        err = csv_file(m, folder, "map_edges.csv", edges_csv, edges, sizeof edges);
    if (!err)
        err = csv_file(m, folder, "map.csv", report_map_csv, csv, sizeof csv);
    if (err || !draw || !plot_available())
        return err;
    snprintf(out, sizeof out, "%s/map", folder);
    snprintf(title, sizeof title, "%s: which overlap wins, and its gain", m->config->name);
    plot_draw("map", csv, out, title, extra);
    return 0;
}
