#include "model/placement.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

/* Things of some weight, to be dealt out: heaviest first, the smaller index first among equals. */
struct item {
    double load;
    int index;
};

static int item_cmp(const void *va, const void *vb)
{
    const struct item *a = va, *b = vb;

    if (a->load != b->load)
        return a->load < b->load ? 1 : -1;
    return a->index - b->index;
}

/* Deals n items onto n / packs places of each pack: the heaviest that is left goes to the lightest
 * pack that has room. pack[i]: of item i; at[i]: which place there. */
static int pack_balanced(const double *load, int n, int packs, int *pack, int *at)
{
    struct item *items = malloc((size_t)n * sizeof *items);
    double *sum = calloc((size_t)packs, sizeof *sum);
    int *used = calloc((size_t)packs, sizeof *used), each = n / packs;
    int err = items && sum && used ? 0 : ERR_NOMEM;

    for (int i = 0; i < n && !err; i++)
        items[i] = (struct item){load[i], i};
    if (!err)
        qsort(items, (size_t)n, sizeof *items, item_cmp);
    for (int i = 0; i < n && !err; i++) {
        int best = -1;

        for (int p = 0; p < packs; p++)
            if (used[p] < each && (best < 0 || sum[p] < sum[best]))
                best = p;
        pack[items[i].index] = best;
        at[items[i].index] = used[best]++;
        sum[best] += items[i].load;
    }
    free(items);
    free(sum);
    free(used);
    return err;
}

/* Each further copy goes to the expert whose copies carry most. */
static void replicate(const double *load, int n, int copies, int *count)
{
    for (int i = 0; i < n; i++)
        count[i] = 1;
    for (int c = 0; c < copies; c++) {
        int best = 0;

        for (int i = 1; i < n; i++)
            if (load[i] / count[i] > load[best] / count[best])
                best = i;
        count[best]++;
    }
}

/* One node's experts (or all of them): copies, then slots. slot_expert gets the expert of every
 * slot of this node's ranks. */
static int place_node(const double *loads, const int *experts, int n, int copies, int ranks,
                      int *slot_expert, double *slot_load)
{
    int slots = n + copies, each = slots / ranks, k = 0, err;
    double *load = malloc((size_t)slots * sizeof *load);
    int *count = malloc((size_t)slots * sizeof *count),
        *owner = malloc((size_t)slots * sizeof *owner);
    int *pack = malloc((size_t)slots * sizeof *pack), *at = malloc((size_t)slots * sizeof *at);

    err = load && count && owner && pack && at ? 0 : ERR_NOMEM;
    for (int i = 0; i < n && !err; i++)
        load[i] = loads[experts[i]];
    if (!err)
        replicate(load, n, copies, count);
    for (int i = n - 1, to = slots; i >= 0 && !err; i--) {
        double one = load[i] / count[i];

        for (int c = 0; c < count[i]; c++) {
            load[--to] = one;
            owner[to] = experts[i];
        }
    }
    if (!err)
        err = pack_balanced(load, slots, ranks, pack, at);
    for (k = 0; k < slots && !err; k++) {
        slot_expert[pack[k] * each + at[k]] = owner[k];
        slot_load[pack[k] * each + at[k]] = load[k];
    }
    free(load);
    free(count);
    free(owner);
    free(pack);
    free(at);
    return err;
}

/* Do groups fit onto nodes, and copies and slots onto what is in a node? */
static bool hierarchical(const struct placement_spec *s, int nodes)
{
    return nodes > 1 && s->ranks % nodes == 0 && s->n_group > 1 && s->n_group % nodes == 0 &&
           s->experts % s->n_group == 0 && s->redundant % nodes == 0;
}

/* Groups of experts to nodes, by their summed load. list[node * (experts/nodes)..]: its experts. */
static int groups_to_nodes(const struct placement_spec *s, const double *loads, int nodes,
                           int *list)
{
    int G = s->n_group, size = s->experts / G, per = s->experts / nodes, err;
    double *load = calloc((size_t)G, sizeof *load);
    int *pack = malloc((size_t)G * sizeof *pack), *at = malloc((size_t)G * sizeof *at);

    err = load && pack && at ? 0 : ERR_NOMEM;
    for (int e = 0; e < s->experts && !err; e++)
        load[e / size] += loads[e];
    if (!err)
        err = pack_balanced(load, G, nodes, pack, at);
    for (int e = 0; e < s->experts && !err; e++)
        list[pack[e / size] * per + at[e / size] * size + e % size] = e;
    free(load);
    free(pack);
    free(at);
    return err;
}

static int place_balanced(const struct placement_spec *s, const double *loads, int *slot_expert,
                          double *slot_load)
{
    int nodes = s->ranks_per_node > 0 ? s->ranks / s->ranks_per_node : 1, err = 0;
    int *list = malloc((size_t)s->experts * sizeof *list);

    if (!list)
        return ERR_NOMEM;
    if (!hierarchical(s, nodes)) {
        nodes = 1;
        for (int e = 0; e < s->experts; e++)
            list[e] = e;
    } else {
        err = groups_to_nodes(s, loads, nodes, list);
    }
    for (int n = 0; n < nodes && !err; n++) {
        int per = s->experts / nodes, slots = (s->experts + s->redundant) / nodes;

        err = place_node(loads, list + n * per, per, s->redundant / nodes, s->ranks / nodes,
                         slot_expert + n * slots, slot_load + n * slots);
    }
    free(list);
    return err;
}

/* From the expert of every slot to the slots of every expert. */
static int placement_index(struct placement *p, const int *slot_expert)
{
    int *next;

    for (int s = 0; s < p->physical; s++)
        p->replica_first[slot_expert[s] + 1]++;
    for (int e = 0; e < p->experts; e++)
        p->replica_first[e + 1] += p->replica_first[e];
    next = malloc((size_t)p->experts * sizeof *next);
    if (!next)
        return ERR_NOMEM;
    memcpy(next, p->replica_first, (size_t)p->experts * sizeof *next);
    for (int s = 0; s < p->physical; s++)
        p->replica[next[slot_expert[s]]++] = s;
    free(next);
    return 0;
}

static int placement_check(const struct placement_spec *s)
{
    if ((s->experts + s->redundant) % s->ranks) {
        log_error("placement: %d experts and %d redundant ones are not divisible by EP %d",
                  s->experts, s->redundant, s->ranks);
        return ERR_CONFIG;
    }
    if (s->redundant && s->kind == PLACEMENT_LINEAR) {
        log_error("placement: redundant experts need placement.kind balanced");
        return ERR_CONFIG;
    }
    return 0;
}

int placement_make(const struct placement_spec *spec, const double *loads, struct placement **out)
{
    int physical = spec->experts + spec->redundant, err = placement_check(spec);
    struct placement *p;
    int *slot_expert;

    *out = NULL;
    if (err)
        return err;
    p = calloc(1, sizeof *p);
    slot_expert = malloc((size_t)physical * sizeof *slot_expert);
    if (p) {
        p->experts = spec->experts;
        p->physical = physical;
        p->replica_first = calloc((size_t)spec->experts + 1, sizeof *p->replica_first);
        p->replica = calloc((size_t)physical, sizeof *p->replica);
        p->slot_load = calloc((size_t)physical, sizeof *p->slot_load);
    }
    if (!p || !slot_expert || !p->replica_first || !p->replica || !p->slot_load)
        err = ERR_NOMEM;
    for (int e = 0; e < spec->experts && !err && spec->kind == PLACEMENT_LINEAR; e++) {
        slot_expert[e] = e;
        p->slot_load[e] = loads ? loads[e] : 0;
    }
    if (!err && spec->kind == PLACEMENT_BALANCED)
        err = place_balanced(spec, loads, slot_expert, p->slot_load);
    if (!err)
        err = placement_index(p, slot_expert);
    free(slot_expert);
    if (err) {
        placement_free(p);
        p = NULL;
    }
    *out = p;
    return err;
}

void placement_free(struct placement *p)
{
    if (!p)
        return;
    free(p->replica_first);
    free(p->replica);
    free(p->slot_load);
    free(p);
}

double placement_imbalance(const struct placement *p, int ranks)
{
    int each = p->physical / ranks;
    double most = 0, all = 0;

    for (int r = 0; r < ranks; r++) {
        double sum = 0;

        for (int s = 0; s < each; s++)
            sum += p->slot_load[r * each + s];
        all += sum;
        if (sum > most)
            most = sum;
    }
    return all > 0 ? most * ranks / all : 1;
}

void placement_loads(const struct plan_routing *r, double *loads)
{
    size_t n = (size_t)r->ranks * (size_t)r->tokens * (size_t)r->topk;

    memset(loads, 0, (size_t)r->experts * sizeof *loads);
    for (size_t i = 0; i < n; i++)
        if (r->expert[i] >= 0)
            loads[r->expert[i]]++;
}
