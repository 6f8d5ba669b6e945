/* The map of winners: its numbers are run's, its edges lie where lines cross. */
#include "tests/check.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "study/map.h"
#include "tests/config_text.h"

static const char text[] = "model: qwen3-30b\n"
                           "phase: decode\n"
                           "batch: [1, 16, 128]\n"
                           "cluster: {profile: h800, nodes: [1, 2], gpus_per_node: 8}\n"
                           "policies: [none, sbo, tbo, mega]\n";

static void test_cells_are_what_run_says(void **state)
{
    struct config *c;
    struct map *m;
    struct grid *g;

    (void)state;
    c = config_of_text(text);
    assert_int_equal(map_run(c, 2, NULL, NULL, &m), 0);
    assert_int_equal(grid_run(c, 1, -1, NULL, NULL, &g), 0);
    assert_int_equal(m->rows * m->columns, 6);
    for (int i = 0; i < m->rows * m->columns; i++) {
        const struct map_cell *cell = &m->cell[i];
        const struct grid_point *same = grid_best(g, cell->scenario, cell->best->policy);

        assert_true(same->ev.layer_us == cell->best->ev.layer_us);
        assert_true(same->ev.none_us == cell->best->ev.none_us);
        for (size_t p = 0; p < policy_count(); p++) {
            const struct grid_point *other = grid_best(g, cell->scenario, policy_at(p));

            if (other)
                assert_true(other->ev.none_us - other->ev.layer_us <= cell->saved_us);
        }
        assert_true(cell->saved_us >= 0 && cell->margin_pct >= 0);
        assert_int_equal(cell->sure, cell->margin_pct >= MAP_CLEAR_PCT    ? MAP_CLEAR
                                     : cell->margin_pct >= MAP_LIKELY_PCT ? MAP_LIKELY
                                                                          : MAP_TIE);
    }
    for (int i = 0; i < m->num_edges; i++) {
        assert_true(m->edge[i].batch >= 1 && m->edge[i].batch <= 128);
        assert_true(m->edge[i].from->policy != m->edge[i].to->policy);
    }
    grid_free(g);
    map_free(m);
    config_free(c);
}

/* Fused kernels need one NVLink domain: two nodes of 8 H800 are none. */
static void test_a_policy_that_cannot_run_never_wins(void **state)
{
    struct config *c;
    struct map *m;

    (void)state;
    c = config_of_text(text);
    assert_int_equal(map_run(c, 2, NULL, NULL, &m), 0);
    for (int i = 0; i < m->columns; i++)
        assert_true(m->cell[m->columns + i].best->policy != &policy_mega);
    map_free(m);
    config_free(c);
}

static void test_two_lists_beside_batch_are_refused(void **state)
{
    struct config *c;
    struct map *m = NULL;

    (void)state;
    c = config_of_text("model: qwen3-30b\nphase: decode\nbatch: [1, 16]\n"
                       "skew.start_us: [0, 5]\n"
                       "cluster: {profile: h800, nodes: [1, 2], gpus_per_node: 8}\n"
                       "policies: [none, sbo]\n");
    assert_int_equal(map_run(c, 1, NULL, NULL, &m), ERR_CONFIG);
    config_free(c);
    c = config_of_text("model: qwen3-30b\nphase: decode\nbatch: 16\n"
                       "cluster: {profile: h800, nodes: 1, gpus_per_node: 8}\n"
                       "policies: [none, sbo]\n");
    assert_int_equal(map_run(c, 1, NULL, NULL, &m), ERR_CONFIG);
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells_are_what_run_says),
        cmocka_unit_test(test_a_policy_that_cannot_run_never_wins),
        cmocka_unit_test(test_two_lists_beside_batch_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
