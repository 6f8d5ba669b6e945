/* build/bench_flow [--simgrid PROGRAM] [--simgrid-most N] [--most N] [--exact-most N]
 *
 * The flow engine on skewed all-to-alls of growing size, exact and fast; the makespan error of fast
 * on other traffic; the start-staggered all-to-alls of an expert-parallel layer; and,
 * given the S4U program, SimGrid on the same sizes in the same run. Medians of n runs. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "sim/flow/flow.h"
#include "tests/flow_reference.h"

enum traffic { SKEWED, UNIFORM, ONE_HOT, TRAFFICS };
static const char *const TRAFFIC_NAMES[] = {"skewed", "uniform", "one-hot"};

struct measure {
    double seconds, makespan_ns;
    struct sim_flow_stats stats;
    uint64_t events;
};

/* Processor time: everything here runs in one thread, and the machine may be shared. */
static double cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(int rc)
{
    log_error("%s", err_text(rc));
    exit(err_exit_status(rc));
}

static double *sizes_make(uint32_t hosts, enum traffic traffic)
{
    double *bytes = calloc((size_t)hosts * hosts, sizeof *bytes);
    double *skew = calloc(hosts, sizeof *skew);
    uint64_t state = hosts;

    if (!bytes || !skew)
        die(ERR_NOMEM);
    for (uint32_t i = 0; i < hosts; i++)
        skew[i] = exp(0.12 * ref_gauss(&state));
    for (uint32_t src = 0; src < hosts; src++) {
        for (uint32_t dst = 0; dst < hosts; dst++) {
            double *b = &bytes[(size_t)src * hosts + dst];

            if (src == dst)
                continue;
            if (traffic == SKEWED)
                *b = floor(9e5 * skew[dst] * exp(0.5 * ref_gauss(&state)));
            else if (traffic == UNIFORM)
                *b = 9e5;
            else
                *b = dst == 0 ? 9e5 : 0;
        }
    }
    free(skew);
    return bytes;
}

/* Ports with a link each way. */
static uint32_t plane_make(struct sim_flow_net *net, uint32_t ports, double GBps)
{
    uint32_t *out = calloc(2 * ports, sizeof *out);
    int plane = ERR_NOMEM;

    for (uint32_t i = 0; out && i < 2 * ports; i++) {
        int link = sim_link_add(net, GBps, 0);

        if (link < 0)
            die(link);
        out[i % 2 * ports + i / 2] = (uint32_t)link;
    }
    if (out)
        plane = sim_flow_plane_add(net, out, out + ports, ports);
    free(out);
    if (plane < 0)
        die(plane);
    return (uint32_t)plane;
}

static struct sim_flow_leg leg_of(uint32_t plane, uint32_t src, uint32_t dst, double bytes,
                                  double latency_ns, uint64_t tag)
{
    return (struct sim_flow_leg){.plane = plane,
                                 .out = src,
                                 .in = dst,
                                 .bytes = bytes,
                                 .latency_ns = latency_ns,
                                 .drain = SIM_FLOW_NO_GATE,
                                 .arrive = SIM_FLOW_NO_GATE,
                                 .events = SIM_FLOW_DELIVERED,
                                 .tag = tag};
}

static struct measure a2a_measure(uint32_t hosts, const double *bytes, enum sim_flow_fidelity how)
{
    struct sim_flow_cfg cfg = {.fidelity = how, .links_hint = 2 * hosts};
    struct sim_flow_net *net;
    struct sim_flow_event event;
    struct sim_flow_leg *legs;
    struct measure m = {0};
    double start_s = cpu_s();
    uint32_t plane;
    int rc = sim_flow_net_open(&cfg, &net);

    if (rc)
        die(rc);
    plane = plane_make(net, hosts, 50);
    legs = calloc(hosts, sizeof *legs);
    if (!legs)
        die(ERR_NOMEM);
    for (uint32_t src = 0; src < hosts; src++) {
        uint32_t count = 0;

        for (uint32_t dst = 0; dst < hosts; dst++) {
            double b = bytes[(size_t)src * hosts + dst];

            if (src != dst && b > 0)
                legs[count++] = leg_of(plane, src, dst, b, 5000, src);
        }
        if ((rc = sim_flow_legs_start(net, legs, count)))
            die(rc);
    }
    free(legs);
    while ((rc = sim_flow_pop(net, INFINITY, &event)) == 1) {
        m.makespan_ns = event.t_ns;
        m.events++;
    }
    if (rc)
        die(rc);
    m.seconds = cpu_s() - start_s;
    sim_flow_stats_get(net, &m.stats);
    sim_flow_net_close(net);
    return m;
}

static int double_rise(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Median time of as many runs as fit in about a second, at least one and at most 15. */
static struct measure a2a_median(uint32_t hosts, const double *bytes, enum sim_flow_fidelity how,
                                 int *runs)
{
    double seconds[15], sum = 0;
    struct measure m = {0};

    for (*runs = 0; *runs < 15 && (*runs == 0 || sum < 1); ++*runs) {
        m = a2a_measure(hosts, bytes, how);
        seconds[*runs] = m.seconds;
        sum += m.seconds;
    }
    qsort(seconds, (size_t)*runs, sizeof *seconds, double_rise);
    m.seconds = seconds[*runs / 2];
    return m;
}

static void row_print(uint32_t hosts, const char *how, const struct measure *m, int runs,
                      double exponent)
{
    char growth[16] = "-";

    if (!isnan(exponent))
        snprintf(growth, sizeof growth, "%.2f", exponent);
    printf("%6u %-10s %9llu %10.3f %12.0f %9.0f %9.1f %8s %10.1f %10.1f %4d\n", hosts, how,
           (unsigned long long)m->events, m->seconds * 1e3, (double)m->events / m->seconds,
           m->seconds * 1e9 / (double)m->events, (double)m->stats.memory_bytes / 1048576.0, growth,
           (double)m->stats.levels_solved / (double)m->events,
           (double)m->stats.moves / (double)m->events, runs);
    fflush(stdout);
}

static void table_a2a(uint32_t most, uint32_t exact_most)
{
    static const uint32_t SIZES[] = {16, 32, 64, 128, 256, 320, 512, 1024};
    struct measure last[SIM_FLOW_FAST + 1] = {0};
    uint32_t last_hosts[SIM_FLOW_FAST + 1] = {0};

    puts("skewed all-to-all, 50 GB/s full-duplex NICs");
    printf("%6s %-10s %9s %10s %12s %9s %9s %8s %10s %10s %4s\n", "hosts", "fidelity", "events",
           "ms", "events/s", "ns/event", "MiB", "growth", "levels/ev", "moves/ev", "n");
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES && SIZES[i] <= most; i++) {
        double *bytes = sizes_make(SIZES[i], SKEWED), exact_ns = NAN;

        for (int how = SIM_FLOW_EXACT; how <= SIM_FLOW_FAST; how += SIM_FLOW_FAST) {
            double exponent = NAN;
            struct measure m;
            int runs;

            if (how == SIM_FLOW_EXACT && SIZES[i] > exact_most) {
                printf("%6u exact      skipped: raise --exact-most\n", SIZES[i]);
                continue;
            }
            m = a2a_median(SIZES[i], bytes, how, &runs);
            if (last_hosts[how])
                exponent =
                    log(m.seconds / last[how].seconds) / log((double)SIZES[i] / last_hosts[how]);
            row_print(SIZES[i], how == SIM_FLOW_EXACT ? "exact" : "fast", &m, runs, exponent);
            if (how == SIM_FLOW_EXACT)
                exact_ns = m.makespan_ns;
            else if (!isnan(exact_ns))
                printf("%6s fast makespan off by %+.4f%%\n", "",
                       100 * (m.makespan_ns / exact_ns - 1));
            last[how] = m;
            last_hosts[how] = SIZES[i];
        }
        free(bytes);
    }
}

static void table_traffic(void)
{
    puts("\nmakespan of fast against exact");
    for (uint32_t hosts = 16; hosts <= 256; hosts *= 4) {
        for (int traffic = 0; traffic < TRAFFICS; traffic++) {
            double *bytes = sizes_make(hosts, traffic);
            struct measure exact = a2a_measure(hosts, bytes, SIM_FLOW_EXACT);
            struct measure fast = a2a_measure(hosts, bytes, SIM_FLOW_FAST);

            printf("%6u %-8s exact %10.3f ms, fast %10.3f ms, makespan %+.4f%%\n", hosts,
                   TRAFFIC_NAMES[traffic], exact.seconds * 1e3, fast.seconds * 1e3,
                   100 * (fast.makespan_ns / exact.makespan_ns - 1));
            free(bytes);
        }
    }
}

enum { PER_NODE = 8, ROUNDS = 4, DIRECTIONS = 2 };

struct batch {
    double start_ns;
    uint32_t rank, round;
};

static int batch_rise(const void *pa, const void *pb)
{
    const struct batch *a = pa, *b = pb;

    if (a->start_ns != b->start_ns)
        return a->start_ns < b->start_ns ? -1 : 1;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    return (a->round > b->round) - (a->round < b->round);
}

/* A layer's traffic: every rank sends to every other, 4 rounds out and 4 back, each at a time of
 * its own; with `limits` what a send stores over NVLink passes a limit of its own. */
static void batch_start(struct sim_flow_net *net, const uint32_t *planes, uint32_t ranks,
                        const struct batch *b, bool limits, struct sim_flow_leg *legs,
                        uint64_t *state)
{
    uint32_t src = b->rank, node = src / PER_NODE, count = 0;
    int limit = limits ? sim_link_add(net, 200, 0) : 0, rc;

    if (limit < 0)
        die(limit);
    for (uint32_t dst = 0; dst < ranks; dst++) {
        bool near = node == dst / PER_NODE;
        double bytes = floor(2e5 * exp(0.4 * ref_gauss(state)));

        if (src == dst)
            continue;
        legs[count] =
            near ? leg_of(planes[1 + node], src % PER_NODE, dst % PER_NODE, bytes, 1000, src)
                 : leg_of(planes[0], src, dst, bytes, 5000, src);
        legs[count++].limit = near ? (uint32_t)limit : 0;
    }
    if ((rc = sim_flow_legs_start(net, legs, count)) ||
        (limit && (rc = sim_link_retire(net, (uint32_t)limit))))
        die(rc);
}

static struct measure layer_measure(uint32_t ranks, enum sim_flow_fidelity how, bool limits)
{
    struct sim_flow_cfg cfg = {.fidelity = how};
    uint32_t batches = ranks * ROUNDS * DIRECTIONS, nodes = ranks / PER_NODE;
    struct batch *b = calloc(batches, sizeof *b);
    struct sim_flow_leg *legs = calloc(ranks, sizeof *legs);
    uint32_t *planes = calloc(1 + nodes, sizeof *planes);
    struct sim_flow_net *net;
    struct sim_flow_event event;
    uint64_t state = 5;
    struct measure m = {0};
    double start_s = cpu_s();

    if (!b || !legs || !planes || sim_flow_net_open(&cfg, &net))
        die(ERR_NOMEM);
    for (uint32_t i = 0; i <= nodes; i++)
        planes[i] = i ? plane_make(net, PER_NODE, 350) : plane_make(net, ranks, 50);
    for (uint32_t i = 0; i < batches; i++) {
        uint32_t round = i / ranks;

        b[i] = (struct batch){1.5e5 * round + 400 * ref_uniform(&state), i % ranks, round};
    }
    qsort(b, batches, sizeof *b, batch_rise);
    for (uint32_t i = 0; i <= batches; i++) {
        while (sim_flow_pop(net, i < batches ? b[i].start_ns : INFINITY, &event) == 1) {
            m.makespan_ns = event.t_ns;
            m.events++;
        }
        if (i < batches)
            batch_start(net, planes, ranks, &b[i], limits, legs, &state);
    }
    m.seconds = cpu_s() - start_s;
    sim_flow_stats_get(net, &m.stats);
    sim_flow_net_close(net);
    free(planes);
    free(legs);
    free(b);
    return m;
}

static void table_layer(void)
{
    puts("\nstaggered layer: 4 rounds out and 4 back, 8 ranks a node, starts jittered by 400 ns");
    for (uint32_t ranks = 64; ranks <= 320; ranks += 256) {
        for (int limits = 0; limits < 2; limits++) {
            double exact_ns = NAN;

            for (int how = SIM_FLOW_EXACT; how <= SIM_FLOW_FAST; how += SIM_FLOW_FAST) {
                struct measure m;

                if (ranks > 64 && how == SIM_FLOW_EXACT)
                    continue;
                layer_measure(ranks, how, limits);
                m = layer_measure(ranks, how, limits);
                printf("%6u %-10s %-12s %9llu events %10.3f ms %8.0f ns/event %6.1f levels/ev"
                       " %6.1f moves/ev %llu refills",
                       ranks, how == SIM_FLOW_EXACT ? "exact" : "fast",
                       limits ? "with limits" : "no limits", (unsigned long long)m.events,
                       m.seconds * 1e3, m.seconds * 1e9 / (double)m.events,
                       (double)m.stats.levels_solved / (double)m.events,
                       (double)m.stats.moves / (double)m.events,
                       (unsigned long long)m.stats.refills);
                if (how == SIM_FLOW_EXACT)
                    exact_ns = m.makespan_ns;
                else if (!isnan(exact_ns))
                    printf(", makespan %+.4f%%", 100 * (m.makespan_ns / exact_ns - 1));
                puts("");
            }
        }
    }
}

/* SimGrid reads the same sizes from a file; what it prints is its own wall time in seconds. */
static double simgrid_seconds(const char *program, uint32_t hosts, const double *bytes)
{
    char path[] = "/tmp/bench_flow_XXXXXX", command[512];
    int fd = mkstemp(path);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    double seconds = NAN;

    if (!file)
        die(ERR_IO);
    for (size_t i = 0; i < (size_t)hosts * hosts; i++)
        fprintf(file, "%.0f%c", bytes[i], (i + 1) % hosts ? ',' : '\n');
    fclose(file);
    snprintf(command, sizeof command, "%s %s --time 2>/dev/null", program, path);
    file = popen(command, "r");
    if (!file || fscanf(file, "%lf", &seconds) != 1)
        log_warn("SimGrid gave no time");
    if (file)
        pclose(file);
    unlink(path);
    return seconds;
}

static void table_simgrid(const char *program, uint32_t most)
{
    puts("\nSimGrid (CM02, network/optim:Full) on the same all-to-all");
    for (uint32_t hosts = 16; hosts <= most; hosts *= 2) {
        double *bytes = sizes_make(hosts, SKEWED);
        double theirs = simgrid_seconds(program, hosts, bytes);
        int runs;
        struct measure ours = a2a_median(hosts, bytes, SIM_FLOW_EXACT, &runs);

        printf("%6u SimGrid %10.3f ms, exact %10.3f ms, %.0f times as fast\n", hosts, theirs * 1e3,
               ours.seconds * 1e3, theirs / ours.seconds);
        fflush(stdout);
        free(bytes);
    }
}

int main(int argc, char **argv)
{
    const char *simgrid = NULL;
    uint32_t simgrid_most = 64, most = 1024, exact_most = 512;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--simgrid"))
            simgrid = argv[i + 1];
        else if (!strcmp(argv[i], "--simgrid-most"))
            simgrid_most = (uint32_t)atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--most"))
            most = (uint32_t)atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--exact-most"))
            exact_most = (uint32_t)atoi(argv[i + 1]);
        else
            return err_exit_status(ERR_USAGE);
    }
    table_a2a(most, exact_most);
    table_traffic();
    table_layer();
    if (simgrid)
        table_simgrid(simgrid, simgrid_most);
    return 0;
}
