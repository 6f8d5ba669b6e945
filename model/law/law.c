#include "model/law/law.h"

#include <math.h>

double law_segment_ns(const struct cost_segment *s, double hbm_GBps)
{
    return s->fixed_ns + fmax(s->sm_ns, s->hbm_bytes / hbm_GBps);
}

static double send_ns(const struct cost_work *w, const struct law_traffic *t, double slow)
{
    double ns = w->issue_ns * slow, pushed = t->local_bytes + t->nvlink_bytes;
    struct cost_work mixed = *w;

    if (pushed > 0) {
        mixed.cap_GBps = cost_cap_GBps(w, t->local_bytes / pushed);
        ns = fmax(ns, pushed / cost_push_GBps(&mixed, slow));
    }
    if (t->nvlink_bytes > 0 && t->nvlink_GBps > 0)
        ns = fmax(ns, t->nvlink_bytes / t->nvlink_GBps);
    if (t->nic_bytes > 0 && t->nic_GBps > 0)
        ns = fmax(ns, t->nic_bytes / t->nic_GBps);
    return ns;
}

static double slowed_segment_ns(const struct cost_work *w, const struct cost_segment *s,
                                double hbm_GBps, double slow)
{
    struct cost_segment slowed = *s;

    slowed.sm_ns *= slow;
    slowed.fixed_ns *= w->slow_fixed ? slow : 1;
    return law_segment_ns(&slowed, hbm_GBps);
}

double law_slowed_ns(const struct cost_work *w, const struct law_traffic *t, double slow)
{
    double hbm_GBps = fmin(w->hbm_GBps, t->hbm_GBps), poll = w->slow_fixed ? slow : 1;

    return slowed_segment_ns(w, &w->head, hbm_GBps, slow) + send_ns(w, t, slow) + t->lat_ns +
           w->poll_ns * poll + slowed_segment_ns(w, &w->tail, hbm_GBps, slow);
}

double law_alone_ns(const struct cost_work *w, const struct law_traffic *t)
{
    return law_slowed_ns(w, t, 1);
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

/* On fewer than 16 CTAs nothing was measured: as on 16. */
static double ctas_share(int ctas)
{
    return 16.0 / (ctas > 16 ? ctas : 16);
}

double law_interference_ll(const double *v, double sensitivity, int ctas, bool unpaired)
{
    double slow = 1 + sensitivity * pow(ctas_share(ctas), v[HW_INTERFERENCE_LL_POWER]);

    return slow * (unpaired ? 1 + v[HW_INTERFERENCE_UNPAIRED] : 1);
}

double law_interference_place(const double *v, int ctas)
{
    return 1 + v[HW_INTERFERENCE_PLACE] * ctas_share(ctas);
}

double law_latency_stretch(const double *v, double sensitivity, double sms, double hbm_GBps)
{
    double ask = fmin(sms / v[HW_GPU_NUM_SMS], 1), use = fmin(hbm_GBps / v[HW_GPU_HBM_GBPS], 1);

    return 1 + sensitivity * pow(ask, v[HW_INTERFERENCE_SMS_POWER]) *
                   pow(use, v[HW_INTERFERENCE_HBM_POWER]);
}
