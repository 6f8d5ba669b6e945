/* calib/slopes.h: the Jacobian of residuals by forward differences, its columns shared among
 * threads. */
#ifndef PEOSIM_CALIB_SLOPES_H
#define PEOSIM_CALIB_SLOPES_H

#include <stddef.h>
#include <gsl/gsl_matrix.h>

#define SLOPES_MAX_THREADS 64

/* Residuals f at x; it may write into self. */
typedef int (*slopes_fn)(const gsl_vector *x, void *self, gsl_vector *f);

/* jac[i][j] = d f_i / d x_j at x, with steps of sqrt(epsilon) |x_j| as GSL's own: the same bits
 * whatever the number of threads. Each thread works on its own copy of self's `bytes` bytes, so
 * what they point to must only be read. Returns 0, ERR_NOMEM, or ERR_RANGE when f fails. */
int slopes(slopes_fn fn, const void *self, size_t bytes, const gsl_vector *x, int threads,
           gsl_matrix *jac);

#endif
