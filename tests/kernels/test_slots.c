/* Slot, flag and offset arithmetic of the exchange, and the grid rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/slots.h"

static const struct slots_shape base_shape = {.ranks = 4,
                                              .rank = 1,
                                              .vranks = 4,
                                              .experts = 64,
                                              .hidden = 7168,
                                              .topk = 8,
                                              .max_tokens = 128,
                                              .fp8 = 1};

static void message_sizes_are_those_of_deepep(void **state)
{
    (void)state;
    struct slots s;
    assert_int_equal(slots_init(&s, &base_shape, 0), 0);
    assert_int_equal(s.message_bytes, 7408);
    assert_int_equal(s.row_bytes, 14336);
    struct slots_shape bf16 = base_shape;
    bf16.fp8 = 0;
    assert_int_equal(slots_init(&s, &bf16, 0), 0);
    assert_int_equal(s.message_bytes, 16 + 2 * 7168);
}

static void bad_shapes_are_refused(void **state)
{
    (void)state;
    struct slots s;
    struct slots_shape shape = base_shape;
    shape.rank = 4;
    assert_int_equal(slots_init(&s, &shape, 0), ERR_RANGE);
    shape = base_shape;
    shape.topk = SLOTS_MAX_TOPK + 1;
    assert_int_equal(slots_init(&s, &shape, 0), ERR_RANGE);
    shape = base_shape;
    shape.vranks = 6;
    assert_int_equal(slots_init(&s, &shape, 0), ERR_CONFIG);
    shape = base_shape;
    shape.experts = 66;
    assert_int_equal(slots_init(&s, &shape, 0), ERR_CONFIG);
    shape = base_shape;
    shape.hidden = 7168 + 128;
    assert_int_equal(slots_init(&s, &shape, 0), ERR_CONFIG);
}

/* Marks [at, at + bytes) in a map of 16-byte units; a unit may be marked once. */
static void map_mark(unsigned char *map, const struct slots *s, size_t at, size_t bytes)
{
    assert_int_equal(at % 16, 0);
    assert_int_equal(bytes % 16, 0);
    assert_true(at + bytes <= s->total_bytes);
    for (size_t unit = at / 16; unit < (at + bytes) / 16; unit++) {
        assert_int_equal(map[unit], 0);
        map[unit] = 1;
    }
}

static void map_mark_parity(unsigned char *map, const struct slots *s, int parity)
{
    const struct slots_shape *shape = &s->shape;
    for (int local = 0; local < s->experts_local; local++) {
        for (int vsrc = 0; vsrc < shape->vranks; vsrc++) {
            map_mark(map, s, slots_dispatch_flag(s, parity, local, vsrc), 16);
            for (int slot = 0; slot < shape->max_tokens; slot++)
                map_mark(map, s, slots_dispatch_message(s, parity, local, vsrc, slot),
                         s->message_bytes);
            for (int i = 0; shape->gin && i < shape->max_tokens; i++)
                map_mark(map, s, slots_combine_staging(s, parity, local, vsrc, i), s->row_bytes);
        }
    }
    for (int token = 0; token < shape->max_tokens; token++) {
        map_mark(map, s, slots_staging_body(s, parity, token), s->body_bytes);
        for (int k = 0; k < shape->topk; k++) {
            map_mark(map, s, slots_combine_row(s, parity, token, k), s->row_bytes);
            map_mark(map, s, slots_staging_header(s, parity, token, k), 16);
        }
    }
    for (int expert = 0; expert < shape->experts; expert++)
        map_mark(map, s, slots_combine_flag(s, parity, expert), 16);
}

static void nothing_in_a_window_overlaps(void **state)
{
    (void)state;
    for (int fp8 = 0; fp8 < 2; fp8++) {
        for (int fold = 1; fold <= 2; fold++) {
            struct slots_shape shape = {.ranks = 2,
                                        .rank = 0,
                                        .vranks = 2 * fold,
                                        .experts = 12,
                                        .hidden = 512,
                                        .topk = 3,
                                        .max_tokens = 5,
                                        .fp8 = fp8,
                                        .gin = fp8};
            struct slots s;
            assert_int_equal(slots_init(&s, &shape, 4096), 0);
            unsigned char *map = calloc(s.total_bytes / 16, 1);
            assert_non_null(map);
            for (int parity = 0; parity < SLOTS_PARITIES; parity++)
                map_mark_parity(map, &s, parity);
            for (int from = 0; from < SLOTS_MAX_RANKS; from++)
                map_mark(map, &s, slots_ping(&s, from), 16);
            map_mark(map, &s, slots_push(&s), 4096);
            free(map);
        }
    }
}

/* Every (source GPU, expert) pair must own exactly one channel at the expert's GPU, and that GPU
 * must be able to say from the channel which expert it was. */
static void channels_are_a_bijection(void **state)
{
    (void)state;
    for (int vranks = 4; vranks <= 32; vranks *= 2) {
        struct slots_shape shape = base_shape;
        shape.vranks = vranks;
        struct slots s;
        assert_int_equal(slots_init(&s, &shape, 0), 0);
        int *seen = calloc((size_t)shape.ranks * (size_t)shape.experts, sizeof(*seen));
        assert_non_null(seen);
        for (int src = 0; src < shape.ranks; src++) {
            for (int expert = 0; expert < shape.experts; expert++) {
                int gpu = slots_expert_gpu(&s, expert), local = slots_expert_local(&s, expert);
                int vsrc = slots_vsrc(&s, src, slots_expert_vrank(&s, expert));
                assert_in_range(vsrc, 0, vranks - 1);
                assert_int_equal(slots_vsrc_gpu(&s, vsrc), src);
                assert_int_equal(slots_channel_expert(&s, gpu, local, vsrc), expert);
                int channel = slots_channel(&s, local, vsrc);
                assert_in_range(channel, 0, shape.experts - 1);
                assert_int_equal(seen[gpu * shape.experts + channel]++, 0);
            }
        }
        free(seen);
    }
}

static void every_flag_has_a_signal_of_its_own(void **state)
{
    (void)state;
    struct slots s;
    assert_int_equal(slots_init(&s, &base_shape, 0), 0);
    int *seen = calloc((size_t)slots_signal_count(&s), sizeof(*seen));
    assert_non_null(seen);
    for (int parity = 0; parity < SLOTS_PARITIES; parity++) {
        for (int expert = 0; expert < s.shape.experts; expert++) {
            int local = slots_expert_local(&s, expert), vsrc = slots_expert_vrank(&s, expert);
            int dispatch = slots_dispatch_signal(&s, parity, local, vsrc);
            int combine = slots_combine_signal(&s, parity, expert);
            assert_in_range(dispatch, 0, slots_signal_count(&s) - 1);
            assert_in_range(combine, 0, slots_signal_count(&s) - 1);
            assert_int_equal(seen[dispatch]++, 0);
            assert_int_equal(seen[combine]++, 0);
        }
    }
    for (int rank = 0; rank < s.shape.ranks; rank++)
        assert_int_equal(seen[slots_ping_signal(&s, rank)]++, 0);
    for (int i = 0; i < slots_signal_count(&s); i++)
        assert_int_equal(seen[i], 1);
    free(seen);
}

static void grid_follows_deepep(void **state)
{
    (void)state;
    static const struct {
        int experts_round, num_sms, groups, ctas, threads;
    } cases[] = {{64, 132, 1, 64, 1024}, {80, 24, 4, 20, 1024},  {256, 132, 2, 128, 1024},
                 {64, 8, 8, 8, 1024},    {128, 12, 11, 12, 704}, {256, 24, 11, 24, 704},
                 {16, 3, 6, 3, 960},     {1, 132, 1, 1, 1024}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kernels_grid grid;
        assert_int_equal(kernels_comm_grid(cases[i].experts_round, cases[i].num_sms, 1, &grid), 0);
        assert_int_equal(grid.warp_groups, cases[i].groups);
        assert_int_equal(grid.ctas, cases[i].ctas);
        assert_int_equal(grid.threads, cases[i].threads);
    }
}

static void grid_refuses_too_few_sms(void **state)
{
    (void)state;
    struct kernels_grid grid;
    assert_int_equal(kernels_comm_grid(256, 8, 0, &grid), 0);
    assert_int_equal(kernels_comm_grid(256, 8, 1, &grid), ERR_INFEASIBLE);
    assert_int_equal(kernels_comm_grid(264, 8, 0, &grid), ERR_INFEASIBLE);
    assert_int_equal(kernels_comm_grid(0, 8, 0, &grid), ERR_RANGE);
    assert_int_equal(kernels_comm_grid(64, 0, 0, &grid), ERR_RANGE);
}

static void combine_grid_wants_a_cta_per_token(void **state)
{
    (void)state;
    struct kernels_grid grid;
    assert_int_equal(kernels_combine_grid(64, 128, 132, 1, &grid), 0);
    assert_int_equal(grid.ctas, 128);
    assert_int_equal(kernels_combine_grid(64, 512, 132, 1, &grid), 0);
    assert_int_equal(grid.ctas, 128);
    assert_int_equal(kernels_combine_grid(64, 4, 132, 1, &grid), 0);
    assert_int_equal(grid.ctas, 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_sizes_are_those_of_deepep),
        cmocka_unit_test(bad_shapes_are_refused),
        cmocka_unit_test(nothing_in_a_window_overlaps),
        cmocka_unit_test(channels_are_a_bijection),
        cmocka_unit_test(every_flag_has_a_signal_of_its_own),
        cmocka_unit_test(grid_follows_deepep),
        cmocka_unit_test(grid_refuses_too_few_sms),
        cmocka_unit_test(combine_grid_wants_a_cta_per_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
