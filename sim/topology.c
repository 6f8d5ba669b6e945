#include "sim/topology.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"

/* Links come in pairs: out (from the endpoints, or up) and in (to them, or down). */
struct pair {
    uint32_t out, in;
};

/* Where an endpoint stands in the planes. */
struct spot {
    uint32_t domain, slot; /* slot: in its domain */
    uint32_t nic;          /* the first that it uses */
};

struct sim_topology {
    struct sim_topology_cfg cfg;
    struct spot *spot; /* per endpoint */
    uint32_t picks;    /* NICs that an endpoint chooses among */
    struct sim_flow_net *net;
    uint32_t nodes, leaf_groups, rails;
    struct pair *nvlink;              /* per endpoint */
    struct pair *pcie;                /* per endpoint */
    struct pair *nic;                 /* per node and number in the node */
    struct pair *leaf;                /* per leaf group and rail (TREE: one rail) */
    uint32_t nvlink_plane, nic_plane; /* the first of one per domain; NO_PLANE: none */
};

#define NO_PLANE UINT32_MAX

static bool rate_ok(double x)
{
    return x >= 0 && x < INFINITY;
}

static int cfg_check(struct sim_topology_cfg *c)
{
    bool divides, one_switch;

    if (!c->per_domain)
        c->per_domain = c->per_node;
    if (c->oversubscription == 0)
        c->oversubscription = 1;
    if (!c->endpoints || !c->per_node) {
        log_error("a topology needs endpoints and endpoints per node");
        return ERR_CONFIG;
    }
    divides = c->nics_per_node &&
              (c->nics_per_node % c->per_node == 0 || c->per_node % c->nics_per_node == 0);
    one_switch = (c->nvlink_GBps > 0 && c->endpoints <= c->per_domain) ||
                 (c->pcie_GBps > 0 && c->endpoints <= c->per_node);
    if (!divides && (c->nics_per_node || !one_switch)) {
        log_error("%u NICs do not divide among %u GPUs of a node", c->nics_per_node, c->per_node);
        return ERR_CONFIG;
    }
    if (!rate_ok(c->nvlink_GBps) || !rate_ok(c->pcie_GBps) || !rate_ok(c->nic_GBps) ||
        !rate_ok(c->nvlink_latency_ns) || !rate_ok(c->pcie_latency_ns) ||
        !rate_ok(c->nic_latency_ns) || !rate_ok(c->spine_latency_ns) ||
        !rate_ok(c->message_overhead_ns) || !rate_ok(c->messages_per_us_limit) ||
        (c->nics_per_node && !(c->nic_GBps > 0)) ||
        !(c->oversubscription >= 1 && c->oversubscription < INFINITY)) {
        log_error("a rate, latency or oversubscription of the topology is out of range");
        return ERR_CONFIG;
    }
    return 0;
}

static int pairs_add(struct sim_flow_net *net, struct pair **pairs, uint32_t count, double GBps)
{
    *pairs = calloc(count ? count : 1, sizeof **pairs);
    if (!*pairs)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < count; i++) {
        int out = sim_link_add(net, GBps, 0), in = out < 0 ? out : sim_link_add(net, GBps, 0);

        if (out > 0)
            (*pairs)[i].out = (uint32_t)out;
        if (in < 0)
            return in;
        (*pairs)[i].in = (uint32_t)in;
    }
    return 0;
}

static void pairs_remove(struct sim_flow_net *net, struct pair *pairs, uint32_t count)
{
    for (uint32_t i = 0; pairs && i < count; i++) {
        if (pairs[i].out)
            sim_link_remove(net, pairs[i].out);
        if (pairs[i].in)
            sim_link_remove(net, pairs[i].in);
    }
    free(pairs);
}

static uint32_t nic_count(const struct sim_topology *t)
{
    return t->nodes * t->cfg.nics_per_node;
}

static uint32_t leaf_count(const struct sim_topology *t)
{
    return t->cfg.fabric == SIM_FABRIC_FLAT ? 0 : t->leaf_groups * t->rails;
}

static int links_add(struct sim_topology *t)
{
    const struct sim_topology_cfg *c = &t->cfg;
    double leaf_GBps = c->nic_GBps * (c->nodes_per_leaf ? c->nodes_per_leaf : t->nodes) *
                       (c->nics_per_node / (double)t->rails) / c->oversubscription;
    int rc;

    if ((rc = pairs_add(t->net, &t->nvlink, c->nvlink_GBps > 0 ? c->endpoints : 0,
                        c->nvlink_GBps)) ||
        (rc = pairs_add(t->net, &t->pcie, c->pcie_GBps > 0 ? c->endpoints : 0, c->pcie_GBps)) ||
        (rc = pairs_add(t->net, &t->nic, nic_count(t), c->nic_GBps)))
        return rc;
    return pairs_add(t->net, &t->leaf, leaf_count(t), leaf_GBps);
}

static int plane_add(struct sim_topology *t, const struct pair *pairs, uint32_t count)
{
    uint32_t *out = malloc(2 * count * sizeof *out);
    int plane = ERR_NOMEM;

    for (uint32_t i = 0; out && i < count; i++) {
        out[i] = pairs[i].out;
        out[count + i] = pairs[i].in;
    }
    if (out)
        plane = sim_flow_plane_add(t->net, out, out + count, count);
    free(out);
    return plane;
}

/* The NIC, by its number in the node, that an endpoint uses; pick chooses among several. */
static uint32_t nic_of(const struct sim_topology *t, uint32_t endpoint, uint32_t pick)
{
    uint32_t local = endpoint % t->cfg.per_node, nics = t->cfg.nics_per_node;

    if (nics <= t->cfg.per_node)
        return local / (t->cfg.per_node / nics);
    return local * (nics / t->cfg.per_node) + pick % (nics / t->cfg.per_node);
}

static int spots_set(struct sim_topology *t)
{
    const struct sim_topology_cfg *c = &t->cfg;

    t->picks = c->nics_per_node > c->per_node ? c->nics_per_node / c->per_node : 1;
    t->spot = malloc(c->endpoints * sizeof *t->spot);
    for (uint32_t i = 0; t->spot && i < c->endpoints; i++) {
        uint32_t nic = c->nics_per_node ? nic_of(t, i, 0) : 0;

        t->spot[i] = (struct spot){i / c->per_domain, i % c->per_domain,
                                   i / c->per_node * c->nics_per_node + nic};
    }
    return t->spot ? 0 : ERR_NOMEM;
}

/* A plane per NVLink domain, and one of all NICs, where paths are a link out and a link in. */
static int planes_add(struct sim_topology *t)
{
    const struct sim_topology_cfg *c = &t->cfg;
    bool detours = c->fabric == SIM_FABRIC_RAIL && c->pxn;
    int plane;

    t->nvlink_plane = t->nic_plane = NO_PLANE;
    for (uint32_t at = 0; c->nvlink_GBps > 0 && !detours && at < c->endpoints;
         at += c->per_domain) {
        uint32_t left = c->endpoints - at;

        plane = plane_add(t, t->nvlink + at, left < c->per_domain ? left : c->per_domain);
        if (plane < 0)
            return plane;
        if (at == 0)
            t->nvlink_plane = (uint32_t)plane;
    }
    if (!nic_count(t) || c->pcie_GBps > 0 || c->fabric != SIM_FABRIC_FLAT)
        return 0;
    plane = plane_add(t, t->nic, nic_count(t));
    if (plane < 0)
        return plane;
    t->nic_plane = (uint32_t)plane;
    return 0;
}

int sim_topology_open(const struct sim_topology_cfg *cfg, struct sim_flow_net *net,
                      struct sim_topology **topology)
{
    struct sim_topology *t = calloc(1, sizeof *t);
    uint32_t per_leaf;
    int rc;

    if (!t)
        return ERR_NOMEM;
    t->cfg = *cfg;
    t->net = net;
    rc = cfg_check(&t->cfg);
    if (rc) {
        free(t);
        return rc;
    }
    t->nodes = (cfg->endpoints + cfg->per_node - 1) / cfg->per_node;
    per_leaf = cfg->nodes_per_leaf ? cfg->nodes_per_leaf : t->nodes;
    t->leaf_groups = (t->nodes + per_leaf - 1) / per_leaf;
    t->rails = cfg->fabric == SIM_FABRIC_RAIL && cfg->nics_per_node ? cfg->nics_per_node : 1;
    rc = spots_set(t);
    if (!rc)
        rc = links_add(t);
    if (!rc)
        rc = planes_add(t);
    if (rc) {
        sim_topology_close(t);
        return rc;
    }
    *topology = t;
    return 0;
}

void sim_topology_close(struct sim_topology *t)
{
    if (!t)
        return;
    pairs_remove(t->net, t->nvlink, t->cfg.nvlink_GBps > 0 ? t->cfg.endpoints : 0);
    pairs_remove(t->net, t->pcie, t->cfg.pcie_GBps > 0 ? t->cfg.endpoints : 0);
    pairs_remove(t->net, t->nic, nic_count(t));
    pairs_remove(t->net, t->leaf, leaf_count(t));
    free(t->spot);
    free(t);
}

static void hop_add(struct sim_path *path, uint32_t link)
{
    assert(path->link_count < SIM_FLOW_PATH_MAX);
    path->links[path->link_count++] = link;
}

static void path_pcie_add(const struct sim_topology *t, struct sim_path *path, uint32_t endpoint,
                          bool out)
{
    if (t->cfg.pcie_GBps > 0)
        hop_add(path, out ? t->pcie[endpoint].out : t->pcie[endpoint].in);
}

/* The GPU of the sender's node through which a flow enters the receiver's rail; the sender itself
 * where that needs no detour or none is possible. */
static uint32_t rail_entry(const struct sim_topology *t, uint32_t src, uint32_t src_nic,
                           uint32_t dst_nic)
{
    const struct sim_topology_cfg *c = &t->cfg;
    uint32_t first = src - src % c->per_node, entry;

    if (c->fabric != SIM_FABRIC_RAIL || !c->pxn || !(c->nvlink_GBps > 0) || src_nic == dst_nic)
        return src;
    entry = first + (c->nics_per_node <= c->per_node ? dst_nic * (c->per_node / c->nics_per_node)
                                                     : dst_nic / (c->nics_per_node / c->per_node));
    return entry < c->endpoints && entry / c->per_domain == src / c->per_domain ? entry : src;
}

static void path_fabric(const struct sim_topology *t, uint32_t src, uint32_t dst,
                        struct sim_path *path)
{
    const struct sim_topology_cfg *c = &t->cfg;
    uint32_t src_node = src / c->per_node, dst_node = dst / c->per_node;
    uint32_t per_leaf = c->nodes_per_leaf ? c->nodes_per_leaf : t->nodes;
    /* Sender and receiver pick alike, so that equal GPUs of two nodes stay on a rail. */
    uint32_t src_nic = nic_of(t, src, src + dst), dst_nic = nic_of(t, dst, src + dst);
    uint32_t entry = rail_entry(t, src, src_nic, dst_nic);
    uint32_t src_leaf = src_node / per_leaf * t->rails + (t->rails > 1 ? src_nic : 0);
    uint32_t dst_leaf = dst_node / per_leaf * t->rails + (t->rails > 1 ? dst_nic : 0);

    if (entry != src)
        src_leaf = src_node / per_leaf * t->rails + dst_nic;
    path->kind = SIM_PATH_NIC;
    path->latency_ns = c->nic_latency_ns;
    if (entry != src) {
        hop_add(path, t->nvlink[src].out);
        hop_add(path, t->nvlink[entry].in);
        path->latency_ns += c->nvlink_latency_ns;
    }
    path_pcie_add(t, path, entry, true);
    hop_add(path, t->nic[src_node * c->nics_per_node + (entry == src ? src_nic : dst_nic)].out);
    if (c->fabric != SIM_FABRIC_FLAT && src_leaf != dst_leaf) {
        hop_add(path, t->leaf[src_leaf].out);
        hop_add(path, t->leaf[dst_leaf].in);
        path->latency_ns += c->spine_latency_ns;
    }
    hop_add(path, t->nic[dst_node * c->nics_per_node + dst_nic].in);
    path_pcie_add(t, path, dst, false);
}

void sim_topology_path(const struct sim_topology *t, uint32_t src, uint32_t dst,
                       struct sim_path *path)
{
    const struct sim_topology_cfg *c = &t->cfg;

    assert(src < c->endpoints && dst < c->endpoints);
    *path = (struct sim_path){.kind = SIM_PATH_LOCAL};
    if (src == dst)
        return;
    if (c->nvlink_GBps > 0 && src / c->per_domain == dst / c->per_domain) {
        path->kind = SIM_PATH_NVLINK;
        path->latency_ns = c->nvlink_latency_ns;
        hop_add(path, t->nvlink[src].out);
        hop_add(path, t->nvlink[dst].in);
    } else if (c->pcie_GBps > 0 && src / c->per_node == dst / c->per_node) {
        path->kind = SIM_PATH_PCIE;
        path->latency_ns = c->pcie_latency_ns;
        path_pcie_add(t, path, src, true);
        path_pcie_add(t, path, dst, false);
    } else {
        path_fabric(t, src, dst, path);
    }
}

bool sim_topology_place(const struct sim_topology *t, uint32_t src, uint32_t dst,
                        struct sim_place *place)
{
    const struct spot *from = &t->spot[src], *to = &t->spot[dst];
    const struct sim_topology_cfg *c = &t->cfg;
    uint32_t pick = t->picks > 1 ? (src + dst) % t->picks : 0;

    if (c->nvlink_GBps > 0 && from->domain == to->domain) {
        place->kind = src == dst ? SIM_PATH_LOCAL : SIM_PATH_NVLINK;
        place->plane = t->nvlink_plane + from->domain;
        place->out = from->slot;
        place->in = src == dst ? SIM_FLOW_NO_PORT : to->slot;
        place->latency_ns = src == dst ? 0 : c->nvlink_latency_ns;
        return t->nvlink_plane != NO_PLANE;
    }
    if (src == dst || t->nic_plane == NO_PLANE)
        return false;
    place->kind = SIM_PATH_NIC;
    place->plane = t->nic_plane;
    place->out = from->nic + pick;
    place->in = to->nic + pick;
    place->latency_ns = c->nic_latency_ns;
    return true;
}

double sim_topology_nics_GBps(const struct sim_topology *t)
{
    uint32_t nics = t->cfg.nics_per_node / t->cfg.per_node;

    return t->cfg.nic_GBps * (nics ? nics : 1);
}

double sim_topology_wire_bytes(const struct sim_topology *t, enum sim_path_kind kind, double bytes,
                               double messages)
{
    const struct sim_topology_cfg *c = &t->cfg;
    double wire = bytes + messages * c->message_overhead_ns * c->nic_GBps, least = 0;

    if (kind != SIM_PATH_NIC)
        return bytes;
    if (c->messages_per_us_limit > 0)
        least = messages / c->messages_per_us_limit * 1e3 * c->nic_GBps;
    return wire > least ? wire : least;
}

uint32_t sim_topology_nvlink(const struct sim_topology *t, uint32_t endpoint, bool out)
{
    assert(endpoint < t->cfg.endpoints);
    if (!(t->cfg.nvlink_GBps > 0))
        return 0;
    return out ? t->nvlink[endpoint].out : t->nvlink[endpoint].in;
}

uint32_t sim_topology_nic(const struct sim_topology *t, uint32_t endpoint, uint32_t n, bool out)
{
    const struct pair *nic;

    assert(endpoint < t->cfg.endpoints);
    if (!t->cfg.nics_per_node)
        return 0;
    nic = &t->nic[endpoint / t->cfg.per_node * t->cfg.nics_per_node + nic_of(t, endpoint, n)];
    return out ? nic->out : nic->in;
}
