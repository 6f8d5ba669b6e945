#include "kernels/ref_attention.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "kernels/ref_gemm.h"

int ref_attention_row(const struct attention_shape *s, const uint16_t *q, const uint16_t *kv,
                      int batch, int row, double *out)
{
    int group = s->heads / s->kv_heads, valid = s->context_len + row / group + 1;
    size_t width = (size_t)s->kv_width, padded = (size_t)attention_keys_padded(s);
    const uint16_t *line =
        q + ((size_t)batch * (size_t)(s->q_tokens * group) + (size_t)row) * (size_t)s->qk_dim;
    const uint16_t *cache = kv + (size_t)batch * padded * width;
    double *score = malloc((size_t)valid * sizeof *score), most = -INFINITY, sum = 0;

    if (!score)
        return ERR_NOMEM;
    for (int k = 0; k < valid; k++) {
        double dot = 0;

        for (int c = 0; c < s->qk_dim; c++)
            dot += ref_bf16_value(line[c]) * ref_bf16_value(cache[(size_t)k * width + (size_t)c]);
        score[k] = ref_bf16_value(ref_bf16_bits(dot * (double)s->scale));
        most = fmax(most, score[k]);
    }
    for (int c = 0; c < s->v_dim; c++)
        out[c] = 0;
    for (int k = 0; k < valid; k++) {
        double weight = exp(score[k] - most);

        sum += weight;
        for (int c = 0; c < s->v_dim; c++)
            out[c] += weight * ref_bf16_value(cache[(size_t)k * width + (size_t)(s->v_first + c)]);
    }
    for (int c = 0; c < s->v_dim; c++)
        out[c] /= sum;
    free(score);
    return 0;
}

void ref_attention_norm_row(int width, const uint16_t *x, const uint16_t *residual,
                            const uint16_t *weight, double *out)
{
    double sum = 0, factor;

    for (int i = 0; i < width; i++) {
        out[i] = ref_bf16_value(x[i]) + (residual ? ref_bf16_value(residual[i]) : 0);
        sum += out[i] * out[i];
    }
    factor = 1 / sqrt(sum / width + (double)ATTENTION_NORM_EPSILON);
    for (int i = 0; i < width; i++)
        out[i] *= factor * ref_bf16_value(weight[i]);
}

void ref_attention_rotate(int rope, const uint16_t *x, const float *rotary, double *out)
{
    int half = rope / 2;

    for (int i = 0; i < half; i++) {
        double a = ref_bf16_value(x[i]), b = ref_bf16_value(x[i + half]);
        double c = (double)rotary[2 * i], s = (double)rotary[2 * i + 1];

        out[i] = a * c - b * s;
        out[i + half] = b * c + a * s;
    }
}
