/* The routing of a plan as a file, and the same with ranks and their experts named otherwise: nodes
 * in turn, the GPUs of a node in turn by twos (two may share a NIC). */
#ifndef PEOSIM_TESTS_TORTURE_RELABEL_H
#define PEOSIM_TESTS_TORTURE_RELABEL_H

#include <stdlib.h>
#include <unistd.h>

#include "plan/plan.h"

struct relabelled {
    char same[64], other[64];
};

static int relabel_rank(int rank, int ranks, int per_node, int by)
{
    int nodes = ranks / per_node, node = (rank / per_node + by) % nodes;

    return node * per_node + (rank % per_node + 2 * (by / 7)) % per_node;
}

static void relabel_token(FILE *f, const struct plan_routing *r, int rank, int t, int per_node,
                          int by)
{
    const int32_t *e = r->expert + ((size_t)rank * (size_t)r->tokens + (size_t)t) * (size_t)r->topk;
    int each = r->experts / r->ranks;

    fprintf(f, "0,%d,%d", relabel_rank(rank, r->ranks, per_node, by), t);
    for (int j = 0; j < r->topk; j++)
        fprintf(f, ",%d",
                e[j] < 0 ? -1
                         : relabel_rank(e[j] / each, r->ranks, per_node, by) * each + e[j] % each);
    fprintf(f, "\n");
}

static void relabel_write(const char *path, const struct plan_routing *r, int per_node, int by)
{
    FILE *f = fopen(path, "w");

    if (!f)
        abort();
    fprintf(f, "layer,rank,token");
    for (int j = 0; j < r->topk; j++)
        fprintf(f, ",e%d", j);
    fprintf(f, "\n");
    for (int rank = 0; rank < r->ranks; rank++)
        for (int t = 0; t < r->tokens; t++)
            relabel_token(f, r, rank, t, per_node, by);
    if (fclose(f))
        abort();
}

/* number: of the plan, so that no two files have one name. */
static void relabel_open(struct relabelled *out, const struct plan *plan, int per_node, int by,
                         long number)
{
    const struct plan_routing *r = plan->batches[0].routing;

    snprintf(out->same, sizeof out->same, "/tmp/torture-%d-%ld.csv", (int)getpid(), number);
    snprintf(out->other, sizeof out->other, "/tmp/torture-%d-%ld-named.csv", (int)getpid(), number);
    relabel_write(out->same, r, per_node, 0);
    relabel_write(out->other, r, per_node, by);
}

static void relabel_close(const struct relabelled *r)
{
    unlink(r->same);
    unlink(r->other);
}

#endif
