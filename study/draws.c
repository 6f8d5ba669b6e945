#include "study/draws.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/stats.h"

/* Draws are numbered from here, so that they share no seed with routing and skew. */
#define DRAWS_SEED 1000

struct draws_of {
    char *name;
    struct hw_profile **drawn; /* [n] */
};

struct draws {
    int n;
    struct draws_of *of;
    size_t num;
};

static int drawn_fill(const struct draws *d, struct draws_of *of)
{
    struct hw_profile *p;
    int err = hw_profile_read(of->name, &p);

    if (err)
        return err;
    of->drawn = calloc((size_t)d->n, sizeof *of->drawn);
    err = of->drawn ? 0 : ERR_NOMEM;
    for (int i = 0; i < d->n && !err; i++)
        err = hw_profile_sample(p, DRAWS_SEED + (unsigned long)i, &of->drawn[i]);
    hw_profile_free(p);
    return err;
}

static const struct draws_of *draws_find(const struct draws *d, const char *name)
{
    for (size_t i = 0; i < d->num; i++)
        if (!strcmp(d->of[i].name, name))
            return &d->of[i];
    return NULL;
}

static int draws_add(struct draws *d, const char *name)
{
    struct draws_of *more;

    if (draws_find(d, name))
        return 0;
    more = realloc(d->of, (d->num + 1) * sizeof *more);
    if (!more)
        return ERR_NOMEM;
    d->of = more;
    more[d->num] = (struct draws_of){.name = strdup(name)};
    if (!more[d->num].name)
        return ERR_NOMEM;
    return drawn_fill(d, &more[d->num++]);
}

int draws_open(const struct config *c, int n, struct draws **out)
{
    const struct axis *axis = config_axis(c, "cluster.profile");
    struct draws *d = calloc(1, sizeof *d);
    int err = d ? 0 : ERR_NOMEM;

    if (err)
        return err;
    d->n = n;
    for (int i = 0; axis && i < axis->num_values && !err; i++)
        err = draws_add(d, axis->values[i]);
    if (!axis)
        err = draws_add(d, opt_find(scenario_options, "cluster.profile")->def);
    if (err)
        draws_close(d);
    else
        *out = d;
    return err;
}

void draws_close(struct draws *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->num; i++) {
        for (int j = 0; j < d->n && d->of[i].drawn; j++)
            hw_profile_free(d->of[i].drawn[j]);
        free(d->of[i].drawn);
        free(d->of[i].name);
    }
    free(d->of);
    free(d);
}

const struct hw_profile *draws_at(const struct draws *d, const char *profile, int i)
{
    const struct draws_of *of = draws_find(d, profile);

    return of && of->drawn ? of->drawn[i] : NULL;
}

struct interval interval_of(const double *drawn, size_t n, double value)
{
    return (struct interval){fmin(stats_quantile(drawn, n, 0.05), value),
                             fmax(stats_quantile(drawn, n, 0.95), value)};
}
