/* tests/gpu/speed.h: the file in which the benchmarks state their figures beside what they are held
 * against. One row per figure; programs add to the same file. */
#ifndef PEOSIM_TESTS_GPU_SPEED_H
#define PEOSIM_TESTS_GPU_SPEED_H

#include <stdio.h>

/* A field that is 0 stays empty in the file. */
struct speed_row {
    const char *name, *shape; /* no commas */
    double median_us, p95_us;
    int n;              /* replays behind median and p95 */
    double bytes;       /* that no kernel can avoid moving: its rate goes into the file */
    double anchor_us;   /* what another implementation takes, or what the goal's rate would take */
    double goal_ratio;  /* anchor_us / median_us is wanted to be at least this */
    const char *source; /* of the anchor; no commas */
};

/* Opens for appending; a new file gets its header. NULL on failure. */
static inline FILE *speed_open(const char *path)
{
    FILE *csv = fopen(path, "a");
    if (csv != NULL && fseek(csv, 0, SEEK_END) == 0 && ftell(csv) == 0)
        fprintf(csv, "name,shape,median_us,p95_us,n,GBps,anchor_us,ratio,goal_ratio,source\n");
    return csv;
}

static inline void speed_field(FILE *csv, const char *format, double value)
{
    fputc(',', csv);
    if (value > 0)
        fprintf(csv, format, value);
}

/* ratio = anchor_us / median_us: above 1 is faster than the anchor. csv NULL: prints only. */
static inline void speed_write(FILE *csv, const struct speed_row *row)
{
    double ratio = row->anchor_us / row->median_us;
    printf("%-14s %-42s %8.2f us p95 %8.2f", row->name, row->shape, row->median_us, row->p95_us);
    if (row->anchor_us > 0)
        printf("  anchor %8.2f ratio %.3f", row->anchor_us, ratio);
    if (row->goal_ratio > 0)
        printf(" (goal %.2f: %s)", row->goal_ratio, ratio >= row->goal_ratio ? "met" : "missed");
    printf("\n");
    if (csv == NULL)
        return;
    fprintf(csv, "%s,%s,%.3f,%.3f,%d", row->name, row->shape, row->median_us, row->p95_us, row->n);
    speed_field(csv, "%.1f", row->bytes / row->median_us * 1e-3);
    speed_field(csv, "%.3f", row->anchor_us);
    speed_field(csv, "%.3f", ratio);
    speed_field(csv, "%.3f", row->goal_ratio);
    fprintf(csv, ",%s\n", row->source);
    fflush(csv);
}

#endif
