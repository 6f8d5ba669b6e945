/* kernels/topk_ref.h: what the router must choose, on the CPU. Plain C, without CUDA. */
#ifndef PEOSIM_KERNELS_TOPK_REF_H
#define PEOSIM_KERNELS_TOPK_REF_H

#include <math.h>

enum { TOPK_MAX_EXPERTS = 512, TOPK_MAX_K = 32 };

/* Scores grow with the logit, so both choose the same experts. */
enum topk_score { TOPK_SOFTMAX, TOPK_SIGMOID };

static inline double topk_ref_value(double logit)
{
    return isnan(logit) ? -INFINITY : logit;
}

/* One token: logits [experts], k of them; index and weight as kernels/topk.h has them. */
static inline void topk_ref(enum topk_score score, int experts, int k, const double *logits,
                            int *index, double *weight)
{
    char taken[TOPK_MAX_EXPERTS] = {0};
    double sum = 0, largest = 0;
    for (int i = 0; i < k; i++) {
        double most = 0;
        int best = -1;
        for (int e = 0; e < experts; e++)
            if (!taken[e] && (best < 0 || topk_ref_value(logits[e]) > most)) {
                best = e;
                most = topk_ref_value(logits[e]);
            }
        taken[best] = 1;
        index[i] = best;
        largest = i == 0 ? most : largest;
        weight[i] = score == TOPK_SOFTMAX ? exp(most - largest) : 1 / (1 + exp(-most));
        sum += weight[i];
    }
    for (int i = 0; i < k; i++)
        weight[i] /= sum;
}

#endif
