#include "plan/cost.h"

#include <math.h>

double cost_saturate(double a, double b)
{
    double lo = fmin(a, b), r = lo / fmax(a, b);

    return lo / sqrt(sqrt(1 + r * r * r * r));
}

double cost_cap_GBps(const struct cost_work *w, double local_share)
{
    if (!(w->cap_GBps > 0) || !(w->local_GBps > 0))
        return w->cap_GBps;
    return 1 / ((1 - local_share) / w->cap_GBps + local_share / w->local_GBps);
}

double cost_push_GBps(const struct cost_work *w, double slow)
{
    double push = w->push_GBps > 0 ? w->push_GBps / slow : INFINITY;

    if (!(w->cap_GBps > 0) || !isfinite(push))
        return push;
    if (!(w->cap_corner > 0))
        return cost_saturate(push, w->cap_GBps);
    return w->cap_GBps * pow(1 + pow(w->cap_GBps / push, w->cap_corner), -1 / w->cap_corner);
}
