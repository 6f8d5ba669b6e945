#include "model/law/v2.h"

#include <math.h>

double law_v2_touched(int experts, int topk, int ranks)
{
    double miss = 1, each = (double)experts / ranks;

    for (int i = 0; i < topk; i++)
        miss *= fmax(experts - each - i, 0) / (experts - i);
    return ranks * (1 - miss);
}

/* What an SM reads and writes of each byte that the binding link carries. */
struct load {
    double read, write, rdma, nvlink;
};

static struct load load_of(const struct law_v2_sms *in)
{
    int ranks = in->scaleout_ranks * in->scaleup_ranks;
    double k = law_v2_touched(in->experts, in->topk, ranks), S = in->scaleout_ranks;
    double ks = law_v2_touched(in->experts, in->topk, in->scaleout_ranks);
    double near = in->direct ? (double)in->scaleup_ranks / ranks : 1;
    struct load l = {.read = 1 / k, .write = near};

    l.rdma = ks / k * (1 - 1 / S);
    l.nvlink = near * (1 - 1.0 / in->scaleup_ranks);
    if (in->scaleout_ranks > 1 && in->direct) {
        l.rdma = 1 - near;
        l.write += 1 / k;
    } else if (in->scaleout_ranks > 1) {
        l.read += ks / k;
        l.write = 1 / k + ks / (k * S) + 1;
    }
    return l;
}

int law_v2_num_sms(const struct law_v2_sms *in)
{
    const double read_GBps = 200, write_GBps = 50, spare = 1.25;
    struct load l = load_of(in);
    double link = l.nvlink > 0 ? in->nvlink_GBps / l.nvlink : INFINITY;
    int sms;

    if (in->scaleout_ranks > 1 && l.rdma > 0)
        link = fmin(link, in->rdma_GBps / l.rdma);
    if (!isfinite(link))
        link = 0;
    sms = (int)ceil(spare * link * fmax(l.read / read_GBps, l.write / write_GBps) - 1e-9);
    sms = sms < 4 ? 4 : sms;
    sms += sms % 2;
    if (!in->prefer_overlap && sms < 64)
        sms = 64;
    return sms < in->device_sms ? sms : in->device_sms;
}

/* The kernel's bytes over NVLink and the NIC, then the epilogue: it reads and writes each row. */
void law_v2_work(const double *v, const struct law_v2 *in, struct cost_work *out)
{
    bool far = in->ranks > in->ranks_per_node;
    double nic_GBps = v[HW_NET_NIC_GBITPS] / 8 * v[HW_NET_NICS_PER_GPU] * v[HW_V2_NIC_EFF];
    double bytes = (in->copies + in->rdma_rows + in->rows) * in->copy_bytes;

    *out = (struct cost_work){.grid = in->sms, .waves = 1};
    out->hbm_GBps = fmin(in->sms * v[HW_GPU_SM_HBM_GBPS], v[HW_GPU_HBM_GBPS]);
    out->head.fixed_ns = 1e3 * (v[in->combine ? HW_V2_COMB_FIXED_US : HW_V2_DISP_FIXED_US] +
                                (far ? v[HW_V2_NODE_US] : 0));
    out->push_GBps =
        cost_saturate(in->sms * v[HW_V2_SM_GBPS], v[HW_V2_PUSH_EFF] * v[HW_NET_NVLINK_GBPS]);
    if (far)
        out->issue_ns = in->rdma_rows * in->copy_bytes / nic_GBps;
    out->tail.fixed_ns = 1e3 * v[HW_V2_EPILOGUE_US];
    out->tail.hbm_bytes = bytes;
    out->tail.sm_ns = bytes / (v[HW_ACT_HBM_EFF] * v[HW_GPU_HBM_GBPS]);
}
