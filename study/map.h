/* study/map.h: which policy wins where: batch against one other key of a configuration (EP by
 * cluster.nodes, NIC speed, routing skew). Every number is that of `run` at the same point. */
#ifndef PEOSIM_STUDY_MAP_H
#define PEOSIM_STUDY_MAP_H

#include "study/grid.h"

/* By how much the winner leads, against what the model is known to mistake (docs/limits.md). */
enum map_sure { MAP_TIE, MAP_LIKELY, MAP_CLEAR };
const char *map_sure_name(enum map_sure sure);
/* Margins from which a lead is likely, and clear; percent of the layer without overlap. */
#define MAP_LIKELY_PCT 3.0
#define MAP_CLEAR_PCT  10.0
/* Where the winner is within so much of any schedule of its kernels, no tuning helps. */
#define MAP_TUNED_PCT 10.0

struct map_cell {
    size_t scenario;
    const struct grid_point *none;   /* NULL: no point of this cell can run */
    const struct grid_point *best;   /* the winner, maybe `none` */
    const struct grid_point *second; /* the next, NULL: there is no other */
    double saved_us, margin_pct; /* against none; ahead of the next, of the layer without overlap */
    enum map_sure sure;
};

/* Where one winner gives way to another as the batch grows: between two listed batches, where their
 * lines would cross (straight in the logarithm of the batch). */
struct map_edge {
    int row;
    double batch;
    const struct grid_point *from, *to;
};

struct map {
    const struct config *config;
    struct grid *grid;
    const struct axis *batch, *other; /* other: NULL, one row */
    int columns, rows;
    struct map_cell *cell; /* [rows * columns] */
    struct map_edge *edge;
    int num_edges;
};

/* ERR_CONFIG (logged) where the file has no list of batches, or lists more than one other key. */
int map_run(const struct config *c, int jobs, void (*progress)(void *self, size_t done, size_t all),
            void *self, struct map **out);
void map_free(struct map *m); /* accepts NULL */

#endif
