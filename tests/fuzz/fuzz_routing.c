/* Recorded routing from any bytes: what is read must be a valid table. */
#include <stdint.h>
#include <stdlib.h>

#include "model/routing_file.h"

#define RANKS   2
#define TOKENS  3
#define TOPK    2
#define EXPERTS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_check(const int32_t *expert)
{
    for (int t = 0; t < RANKS * TOKENS; t++) {
        int32_t a = expert[t * TOPK], b = expert[t * TOPK + 1];
        if (a < -1 || a >= EXPERTS || b < -1 || b >= EXPERTS || (a >= 0 && a == b))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int32_t expert[RANKS * TOKENS * TOPK];
    struct plan_routing r = {
        .ranks = RANKS, .tokens = TOKENS, .topk = TOPK, .experts = EXPERTS, .expert = expert};
    struct routing_spec spec = {.kind = ROUTING_FILE, .layer = -1, .seed = 1};

    if (routing_text_fill(&spec, (const char *)data, size, "fuzz.csv", &r) == 0)
        fuzz_check(expert);
    return 0;
}
