/* kernels/ref_gemm.h: the CPU references of the GEMM and activation kernels, in double precision
 * over the same stored bytes and scales the kernels read. Nothing here runs on a GPU. */
#ifndef PEOSIM_KERNELS_REF_GEMM_H
#define PEOSIM_KERNELS_REF_GEMM_H

#include <stdint.h>

#include "kernels/grouped_gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

double ref_e4m3_value(uint8_t bits); /* NAN for 0x7f and 0xff */
/* To nearest even, saturating at +-448. */
uint8_t ref_e4m3_bits(double value);
double ref_bf16_value(uint16_t bits);
uint16_t ref_bf16_bits(double value); /* to nearest even */

/* out[i] = the value of data[i] times its scale: row-major [rows, k], one scale for each
 * (scale_rows rows, 128 channels) at scale[row / scale_rows * row_stride + channel / 128 *
 * k_stride]. scale is NULL for BF16. */
void ref_dequantise(enum gemm_dtype dtype, int rows, int k, const void *data, const float *scale,
                    int scale_rows, int row_stride, int k_stride, double *out);

/* c[j] = sum over i of a[i] * b[j * k + i], j < n. */
void ref_gemm_row(int n, int k, const double *a, const double *b, double *c);

/* y[i] = silu(gate[i]) * up[i]; in holds gate, then up, as BF16. */
void ref_silu_mul_row(int inter, const uint16_t *in, double *y);

/* Quantises groups of 128 channels of y as kernels/quant.h does; writes inter / 128 scales. */
void ref_quant_row(int inter, const double *y, uint8_t *bytes, float *scale);

/* ||x - ref|| / ||ref||; 0 when both are all zero, INFINITY when only ref is or x has a NaN. */
double ref_relative_error(int count, const double *x, const double *ref);

#ifdef __cplusplus
}
#endif

#endif
