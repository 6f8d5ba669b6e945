/* kernels/ref_attention.h: the CPU references of the attention kernels, in double precision over
 * the same BF16 operands. Nothing here runs on a GPU. */
#ifndef PEOSIM_KERNELS_REF_ATTENTION_H
#define PEOSIM_KERNELS_REF_ATTENTION_H

#include <stdint.h>

#include "kernels/attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* out [v_dim] of one row (q_tokens * group of them) of one batch (requests * kv_heads): the scores
 * are rounded to BF16 where the kernels store them, all else is double. ERR_NOMEM. */
int ref_attention_row(const struct attention_shape *shape, const uint16_t *q, const uint16_t *kv,
                      int batch, int row, double *out);

/* One row of kernels_attention_norm_launch, before its rounding; residual may be NULL. */
void ref_attention_norm_row(int width, const uint16_t *x, const uint16_t *residual,
                            const uint16_t *weight, double *out);

/* One stretch of rope channels, rotated by rotary [rope / 2][2]. */
void ref_attention_rotate(int rope, const uint16_t *x, const float *rotary, double *out);

#ifdef __cplusplus
}
#endif

#endif
