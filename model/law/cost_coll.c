#include "model/law/cost_coll.h"

#include <math.h>
#include <stdio.h>

#include "base/err.h"

static const struct hw_table *table_of(const struct hw_profile *p, const char *name, int ranks)
{
    char full[64];

    snprintf(full, sizeof full, "nccl.%s.%d", name, ranks);
    return hw_table_find(p, full);
}

int cost_coll_ns(const struct hw_profile *p, const char *name, int ranks, double bytes, double *ns,
                 bool *outside, bool *assumed)
{
    const struct hw_table *lo = NULL, *hi = NULL;
    int nlo = 0, nhi = 0;
    double a, b, w;
    bool out_lo = false, out_hi = false;

    for (int n = ranks; n >= 2 && !lo; n--)
        if ((lo = table_of(p, name, n)))
            nlo = n;
    for (int n = ranks; n <= 1024 && !hi; n++)
        if ((hi = table_of(p, name, n)))
            nhi = n;
    if (!lo && !hi)
        return ERR_NOTFOUND;
    if (!lo || !hi) {
        lo = hi = lo ? lo : hi;
        nlo = nhi = nlo ? nlo : nhi;
    }
    a = hw_table_at(lo, bytes, &out_lo);
    b = hw_table_at(hi, bytes, &out_hi);
    w = nlo == nhi ? 0 : log2((double)ranks / nlo) / log2((double)nhi / nlo);
    *ns = (a + (b - a) * w) * 1e3;
    *outside = out_lo || out_hi || ranks < nlo || ranks > nhi;
    *assumed = lo->origin == HW_ASSUMED || hi->origin == HW_ASSUMED;
    return 0;
}

/* Bytes each GPU puts on its NIC when a ring crosses `nodes` nodes with all its NICs in use. */
static double wire_bytes(enum plan_op_kind kind, double bytes, int ranks, int nodes)
{
    double share = bytes * (nodes - 1) / nodes / ((double)ranks / nodes);

    return kind == OP_ALL_REDUCE ? 2 * share : share;
}

void cost_coll_work(const struct hw_profile *p, const struct plan *plan, const struct plan_op *op,
                    struct cost_work *out)
{
    int per_node = plan->ranks_per_node, ranks = op->coll_ranks, nodes = 1;
    double ns = 0, floor_ns = 0, full = hw_value(p, HW_COLL_NUM_SMS);
    bool outside = false, assumed = true;

    if (ranks > per_node) {
        nodes = (ranks + per_node - 1) / per_node;
        ranks = per_node;
    }
    *out = (struct cost_work){.grid = op->sms, .waves = 1, .push_GBps = 1, .rendezvous = true};
    out->hbm_GBps = hw_value(p, HW_GPU_HBM_GBPS);
    if (ranks > 1) {
        if (cost_coll_ns(p, plan_op_kind_name(op->kind), ranks, (double)op->coll_bytes, &ns,
                         &outside, &assumed))
            ns = 1e4 + (double)op->coll_bytes / hw_value(p, HW_NET_NVLINK_GBPS);
        else
            cost_coll_ns(p, plan_op_kind_name(op->kind), ranks, 512, &floor_ns, &outside, &assumed);
    }
    /* Fewer CTAs than the library would take slow the part above the latency floor. */
    floor_ns = fmin(floor_ns, ns);
    ns = floor_ns + (ns - floor_ns) * fmax(1, full / op->sms);
    if (nodes > 1) {
        double nic = hw_value(p, HW_NET_NIC_GBITPS) / 8 * hw_value(p, HW_NET_NICS_PER_GPU) *
                     hw_value(p, HW_NET_NIC_EFF);

        ns += wire_bytes(op->kind, (double)op->coll_bytes, op->coll_ranks, nodes) / nic +
              2 * (nodes - 1) * hw_value(p, HW_NET_NIC_LAT_US) * 1e3;
        assumed = true;
    }
    out->head.fixed_ns = ns;
    out->assumed = assumed;
}
