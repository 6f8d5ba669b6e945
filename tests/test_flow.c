#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "sim/flow.h"
#include "tests/flow_reference.h"

static struct sim_flow_net *net_open(enum sim_flow_fidelity fidelity)
{
    struct sim_flow_cfg cfg = {.fidelity = fidelity};
    struct sim_flow_net *net = NULL;

    assert_int_equal(sim_flow_net_open(&cfg, &net), 0);
    return net;
}

static uint32_t link_new(struct sim_flow_net *net, double capacity, double latency_ns)
{
    int link = sim_link_add(net, capacity, latency_ns);

    assert_true(link > 0);
    return (uint32_t)link;
}

static void assert_near(double got, double want, double relative)
{
    if (got == want || fabs(got - want) <= relative * fabs(want))
        return;
    print_error("got %.17g, want %.17g, off by %.3g\n", got, want, got / want - 1);
    fail();
}

/* Adds the flows of a case in the order given, each at its start, and notes when each drains. */
static void case_run(const struct ref_case *c, struct sim_flow_net *net, const uint32_t *order,
                     double *drained_ns)
{
    uint32_t *links = calloc(c->link_count, sizeof *links), started = 0;
    bool *began = calloc(c->flow_count, sizeof *began);
    double last_ns = 0;

    for (uint32_t l = 0; l < c->link_count; l++)
        links[l] = link_new(net, c->capacity[l], 0);
    for (uint32_t i = 0; i < c->flow_count; i++)
        drained_ns[i] = INFINITY;
    for (;;) {
        struct sim_flow_event event;
        double next_ns = INFINITY;
        int rc;

        for (uint32_t i = 0; i < c->flow_count; i++)
            if (!began[i])
                next_ns = fmin(next_ns, c->flows[i].start_ns);
        while ((rc = sim_flow_pop(net, next_ns, &event)) == 1) {
            assert_true(event.t_ns >= last_ns);
            last_ns = event.t_ns;
            drained_ns[event.tag] = event.t_ns;
        }
        assert_int_equal(rc, 0);
        if (started == c->flow_count)
            break;
        for (uint32_t i = 0; i < c->flow_count; i++) {
            uint32_t at = order ? order[i] : i, path[REF_PATH_MAX];
            const struct ref_flow *f = &c->flows[at];
            struct sim_flow_spec spec = {path, f->link_count, SIM_FLOW_DRAINED, f->bytes, f->cap, 0,
                                         at};

            if (began[at] || f->start_ns > next_ns)
                continue;
            for (uint32_t j = 0; j < f->link_count; j++)
                path[j] = links[f->links[j]];
            assert_int_equal(sim_flow_start(net, &spec), 0);
            began[at] = true;
            started++;
        }
    }
    free(links);
    free(began);
}

static void test_random_cases_match_the_reference(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 6000; seed++) {
        struct ref_case c = ref_case_make(seed, seed % 20 ? 40 : 160);
        struct sim_flow_net *net = net_open(SIM_FLOW_EXACT);
        double *drained_ns = calloc(c.flow_count, sizeof *drained_ns);

        ref_run(&c);
        case_run(&c, net, NULL, drained_ns);
        for (uint32_t i = 0; i < c.flow_count; i++) {
            if (fabs(drained_ns[i] - c.flows[i].drained_ns) > 1e-9 * c.flows[i].drained_ns)
                print_error("seed %u flow %u\n", (unsigned)seed, i);
            assert_near(drained_ns[i], c.flows[i].drained_ns, 1e-9);
        }
        sim_flow_net_close(net);
        free(drained_ns);
        ref_case_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_cases_match_the_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
