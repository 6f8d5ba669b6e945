/* Random scenarios, policies and knobs. */
#ifndef PEOSIM_TESTS_TORTURE_DRAW_H
#define PEOSIM_TESTS_TORTURE_DRAW_H

#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "study/evaluate.h"

static uint64_t next(uint64_t *x)
{
    *x = *x * 6364136223846793005ull + 1442695040888963407ull;
    return *x >> 33;
}

#define PICK(x, list) list[next(x) % (sizeof list / sizeof *list)]

static void set(struct scenario *s, const char *key, const char *value)
{
    if (opt_set(scenario_options, s, key, value, "torture", 0)) {
        fprintf(stderr, "%s: %s is refused\n", key, value);
        abort();
    }
}

static void set_int(struct scenario *s, const char *key, int value)
{
    char text[24];

    snprintf(text, sizeof text, "%d", value);
    set(s, key, text);
}

/* Any of the files of hw/profiles/: a new one is tested by being there. */
static void set_profile(uint64_t *x, struct scenario *s)
{
    glob_t files;

    if (glob("hw/profiles/*.yaml", 0, NULL, &files))
        abort();
    set(s, "cluster.profile", files.gl_pathv[next(x) % files.gl_pathc]);
    globfree(&files);
}

static void random_scenario(uint64_t *x, struct scenario *s)
{
    static const char *const models[] = {"qwen3-30b",  "mixtral-8x7b", "deepseek-v2",
                                         "qwen3-235b", "deepseek-v3",  "dbrx"};
    static const char *const routing[] = {"balanced", "uniform", "lognormal", "zipf"};
    static const char *const gemm[] = {"fp8", "bf16"};
    static const int nodes[] = {1, 1, 2, 4}, gpus[] = {2, 4, 8}, nic[] = {100, 200, 400};
    static const int batch[] = {1, 4, 16, 32, 64, 128};

    opt_set_defaults(scenario_options, s);
    set(s, "model", PICK(x, models));
    set_profile(x, s);
    set(s, "routing.kind", PICK(x, routing));
    set(s, "gemm_dtype", PICK(x, gemm));
    set_int(s, "cluster.nodes", PICK(x, nodes));
    set_int(s, "cluster.gpus_per_node", PICK(x, gpus));
    set_int(s, "cluster.nic_Gbitps", PICK(x, nic));
    set_int(s, "batch", PICK(x, batch));
    set_int(s, "seed", (int)(next(x) % 1000000));
}

/* Any row of the table of policies, each knob at a value that a search would try; false where the
 * draw, or `none` beside it, cannot run, or it leaves a knob for simulation to settle. */
static bool random_policy(uint64_t *x, struct evaluator *e, const struct scenario *s,
                          const struct policy **p, struct knobs *k)
{
    struct layer_spec spec;
    struct knobs none;
    char why[256];

    *p = policy_at(next(x) % policy_count());
    knobs_default(*p, k);
    knobs_default(&policy_none, &none);
    if (evaluate_shape(e, s, *p, &spec) ||
        evaluate_check(e, s, &policy_none, &none, why, sizeof why))
        return false;
    for (const struct opt *o = (*p)->knobs; o->key; o++) {
        int values[256], n = policy_knob_values(*p, o, &spec, values, 256);

        if (n > 0)
            knob_set(o, k, values[next(x) % (uint64_t)n]);
    }
    return !policy_has_auto(*p, k) && evaluate_check(e, s, *p, k, why, sizeof why) == 0;
}

#endif
