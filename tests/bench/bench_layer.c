/* How long one layer takes to simulate: DeepSeek-V3 shapes, 4-round PEO, batch 128, all ranks.
 *   bench_layer [RUNS [MOST]]   medians of RUNS (default 7) after one warm-up, up to EP MOST (1024)
 */
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
    char nodes[16], extra[16];

    opt_set_defaults(scenario_options, s);
    snprintf(nodes, sizeof nodes, "%d", ranks / 8);
    opt_set(scenario_options, s, "cluster.nodes", nodes, "bench", 0);
    opt_set(scenario_options, s, "cluster.profile", "h20", "bench", 0);
    opt_set(scenario_options, s, "routing.kind", "lognormal", "bench", 0);
    opt_set(scenario_options, s, "routing.sigma", "0.3", "bench", 0);
    opt_set(scenario_options, s, "skew.start_us", "2", "bench", 0);
    if (ranks <= 256)
        return;
    /* the model has 256 experts: one each, and copies on the other ranks */
    snprintf(extra, sizeof extra, "%d", ranks - 256);
    opt_set(scenario_options, s, "placement.kind", "balanced", "bench", 0);
    opt_set(scenario_options, s, "placement.redundant_experts", extra, "bench", 0);
}

/* What a layer is to take, in ms; 0: not stated. */
static double bar_ms(const struct policy *p, int ranks)
{
    if (p == &policy_peo)
        return ranks == 64 ? 4 : 0;
    return ranks == 64 ? 1 : ranks == 1024 ? 600 : ranks == 2048 ? 2000 : 0;
}

static void row_print(const struct policy *p, int ranks, int rounds, double ms,
                      const struct evaluation *ev)
{
    double bar = bar_ms(p, ranks);
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    printf("%-5s %5d %7d %10.2f %10llu %12.2f %10.0f %9ld", p->name, ranks, rounds, ms,
           (unsigned long long)ev->events, 1e-3 * (double)ev->events / ms, ev->layer_us,
           use.ru_maxrss / 1024);
    if (bar > 0)
        printf("  %4.0f ms: %s", bar, ms <= bar ? "met" : "not met");
    printf("\n");
}

static int bench(const struct policy *p, int ranks, int rounds, int runs)
{
    struct evaluator *e = NULL;
    struct scenario s = {0};
    struct knobs k;
    struct evaluation ev = {0};
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
    if (!err)
        row_print(p, ranks, rounds, stats_median(ms, (size_t)runs), &ev);
    scenario_free(&s);
    evaluator_close(e);
    return err;
}

int main(int argc, char **argv)
{
    int runs = argc > 1 ? atoi(argv[1]) : 7, most = argc > 2 ? atoi(argv[2]) : 1024, err = 0;

    if (runs < 1 || runs > 100)
        runs = 7;
    printf("one layer, DeepSeek-V3, H20, batch 128, log-normal routing; medians of %d, processor "
           "time\n",
           runs);
    printf("%-5s %5s %7s %10s %10s %12s %10s %9s  %s\n", "", "EP", "rounds", "ms", "events",
           "M events/s", "layer us", "peak MiB", "bar");
    for (int ranks = 8; ranks <= most && !err; ranks *= 2) {
        err = bench(&policy_none, ranks, 1, runs);
        if (!err && ranks <= 64)
            err = bench(&policy_peo, ranks, 4, runs);
    }
    return err ? 1 : 0;
}
