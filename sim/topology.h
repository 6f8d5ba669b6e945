/* TEMPORARY shape until the flow branch lands. */
#ifndef PEOSIM_SIM_TOPOLOGY_H
#define PEOSIM_SIM_TOPOLOGY_H
#include "sim/flow.h"
struct sim_topology {
    int ranks, domain;
    double nvlink_GBps, nic_GBps, nvlink_ns, nic_ns;
};
struct sim_path {
    uint32_t links[6];
    uint32_t link_count;
    double latency_ns;
    bool off_node;
};
static inline bool sim_topology_off_node(const struct sim_topology *t, int a, int b)
{
    return a / t->domain != b / t->domain;
}
static inline double sim_topology_nvlink_GBps(const struct sim_topology *t)
{
    return t->nvlink_GBps;
}
static inline void sim_topology_rank_GBps(const struct sim_topology *t, double *nv, double *nic)
{
    *nv = t->nvlink_GBps;
    *nic = t->nic_GBps;
}
static inline int sim_topology_links_add(const struct sim_topology *t, struct sim_flow_net *net)
{
    for (int i = 0; i < t->ranks; i++) {
        int e = sim_link_add(net, t->nvlink_GBps, 0);
        if (e < 0)
            return e;
        e = sim_link_add(net, t->nvlink_GBps, 0);
        if (e < 0)
            return e;
        e = sim_link_add(net, t->nic_GBps, 0);
        if (e < 0)
            return e;
        e = sim_link_add(net, t->nic_GBps, 0);
        if (e < 0)
            return e;
    }
    return 0;
}
static inline void sim_topology_path(const struct sim_topology *t, int a, int b, struct sim_path *p)
{
    p->off_node = sim_topology_off_node(t, a, b);
    p->link_count = 0;
    p->latency_ns = 0;
    if (a == b)
        return;
    uint32_t base = 2, k = p->off_node ? 2 : 0;
    p->links[p->link_count++] = base + 4 * (uint32_t)a + k;
    p->links[p->link_count++] = base + 4 * (uint32_t)b + k + 1;
    p->latency_ns = p->off_node ? t->nic_ns : t->nvlink_ns;
}
static inline void sim_topology_egress_GBps(const struct sim_topology *t, struct sim_flow_net *net,
                                            int r, double *nv, double *nic)
{
    (void)t;
    *nv = sim_link_rate_GBps(net, 2 + 4 * (uint32_t)r);
    *nic = sim_link_rate_GBps(net, 4 + 4 * (uint32_t)r);
}
#include <stdlib.h>
static inline void sim_topology_close(struct sim_topology *t)
{
    free(t);
}
#endif
