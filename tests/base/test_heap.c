#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/heap.h"
#include "tests/flow_reference.h"

struct event {
    int value;
    struct sim_heap_node node;
};

static void test_equal_times_come_in_the_order_of_seq(void **state)
{
    struct sim_heap heap;
    struct event events[100];

    (void)state;
    sim_heap_open(&heap);
    for (int i = 0; i < 100; i++) {
        int at = i * 37 % 100;

        events[at].value = at;
        sim_heap_node_init(&events[at].node);
        assert_int_equal(sim_heap_push(&heap, &events[at].node, at / 10, (uint64_t)at), 0);
    }
    for (int i = 0; i < 100; i++)
        assert_int_equal(sim_heap_entry(sim_heap_pop(&heap), struct event, node)->value, i);
    assert_null(sim_heap_pop(&heap));
    assert_null(sim_heap_peek(&heap));
    sim_heap_close(&heap);
}

static uint32_t least_of(const struct event *events, uint32_t count)
{
    uint32_t best = UINT32_MAX;

    for (uint32_t i = 0; i < count; i++) {
        const struct sim_heap_node *n = &events[i].node;

        if (n->at == SIM_HEAP_OUT)
            continue;
        if (best == UINT32_MAX || n->t_ns < events[best].node.t_ns ||
            (n->t_ns == events[best].node.t_ns && n->seq < events[best].node.seq))
            best = i;
    }
    return best;
}

static void test_random_operations_match_a_scan(void **state)
{
    enum { EVENTS = 200 };
    struct event events[EVENTS];
    struct sim_heap heap;
    uint64_t seed = 1, seq = 0;

    (void)state;
    sim_heap_open(&heap);
    for (uint32_t i = 0; i < EVENTS; i++)
        sim_heap_node_init(&events[i].node);
    for (int i = 0; i < 50000; i++) {
        struct sim_heap_node *n = &events[ref_below(&seed, EVENTS)].node;
        double t_ns = ref_below(&seed, 50);
        uint32_t best;

        switch (ref_below(&seed, 4)) {
        case 0:
            if (n->at == SIM_HEAP_OUT)
                assert_int_equal(sim_heap_push(&heap, n, t_ns, seq++), 0);
            break;
        case 1:
            if (n->at != SIM_HEAP_OUT)
                sim_heap_move(&heap, n, t_ns);
            break;
        case 2:
            if (ref_below(&seed, 2))
                sim_heap_remove(&heap, n);
            break;
        default:
            best = least_of(events, EVENTS);
            if (best == UINT32_MAX)
                assert_null(sim_heap_pop(&heap));
            else
                assert_ptr_equal(sim_heap_pop(&heap), &events[best].node);
        }
    }
    sim_heap_close(&heap);
}

static void test_reserve_makes_room(void **state)
{
    struct sim_heap heap;

    (void)state;
    sim_heap_open(&heap);
    assert_int_equal(sim_heap_reserve(&heap, 1000), 0);
    assert_true(heap.room >= 1000);
    sim_heap_close(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_times_come_in_the_order_of_seq),
        cmocka_unit_test(test_random_operations_match_a_scan),
        cmocka_unit_test(test_reserve_makes_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
