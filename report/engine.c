#include "report/engine.h"

static int first_set(int value, int otherwise)
{
    return value > 0 ? value : otherwise;
}

/* Names as in DeepEP pull request 492 (arguments of low_latency_dispatch and low_latency_combine),
 * RTP-LLM f3ede8e11 (fields of its MoE configuration) and SGLang pull request 13442 (a draft that
 * was closed: fields of its PEO executor). */
static void peo_print(const struct knobs *k, int num_sms, const char *indent, FILE *f)
{
    int n = k->num_sms, gemm = num_sms - (k->overlap_method == 3 ? 2 * n : n);
    int send = first_set(k->deepep_send_num_sms, n), recv = first_set(k->deepep_recv_num_sms, n);

    fprintf(f,
            "%sDeepEP pull 492: use_expert_overlap=True num_rounds=%d send_num_sms=%d "
            "recv_num_sms=%d (rounds that overlap nothing: %d)\n",
            indent, k->num_rounds, send, recv, num_sms);
    if (send == n && recv == n && k->launch_order == LAUNCH_RTP_LLM)
        fprintf(f, "%sRTP-LLM f3ede8e11: enable_peo_level=%d num_peo_rounds=%d deep_ep_num_sm=%d\n",
                indent, k->overlap_method, k->num_rounds, n);
    fprintf(f,
            "%sSGLang pull 13442: overlap_method=%d num_rounds=%d num_deepep_send_sms=%d "
            "num_deepep_recv_sms=%d num_up_deepgemm_sms=%d num_down_deepgemm_sms=%d\n",
            indent, k->overlap_method, k->num_rounds, send, recv,
            first_set(k->up_deepgemm_num_sms, gemm), first_set(k->down_deepgemm_num_sms, gemm));
}

/* SGLang pull request 9660 (merged). The variable's default is 3 on Hopper and 32 on Blackwell. */
static void sbo_print(const struct knobs *k, bool blackwell, const char *indent, FILE *f)
{
    fprintf(f, "%sSGLang (pull 9660): --enable-single-batch-overlap", indent);
    if (k->combine_num_sms != (blackwell ? 32 : 3))
        fprintf(f, " with SGLANG_DEEPEP_LL_COMBINE_SEND_NUM_SMS=%d", k->combine_num_sms);
    fprintf(f, "\n");
}

/* SGLang pull request 4068 (merged); in prefill DeepEP's normal kernels take their SMs from
 * --deepep-config or Buffer.set_num_sms. */
static void tbo_print(const struct knobs *k, bool decode, const char *indent, FILE *f)
{
    fprintf(f, "%sSGLang (pull 4068): --enable-two-batch-overlap", indent);
    if (!decode)
        fprintf(f, "; DeepEP: Buffer.set_num_sms(%d)", k->num_sms);
    fprintf(f, "\n");
}

void engine_settings_print(const struct policy *p, const struct knobs *k, int num_sms, bool decode,
                           bool blackwell, const char *indent, FILE *f)
{
    if (p == &policy_peo)
        peo_print(k, num_sms, indent, f);
    else if (p == &policy_sbo)
        sbo_print(k, blackwell, indent, f);
    else if (p == &policy_tbo)
        tbo_print(k, decode, indent, f);
    else if (p == &policy_eps)
        fprintf(f, "%sno public engine has EPS-MoE's pipeline (arXiv 2410.12247)\n", indent);
}
