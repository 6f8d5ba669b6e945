/* report/confidence.h: intervals of predicted layer times as a table and as JSON. */
#ifndef PEOSIM_REPORT_CONFIDENCE_H
#define PEOSIM_REPORT_CONFIDENCE_H

#include <stdio.h>

#include "study/confidence.h"

/* The rows as a JSON array for the key "confidence" (borrows nothing). NULL when memory is out. */
struct json_t *confidence_json(const struct confidence *c, const struct grid *g);
void confidence_print(const struct confidence *c, const struct grid *g, FILE *f);

#endif
