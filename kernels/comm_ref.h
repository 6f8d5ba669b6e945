/* kernels/comm_ref.h: what the exchange must compute, on the CPU. Plain C. */
#ifndef PEOSIM_KERNELS_COMM_REF_H
#define PEOSIM_KERNELS_COMM_REF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float comm_ref_from_bf16(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float v;
    memcpy(&v, &wide, sizeof(v));
    return v;
}

/* Round to nearest, ties to even; v is not NaN. */
static inline uint16_t comm_ref_to_bf16(float v)
{
    uint32_t wide;
    memcpy(&wide, &v, sizeof(wide));
    wide += 0x7fff + (wide >> 16 & 1);
    return (uint16_t)(wide >> 16);
}

/* The nearest e4m3 value (ties to even), saturating at 448. Subnormals are multiples of 2^-9. */
static inline float comm_ref_round_e4m3(float v)
{
    float a = fabsf(v);
    if (a >= 448.0f)
        return copysignf(448.0f, v);
    int exponent;
    frexpf(a, &exponent); /* a = m * 2^exponent, m in [0.5, 1) */
    float step = ldexpf(1.0f, exponent > -5 ? exponent - 4 : -9);
    float rounded = rintf(a / step) * step;
    return copysignf(rounded < 448.0f ? rounded : 448.0f, v);
}

/* One token through the dispatch's FP8 cast and back: out[h] = e4m3(x / scale) * scale, with the
 * float arithmetic of the kernel up to the cast and exact after it. hidden % 128 == 0. */
static inline void comm_ref_cast(double *out, const uint16_t *x, int hidden, int fp8)
{
    for (int group = 0; group < hidden / 128; group++) {
        const uint16_t *in = x + group * 128;
        float amax = 1e-4f;
        for (int i = 0; i < 128; i++)
            amax = fmaxf(amax, fabsf(comm_ref_from_bf16(in[i])));
        float inverse = 448.0f / amax, scale = amax / 448.0f;
        for (int i = 0; i < 128; i++) {
            float v = comm_ref_from_bf16(in[i]);
            out[group * 128 + i] = fp8 ? (double)comm_ref_round_e4m3(v * inverse) * scale : v;
        }
    }
}

/* ||y - ref|| / ||ref||; y alone where ref is zero. NaN in y gives NaN. */
static inline double comm_ref_distance(const uint16_t *y, const double *ref, int hidden)
{
    double diff = 0, norm = 0;
    for (int i = 0; i < hidden; i++) {
        double d = (double)comm_ref_from_bf16(y[i]) - ref[i];
        diff += d * d;
        norm += ref[i] * ref[i];
    }
    return sqrt(norm > 0 ? diff / norm : diff);
}

#endif
