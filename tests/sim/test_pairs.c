/* The fast fidelity against the exact one, flow by flow and gate by gate. */
#include "tests/check.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "sim/flow/flow.h"
#include "tests/flow_reference.h"

enum { PORTS_MAX = 24, SENDS_MAX = 120 };

/* What one port sends to all others at a time, under a limit of its own or none. */
struct send {
    double start_ns, limit_GBps, bytes[PORTS_MAX + 1]; /* the last: stays on the port */
    int port;
};

struct world {
    int ports, sends;
    double cap_GBps;
    struct send send[SENDS_MAX];
};

struct outcome {
    double done_ns[SENDS_MAX][PORTS_MAX + 1]; /* delivered */
    double last_ns[PORTS_MAX], most_ns;
    double drained_bytes;
};

static int net_new(enum sim_flow_fidelity how, const struct world *w, struct sim_flow_net **net)
{
    struct sim_flow_cfg cfg = {.fidelity = how};
    uint32_t out[PORTS_MAX], in[PORTS_MAX];

    assert_int_equal(sim_flow_net_open(&cfg, net), 0);
    for (int i = 0; i < w->ports; i++) {
        out[i] = (uint32_t)sim_link_add(*net, w->cap_GBps, 0);
        in[i] = (uint32_t)sim_link_add(*net, w->cap_GBps, 0);
    }
    assert_int_equal(sim_flow_gates_make(*net, (uint32_t)w->ports), 0);
    return sim_flow_plane_add(*net, out, in, (uint32_t)w->ports);
}

static void send_start(struct sim_flow_net *net, int plane, const struct world *w, int i)
{
    const struct send *s = &w->send[i];
    struct sim_flow_leg legs[PORTS_MAX + 1];
    uint32_t count = 0, limit = 0;

    if (s->limit_GBps > 0)
        limit = (uint32_t)sim_link_add(net, s->limit_GBps, 0);
    for (int to = 0; to <= PORTS_MAX; to++) {
        bool stays = to == PORTS_MAX;

        if (!(s->bytes[to] > 0) || (stays && !limit))
            continue;
        legs[count++] = (struct sim_flow_leg){
            .plane = (uint32_t)plane,
            .out = (uint32_t)s->port,
            .in = stays ? SIM_FLOW_NO_PORT : (uint32_t)to,
            .limit = limit,
            .bytes = s->bytes[to],
            .latency_ns = stays ? 0 : 1000,
            .drain = SIM_FLOW_NO_GATE,
            .arrive = stays ? SIM_FLOW_NO_GATE : (uint32_t)to,
            .who = (uint32_t)i,
            .events = SIM_FLOW_DELIVERED,
            .tag = (uint64_t)i * (PORTS_MAX + 1) + (uint64_t)to,
        };
        if (!stays)
            sim_flow_gate_raise(net, (uint32_t)to, 1);
    }
    assert_int_equal(sim_flow_legs_start(net, legs, count), 0);
    if (limit)
        assert_int_equal(sim_link_retire(net, limit), 0);
}

static void events_take(struct sim_flow_net *net, double until_ns, struct outcome *o)
{
    struct sim_flow_event e;
    double before_ns = sim_flow_now_ns(net);
    int got;

    while ((got = sim_flow_pop(net, until_ns, &e)) == 1) {
        assert_true(e.t_ns >= before_ns);
        before_ns = e.t_ns;
        if (e.kind == SIM_FLOW_GATE) {
            o->last_ns[e.tag] = e.t_ns;
            continue;
        }
        o->done_ns[e.tag / (PORTS_MAX + 1)][e.tag % (PORTS_MAX + 1)] = e.t_ns;
        o->most_ns = fmax(o->most_ns, e.t_ns);
    }
    assert_int_equal(got, 0);
}

static void world_run(enum sim_flow_fidelity how, const struct world *w, struct outcome *o)
{
    struct sim_flow_net *net;
    struct sim_flow_stats stats;
    int plane = net_new(how, w, &net);

    memset(o, 0, sizeof *o);
    assert_true(plane >= 0);
    for (int i = 0; i < w->sends; i++) {
        events_take(net, w->send[i].start_ns, o);
        send_start(net, plane, w, i);
    }
    events_take(net, INFINITY, o);
    sim_flow_stats_get(net, &stats);
    assert_int_equal(stats.flows_started, stats.flows_delivered);
    assert_true(fabs(stats.bytes_started - stats.bytes_drained) <= 1e-6 * stats.bytes_started);
    sim_flow_net_close(net);
}

/* Sends one after another; a third of them under a limit that binds. */
static void world_draw(struct world *w, uint64_t seed, bool limits, double gap_ns)
{
    double t_ns = 0;

    memset(w, 0, sizeof *w);
    w->ports = 2 + (int)(seed % (PORTS_MAX - 1));
    w->cap_GBps = 50;
    w->sends = 2 * w->ports;
    for (int i = 0; i < w->sends; i++) {
        struct send *s = &w->send[i];

        t_ns += gap_ns * ref_uniform(&seed);
        s->start_ns = t_ns;
        s->port = i % w->ports;
        s->limit_GBps = limits && ref_uniform(&seed) < 0.3 ? 5 + 60 * ref_uniform(&seed) : 0;
        for (int to = 0; to < w->ports; to++)
            if (to != s->port && ref_uniform(&seed) < 0.9)
                s->bytes[to] = floor(1e5 * exp(0.5 * ref_gauss(&seed)));
        s->bytes[PORTS_MAX] = 5e4;
    }
}

static void test_one_flow_takes_its_time(void **state)
{
    static struct world w = {
        .ports = 2, .sends = 1, .cap_GBps = 50, .send = {{.start_ns = 100, .bytes = {0, 1e5}}}};
    static struct outcome o;

    (void)state;
    world_run(SIM_FLOW_FAST, &w, &o);
    assert_true(fabs(o.done_ns[0][1] - (100 + 1e5 / 50 + 1000)) < 1);
    assert_true(o.last_ns[1] == o.done_ns[0][1]);
}

/* A limit holds what it was made for and nothing else; what stays on the port meets only it. */
static void test_limits_hold_their_own_sends(void **state)
{
    static struct world w = {
        .ports = 3,
        .sends = 2,
        .cap_GBps = 50,
        .send = {{.limit_GBps = 10, .bytes = {0, 1e5, [PORTS_MAX] = 1e5}}, {.bytes = {0, 0, 4e5}}}};
    static struct outcome o;

    (void)state;
    world_run(SIM_FLOW_FAST, &w, &o);
    assert_true(fabs(o.done_ns[0][1] - (2e5 / 10 + 1000)) < 40);
    assert_true(fabs(o.done_ns[0][PORTS_MAX] - 2e5 / 10) < 40);
    assert_true(fabs(o.done_ns[1][2] - (4e5 / 45 + 1000)) < 40);
}

/* A port's limit with all flows to one port: the column is full until the last byte. */
static void test_incast_ends_when_its_link_has_carried_all(void **state)
{
    static struct world w = {.ports = PORTS_MAX, .sends = PORTS_MAX - 1, .cap_GBps = 50};
    static struct outcome o;
    double sum = 0;

    (void)state;
    for (int i = 0; i < w.sends; i++) {
        w.send[i] = (struct send){.port = i + 1};
        w.send[i].bytes[0] = 1e4 * (i + 1);
        sum += w.send[i].bytes[0];
    }
    world_run(SIM_FLOW_FAST, &w, &o);
    assert_true(fabs(o.most_ns - 1000 - sum / 50) < 1e-3 * sum / 50);
}

static void worlds_compare(bool limits, double gap_ns, double *worst_end, double *mean_flow)
{
    static struct world w;
    static struct outcome exact, fast, again;
    double sum = 0, flows = 0;

    *worst_end = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        world_draw(&w, seed, limits, gap_ns);
        world_run(SIM_FLOW_EXACT, &w, &exact);
        world_run(SIM_FLOW_FAST, &w, &fast);
        world_run(SIM_FLOW_FAST, &w, &again);
        assert_memory_equal(&fast, &again, sizeof fast);
        *worst_end = fmax(*worst_end, fabs(fast.most_ns / exact.most_ns - 1));
        for (int i = 0; i < w.sends; i++)
            for (int to = 0; to <= PORTS_MAX; to++) {
                double took = exact.done_ns[i][to] - w.send[i].start_ns;

                assert_true((exact.done_ns[i][to] > 0) == (fast.done_ns[i][to] > 0));
                if (!(exact.done_ns[i][to] > 0))
                    continue;
                sum += fabs(fast.done_ns[i][to] - exact.done_ns[i][to]) / took;
                flows++;
            }
    }
    *mean_flow = sum / flows;
}

/* What docs/flow-engine.md states. */
static void test_random_worlds_end_as_exact_ones(void **state)
{
    static const double gaps_ns[] = {0, 300, 3000, 30000};

    (void)state;
    for (size_t g = 0; g < sizeof gaps_ns / sizeof *gaps_ns; g++)
        for (int limits = 0; limits < 2; limits++) {
            double worst_end, mean_flow;

            worlds_compare(limits, gaps_ns[g], &worst_end, &mean_flow);
            print_message("gap %.0f ns%s: ends within %.3f%%, flows off by %.3f%% on average\n",
                          gaps_ns[g], limits ? ", limits" : "", 100 * worst_end, 100 * mean_flow);
            assert_true(worst_end < 0.006);
            assert_true(mean_flow < 0.004);
        }
}

/* Equal flows that start some ns apart hold their rates for long: what the short epochs at the
 * start left on links' accounts must not be settled at a rate that then holds all along. */
static void test_even_exchange_keeps_no_rate_that_settles_a_short_epoch(void **state)
{
    static struct world w;
    static struct outcome exact, fast;

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t at = seed;

        w = (struct world){.ports = 16, .sends = 32, .cap_GBps = 25};
        for (int i = 0; i < w.sends; i++) {
            double start_ns = i / 4 * 400 + 20 * ref_uniform(&at);

            w.send[i].port = i % w.ports;
            w.send[i].start_ns = i ? fmax(w.send[i - 1].start_ns, start_ns) : start_ns;
            for (int to = 0; to < w.ports; to++)
                w.send[i].bytes[to] = to / 4 == w.send[i].port / 4 ? 0 : 5e5;
        }
        world_run(SIM_FLOW_EXACT, &w, &exact);
        world_run(SIM_FLOW_FAST, &w, &fast);
        assert_true(fabs(fast.most_ns / exact.most_ns - 1) < 0.001);
    }
}

/* What a limit could not carry while it was lower is not made up for once it is higher, nor the
 * other way round. */
static void test_limit_that_changes_owes_nothing(void **state)
{
    static const double after_GBps[] = {5, 20, 40};

    (void)state;
    for (size_t i = 0; i < sizeof after_GBps / sizeof *after_GBps; i++) {
        struct world w = {.ports = 2, .cap_GBps = 50};
        struct sim_flow_event e;
        struct sim_flow_net *net;
        int plane = net_new(SIM_FLOW_FAST, &w, &net), limit = sim_link_add(net, 10, 0);
        struct sim_flow_leg leg = {.plane = (uint32_t)plane,
                                   .in = 1,
                                   .limit = (uint32_t)limit,
                                   .bytes = 2e5,
                                   .drain = SIM_FLOW_NO_GATE,
                                   .arrive = SIM_FLOW_NO_GATE,
                                   .events = SIM_FLOW_DELIVERED};
        double end_ns = 1e4 + 1e5 / after_GBps[i];

        assert_int_equal(sim_flow_legs_start(net, &leg, 1), 0);
        assert_int_equal(sim_flow_pop(net, 1e4, &e), 0);
        assert_int_equal(sim_link_capacity_set(net, (uint32_t)limit, after_GBps[i]), 0);
        assert_int_equal(sim_flow_pop(net, INFINITY, &e), 1);
        assert_true(fabs(e.t_ns / end_ns - 1) < 0.005);
        sim_flow_net_close(net);
    }
}

/* Links of planes know flows as legs only, and a limit is of one plane. */
static void test_wrong_uses_are_refused(void **state)
{
    struct world w = {.ports = 2, .cap_GBps = 50};
    struct sim_flow_net *net;
    struct sim_flow_spec spec = {.link_count = 1, .bytes = 1, .cap_GBps = INFINITY};
    uint32_t link = 2;

    (void)state;
    assert_true(net_new(SIM_FLOW_FAST, &w, &net) >= 0);
    spec.links = &link;
    assert_int_equal(sim_flow_start(net, &spec), ERR_RANGE);
    link = (uint32_t)sim_link_add(net, 10, 0);
    spec.events = SIM_FLOW_DELIVERED;
    assert_int_equal(sim_flow_start(net, &spec), 0); /* others run beside the planes */
    sim_flow_net_close(net);
}

/* A gate opens once all that it was raised by has come, and not before. */
static void test_gates_count(void **state)
{
    for (int how = SIM_FLOW_EXACT; how <= SIM_FLOW_FAST; how++) {
        struct world w = {.ports = 2, .cap_GBps = 50};
        struct sim_flow_event e;
        struct sim_flow_net *net;
        int plane = net_new((enum sim_flow_fidelity)how, &w, &net);
        struct sim_flow_leg leg = {.plane = (uint32_t)plane,
                                   .in = 1,
                                   .bytes = 5e4,
                                   .drain = SIM_FLOW_NO_GATE,
                                   .arrive = 1,
                                   .who = 7};

        (void)state;
        sim_flow_gate_raise(net, 1, 2);
        assert_false(sim_flow_gate_open(net, 1));
        assert_int_equal(sim_flow_legs_start(net, &leg, 1), 0);
        assert_int_equal(sim_flow_pop(net, 500, &e), 0);
        assert_int_equal(sim_flow_gate_drop(net, 1, 3), 0);
        assert_int_equal(sim_flow_pop(net, INFINITY, &e), 1);
        assert_int_equal(e.kind, SIM_FLOW_GATE);
        assert_int_equal(e.who, 7);
        assert_true(fabs(e.t_ns - 1000) < 1 && sim_flow_gate_open(net, 1));
        sim_flow_gate_raise(net, 0, 1);
        assert_int_equal(sim_flow_gate_drop(net, 0, 3), 1); /* at once: no event */
        assert_int_equal(sim_flow_pop(net, INFINITY, &e), 0);
        sim_flow_net_close(net);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_flow_takes_its_time),
        cmocka_unit_test(test_limits_hold_their_own_sends),
        cmocka_unit_test(test_incast_ends_when_its_link_has_carried_all),
        cmocka_unit_test(test_random_worlds_end_as_exact_ones),
        cmocka_unit_test(test_even_exchange_keeps_no_rate_that_settles_a_short_epoch),
        cmocka_unit_test(test_limit_that_changes_owes_nothing),
        cmocka_unit_test(test_wrong_uses_are_refused),
        cmocka_unit_test(test_gates_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
