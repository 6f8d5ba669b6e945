/* model/law/dense_table.h: what the law of dense GEMMs leaves of its measurements, as a table.
 *
 * Libraries pick among many kernels by rules of their own; where the law follows the rough of it,
 * the rest is a factor on the kernel's time, interpolated in the logarithms of m, n and k between
 * the knots below. The profile holds it as "dense.<dtype>": one factor per knot, m outermost, k
 * innermost, at x = 1, 2, ... docs/model/gemm.md has data and errors. */
#ifndef PEOSIM_MODEL_LAW_DENSE_TABLE_H
#define PEOSIM_MODEL_LAW_DENSE_TABLE_H

#include "hw/profile.h"
#include "model/law/gemm.h"

enum { LAW_DENSE_AXES = 3, LAW_DENSE_CORNERS = 8 };

/* Knots of an axis: 0 m, 1 n, 2 k; rising. *num: how many. */
const double *law_dense_knots(int axis, int *num);
int law_dense_cells(void); /* knots of all axes together */

/* The eight knots around a shape, by number in the table, and how much each counts (sum 1). Beyond
 * the outer knots the shape is taken at the nearest one. */
void law_dense_corners(const double shape[LAW_DENSE_AXES], int cell[LAW_DENSE_CORNERS],
                       double weight[LAW_DENSE_CORNERS]);

/* The table of a profile for a dtype, NULL where it has none, or where law and table are not of one
 * GPU: it corrects that very law. */
const struct hw_table *law_dense_table(const struct hw_profile *p, enum law_dense_dtype dtype);

/* The factor of a shape; 1 where t is NULL or no such table. */
double law_dense_factor(const struct hw_table *t, double m, double n, double k);

#endif
