/* sim/topology.h: how endpoints (GPUs) are wired, as links of a flow net and paths over them.
 *
 * Endpoints 0..endpoints-1 fill nodes of per_node, and NVLink domains of per_domain (a domain may
 * span nodes, as NVL72 does, or be a part of one). Inside a domain flows go over NVLink, from the
 * GPU's port into a switch that does not block; or, without NVLink, over PCIe inside the node. All
 * other flows go over NICs and the fabric:
 *
 *   SIM_FABRIC_FLAT  one switch that does not block
 *   SIM_FABRIC_TREE  a leaf for the NICs of nodes_per_leaf nodes, and a spine that does not block
 *   SIM_FABRIC_RAIL  a leaf per rail (the NICs with the same number in their nodes) and group of
 *                    nodes_per_leaf nodes; other rails are reached over the spine, or, with `pxn`,
 *                    over NVLink to the GPU of the sender's node that is on the receiver's rail
 *
 * A leaf's uplinks are one link each way, which stands for ideal load balancing, of the capacity of
 * its NICs / oversubscription. NICs are the node's: with several per GPU a flow takes one of them
 * by its destination; with fewer than GPUs, neighbours share one. Max-min sharing knows no incast
 * loss and no hash collisions; lower the capacities to stand for them.
 */
#ifndef PEOSIM_SIM_TOPOLOGY_H
#define PEOSIM_SIM_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/flow/flow.h"

enum sim_fabric { SIM_FABRIC_FLAT, SIM_FABRIC_TREE, SIM_FABRIC_RAIL };

struct sim_topology_cfg {
    uint32_t endpoints, per_node;
    uint32_t per_domain; /* 0: the node */
    double nvlink_GBps;  /* each way; 0: no NVLink */
    double nvlink_latency_ns;
    double pcie_GBps; /* each way, between a GPU and everything but NVLink; 0: never the limit */
    double pcie_latency_ns;
    uint32_t nics_per_node; /* a multiple or a divisor of per_node; may be 0 with one domain */
    double nic_GBps;        /* each way */
    double nic_latency_ns;  /* one way, NIC to NIC over one leaf */
    enum sim_fabric fabric;
    uint32_t nodes_per_leaf; /* TREE and RAIL; 0: all */
    double oversubscription; /* >= 1; 0 is 1 */
    double spine_latency_ns; /* more for a path over the spine */
    bool pxn;
    double message_overhead_ns;   /* NIC time per message besides its bytes */
    double messages_per_us_limit; /* of a NIC, each way; 0: none */
};

enum sim_path_kind { SIM_PATH_LOCAL, SIM_PATH_NVLINK, SIM_PATH_PCIE, SIM_PATH_NIC };

struct sim_path {
    enum sim_path_kind kind;
    uint32_t links[SIM_FLOW_PATH_MAX], link_count; /* link_count is 0 only for SIM_PATH_LOCAL */
    double latency_ns;                             /* of the whole path: the links have none */
};

struct sim_topology;

/* Adds the links to net, which must outlive the topology and is not owned. ERR_CONFIG (logged) for
 * counts or rates that do not fit together, ERR_NOMEM. */
int sim_topology_open(const struct sim_topology_cfg *cfg, struct sim_flow_net *net,
                      struct sim_topology **topology);
/* Removes the links; no flow may be on them. NULL is fine. */
void sim_topology_close(struct sim_topology *topology);

/* Where a path stands in the planes of the net (sim/flow/flow.h). */
struct sim_place {
    enum sim_path_kind kind;
    uint32_t plane, out, in; /* in is SIM_FLOW_NO_PORT for SIM_PATH_LOCAL */
    double latency_ns;
};
/* False where the path is no more than links: over PCIe, leaves, or other rails' GPUs. */
bool sim_topology_place(const struct sim_topology *topology, uint32_t src, uint32_t dst,
                        struct sim_place *place);
/* What one endpoint can send over all of its NICs. */
double sim_topology_nics_GBps(const struct sim_topology *topology);

/* The path from src to dst, both < endpoints. */
void sim_topology_path(const struct sim_topology *topology, uint32_t src, uint32_t dst,
                       struct sim_path *path);

/* What to give a flow as bytes so that a NIC is busy for as long as `messages` messages of `bytes`
 * bytes in all keep it:
 *     max(bytes / nic_GBps + messages * message_overhead_ns, messages / messages_per_us_limit)
 * times nic_GBps. The time is the NIC's, shared by all flows on it, so it counts as bytes and not
 * as a cap on each flow. Other kinds of path: bytes as they are. */
double sim_topology_wire_bytes(const struct sim_topology *topology, enum sim_path_kind kind,
                               double bytes, double messages);

/* The link on which everything that an endpoint sends over NVLink, or by its n-th NIC, leaves
 * (`out`) or arrives; 0 if there is none. For counters. */
uint32_t sim_topology_nvlink(const struct sim_topology *topology, uint32_t endpoint, bool out);
uint32_t sim_topology_nic(const struct sim_topology *topology, uint32_t endpoint, uint32_t n,
                          bool out);

#endif
