#include "serve/histogram.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "serve/simulate.h"

/* From a microsecond to about a year; what is outside goes into the first and the last. */
#define LEAST_MS 1e-3
#define STEP     0.005
enum { CELLS = 6200 };

int histogram_open(struct histogram *h)
{
    *h = (struct histogram){.cell = calloc(CELLS, sizeof *h->cell)};
    return h->cell ? 0 : ERR_NOMEM;
}

void histogram_close(struct histogram *h)
{
    free(h->cell);
    h->cell = NULL;
}

void histogram_add(struct histogram *h, double ms)
{
    double at = ms > LEAST_MS ? log(ms / LEAST_MS) / STEP : 0;

    h->cell[at < CELLS - 1 ? (int)at : CELLS - 1]++;
    h->n++;
    h->sum += ms;
}

double histogram_quantile(const struct histogram *h, double p)
{
    double wanted = ceil(p * (double)h->n), seen = 0;
    int i = 0;

    if (!h->n)
        return NAN;
    while (i < CELLS - 1 && seen + (double)h->cell[i] < fmax(wanted, 1))
        seen += (double)h->cell[i++];
    return LEAST_MS * exp((i + 0.5) * STEP);
}

void histogram_times(const struct histogram *h, struct serve_times *out)
{
    *out = (struct serve_times){.mean = h->n ? h->sum / (double)h->n : NAN,
                                .p50 = histogram_quantile(h, 0.5),
                                .p90 = histogram_quantile(h, 0.9),
                                .p99 = histogram_quantile(h, 0.99)};
}
