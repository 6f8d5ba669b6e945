/* model/routing_file.h: recorded routing, read for model/routing.c. */
#ifndef PEOSIM_MODEL_ROUTING_FILE_H
#define PEOSIM_MODEL_ROUTING_FILE_H

#include "base/csv.h"
#include "model/routing.h"

/* Fills r->expert (its sizes are set) from spec->path; errors as routing_make gives them, logged
 * with file and line. */
int routing_file_fill(const struct routing_spec *spec, struct plan_routing *r);
/* The same from the text of a file (CSV, JSON or .npy), and from a table already read. */
int routing_text_fill(const struct routing_spec *spec, const char *text, size_t len,
                      const char *path, struct plan_routing *r);
int routing_csv_fill(const struct routing_spec *spec, const struct csv *csv,
                     struct plan_routing *r);

#endif
