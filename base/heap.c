#include "base/heap.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

enum { ARITY = 4, ROOM_FIRST = 64 };

void sim_heap_open(struct sim_heap *heap)
{
    *heap = (struct sim_heap){0};
}

void sim_heap_close(struct sim_heap *heap)
{
    free(heap->slots);
    *heap = (struct sim_heap){0};
}

void sim_heap_node_init(struct sim_heap_node *node)
{
    *node = (struct sim_heap_node){.at = SIM_HEAP_OUT};
}

/* Doubles that are not NaN rise as their bits do, once the negative ones are turned round. */
static unsigned __int128 key_of(double t_ns, uint64_t seq)
{
    double t = t_ns + 0.0; /* -0 is 0 */
    uint64_t bits, turn;

    memcpy(&bits, &t, sizeof bits);
    turn = bits >> 63 ? UINT64_MAX : (uint64_t)1 << 63;
    return (unsigned __int128)(bits ^ turn) << 64 | seq;
}

static void slot_put(struct sim_heap *heap, uint32_t at, struct sim_heap_slot slot)
{
    heap->slots[at] = slot;
    slot.node->at = at;
}

static void sift_up(struct sim_heap *heap, uint32_t at, struct sim_heap_slot slot)
{
    while (at > 0) {
        uint32_t parent = (at - 1) / ARITY;

        if (slot.key >= heap->slots[parent].key)
            break;
        slot_put(heap, at, heap->slots[parent]);
        at = parent;
    }
    slot_put(heap, at, slot);
}

static uint32_t least_child(const struct sim_heap *heap, uint32_t at)
{
    uint32_t first = at * ARITY + 1, best = first;
    const struct sim_heap_slot *slots = heap->slots;
    uint32_t end = first + ARITY < heap->count ? first + ARITY : heap->count;

    if (end == first + ARITY) {
        uint32_t left = first + (slots[first + 1].key < slots[first].key);
        uint32_t right = first + 2 + (slots[first + 3].key < slots[first + 2].key);

        return slots[right].key < slots[left].key ? right : left;
    }
    for (uint32_t i = first + 1; i < end; i++)
        if (slots[i].key < slots[best].key)
            best = i;
    return best;
}

static void sift_down(struct sim_heap *heap, uint32_t at, struct sim_heap_slot slot)
{
    while ((uint64_t)at * ARITY + 1 < heap->count) {
        uint32_t child = least_child(heap, at);

        if (heap->slots[child].key >= slot.key)
            break;
        slot_put(heap, at, heap->slots[child]);
        at = child;
    }
    slot_put(heap, at, slot);
}

static int room_grow(struct sim_heap *heap)
{
    uint32_t room = heap->room ? heap->room * 2 : ROOM_FIRST;
    struct sim_heap_slot *slots;

    if (heap->room > UINT32_MAX / (2 * ARITY))
        return ERR_NOMEM;
    slots = realloc(heap->slots, room * sizeof *slots);
    if (!slots)
        return ERR_NOMEM;
    heap->slots = slots;
    heap->room = room;
    return 0;
}

int sim_heap_reserve(struct sim_heap *heap, uint32_t count)
{
    int rc = 0;

    while (!rc && heap->room < count)
        rc = room_grow(heap);
    return rc;
}

int sim_heap_push(struct sim_heap *heap, struct sim_heap_node *node, double t_ns, uint64_t seq)
{
    assert(node->at == SIM_HEAP_OUT && t_ns == t_ns);
    if (heap->count == heap->room) {
        int rc = room_grow(heap);

        if (rc)
            return rc;
    }
    node->t_ns = t_ns;
    node->seq = seq;
    sift_up(heap, heap->count++, (struct sim_heap_slot){key_of(t_ns, seq), node});
    return 0;
}

struct sim_heap_node *sim_heap_peek(const struct sim_heap *heap)
{
    return heap->count ? heap->slots[0].node : NULL;
}

struct sim_heap_node *sim_heap_pop(struct sim_heap *heap)
{
    struct sim_heap_node *node = sim_heap_peek(heap);

    if (node)
        sim_heap_remove(heap, node);
    return node;
}

static void slot_place(struct sim_heap *heap, uint32_t at, struct sim_heap_slot slot)
{
    if (at > 0 && slot.key < heap->slots[(at - 1) / ARITY].key)
        sift_up(heap, at, slot);
    else
        sift_down(heap, at, slot);
}

void sim_heap_move(struct sim_heap *heap, struct sim_heap_node *node, double t_ns)
{
    assert(node->at < heap->count && heap->slots[node->at].node == node && t_ns == t_ns);
    node->t_ns = t_ns;
    slot_place(heap, node->at, (struct sim_heap_slot){key_of(t_ns, node->seq), node});
}

void sim_heap_remove(struct sim_heap *heap, struct sim_heap_node *node)
{
    uint32_t at = node->at;
    struct sim_heap_slot last;

    if (at == SIM_HEAP_OUT)
        return;
    assert(at < heap->count && heap->slots[at].node == node);
    node->at = SIM_HEAP_OUT;
    last = heap->slots[--heap->count];
    if (at < heap->count)
        slot_place(heap, at, last);
}
