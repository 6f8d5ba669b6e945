#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "sim/flow/flow.h"
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

/* A path in the directory of public data, which need not be there. */
static FILE *data_open(const char *name)
{
    const char *dir = getenv("PEOSIM_DATA");
    char path[1024];

    snprintf(path, sizeof path, "%s/%s", dir ? dir : "../shared/data", name);
    return fopen(path, "r");
}

enum { ORACLE_HOSTS = 16 };

static void a2a_start(struct sim_flow_net *net, uint32_t hosts, const double *bytes, uint32_t turn)
{
    uint32_t first = link_new(net, 50, 5000);

    for (uint32_t i = 1; i < 2 * hosts; i++)
        link_new(net, 50, i % 2 ? 0 : 5000);
    for (uint32_t i = 0; i < hosts * hosts; i++) {
        uint32_t at = (i * 7 + turn) % (hosts * hosts);
        uint32_t src = at / hosts, dst = at % hosts;
        uint32_t path[] = {first + 2 * src, first + 2 * dst + 1};
        struct sim_flow_spec spec = {path, 2, SIM_FLOW_DELIVERED, bytes[at], INFINITY, 0, at};

        if (src != dst)
            assert_int_equal(sim_flow_start(net, &spec), 0);
    }
}

/* Returns the makespan; finish_ns may be NULL. */
static double a2a_run(enum sim_flow_fidelity fidelity, uint32_t hosts, const double *bytes,
                      uint32_t turn, double *finish_ns)
{
    struct sim_flow_net *net = net_open(fidelity);
    struct sim_flow_event event;
    struct sim_flow_stats stats;
    double last_ns = 0;

    a2a_start(net, hosts, bytes, turn);
    while (sim_flow_pop(net, INFINITY, &event) == 1) {
        assert_true(event.t_ns >= last_ns);
        last_ns = event.t_ns;
        if (finish_ns)
            finish_ns[event.tag] = event.t_ns;
    }
    sim_flow_stats_get(net, &stats);
    assert_int_equal(stats.flows_delivered, hosts * (hosts - 1));
    assert_near(stats.bytes_drained, stats.bytes_started, 1e-9);
    sim_flow_net_close(net);
    return last_ns;
}

static void test_exact_matches_the_oracle_flow_by_flow(void **state)
{
    FILE *sizes = data_open("simgrid_a2a_N16_sizes.csv");
    FILE *completions = data_open("simgrid_a2a_N16_completions.csv");
    double bytes[ORACLE_HOSTS * ORACLE_HOSTS], finish_ns[ORACLE_HOSTS * ORACLE_HOSTS], want_s;
    unsigned src, dst, seen = 0;

    (void)state;
    if (!sizes || !completions) {
        print_message("no simgrid_a2a_N16 files in PEOSIM_DATA or ../shared/data: skipped\n");
        skip();
    }
    for (int i = 0; i < ORACLE_HOSTS * ORACLE_HOSTS; i++)
        assert_int_equal(fscanf(sizes, "%lf%*[,\n]", &bytes[i]), 1);
    a2a_run(SIM_FLOW_EXACT, ORACLE_HOSTS, bytes, 0, finish_ns);
    assert_int_equal(fscanf(completions, "%*[^\n]"), 0);
    while (fscanf(completions, "%u,%u,%*f,%*f,%lf", &src, &dst, &want_s) == 3) {
        assert_near(finish_ns[src * ORACLE_HOSTS + dst], want_s * 1e9, 1e-6);
        seen++;
    }
    assert_int_equal(seen, ORACLE_HOSTS * (ORACLE_HOSTS - 1));
    fclose(sizes);
    fclose(completions);
}

enum traffic { SKEWED, UNIFORM, ONE_HOT, HOT_AND_COLD, TRAFFICS };

static double *traffic_make(uint32_t hosts, enum traffic traffic, uint64_t seed)
{
    double *bytes = calloc((size_t)hosts * hosts, sizeof *bytes);

    for (uint32_t dst = 0; dst < hosts; dst++) {
        double skew = exp(0.2 * ref_gauss(&seed));

        for (uint32_t src = 0; src < hosts; src++) {
            double *b = &bytes[src * hosts + dst];

            switch (traffic) {
            case SKEWED:
                *b = 9e5 * skew * exp(0.5 * ref_gauss(&seed));
                break;
            case UNIFORM:
                *b = 9e5;
                break;
            case ONE_HOT:
                *b = dst == 0 ? 9e5 : 0;
                break;
            default:
                *b = dst % 8 == 0 ? 9e6 : 9e5 * exp(ref_gauss(&seed));
            }
        }
    }
    return bytes;
}

static void test_coalesced_makespan_is_within_half_a_percent(void **state)
{
    (void)state;
    for (uint32_t hosts = 8; hosts <= 64; hosts *= 2) {
        for (int traffic = 0; traffic < TRAFFICS; traffic++) {
            for (uint64_t seed = 0; seed < 4; seed++) {
                double *bytes = traffic_make(hosts, (enum traffic)traffic, seed);
                double exact = a2a_run(SIM_FLOW_EXACT, hosts, bytes, 0, NULL);

                assert_near(a2a_run(SIM_FLOW_COALESCED, hosts, bytes, 0, NULL), exact, 0.005);
                free(bytes);
            }
        }
    }
}

static void test_order_of_starts_does_not_matter(void **state)
{
    enum { HOSTS = 24 };
    double *bytes = traffic_make(HOSTS, SKEWED, 3);
    double one[HOSTS * HOSTS], other[HOSTS * HOSTS];

    (void)state;
    a2a_run(SIM_FLOW_EXACT, HOSTS, bytes, 0, one);
    a2a_run(SIM_FLOW_EXACT, HOSTS, bytes, 191, other);
    for (int i = 0; i < HOSTS * HOSTS; i++)
        if (i / HOSTS != i % HOSTS)
            assert_near(other[i], one[i], 1e-9);
    free(bytes);
}

static void test_same_input_gives_the_same_bits(void **state)
{
    enum { HOSTS = 24 };
    double *bytes = traffic_make(HOSTS, SKEWED, 4);
    double one[HOSTS * HOSTS] = {0}, other[HOSTS * HOSTS] = {0};

    (void)state;
    for (int how = SIM_FLOW_EXACT; how <= SIM_FLOW_COALESCED; how++) {
        a2a_run((enum sim_flow_fidelity)how, HOSTS, bytes, 0, one);
        a2a_run((enum sim_flow_fidelity)how, HOSTS, bytes, 0, other);
        assert_memory_equal(one, other, sizeof one);
    }
    free(bytes);
}

/* What crosses a link, integrated from its rates, is what its flows carry: 1e-9 over thousands of
 * events, so nothing drifts. */
static void test_rates_add_up_to_the_bytes(void **state)
{
    enum { HOSTS = 32 };
    double *bytes = traffic_make(HOSTS, SKEWED, 5);
    double carried[2 * HOSTS] = {0}, last_ns = 0;
    struct sim_flow_net *net = net_open(SIM_FLOW_EXACT);

    (void)state;
    a2a_start(net, HOSTS, bytes, 0);
    for (;;) {
        double next_ns = sim_flow_next_ns(net), rates[2 * HOSTS];
        struct sim_flow_event event;

        if (next_ns == INFINITY)
            break;
        for (uint32_t i = 0; i < 2 * HOSTS; i++)
            rates[i] = sim_link_rate_GBps(net, 2 + i);
        while (sim_flow_pop(net, next_ns, &event) == 1)
            ;
        for (uint32_t i = 0; i < 2 * HOSTS; i++)
            carried[i] += rates[i] * (next_ns - last_ns);
        last_ns = next_ns;
    }
    for (uint32_t i = 0; i < 2 * HOSTS; i++)
        assert_near(carried[i], sim_link_drained_bytes(net, 2 + i), 1e-9);
    sim_flow_net_close(net);
    free(bytes);
}

static void test_drained_then_delivered_one_latency_later(void **state)
{
    struct sim_flow_net *net = net_open(SIM_FLOW_EXACT);
    uint32_t path[] = {link_new(net, 50, 300), link_new(net, 25, 700)};
    struct sim_flow_spec spec = {path, 2, SIM_FLOW_DRAINED | SIM_FLOW_DELIVERED, 2500, INFINITY,
                                 11,   42};
    struct sim_flow_event event;

    (void)state;
    assert_int_equal(sim_flow_start(net, &spec), 0);
    assert_true(sim_flow_next_ns(net) == 100);
    assert_true(sim_link_rate_GBps(net, path[0]) == 25);
    assert_int_equal(sim_flow_pop(net, 99, &event), 0);
    assert_true(sim_flow_now_ns(net) == 99);
    assert_int_equal(sim_flow_pop(net, INFINITY, &event), 1);
    assert_true(event.kind == SIM_FLOW_DRAINED && event.t_ns == 100 && event.tag == 42);
    assert_int_equal(sim_flow_pop(net, INFINITY, &event), 1);
    assert_true(event.kind == SIM_FLOW_DELIVERED && event.t_ns == 1111);
    assert_int_equal(sim_flow_pop(net, INFINITY, &event), 0);
    assert_int_equal(sim_flow_pop(net, 5, &event), ERR_RANGE);
    sim_flow_net_close(net);
}

static void test_capacity_changes_and_links_come_and_go(void **state)
{
    struct sim_flow_net *net = net_open(SIM_FLOW_EXACT);
    uint32_t link = link_new(net, 10, 0), again;
    struct sim_flow_spec spec = {&link, 1, SIM_FLOW_DRAINED, 1000, INFINITY, 0, 1};
    struct sim_flow_event event;

    (void)state;
    assert_int_equal(sim_flow_start(net, &spec), 0);
    assert_int_equal(sim_link_remove(net, link), ERR_RANGE);
    assert_int_equal(sim_flow_pop(net, 50, &event), 0);
    assert_int_equal(sim_link_capacity_set(net, link, 0), 0);
    assert_true(sim_flow_next_ns(net) == INFINITY);
    assert_int_equal(sim_flow_pop(net, 70, &event), 0);
    assert_int_equal(sim_link_capacity_set(net, link, 50), 0);
    assert_int_equal(sim_flow_pop(net, INFINITY, &event), 1);
    assert_near(event.t_ns, 80, 1e-12);
    assert_int_equal(sim_link_remove(net, link), 0);
    again = link_new(net, 1, 0);
    assert_int_equal(again, link);
    sim_flow_net_close(net);
}

static int chain_report(void *user, const struct sim_flow_event *event)
{
    struct sim_flow_net *net = user;
    uint32_t link = 2;
    struct sim_flow_spec spec = {&link, 1, SIM_FLOW_DELIVERED, 100, INFINITY, 0, event->tag + 1};

    return event->tag == 1000 ? 7 : sim_flow_start(net, &spec);
}

static void test_a_report_may_start_flows_and_end_the_advance(void **state)
{
    struct sim_flow_net *net = net_open(SIM_FLOW_EXACT);
    uint32_t link = link_new(net, 10, 5);
    struct sim_flow_spec spec = {&link, 1, SIM_FLOW_DELIVERED, 100, INFINITY, 0, 1};

    (void)state;
    assert_int_equal(sim_flow_start(net, &spec), 0);
    assert_int_equal(sim_flow_advance(net, INFINITY, chain_report, net), 7);
    assert_near(sim_flow_now_ns(net), 15 * 1000, 1e-12);
    sim_flow_net_close(net);
}

static void test_bad_input_is_refused(void **state)
{
    struct sim_flow_cfg cfg = {.fidelity = SIM_FLOW_COALESCED, .tolerance = 0.5};
    struct sim_flow_net *net;
    uint32_t path[] = {2, 2, 99};
    struct sim_flow_spec good = {path, 1, 0, 1, INFINITY, 0, 0}, bad;

    (void)state;
    assert_int_equal(sim_flow_net_open(&cfg, &net), ERR_RANGE);
    net = net_open(SIM_FLOW_EXACT);
    assert_int_equal(sim_link_add(net, NAN, 0), ERR_RANGE);
    assert_int_equal(sim_link_add(net, INFINITY, 0), ERR_RANGE);
    assert_int_equal(sim_link_add(net, 1, -1), ERR_RANGE);
    link_new(net, 1, 0);
    bad = good;
    bad.link_count = 2; /* the same link twice */
    assert_int_equal(sim_flow_start(net, &bad), ERR_RANGE);
    bad.links = path + 2;
    bad.link_count = 1;
    assert_int_equal(sim_flow_start(net, &bad), ERR_RANGE);
    bad = good;
    bad.bytes = NAN;
    assert_int_equal(sim_flow_start(net, &bad), ERR_RANGE);
    bad = good;
    bad.cap_GBps = 0;
    assert_int_equal(sim_flow_start(net, &bad), ERR_RANGE);
    assert_int_equal(sim_flow_start(net, &good), 0);
    sim_flow_net_close(net);
}

/* The S4U program on the random cases; named by PEOSIM_SIMGRID, built where libsimgrid is. */
static void simgrid_cases_write(FILE *file, uint64_t from, uint64_t to)
{
    for (uint64_t seed = from; seed < to; seed++) {
        struct ref_case c = ref_case_make(seed, 40);

        fprintf(file, "case %u %u\n", c.link_count, c.flow_count);
        for (uint32_t l = 0; l < c.link_count; l++)
            fprintf(file, "%.17g ", c.capacity[l]);
        for (uint32_t i = 0; i < c.flow_count; i++) {
            const struct ref_flow *f = &c.flows[i];

            fprintf(file, "\n%.17g %.0f %.17g %u", f->start_ns, f->bytes,
                    f->cap < INFINITY ? f->cap : 0, f->link_count);
            for (uint32_t j = 0; j < f->link_count; j++)
                fprintf(file, " %u", f->links[j]);
        }
        fputc('\n', file);
        ref_case_free(&c);
    }
}

static void test_random_cases_match_simgrid(void **state)
{
    enum { CASES = 252 };
    const char *program = getenv("PEOSIM_SIMGRID");
    char path[] = "/tmp/test_flow_XXXXXX", command[1024];
    FILE *file;
    int fd;

    (void)state;
    if (!program) {
        print_message("PEOSIM_SIMGRID names no S4U program: skipped\n");
        skip();
    }
    fd = mkstemp(path);
    assert_true(fd >= 0);
    file = fdopen(fd, "w");
    simgrid_cases_write(file, 0, CASES);
    fclose(file);
    snprintf(command, sizeof command, "%s --cases < %s 2>/dev/null", program, path);
    file = popen(command, "r");
    assert_non_null(file);
    for (uint64_t seed = 0; seed < CASES; seed++) {
        struct ref_case c = ref_case_make(seed, 40);
        struct sim_flow_net *net = net_open(SIM_FLOW_EXACT);
        double *drained_ns = calloc(c.flow_count, sizeof *drained_ns), want_ns;

        for (uint32_t i = 0; i < c.flow_count; i++)
            c.flows[i].bytes = nearbyint(c.flows[i].bytes);
        case_run(&c, net, NULL, drained_ns);
        for (uint32_t i = 0; i < c.flow_count; i++) {
            assert_int_equal(fscanf(file, "%lf", &want_ns), 1);
            if (fabs(drained_ns[i] + 5000 - want_ns) > 1e-6 * want_ns)
                print_error("seed %u flow %u\n", (unsigned)seed, i);
            assert_near(drained_ns[i] + 5000, want_ns, 1e-6);
        }
        sim_flow_net_close(net);
        free(drained_ns);
        ref_case_free(&c);
    }
    pclose(file);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_cases_match_the_reference),
        cmocka_unit_test(test_exact_matches_the_oracle_flow_by_flow),
        cmocka_unit_test(test_coalesced_makespan_is_within_half_a_percent),
        cmocka_unit_test(test_order_of_starts_does_not_matter),
        cmocka_unit_test(test_same_input_gives_the_same_bits),
        cmocka_unit_test(test_rates_add_up_to_the_bytes),
        cmocka_unit_test(test_drained_then_delivered_one_latency_later),
        cmocka_unit_test(test_capacity_changes_and_links_come_and_go),
        cmocka_unit_test(test_a_report_may_start_flows_and_end_the_advance),
        cmocka_unit_test(test_bad_input_is_refused),
        cmocka_unit_test(test_random_cases_match_simgrid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
