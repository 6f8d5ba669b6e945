/* report/validate.h: measured against predicted, as tables, CSV, JSON and figures of merit. */
#ifndef PEOSIM_REPORT_VALIDATE_H
#define PEOSIM_REPORT_VALIDATE_H

#include <stdio.h>

#include "study/validate.h"

void validate_table(const struct validate_set *v, FILE *f);
/* Errors, op kinds, order of the methods, sign of the gain, and whether outputs agree bit by bit.
 */
void validate_summary(const struct validate_set *v, FILE *f);
void validate_layers_csv(const struct validate_set *v, FILE *f);
void validate_ops_csv(const struct validate_set *v, FILE *f);
/* ERR_NOMEM. The caller frees. */
int validate_json(const struct validate_set *v, char **text);

#endif
