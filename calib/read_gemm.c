/* Our own sweeps of DeepGEMM's grouped kernels on one H200 (deepgemm_h200_*.csv). */
#include "calib/read_gemm.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"

/* What an event pair adds to the kernel's own time, by the rows that CUPTI timed too (median of
 * 54), and what lies between the kernels of a graph that runs back to back. */
#define EVENT_PAIR_US 3.1
#define GRAPH_GAP_US  0.6

struct deepgemm_blocks {
    int sum, most, of64, of128; /* rows, rows of the largest group, blocks of 64 and of 128 rows */
};

/* Rows of the groups that fill as many blocks as the file states: the rows themselves lie in
 * another file, and neither law nor kernel needs more. The largest group takes all of the surplus
 * that it can, then the next. */
static bool deepgemm_rows(const struct deepgemm_blocks *b, int groups, int32_t *rows)
{
    int most128 = (b->most + 127) / 128, active = b->of128 < groups ? b->of128 : groups;
    int surplus = b->of128 - active, left, halves;

    if ((b->of64 < active && b->of128 >= groups) || b->most > b->sum ||
        b->of64 > (int64_t)groups * ((b->most + 63) / 64))
        return false;
    for (int i = 0; i < groups; i++) {
        int more = i < active && surplus > 0 ? surplus : 0;

        more = more > most128 - 1 ? most128 - 1 : more;
        surplus -= more > 0 ? more : 0;
        rows[i] = i < active ? 1 + (more > 0 ? more : 0) : 0; /* blocks of 128 for now */
    }
    /* A block of 128 is one of 64, or two: as many of the groups' last ones as the file has more.
     */
    halves = b->of64 - (2 * b->of128 - active);
    left = b->sum;
    for (int i = 0; i < active; i++) {
        int full = i < halves;

        rows[i] = (2 * rows[i] - (full ? 1 : 2)) * 64 + 1;
        left -= rows[i];
    }
    for (int i = 0; i < active && left > 0; i++) {
        int add = left < 63 ? left : 63;

        rows[i] += add;
        left -= add;
    }
    return surplus == 0 && left == 0 && halves >= 0 && halves <= active;
}

static void deepgemm_kernel_of(struct cells *c, struct data_row *r)
{
    const char *kernel = cell_text(c, "kernel");

    r->dtype = cell_dtype(c);
    if (strstr(kernel, "_masked"))
        r->law = DATA_MASKED;
    else if (strstr(kernel, "_contiguous"))
        r->law = DATA_CONTIGUOUS;
    else
        cell_bad(c, "kernel", "is neither masked nor contiguous");
}

/* L2 is flushed before each call unless the note says otherwise; those rows, and those beside
 * another kernel, are of something else than the law. */
static bool deepgemm_is_other(const char *kernel, const char *distribution, const char *note)
{
    return strcmp(kernel, "empty_kernel") == 0 || strncmp(kernel, "hog", 3) == 0 ||
           strncmp(kernel, "ffn_", 4) == 0 || strcmp(distribution, "zero") == 0 ||
           strstr(note, "no flush") || (strstr(note, "hog") && !strstr(note, "no hog"));
}

static void deepgemm_overhead(struct cells *c, const char *note, struct data_row *r)
{
    double extra = strstr(note, "back-to-back") ? GRAPH_GAP_US
                   : strstr(note, "CUPTI")      ? 0
                                                : EVENT_PAIR_US;

    if (!c->err && r->latency_us <= extra)
        cell_bad(c, "latency_us", "is less than what measuring itself takes");
    r->latency_us -= extra;
}

static void system_of(struct cells *c, struct data_row *r)
{
    cell_system(c, "system", r);
    for (char *at = r->system; *at; at++)
        *at = (char)tolower((unsigned char)*at);
}

void read_deepgemm(struct cells *c, struct data_row *r)
{
    const char *note = cell_text(c, "note"), *hint = strstr(note, "expected_m=");
    struct deepgemm_blocks b;

    system_of(c, r);
    if (deepgemm_is_other(cell_text(c, "kernel"), cell_text(c, "distribution"), note)) {
        r->law = DATA_SHOWN;
        cell_latency(c, "latency_us", r);
        snprintf(r->group, sizeof r->group, "%.40s", cell_text(c, "kernel"));
        return;
    }
    deepgemm_kernel_of(c, r);
    r->groups = cell_int(c, "groups", 1, 1 << 14);
    r->n = cell_int(c, "n", 1, 1 << 20);
    r->k = cell_int(c, "k", 1, 1 << 20);
    r->rows = (int)ceil(cell_number(c, "mean_rows", 0.01, 1 << 24));
    r->num_sms = cell_int(c, "num_sms", 1, 1024);
    b.sum = cell_int(c, "rows_sum", 1, 1 << 28);
    b.most = cell_int(c, "rows_max", 1, 1 << 28);
    b.of64 = cell_int(c, "blocks64", 1, 1 << 24);
    b.of128 = cell_int(c, "blocks128", 1, 1 << 24);
    cell_latency(c, "latency_us", r);
    deepgemm_overhead(c, note, r);
    if (hint && sscanf(hint, "expected_m=%d", &r->expected_m) != 1)
        cell_bad(c, "note", "has an expected_m that is no number");
    r->deepgemm = r->reference = true;
    r->sustained = strncmp(note, "sustained", 9) == 0;
    /* Back to back, calls find their weights in the L2: shown, not fitted. */
    if (strstr(note, "back-to-back") && !r->sustained)
        r->reference = false;
    r->num_local = r->groups;
    r->num_draws = 1;
    if (c->err)
        return;
    snprintf(r->group, sizeof r->group, "%d groups %dx%d %.12s%s", r->groups, r->n, r->k,
             cell_text(c, "distribution"), r->sustained ? " sustained" : "");
    r->expert_rows = arena_alloc(c->set->arena, (size_t)r->groups * sizeof *r->expert_rows);
    if (!r->expert_rows)
        c->err = true;
    else if (!deepgemm_rows(&b, r->groups, r->expert_rows))
        cell_bad(c, "blocks64", "does not go with the other sums of the row");
}

/* Calls one after another while clocks fall: within 50 ms a burst, after 70 ms sustained. */
void read_deepgemm_power(struct cells *c, struct data_row *r)
{
    double t_ms = cell_number(c, "t_ms", 0, 1e9);

    r->law = DATA_LAW_COUNT;
    if (t_ms > 50 && t_ms < 70)
        return;
    snprintf(r->system, sizeof r->system, "h200");
    deepgemm_kernel_of(c, r);
    r->groups = cell_int(c, "groups", 1, 1 << 14);
    r->n = cell_int(c, "n", 1, 1 << 20);
    r->k = cell_int(c, "k", 1, 1 << 20);
    r->rows = cell_int(c, "mean_rows", 1, 1 << 24);
    r->num_sms = cell_int(c, "num_sms", 1, 1024);
    cell_latency(c, "call_us", r);
    r->sustained = t_ms >= 70;
    r->deepgemm = true;
    r->num_local = r->groups;
    r->num_draws = 1;
    if (c->err)
        return;
    snprintf(r->group, sizeof r->group, "%d groups %d rows %d SMs%s", r->groups, r->rows,
             r->num_sms, r->sustained ? " sustained" : "");
    r->expert_rows = arena_alloc(c->set->arena, (size_t)r->groups * sizeof *r->expert_rows);
    for (int i = 0; r->expert_rows && i < r->groups; i++)
        r->expert_rows[i] = r->rows;
    c->err = !r->expert_rows;
}
