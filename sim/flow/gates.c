/* Gates: counters that flows take down as they drain or arrive. */
#include "sim/flow/net.h"

#include <assert.h>

#include "base/err.h"

int sim_flow_gates_make(struct sim_flow_net *net, uint32_t count)
{
    int err = net_lines_grow(net, &net->gates, sizeof *net->gates, 0, count);

    if (err)
        return err;
    net->gate_count = count;
    for (uint32_t i = 0; i < count; i++)
        sim_heap_node_init(&net->gates[i].node);
    return 0;
}

void sim_flow_gate_raise(struct sim_flow_net *net, uint32_t gate, int by)
{
    struct gate *g = &net->gates[gate];

    assert(gate < net->gate_count);
    g->left += by;
    if (g->left > 0)
        sim_heap_remove(&net->gates_due, &g->node);
}

static void gate_down(struct gate *g, double t_ns, uint32_t who)
{
    g->left--;
    if (t_ns >= g->last_ns) {
        g->last_ns = t_ns;
        g->who = who;
    }
}

int net_gate_drop(struct sim_flow_net *net, uint32_t gate, double t_ns, uint32_t who)
{
    struct gate *g = &net->gates[gate];

    gate_down(g, t_ns, who);
    return g->left ? 0 : sim_heap_push(&net->gates_due, &g->node, g->last_ns, net->seq++);
}

int sim_flow_gate_drop(struct sim_flow_net *net, uint32_t gate, uint32_t who)
{
    struct gate *g = &net->gates[gate];

    assert(gate < net->gate_count);
    gate_down(g, net->now_ns, who);
    if (g->left)
        return 0;
    if (g->last_ns <= net->now_ns)
        return 1;
    return sim_heap_push(&net->gates_due, &g->node, g->last_ns, net->seq++);
}

bool sim_flow_gate_open(const struct sim_flow_net *net, uint32_t gate)
{
    const struct gate *g = &net->gates[gate];

    assert(gate < net->gate_count);
    return g->left <= 0 && g->last_ns <= net->now_ns;
}

double net_gate_next_ns(const struct sim_flow_net *net)
{
    const struct sim_heap_node *node = sim_heap_peek(&net->gates_due);

    return node ? node->t_ns : INFINITY;
}

void net_gate_take(struct sim_flow_net *net, struct sim_flow_event *event)
{
    struct gate *g = sim_heap_entry(sim_heap_pop(&net->gates_due), struct gate, node);

    net->now_ns = fmax(net->now_ns, g->last_ns);
    *event =
        (struct sim_flow_event){net->now_ns, (uint64_t)(g - net->gates), SIM_FLOW_GATE, g->who};
}
