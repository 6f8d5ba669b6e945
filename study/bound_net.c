#include "study/bound_net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Rows of single experts are looked at up to so many ranks: all pairs of them are. */
enum { EXPERTS_MOST_RANKS = 512 };

struct loads {
    const struct plan *plan;
    const struct sim_topology_cfg *topo;
    int batch, domain;
    double nic_GBps;        /* of one GPU alone */
    double *busy[2];        /* [BOUND_LINKS * ranks]: of dispatch and combine */
    int nic_share;          /* GPUs on one NIC */
    double near_ns, far_ns; /* latencies */
    int *rows;              /* [ranks] */
    const struct plan_flow *flow[2];
};

static bool is_far(const struct loads *l, int a, int b)
{
    return a / l->domain != b / l->domain;
}

/* NICs are numbered by the first rank on them. */
static int nic_of(const struct loads *l, int rank)
{
    return rank / l->nic_share * l->nic_share;
}

static void link_add(struct loads *l, int back, int from, int to, double bytes)
{
    int W = l->plan->ranks;
    bool far = is_far(l, from, to);
    double GBps = far ? l->nic_GBps : l->topo->nvlink_GBps;
    int out = far ? BOUND_LINK_NIC_OUT * W + nic_of(l, from) : BOUND_LINK_NVL_OUT * W + from;
    int in = far ? BOUND_LINK_NIC_IN * W + nic_of(l, to) : BOUND_LINK_NVL_IN * W + to;

    if (from == to || !(GBps > 0))
        return;
    l->busy[back][out] += bytes / GBps;
    l->busy[back][in] += bytes / GBps;
}

/* Rows, or the copies that a flow group shares: those forwarded within a node are left out. */
static void links_load(struct loads *l)
{
    int W = l->plan->ranks;

    for (int back = 0; back < 2; back++) {
        const struct plan_flow *f = l->flow[back];
        bool own = l->batch == f->batch;

        for (int rank = 0; rank < W; rank++) {
            if (own)
                plan_flow_rows(l->plan, (int)(f - l->plan->flows), rank, l->rows, NULL);
            for (int peer = 0; peer < W; peer++) {
                double rows = own ? l->rows[peer] : 0;

                if (!own && f->dedup == FLOW_PER_EXPERT)
                    rows = plan_pair_rows(l->plan, l->batch, back ? peer : rank, back ? rank : peer,
                                          0, l->plan->experts_per_rank);
                link_add(l, back, rank, peer, rows * f->bytes_per_row);
            }
        }
    }
}

static void links_most(const struct loads *l, struct bound_net *n)
{
    int W = l->plan->ranks;

    for (int i = 0; i < BOUND_LINKS; i++)
        for (int rank = 0; rank < W; rank++) {
            struct bound_link *link = &n->link[i];
            double back = l->busy[1][i * W + rank], both = back + l->busy[0][i * W + rank];

            link->latency_ns = i < BOUND_LINK_NVL_OUT ? l->far_ns : l->near_ns;
            if (back > link->combine_ns) {
                link->combine_ns = back;
                link->combine_rank = rank;
            }
            if (both > link->both_ns) {
                link->both_ns = both;
                link->both_rank = rank;
            }
        }
}

/* Time of `num` experts' rows between their rank and those of their tokens, all links its own. */
static double experts_ns(const struct loads *l, int back, int rank, int first, int num)
{
    double far = 0, near = 0, row = l->flow[back]->bytes_per_row;
    bool some = false;

    for (int peer = 0; peer < l->plan->ranks; peer++) {
        int rows = plan_pair_rows(l->plan, l->batch, peer, rank, first, num);

        some |= rows > 0;
        if (is_far(l, rank, peer))
            far += rows * row;
        else if (peer != rank)
            near += rows * row;
    }
    if (!some)
        return INFINITY; /* nothing to move */
    far = far > 0 ? far / l->nic_GBps + l->far_ns : 0;
    near = near > 0 && l->topo->nvlink_GBps > 0 ? near / l->topo->nvlink_GBps + l->near_ns : 0;
    return fmax(far, near);
}

static double least_expert_ns(const struct loads *l, int back, int rank)
{
    double least = INFINITY;

    for (int e = 0; e < l->plan->experts_per_rank; e++)
        least = fmin(least, experts_ns(l, back, rank, e, 1));
    return isfinite(least) ? least : 0;
}

static double all_ns(const struct loads *l, int back, int rank)
{
    double ns = experts_ns(l, back, rank, 0, l->plan->experts_per_rank);

    return isfinite(ns) ? ns : 0;
}

static void ranks_set(const struct loads *l, bool rounds, bool signals, struct bound_net *n)
{
    bool looks = l->plan->ranks <= EXPERTS_MOST_RANKS && l->flow[0]->dedup == FLOW_PER_EXPERT &&
                 l->flow[1]->dedup == FLOW_PER_EXPERT;

    for (int rank = 0; rank < l->plan->ranks && looks; rank++) {
        struct bound_net_rank *r = &n->rank[rank];

        r->all_in_ns = all_ns(l, 0, rank);
        r->first_in_ns = rounds ? least_expert_ns(l, 0, rank) : r->all_in_ns;
        if (!signals)
            r->last_out_ns = rounds ? least_expert_ns(l, 1, rank) : all_ns(l, 1, rank);
    }
}

static void flows_find(struct loads *l)
{
    for (int i = 0; i < l->plan->num_flows; i++)
        l->flow[l->plan->flows[i].dir == FLOW_COMBINE] = &l->plan->flows[i];
}

int bound_net_of(const struct plan *plan, const struct sim_topology_cfg *topo, bool rounds,
                 bool signals, int batch, struct bound_net *out)
{
    int domain = (int)(topo->per_domain ? topo->per_domain : topo->per_node);
    double nics = (double)topo->nics_per_node / topo->per_node;
    size_t n = (size_t)BOUND_LINKS * (size_t)plan->ranks;
    struct loads l = {.plan = plan,
                      .topo = topo,
                      .batch = batch,
                      .domain = domain,
                      .nic_GBps = topo->nic_GBps * fmax(nics, 1),
                      .nic_share = nics < 1 ? (int)(1 / nics + 0.5) : 1,
                      .near_ns = topo->nvlink_latency_ns,
                      .far_ns = topo->nic_latency_ns,
                      .rows = calloc((size_t)plan->ranks, sizeof(int))};
    int err = ERR_NOMEM;

    *out = (struct bound_net){.rank = calloc((size_t)plan->ranks, sizeof *out->rank)};
    l.busy[0] = calloc(n, sizeof *l.busy[0]);
    l.busy[1] = calloc(n, sizeof *l.busy[1]);
    flows_find(&l);
    if (l.rows && out->rank && l.busy[0] && l.busy[1]) {
        out->latency_ns = plan->ranks > domain ? l.far_ns : plan->ranks > 1 ? l.near_ns : 0;
        links_load(&l);
        links_most(&l, out);
        ranks_set(&l, rounds, signals, out);
        err = 0;
    }
    free(l.rows);
    free(l.busy[0]);
    free(l.busy[1]);
    return err;
}

void bound_net_free(struct bound_net *n)
{
    free(n->rank);
    n->rank = NULL;
}
