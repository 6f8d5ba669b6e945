/* The router's kernel against its reference: ties, NaNs, many shapes. */
#include <string.h>

#include "kernels/topk.h"
#include "tests/gpu/gemm_data.h"

static int failures;

/* Few distinct values, so that ties are common; some logits are NaN or infinite. */
static uint16_t logit_draw(uint64_t *state)
{
    const uint64_t draw = data_random(state);
    if (draw % 61 == 0)
        return 0x7fc0; /* NaN */
    if (draw % 67 == 0)
        return 0xff80; /* -infinity */
    if (draw % 71 == 0)
        return 0x8000; /* -0, which equals 0 */
    return ref_bf16_bits((double)((int)(draw >> 32 & 63) - 32) / 8);
}

static void test_topk(enum topk_score score, int tokens, int experts, int k, int num_sms)
{
    const int stride = experts + 5;
    const size_t count = (size_t)tokens * stride, chosen = (size_t)tokens * k;
    uint16_t *logits = data_host(count * 2);
    int *index = data_host(chosen * sizeof *index), want[TOPK_MAX_K], wrong = 0;
    float *weight = data_host(chosen * sizeof *weight);
    double line[TOPK_MAX_EXPERTS], share[TOPK_MAX_K], worst = 0;
    uint64_t state = (uint64_t)(tokens * 1000 + experts + k);
    for (size_t i = 0; i < count; i++)
        logits[i] = logit_draw(&state);
    struct topk_args args = {.score = score,
                             .tokens = tokens,
                             .experts = experts,
                             .stride = stride,
                             .k = k,
                             .num_sms = num_sms,
                             .logits = data_upload(logits, count * 2),
                             .index = data_device(chosen * sizeof *index),
                             .weight = data_device(chosen * sizeof *weight)};
    CUDA(cudaMemset(args.index, 0xa5, chosen * sizeof *index));
    CUDA(cudaMemset(args.weight, 0xff, chosen * sizeof *weight));
    LAUNCH(kernels_topk_launch(&args, NULL));
    CUDA(cudaMemcpy(index, args.index, chosen * sizeof *index, cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(weight, args.weight, chosen * sizeof *weight, cudaMemcpyDeviceToHost));
    for (int t = 0; t < tokens; t++) {
        for (int e = 0; e < experts; e++)
            line[e] = ref_bf16_value(logits[(size_t)t * stride + e]);
        topk_ref(score, experts, k, line, want, share);
        for (int i = 0; i < k; i++) {
            const size_t at = (size_t)t * k + i;
            wrong += index[at] != want[i];
            /* Where all of a token's logits are NaN, its weights are none either. */
            if (!isnan(share[i]) && !(fabs(weight[at] - share[i]) <= worst))
                worst = isnan(weight[at]) ? INFINITY : fabs(weight[at] - share[i]);
        }
    }
    const int ok = wrong == 0 && worst < 1e-5;
    failures += !ok;
    printf("%s topk %s %d of %d, %d tokens, %d SMs: %d wrong, weights off by %.1e\n",
           ok ? "ok  " : "FAIL", score == TOPK_SOFTMAX ? "softmax" : "sigmoid", k, experts, tokens,
           num_sms, wrong, worst);
    CUDA(cudaFree((void *)args.logits));
    CUDA(cudaFree(args.index));
    CUDA(cudaFree(args.weight));
    free(logits);
    free(index);
    free(weight);
}

int main(void)
{
    if (!data_gpu_present("test_topk"))
        return 0;
    static const int shapes[][2] = {{8, 2},   {40, 32}, {64, 6},  {128, 8},
                                    {160, 6}, {256, 8}, {512, 10}};
    const int sms = data_sm_count();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int score = TOPK_SOFTMAX; score <= TOPK_SIGMOID; score++) {
            test_topk(score, 1, shapes[i][0], shapes[i][1], sms);
            test_topk(score, 2500, shapes[i][0], shapes[i][1], sms);
            test_topk(score, 300, shapes[i][0], shapes[i][1], 3);
        }
    printf("test_topk: %d failed\n", failures);
    return failures != 0;
}
