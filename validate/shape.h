/* validate/shape.h: can the kernels run a plan of this shape at all? No GPU is asked, so that the
 * answer stands before one is touched, and wherever a prediction is made. */
#ifndef PEOSIM_VALIDATE_SHAPE_H
#define PEOSIM_VALIDATE_SHAPE_H

#include <stddef.h>

#include "plan/plan.h"

/* 0, or ERR_UNSUPPORTED and in `why` the dimension with its value, what it must be, and for what:
 * "hidden 2880 is no multiple of 512, which FP8 dispatch needs". Says nothing itself. */
int gpu_shape_check(const struct plan *plan, char *why, size_t size);

#endif
