#include "model/law.h"

#include <math.h>

double law_segment_ns(const struct cost_segment *s, double hbm_GBps)
{
    return s->fixed_ns + fmax(s->sm_ns, s->hbm_bytes / hbm_GBps);
}

static double send_ns(const struct cost_work *w, const struct law_traffic *t)
{
    double ns = w->issue_ns, pushed = t->local_bytes + t->nvlink_bytes;

    if (pushed > 0)
        ns = fmax(ns, pushed / w->push_GBps);
    if (t->nvlink_bytes > 0 && t->nvlink_GBps > 0)
        ns = fmax(ns, t->nvlink_bytes / t->nvlink_GBps);
    if (t->nic_bytes > 0 && t->nic_GBps > 0)
        ns = fmax(ns, t->nic_bytes / t->nic_GBps);
    return ns;
}

double law_alone_ns(const struct cost_work *w, const struct law_traffic *t)
{
    double hbm_GBps = fmin(w->hbm_GBps, t->hbm_GBps);

    return law_segment_ns(&w->head, hbm_GBps) + send_ns(w, t) + t->lat_ns +
           law_segment_ns(&w->tail, hbm_GBps);
}

double law_nvlink_GBps(const double *v)
{
    return v[HW_NET_NVLINK_GBPS] * v[HW_NET_NVLINK_EFF];
}

double law_nic_GBps(const double *v)
{
    return v[HW_NET_NIC_GBITPS] / 8 * v[HW_NET_NIC_EFF] * v[HW_NET_NICS_PER_GPU];
}

double law_hbm_GBps(const double *v)
{
    return v[HW_GPU_HBM_GBPS] * v[HW_GPU_HBM_EFF];
}

double law_saturate(double a, double b)
{
    double lo = fmin(a, b), r = lo / fmax(a, b);

    return lo / sqrt(sqrt(1 + r * r * r * r));
}

double law_corner(double a, double b, double corner)
{
    double hi = fmax(a, b), lo = fmin(a, b);

    return hi > 0 ? hi * pow(1 + pow(lo / hi, corner), 1 / corner) : 0;
}

double law_power(double drop, int sms, int num_sms)
{
    double share = fmin((double)sms / num_sms, 1);

    return 1 - drop * share * share;
}

double law_interference_comm(const double *v, double experts, double ctas)
{
    return v[HW_INTERFERENCE_COMM] + v[HW_INTERFERENCE_COMM_GROUP] * pow(experts / ctas, 0.8);
}
