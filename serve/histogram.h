/* serve/histogram.h: percentiles of any number of times in fixed memory: cells of 0.5%. */
#ifndef PEOSIM_SERVE_HISTOGRAM_H
#define PEOSIM_SERVE_HISTOGRAM_H

#include <stdint.h>

struct serve_times;

struct histogram {
    uint64_t *cell;
    uint64_t n;
    double sum;
};

int histogram_open(struct histogram *h); /* ERR_NOMEM */
void histogram_close(struct histogram *h);
void histogram_add(struct histogram *h, double ms);
/* The p-quantile, 0..1: the middle of its cell. NAN: nothing was added. */
double histogram_quantile(const struct histogram *h, double p);
void histogram_times(const struct histogram *h, struct serve_times *out);

#endif
