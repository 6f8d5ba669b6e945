#include "calib/read_cells.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *cell_text(struct cells *c, const char *col)
{
    int i = csv_col(c->csv, col);

    return i < 0 ? "" : csv_at(c->csv, c->row, i);
}

void cell_bad(struct cells *c, const char *col, const char *why)
{
    if (!c->err)
        data_bad(c->set, c->csv->line[c->row], "%s '%s' %s", col, cell_text(c, col), why);
    c->err = true;
}

double cell_number(struct cells *c, const char *col, double min, double max)
{
    int i = csv_col(c->csv, col);
    double x = 0;

    if (c->err)
        return 0;
    if (i < 0 || csv_double(c->csv, c->row, i, &x) != 0)
        cell_bad(c, col, "is not a number");
    else if (!(x >= min && x <= max))
        cell_bad(c, col, x < min ? "is too small" : "is absurdly large");
    return c->err ? 0 : x;
}

int cell_int(struct cells *c, const char *col, int min, int max)
{
    double x = cell_number(c, col, min, max);

    if (!c->err && x != floor(x))
        cell_bad(c, col, "is not a whole number");
    return c->err ? 0 : (int)x;
}

double cell_optional(struct cells *c, const char *col, double max)
{
    return cell_text(c, col)[0] ? cell_number(c, col, 0, max) : 0;
}

void cell_latency(struct cells *c, const char *col, struct data_row *r)
{
    r->latency_us = cell_number(c, col, CELL_MIN_US, CELL_MAX_US);
}

void cell_system(struct cells *c, const char *col, struct data_row *r)
{
    const char *text = cell_text(c, col);

    if (!text[0] || strlen(text) >= sizeof r->system)
        cell_bad(c, col, "is no system");
    else
        snprintf(r->system, sizeof r->system, "%s", text);
}

enum plan_dtype cell_dtype(struct cells *c)
{
    static const char *const fp8[] = {"fp8", "fp8_e4m3", "fp8_block"};
    static const char *const bf16[] = {"bf16", "bfloat16"};
    const char *text = cell_text(c, "dtype");

    for (size_t i = 0; i < sizeof fp8 / sizeof *fp8; i++)
        if (strcmp(text, fp8[i]) == 0)
            return DTYPE_FP8;
    for (size_t i = 0; i < sizeof bf16 / sizeof *bf16; i++)
        if (strcmp(text, bf16[i]) == 0)
            return DTYPE_BF16;
    cell_bad(c, "dtype", "is neither fp8 nor bf16");
    return DTYPE_BF16;
}
