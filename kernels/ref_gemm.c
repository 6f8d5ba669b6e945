#include "kernels/ref_gemm.h"

#include <math.h>
#include <string.h>

#include "kernels/quant.h"

double ref_e4m3_value(uint8_t bits)
{
    const int exponent = bits >> 3 & 15;
    const int mantissa = bits & 7;
    double value = exponent == 0 ? ldexp(mantissa, -9) : ldexp(8 + mantissa, exponent - 10);
    if ((bits & 0x7f) == 0x7f)
        value = NAN;
    return bits & 0x80 ? -value : value;
}

uint8_t ref_e4m3_bits(double value)
{
    const uint8_t sign = signbit(value) ? 0x80 : 0;
    const double magnitude = fabs(value);
    if (isnan(value))
        return 0x7f;
    if (magnitude >= 448.0)
        return sign | 0x7e;
    if (magnitude < ldexp(1, -6))
        return sign | (uint8_t)nearbyint(ldexp(magnitude, 9)); /* 8 carries into the exponent */
    int exponent;
    const double fraction = frexp(magnitude, &exponent); /* 0.5 <= fraction < 1 */
    /* A mantissa that rounds up to 16 carries into the exponent by the addition. */
    const int mantissa = (int)nearbyint(fraction * 16);
    return sign | (uint8_t)(((exponent + 6) << 3) + mantissa - 8);
}

double ref_bf16_value(uint16_t bits)
{
    const uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof(value));
    return value;
}

uint16_t ref_bf16_bits(double value)
{
    const float single = (float)value;
    uint32_t word;
    memcpy(&word, &single, sizeof(word));
    if (isnan(single))
        return 0x7fff;
    return (uint16_t)((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

void ref_dequantise(enum gemm_dtype dtype, int rows, int k, const void *data, const float *scale,
                    int scale_rows, int row_stride, int k_stride, double *out)
{
    double e4m3[256];
    for (int i = 0; i < 256; i++)
        e4m3[i] = ref_e4m3_value((uint8_t)i);
    for (int row = 0; row < rows; row++) {
        for (int i = 0; i < k; i++) {
            const size_t at = (size_t)row * k + i;
            if (dtype == GEMM_BF16)
                out[at] = ref_bf16_value(((const uint16_t *)data)[at]);
            else
                out[at] = e4m3[((const uint8_t *)data)[at]] *
                          scale[(size_t)(row / scale_rows) * row_stride +
                                (size_t)(i / QUANT_GROUP) * k_stride];
        }
    }
}

void ref_gemm_row(int n, int k, const double *a, const double *b, double *c)
{
    for (int j = 0; j < n; j++) {
        const double *line = b + (size_t)j * k;
        double sum[4] = {0};
        for (int i = 0; i < k; i += 4) { /* k is a multiple of 128 */
            for (int lane = 0; lane < 4; lane++)
                sum[lane] += a[i + lane] * line[i + lane];
        }
        c[j] = sum[0] + sum[1] + sum[2] + sum[3];
    }
}

void ref_silu_mul_row(int inter, const uint16_t *in, double *y)
{
    for (int i = 0; i < inter; i++) {
        const double gate = ref_bf16_value(in[i]);
        y[i] = gate / (1 + exp(-gate)) * ref_bf16_value(in[inter + i]);
    }
}

void ref_quant_row(int inter, const double *y, uint8_t *bytes, float *scale)
{
    for (int group = 0; group < inter / QUANT_GROUP; group++) {
        const double *value = y + group * QUANT_GROUP;
        double amax = (double)QUANT_AMAX_MIN;
        for (int i = 0; i < QUANT_GROUP; i++)
            amax = fmax(amax, fabs(value[i]));
        scale[group] = (float)(amax / (double)QUANT_E4M3_MAX);
        for (int i = 0; i < QUANT_GROUP; i++)
            bytes[group * QUANT_GROUP + i] =
                ref_e4m3_bits(value[i] * ((double)QUANT_E4M3_MAX / amax));
    }
}

double ref_relative_error(int count, const double *x, const double *ref)
{
    double difference = 0, norm = 0;
    for (int i = 0; i < count; i++) {
        difference += (x[i] - ref[i]) * (x[i] - ref[i]);
        norm += ref[i] * ref[i];
    }
    if (isnan(difference))
        return INFINITY;
    if (norm == 0)
        return difference == 0 ? 0 : INFINITY;
    return sqrt(difference / norm);
}
