/* model/law/four_bit.h: GEMMs with weights of four bits. No kernel of these was measured here: what
 * the FP8 law says of the shape, with the weights' bytes halved and the rates of the type. */
#ifndef PEOSIM_MODEL_LAW_FOUR_BIT_H
#define PEOSIM_MODEL_LAW_FOUR_BIT_H

#include "plan/cost.h"

bool law_is_four_bit(enum plan_dtype dtype);
/* out: the FP8 law's work of a GEMM that reads `weights` weights, in bytes as many. Moves as much
 * less as the type is smaller, on its SMs too where loads bound them, but is never faster than the
 * tensor cores: FP4 ones for NVFP4 where the GPU has them, BF16 ones for W4A16, else FP8. The work
 * is marked assumed. num_sms: of the GPU. */
void law_four_bit(const double *v, enum plan_dtype dtype, double weights, int num_sms,
                  struct cost_work *out);

#endif
