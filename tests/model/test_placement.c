/* Placement: every expert has a place, loads are evened out, hierarchies keep groups in nodes. */
#include "tests/check.h"

#include "base/err.h"
#include "model/placement.h"
#include "model/routing.h"

static void zipf(double *load, int n)
{
    for (int e = 0; e < n; e++)
        load[e] = 1000.0 / (1 + (e * 37) % n);
}

static struct placement *make(enum placement_kind kind, int experts, int redundant, int ranks,
                              int per_node, int groups, const double *load)
{
    const struct placement_spec spec = {kind, experts, redundant, ranks, per_node, groups};
    struct placement *p;

    assert_int_equal(placement_make(&spec, load, &p), 0);
    return p;
}

static void complete(const struct placement *p)
{
    unsigned char used[1024] = {0};

    assert_int_equal(p->replica_first[0], 0);
    assert_int_equal(p->replica_first[p->experts], p->physical);
    for (int e = 0; e < p->experts; e++)
        assert_true(p->replica_first[e + 1] > p->replica_first[e]);
    for (int i = 0; i < p->physical; i++) {
        assert_in_range(p->replica[i], 0, p->physical - 1);
        assert_false(used[p->replica[i]]++);
    }
}

static void linear_keeps_the_order(void **state)
{
    struct placement *p = make(PLACEMENT_LINEAR, 64, 0, 8, 8, 1, NULL);

    (void)state;
    complete(p);
    for (int e = 0; e < 64; e++)
        assert_int_equal(p->replica[p->replica_first[e]], e);
    placement_free(p);
}

static void balanced_evens_ranks_out(void **state)
{
    double load[256], before;
    struct placement *linear, *even, *copies;

    (void)state;
    zipf(load, 256);
    linear = make(PLACEMENT_LINEAR, 256, 0, 32, 8, 1, load);
    even = make(PLACEMENT_BALANCED, 256, 0, 32, 8, 1, load);
    copies = make(PLACEMENT_BALANCED, 256, 32, 32, 8, 1, load);
    complete(even);
    complete(copies);
    before = placement_imbalance(linear, 32);
    assert_true(placement_imbalance(even, 32) < before);
    assert_true(placement_imbalance(copies, 32) < placement_imbalance(even, 32));
    assert_true(placement_imbalance(copies, 32) < 1.1);
    placement_free(linear);
    placement_free(even);
    placement_free(copies);
}

/* The copies of an expert carry its load together. */
static void loads_are_conserved(void **state)
{
    double load[64], sum = 0, placed = 0;
    struct placement *p;

    (void)state;
    zipf(load, 64);
    p = make(PLACEMENT_BALANCED, 64, 16, 16, 8, 8, load);
    for (int e = 0; e < 64; e++)
        sum += load[e];
    for (int i = 0; i < 80; i++)
        placed += p->slot_load[i];
    assert_true(placed > sum * (1 - 1e-12) && placed < sum * (1 + 1e-12));
    placement_free(p);
}

static void groups_stay_in_their_node(void **state)
{
    double load[64];
    struct placement *p;

    (void)state;
    zipf(load, 64);
    p = make(PLACEMENT_BALANCED, 64, 16, 16, 8, 8, load); /* 2 nodes, 4 groups each */
    complete(p);
    for (int g = 0; g < 8; g++) {
        int node = p->replica[p->replica_first[g * 8]] / 40;

        for (int i = p->replica_first[g * 8]; i < p->replica_first[g * 8 + 8]; i++)
            assert_int_equal(p->replica[i] / 40, node);
    }
    placement_free(p);
}

static void impossible_ones_are_refused(void **state)
{
    const struct placement_spec odd = {PLACEMENT_BALANCED, 64, 3, 16, 8, 1};
    const struct placement_spec linear = {PLACEMENT_LINEAR, 64, 16, 16, 8, 1};
    double load[64];
    struct placement *p;

    (void)state;
    zipf(load, 64);
    CHECK_FAILS(placement_make(&odd, load, &p), ERR_CONFIG, "not divisible by EP 16");
    CHECK_FAILS(placement_make(&linear, load, &p), ERR_CONFIG, "placement.kind balanced");
}

/* A placement made from one step helps another step of the same popularity. */
static void past_loads_help_the_next_step(void **state)
{
    struct routing_spec spec = {.kind = ROUTING_LOGNORMAL, .sigma = 1, .seed = 3};
    struct plan_routing *past, *now;
    struct routing_stats before, after;
    double load[128];
    struct placement *p;

    (void)state;
    assert_int_equal(routing_make(&spec, 8, 512, 128, 8, &now), 0);
    spec.draw = 1;
    assert_int_equal(routing_make(&spec, 8, 512, 128, 8, &past), 0);
    assert_memory_not_equal(past->expert, now->expert, 8 * 512 * 8 * sizeof *now->expert);
    placement_loads(past, load);
    p = make(PLACEMENT_BALANCED, 128, 16, 8, 8, 1, load);
    routing_stats_of(now, 8, &before);
    assert_int_equal(routing_place(now, p->replica_first, p->replica, p->physical), 0);
    routing_stats_of(now, 8, &after);
    assert_true(before.max_over_mean_rank > 1.2);
    assert_true(after.max_over_mean_rank < 1.08);
    placement_free(p);
    routing_free(past);
    routing_free(now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_keeps_the_order),
        cmocka_unit_test(balanced_evens_ranks_out),
        cmocka_unit_test(loads_are_conserved),
        cmocka_unit_test(groups_stay_in_their_node),
        cmocka_unit_test(impossible_ones_are_refused),
        cmocka_unit_test(past_loads_help_the_next_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
