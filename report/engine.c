#include "report/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* How engines are set to an exchange: pull requests and what became of them, as of November 2026.
 */
static const struct {
    enum plan_comm comm;
    const char *engine, *words;
} exchanges[] = {
    {COMM_LOW_LATENCY, "SGLang",
     "(pull 4767, merged): --moe-a2a-backend deepep --deepep-mode low_latency"},
    {COMM_LOW_LATENCY, "vLLM", "(merged): --all2all-backend deepep_low_latency"},
    {COMM_LOW_LATENCY, "TRT-LLM", "(merged): TRTLLM_FORCE_COMM_METHOD=DEEPEPLOWLATENCY"},
    {COMM_LOW_LATENCY, "RTP-LLM", "(merged): --use_deepep_moe 1 --use_deepep_low_latency 1"},
    {COMM_LAYERED_LL, "SGLang",
     "(DeepEP pull 500, merged: on by default there): --moe-a2a-backend deepep --deepep-mode "
     "low_latency"},
    {COMM_LAYERED_LL, "vLLM",
     "(DeepEP pull 500, merged: on by default there): --all2all-backend deepep_low_latency"},
    {COMM_NORMAL, "SGLang", "(pull 4767, merged): --moe-a2a-backend deepep --deepep-mode normal"},
    {COMM_NORMAL, "vLLM", "(merged): --all2all-backend deepep_high_throughput"},
    {COMM_NORMAL, "RTP-LLM",
     "(merged): --use_deepep_moe 1 --use_deepep_internode 1 --use_deepep_low_latency 0"},
    {COMM_DEEPEP_V2, "SGLang",
     "(pull 35634, merged; 29525 was reverted): --moe-a2a-backend deepep_v2 --deepep-v2-mode "
     "hybrid"},
    {COMM_DEEPEP_V2, "vLLM", "(pull 41183, merged): --all2all-backend deepep_v2"},
    {COMM_DEEPEP_V2_DIRECT, "SGLang",
     "(pull 35634, merged; 29525 was reverted): --moe-a2a-backend deepep_v2 --deepep-v2-mode "
     "direct"},
    {COMM_DEEPEP_V2_DIRECT, "vLLM", "(pull 41183, merged): --all2all-backend deepep_v2"},
    {COMM_ONE_SIDED, "vLLM", "(merged): --all2all-backend flashinfer_nvlink_one_sided"},
    {COMM_ONE_SIDED, "TRT-LLM", "(merged): TRTLLM_FORCE_COMM_METHOD=NVLINK_ONE_SIDED"},
};

static void indented(const char *text, const char *indent, FILE *f)
{
    for (const char *at = text; *at; at++) {
        if (at == text || at[-1] == '\n')
            fputs(indent, f);
        fputc(*at, f);
    }
}

int engine_settings_print(const struct policy *p, const struct knobs *k,
                          const struct policy_place *place, const char *indent, FILE *f)
{
    char *text = NULL;
    size_t size = 0;
    FILE *lines = p->settings ? open_memstream(&text, &size) : NULL;

    if (!p->settings)
        return 0;
    if (!lines)
        return ERR_NOMEM;
    p->settings(k, place, lines);
    fclose(lines);
    indented(text, indent, f);
    free(text);
    return 0;
}

/* Does a line of the text begin with the word? */
static bool names_engine(const char *text, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = text; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, word, n) == 0)
            return true;
        if (!*at)
            break;
    }
    return false;
}

int engine_exchange_print(const struct policy *p, const struct knobs *k,
                          const struct policy_place *place, const char *indent, FILE *f)
{
    char *text = NULL;
    size_t size = 0;
    FILE *lines;

    if (p->own_comm || p->own_kernels)
        return 0;
    lines = open_memstream(&text, &size);
    if (!lines)
        return ERR_NOMEM;
    if (p->settings)
        p->settings(k, place, lines);
    fclose(lines);
    for (size_t i = 0; i < sizeof exchanges / sizeof *exchanges; i++)
        if (exchanges[i].comm == place->comm &&
            (!p->settings || names_engine(text, exchanges[i].engine)))
            fprintf(f, "%s%s, exchange %s\n", indent, exchanges[i].engine, exchanges[i].words);
    free(text);
    return 0;
}
