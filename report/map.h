/* report/map.h: a map of winners as a table, JSON, CSV and the CSV that its picture is drawn from.
 */
#ifndef PEOSIM_REPORT_MAP_H
#define PEOSIM_REPORT_MAP_H

#include <stdbool.h>
#include <stdio.h>

#include "study/map.h"

void report_map_table(const struct map *m, FILE *f);
void report_map_csv(const struct map *m, FILE *f);
/* The caller frees *text. ERR_NOMEM. */
int report_map_json(const struct map *m, char **text);
/* Writes FOLDER/map.csv and map_edges.csv, and, where draw is set and gnuplot is there, map.png and
 * map.svg by plots/map.gp. ERR_IO, logged. */
int report_map_write(const struct map *m, const char *folder, bool draw);

#endif
