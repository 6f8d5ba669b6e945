#include "model/policy/shared.h"

#include <stdlib.h>

#include "base/err.h"

int shared_routed_num(const struct moe_model *m)
{
    if (m->shared_inter < 1 || m->beside_inter > 0 || m->shared_inter % m->inter)
        return 0;
    return m->shared_inter / m->inter;
}

void shared_routed_free(struct plan_routing *routing)
{
    if (routing)
        free(routing->expert);
    free(routing);
}

/* Where expert e stands once every rank has `num` more behind its own. */
static int moved(int e, int local, int num)
{
    return e < 0 ? -1 : e / local * (local + num) + e % local;
}

static int least(const int *load, int ranks)
{
    int best = 0;

    for (int r = 1; r < ranks; r++)
        if (load[r] < load[best])
            best = r;
    return best;
}

/* Routed rows first, so that the shared ones fill up the ranks that have few. */
static void assign(const struct plan_routing *from, int local, int num, int *load,
                   struct plan_routing *to)
{
    size_t tokens = (size_t)from->ranks * (size_t)from->tokens;

    for (size_t i = 0; i < tokens * (size_t)from->topk; i++)
        if (from->expert[i] >= 0)
            load[from->expert[i] / local]++;
    for (size_t t = 0; t < tokens; t++) {
        const int32_t *chosen = from->expert + t * (size_t)from->topk;
        int32_t *row = to->expert + t * (size_t)to->topk;
        int rank = least(load, from->ranks);

        for (int j = 0; j < from->topk; j++)
            row[j] = moved(chosen[j], local, num);
        for (int j = 0; j < num; j++)
            row[from->topk + j] = rank * (local + num) + local + j;
        load[rank] += num;
    }
}

static int routing_of(const struct plan_routing *from, int num, struct plan_routing **out)
{
    int local = from->experts / from->ranks, rc = ERR_NOMEM;
    int *load = calloc((size_t)from->ranks, sizeof *load);
    struct plan_routing *r = calloc(1, sizeof *r);

    *out = r;
    if (!r || !load)
        goto out;
    *r = (struct plan_routing){.ranks = from->ranks,
                               .tokens = from->tokens,
                               .topk = from->topk + num,
                               .experts = from->experts + num * from->ranks};
    r->expert = malloc((size_t)r->ranks * (size_t)r->tokens * (size_t)r->topk * sizeof *r->expert);
    if (!r->expert)
        goto out;
    assign(from, local, num, load, r);
    rc = 0;
out:
    free(load);
    return rc;
}

int shared_routed_open(const struct layer_spec *spec, struct shared_routed *out)
{
    int num = shared_routed_num(spec->model), rc = routing_of(spec->routing, num, &out->routing);

    if (rc != 0) {
        shared_routed_free(out->routing);
        return rc;
    }
    out->model = *spec->model;
    out->model.experts = out->routing->experts;
    out->model.topk = out->routing->topk;
    out->model.shared_experts = out->model.shared_inter = 0;
    out->spec = *spec;
    out->spec.model = &out->model;
    out->spec.routing = out->routing;
    if (!out->spec.router_experts)
        out->spec.router_experts = spec->model->experts;
    return 0;
}
