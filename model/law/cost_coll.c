#include "model/law/cost_coll.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

void cost_coll_table(const char *name, int ranks, char *buf, size_t size)
{
    if (strncmp(name, "ar_", 3) == 0)
        snprintf(buf, size, "allreduce.%s.%d", name + 3, ranks);
    else
        snprintf(buf, size, "nccl.%s.%d", name, ranks);
}

static const struct hw_table *table_of(const struct hw_profile *p, const char *name, int ranks)
{
    char full[64];

    cost_coll_table(name, ranks, full, sizeof full);
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
    *assumed = !hw_origin_is_own(lo->origin) || !hw_origin_is_own(hi->origin);
    return 0;
}

/* Bytes each GPU puts on its NIC: a ring crosses `nodes` nodes with all their NICs in use; of an
 * all-to-all's, what is for other nodes. */
static double wire_bytes(const char *name, double bytes, int ranks, int nodes)
{
    double off = bytes * (nodes - 1) / nodes, share = off / ((double)ranks / nodes);

    if (strcmp(name, "all_to_all") == 0)
        return off;
    return strcmp(name, "all_reduce") == 0 ? 2 * share : share;
}

static double nic_ns(const struct hw_profile *p, const char *name, int ranks, int nodes,
                     double bytes)
{
    double nic = hw_value(p, HW_NET_NIC_GBITPS) / 8 * hw_value(p, HW_NET_NICS_PER_GPU) *
                 hw_value(p, HW_NET_NIC_EFF);

    return wire_bytes(name, bytes, ranks, nodes) / nic +
           2 * (nodes - 1) * hw_value(p, HW_NET_NIC_LAT_US) * 1e3;
}

int cost_coll_nodes_ns(const struct hw_profile *p, const char *name, int ranks, int nodes,
                       double bytes, double *ns, bool *outside, bool *assumed)
{
    int rc = 0, inside = ranks / nodes;

    *ns = 0;
    *outside = *assumed = false;
    if (inside > 1)
        rc = cost_coll_ns(p, name, inside, bytes, ns, outside, assumed);
    if (rc == 0 && nodes > 1) {
        *ns += nic_ns(p, name, ranks, nodes, bytes);
        *assumed = true;
    }
    return rc;
}

/* Whose own all-reduce an engine takes in the sizes it was measured for, if it is the faster one.
 */
static const char *const engine_tables[] = {[ATTN_ENGINE_AUTO] = "ar_sglang",
                                            [ATTN_ENGINE_SGLANG] = "ar_sglang",
                                            [ATTN_ENGINE_VLLM] = "ar_vllm",
                                            [ATTN_ENGINE_TRTLLM] = "ar_trtllm"};

static void engine_all_reduce(const struct hw_profile *p, enum plan_attn_engine engine, int ranks,
                              double bytes, double *ns, bool *assumed)
{
    bool outside, guessed;
    double own;

    if (cost_coll_ns(p, engine_tables[engine], ranks, bytes, &own, &outside, &guessed) == 0 &&
        !outside && own < *ns) {
        *ns = own;
        *assumed = guessed;
    }
}

void cost_coll_work(const struct hw_profile *p, const struct plan *plan, const struct plan_op *op,
                    struct cost_work *out)
{
    int per_node = plan->ranks_per_node, ranks = op->coll_ranks, nodes = 1;
    double ns = 0, floor_ns = 0, full = hw_value(p, HW_COLL_NUM_SMS);
    double bytes = (double)op->coll_bytes;
    bool outside = false, assumed = true;
    const char *name = plan_op_kind_name(op->kind);

    if (ranks > per_node) {
        nodes = (ranks + per_node - 1) / per_node;
        ranks = per_node;
    }
    *out = (struct cost_work){.grid = op->sms, .waves = 1, .push_GBps = 1, .rendezvous = true};
    out->hbm_GBps = hw_value(p, HW_GPU_HBM_GBPS);
    if (ranks > 1) {
        if (cost_coll_ns(p, name, ranks, bytes, &ns, &outside, &assumed))
            ns = 1e4 + bytes / hw_value(p, HW_NET_NVLINK_GBPS);
        else
            cost_coll_ns(p, name, ranks, 512, &floor_ns, &outside, &assumed);
    }
    /* Fewer CTAs than the library would take slow the part above the latency floor. */
    floor_ns = fmin(floor_ns, ns);
    ns = floor_ns + (ns - floor_ns) * fmax(1, full / op->sms);
    if (op->kind == OP_ALL_REDUCE && ranks > 1)
        engine_all_reduce(p, plan->attn.engine, ranks, bytes, &ns, &assumed);
    if (nodes > 1) {
        ns += nic_ns(p, name, op->coll_ranks, nodes, bytes);
        assumed = true;
    }
    out->head.fixed_ns = ns;
    out->assumed = assumed;
}
