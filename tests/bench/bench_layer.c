/* How long one layer takes to simulate: DeepSeek-V3 shapes, 4-round PEO, batch 128, all ranks.
 *   bench_layer [RUNS]      medians of RUNS (default 7) after one warm-up */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/stats.h"
#include "study/evaluate.h"

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void scenario_of(struct scenario *s, int ranks)
{
    char nodes[16];

    opt_set_defaults(scenario_options, s);
    snprintf(nodes, sizeof nodes, "%d", ranks / 8);
    opt_set(scenario_options, s, "cluster.nodes", nodes, "bench", 0);
    opt_set(scenario_options, s, "cluster.profile", "h20", "bench", 0);
    opt_set(scenario_options, s, "routing.kind", "lognormal", "bench", 0);
    opt_set(scenario_options, s, "routing.sigma", "0.3", "bench", 0);
    opt_set(scenario_options, s, "skew.start_us", "2", "bench", 0);
}

static int bench(const struct policy *p, int ranks, int rounds, int runs)
{
    struct evaluator *e = NULL;
    struct scenario s = {0};
    struct knobs k;
    struct evaluation ev = {0};
    struct rusage use;
    double ms[101];
    int err = evaluator_open(&e);

    scenario_of(&s, ranks);
    knobs_default(p, &k);
    k.num_rounds = rounds;
    for (int i = 0; i <= runs && !err; i++) {
        double start = now_s();

        err = evaluate_point(e, &s, p, &k, -1, &ev, NULL, NULL);
        if (i > 0) /* the first one also simulates the baseline and draws the routing */
            ms[i - 1] = 1e3 * (now_s() - start);
    }
    getrusage(RUSAGE_SELF, &use);
    if (!err)
        printf("%-5s %5d %7d %10.2f %10llu %12.2f %10.0f %9ld\n", p->name, ranks, rounds,
               stats_median(ms, (size_t)runs), (unsigned long long)ev.events,
               1e-3 * (double)ev.events / stats_median(ms, (size_t)runs), ev.layer_us,
               use.ru_maxrss / 1024);
    scenario_free(&s);
    evaluator_close(e);
    return err;
}

int main(int argc, char **argv)
{
    int runs = argc > 1 ? atoi(argv[1]) : 7, err = 0;

    if (runs < 1 || runs > 100)
        runs = 7;
    printf("one layer, DeepSeek-V3, H20, batch 128, log-normal routing; medians of %d, processor "
           "time\n",
           runs);
    printf("%-5s %5s %7s %10s %10s %12s %10s %9s\n", "", "EP", "rounds", "ms", "events",
           "M events/s", "layer us", "peak MiB");
    for (int ranks = 8; ranks <= 256 && !err; ranks *= 2) {
        err = bench(&policy_none, ranks, 1, runs);
        if (!err && 256 / ranks >= 4)
            err = bench(&policy_peo, ranks, 4, runs);
    }
    return err ? 1 : 0;
}
