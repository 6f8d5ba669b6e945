#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/err.h"
#include "sim/topology.h"

static struct sim_topology_cfg hopper(uint32_t endpoints)
{
    return (struct sim_topology_cfg){.endpoints = endpoints,
                                     .per_node = 8,
                                     .nvlink_GBps = 450,
                                     .nvlink_latency_ns = 700,
                                     .nics_per_node = 8,
                                     .nic_GBps = 50,
                                     .nic_latency_ns = 3000,
                                     .spine_latency_ns = 1000};
}

struct world {
    struct sim_flow_net *net;
    struct sim_topology *topology;
};

static struct world world_open(const struct sim_topology_cfg *cfg)
{
    struct world w;

    assert_int_equal(sim_flow_net_open(NULL, &w.net), 0);
    assert_int_equal(sim_topology_open(cfg, w.net, &w.topology), 0);
    return w;
}

static void world_close(struct world *w)
{
    sim_topology_close(w->topology);
    sim_flow_net_close(w->net);
}

static struct sim_path path_of(const struct world *w, uint32_t src, uint32_t dst)
{
    struct sim_path path;

    sim_topology_path(w->topology, src, dst, &path);
    return path;
}

/* When one flow of 1 MB per pair is done, all started together; latency left out. */
static double pairs_ns(struct world *w, const uint32_t (*pairs)[2], uint32_t count)
{
    struct sim_flow_event event;
    double last_ns = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct sim_path path = path_of(w, pairs[i][0], pairs[i][1]);
        struct sim_flow_spec spec = {
            path.links, path.link_count, SIM_FLOW_DRAINED, 1e6, INFINITY, path.latency_ns, i};

        assert_int_equal(sim_flow_start(w->net, &spec), 0);
    }
    while (sim_flow_pop(w->net, INFINITY, &event) == 1)
        last_ns = event.t_ns;
    return last_ns;
}

static void test_inside_a_node_is_nvlink_and_outside_is_nic(void **state)
{
    struct sim_topology_cfg cfg = hopper(16);
    struct world w = world_open(&cfg);
    struct sim_path near = path_of(&w, 0, 7), far = path_of(&w, 0, 8);

    (void)state;
    assert_int_equal(near.kind, SIM_PATH_NVLINK);
    assert_int_equal(near.links[0], sim_topology_nvlink(w.topology, 0, true));
    assert_int_equal(near.links[1], sim_topology_nvlink(w.topology, 7, false));
    assert_true(near.latency_ns == 700);
    assert_int_equal(far.kind, SIM_PATH_NIC);
    assert_int_equal(far.link_count, 2);
    assert_int_equal(far.links[0], sim_topology_nic(w.topology, 0, 0, true));
    assert_int_equal(path_of(&w, 3, 3).kind, SIM_PATH_LOCAL);
    world_close(&w);
}

static void test_a_domain_may_span_nodes(void **state)
{
    struct sim_topology_cfg cfg = hopper(144);
    struct world w;

    (void)state;
    cfg.per_node = 4;
    cfg.nics_per_node = 4;
    cfg.per_domain = 72;
    w = world_open(&cfg);
    assert_int_equal(path_of(&w, 0, 71).kind, SIM_PATH_NVLINK);
    assert_int_equal(path_of(&w, 0, 72).kind, SIM_PATH_NIC);
    world_close(&w);
}

static void test_a_shared_nic_is_shared_and_several_add_up(void **state)
{
    struct sim_topology_cfg cfg = hopper(16);
    const uint32_t neighbours[][2] = {{0, 8}, {1, 10}};
    const uint32_t fan[][2] = {{0, 8}, {0, 9}};
    struct world w;

    (void)state;
    cfg.nics_per_node = 4;
    w = world_open(&cfg);
    assert_float_equal(pairs_ns(&w, neighbours, 2), 2e6 / 50, 1e-6);
    world_close(&w);
    cfg.nics_per_node = 16;
    w = world_open(&cfg);
    assert_float_equal(pairs_ns(&w, fan, 2), 1e6 / 50, 1e-6);
    world_close(&w);
}

static void test_oversubscribed_leaves_slow_what_crosses_the_spine(void **state)
{
    struct sim_topology_cfg cfg = hopper(32);
    uint32_t out[16][2], in[8][2];
    struct world w;

    (void)state;
    cfg.fabric = SIM_FABRIC_TREE;
    cfg.nodes_per_leaf = 2;
    cfg.oversubscription = 4;
    w = world_open(&cfg);
    for (uint32_t i = 0; i < 16; i++) {
        out[i][0] = i;
        out[i][1] = i + 16;
    }
    assert_float_equal(pairs_ns(&w, (const uint32_t(*)[2])out, 16), 4 * 1e6 / 50, 1e-6);
    for (uint32_t i = 0; i < 8; i++) {
        in[i][0] = i;
        in[i][1] = i + 8;
    }
    assert_float_equal(pairs_ns(&w, (const uint32_t(*)[2])in, 8) - 4 * 1e6 / 50, 1e6 / 50, 1e-6);
    world_close(&w);
}

static void test_rails_reach_their_own_without_the_spine(void **state)
{
    struct sim_topology_cfg cfg = hopper(32);
    struct world w;
    struct sim_path path;

    (void)state;
    cfg.fabric = SIM_FABRIC_RAIL;
    w = world_open(&cfg);
    assert_int_equal(path_of(&w, 1, 9).link_count, 2);
    assert_int_equal(path_of(&w, 1, 10).link_count, 4);
    assert_true(path_of(&w, 1, 10).latency_ns == 4000);
    world_close(&w);
    cfg.pxn = true;
    w = world_open(&cfg);
    path = path_of(&w, 1, 10);
    assert_int_equal(path.link_count, 4);
    assert_int_equal(path.links[1], sim_topology_nvlink(w.topology, 2, false));
    assert_int_equal(path.links[2], sim_topology_nic(w.topology, 2, 0, true));
    assert_true(path.latency_ns == 3700);
    world_close(&w);
}

static void test_pcie_is_shared_by_peers_and_the_nic(void **state)
{
    struct sim_topology_cfg cfg = hopper(16);
    const uint32_t both[][2] = {{0, 1}, {0, 8}};
    struct world w;

    (void)state;
    cfg.nvlink_GBps = 0;
    cfg.pcie_GBps = 25;
    w = world_open(&cfg);
    assert_int_equal(path_of(&w, 0, 1).kind, SIM_PATH_PCIE);
    assert_float_equal(pairs_ns(&w, both, 2), 2e6 / 25, 1e-6);
    world_close(&w);
}

static void test_messages_cost_nic_time(void **state)
{
    struct sim_topology_cfg cfg = hopper(16);
    struct world w;

    (void)state;
    cfg.message_overhead_ns = 10;
    cfg.messages_per_us_limit = 5;
    w = world_open(&cfg);
    assert_true(sim_topology_wire_bytes(w.topology, SIM_PATH_NVLINK, 7168, 1) == 7168);
    assert_float_equal(sim_topology_wire_bytes(w.topology, SIM_PATH_NIC, 716800, 10),
                       716800 + 10 * 10 * 50, 1e-6);
    assert_float_equal(sim_topology_wire_bytes(w.topology, SIM_PATH_NIC, 100, 10), 10 * 200 * 50,
                       1e-6);
    world_close(&w);
}

static void test_bad_topologies_are_refused(void **state)
{
    struct sim_topology_cfg cfg = hopper(16);
    struct sim_flow_net *net;
    struct sim_topology *topology;

    (void)state;
    assert_int_equal(sim_flow_net_open(NULL, &net), 0);
    cfg.nics_per_node = 3;
    assert_int_equal(sim_topology_open(&cfg, net, &topology), ERR_CONFIG);
    cfg = hopper(16);
    cfg.nics_per_node = 0;
    assert_int_equal(sim_topology_open(&cfg, net, &topology), ERR_CONFIG);
    cfg = hopper(16);
    cfg.oversubscription = 0.5;
    assert_int_equal(sim_topology_open(&cfg, net, &topology), ERR_CONFIG);
    cfg = hopper(0);
    assert_int_equal(sim_topology_open(&cfg, net, &topology), ERR_CONFIG);
    sim_flow_net_close(net);
}

/* Every path of every fabric fits and crosses no link twice: the net would refuse it. */
static void test_all_paths_are_valid(void **state)
{
    (void)state;
    for (int fabric = SIM_FABRIC_FLAT; fabric <= SIM_FABRIC_RAIL; fabric++) {
        for (uint32_t nics = 2; nics <= 16; nics *= 2) {
            struct sim_topology_cfg cfg = hopper(30);
            struct sim_flow_event event;
            struct world w;

            cfg.fabric = (enum sim_fabric)fabric;
            cfg.nodes_per_leaf = 2;
            cfg.nics_per_node = nics;
            cfg.pcie_GBps = 64;
            cfg.pxn = true;
            w = world_open(&cfg);
            for (uint32_t i = 0; i < 30 * 30; i++) {
                struct sim_path path = path_of(&w, i / 30, i % 30);
                struct sim_flow_spec spec = {path.links, path.link_count, SIM_FLOW_DELIVERED,
                                             1e4,        INFINITY,        path.latency_ns,
                                             i};

                if (path.kind != SIM_PATH_LOCAL)
                    assert_int_equal(sim_flow_start(w.net, &spec), 0);
            }
            while (sim_flow_pop(w.net, INFINITY, &event) == 1)
                ;
            world_close(&w);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inside_a_node_is_nvlink_and_outside_is_nic),
        cmocka_unit_test(test_a_domain_may_span_nodes),
        cmocka_unit_test(test_a_shared_nic_is_shared_and_several_add_up),
        cmocka_unit_test(test_oversubscribed_leaves_slow_what_crosses_the_spine),
        cmocka_unit_test(test_rails_reach_their_own_without_the_spine),
        cmocka_unit_test(test_pcie_is_shared_by_peers_and_the_nic),
        cmocka_unit_test(test_messages_cost_nic_time),
        cmocka_unit_test(test_bad_topologies_are_refused),
        cmocka_unit_test(test_all_paths_are_valid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
