/* base/heap.h: an intrusive priority queue of events, least time first.
 *
 * The node lives inside the caller's object (sim_heap_entry gives the object back); the heap owns
 * only its array of pointers. Equal times come out in the order of seq, so the caller decides ties.
 * A 4-ary heap that keeps the keys in the array. In tests/bench/bench_heap.c it beats binary and
 * 8-ary heaps up to 1e4 pending events; a ladder queue is up to twice as fast, but cannot take out
 * or move an event that is not the first.
 */
#ifndef PEOSIM_BASE_HEAP_H
#define PEOSIM_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_HEAP_OUT UINT32_MAX

struct sim_heap_node {
    double t_ns;
    uint64_t seq;
    uint32_t at; /* place in the heap, SIM_HEAP_OUT when in none; the heap's business */
};

/* Time and seq as one number, so that comparing them needs no branch to guess. */
struct sim_heap_slot {
    unsigned __int128 key;
    struct sim_heap_node *node;
};

struct sim_heap {
    struct sim_heap_slot *slots;
    uint32_t count, room;
};

#define sim_heap_entry(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

void sim_heap_open(struct sim_heap *heap);
/* Frees the array; the nodes are the caller's and are not touched. */
void sim_heap_close(struct sim_heap *heap);
/* A node must be marked as being in no heap before its first push. */
void sim_heap_node_init(struct sim_heap_node *node);
/* The node must be in no heap and t_ns not NaN. 0 or ERR_NOMEM. */
int sim_heap_push(struct sim_heap *heap, struct sim_heap_node *node, double t_ns, uint64_t seq);
/* Makes room for count nodes in all, so that pushes up to there cannot fail. 0 or ERR_NOMEM. */
int sim_heap_reserve(struct sim_heap *heap, uint32_t count);
/* The least node, NULL when empty. */
struct sim_heap_node *sim_heap_peek(const struct sim_heap *heap);
struct sim_heap_node *sim_heap_pop(struct sim_heap *heap);
/* Gives a node that is in the heap a new time; its seq stays. */
void sim_heap_move(struct sim_heap *heap, struct sim_heap_node *node, double t_ns);
/* Takes a node out; does nothing when it is in none. */
void sim_heap_remove(struct sim_heap *heap, struct sim_heap_node *node);

#endif
