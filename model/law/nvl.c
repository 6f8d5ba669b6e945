#include "model/law/nvl.h"

#include <math.h>
#include <string.h>

static const char *const names[LAW_NVL_OP_COUNT] = {
    [LAW_NVL_1S_DISPATCH] = "1s_dispatch", [LAW_NVL_1S_COMBINE] = "1s_combine",
    [LAW_NVL_2S_PREPARE] = "2s_prepare",   [LAW_NVL_2S_DISPATCH] = "2s_dispatch",
    [LAW_NVL_2S_COMBINE] = "2s_combine",   [LAW_NVL_2S_COMBINE_LP] = "2s_combine_lp",
};

const char *law_nvl_name(enum law_nvl_op op)
{
    return names[op];
}

int law_nvl_find(const char *name)
{
    for (int op = 0; op < LAW_NVL_OP_COUNT; op++)
        if (strcmp(names[op], name) == 0)
            return op;
    return -1;
}

/* The fields of all ops stand in the same order. */
int law_nvl_field(enum law_nvl_op op, int dispatch_field)
{
    const int size = HW_NVL_1S_COMB_FIXED_US - HW_NVL_1S_DISP_FIXED_US;

    return dispatch_field + (int)op * size;
}

static double fixed_ns(const double *v, const struct law_nvl *in)
{
    double us = v[law_nvl_field(in->op, HW_NVL_1S_DISP_FIXED_US)];
    double hosts = in->ranks / v[HW_NET_HOST_GPUS];

    if (hosts > 1)
        us += v[law_nvl_field(in->op, HW_NVL_1S_DISP_HOST_US)] +
              v[law_nvl_field(in->op, HW_NVL_1S_DISP_DOUBLE_US)] * log2(hosts);
    return us * 1e3;
}

void law_nvl_work(const double *v, const struct law_nvl *in, struct cost_work *out)
{
    double link_GBps = v[law_nvl_field(in->op, HW_NVL_1S_DISP_EFF)] * v[HW_NET_NVLINK_GBPS];
    double tokens_ns = in->tokens * v[law_nvl_field(in->op, HW_NVL_1S_DISP_TOKEN_NS)];
    double fixed = fixed_ns(v, in), peers_ns = in->peer_rows * in->row_bytes / link_GBps;
    double corner = v[law_nvl_field(in->op, HW_NVL_1S_DISP_CORNER)];

    *out = (struct cost_work){.grid = in->sms, .waves = 1, .hbm_GBps = v[HW_GPU_HBM_GBPS]};
    out->push_GBps = v[HW_NET_NVLINK_GBPS];
    out->head.fixed_ns = fixed;
    out->issue_ns = law_corner(fixed, hypot(tokens_ns, peers_ns), corner) - fixed;
}
