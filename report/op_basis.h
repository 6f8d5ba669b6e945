/* report/op_basis.h: where the laws of a result's ops have their figures from, as text and JSON. */
#ifndef PEOSIM_REPORT_OP_BASIS_H
#define PEOSIM_REPORT_OP_BASIS_H

#include <stdio.h>

#include "report/record.h"
#include "study/op_basis.h"

/* "laws measured on h200: dispatch, combine" and the same of those transferred, assumed or used
 * outside their range: one line each, none where there are none. */
void op_basis_print(const struct op_basis *b, FILE *f);
/* The lines as notes for people; for programs the member "laws". */
void op_basis_record(const struct op_basis *b, struct record *r);
/* {kind: "measured" | "transferred" | "assumed", ...}, kinds outside their range with ", outside
 * its range" behind. The caller owns it; NULL when memory is out. */
struct json_t *op_basis_json(const struct op_basis *b);

#endif
