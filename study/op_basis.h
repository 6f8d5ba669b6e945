/* study/op_basis.h: where the laws of a result's ops have their figures from, kind by kind. */
#ifndef PEOSIM_STUDY_OP_BASIS_H
#define PEOSIM_STUDY_OP_BASIS_H

#include "study/coverage.h"
#include "study/grid.h"

/* Of every kind the weakest basis that any op has, and whether any lies outside the range that its
 * law was fitted in. */
struct op_basis {
    bool seen[OP_KIND_COUNT], outside[OP_KIND_COUNT];
    enum coverage_basis basis[OP_KIND_COUNT];
    char profile[64];
    char why[160]; /* of the first op outside: which range */
};

/* Adds the ops of rank 0 of one point's plan; nothing is simulated. Zero *out before the first.
 * ERR_NOMEM, or as evaluate_plan. */
int op_basis_add(struct op_basis *out, struct evaluator *e, const struct config *config,
                 size_t scenario, const struct policy *policy, const struct knobs *knobs);
/* Of the first and the last scenario of a grid: every policy's row. */
int op_basis_of_grid(const struct grid *g, struct op_basis *out);

/* The names of the kinds with that basis that lie inside (or outside) their ranges, by commas. */
void op_basis_names(const struct op_basis *b, enum coverage_basis basis, bool outside, char *buf,
                    size_t size);

#endif
