#include "model/law/dense_table.h"

#include <math.h>

/* Kernels change where m crosses a tile's rows, so knots stand on both sides of those. */
static const double m_knots[] = {1,    16,   17,   32,   33,   64,   65,   128,  129,
                                 192,  256,  257,  384,  512,  513,  768,  1024, 1025,
                                 1536, 2048, 2049, 3072, 4096, 8192, 32768};
static const double nk_knots[] = {128, 512, 1024, 2048, 4096, 8192, 16384, 65536};
#define NUM_M  (int)(sizeof m_knots / sizeof *m_knots)
#define NUM_NK (int)(sizeof nk_knots / sizeof *nk_knots)

const double *law_dense_knots(int axis, int *num)
{
    *num = axis == 0 ? NUM_M : NUM_NK;
    return axis == 0 ? m_knots : nk_knots;
}

int law_dense_cells(void)
{
    return NUM_M * NUM_NK * NUM_NK;
}

/* Number of the knot below x, and how far x lies towards the next. */
static int knot_below(int axis, double x, double *share)
{
    int num, i = 0;
    const double *knot = law_dense_knots(axis, &num);

    x = fmin(fmax(x, knot[0]), knot[num - 1]);
    while (i + 2 < num && x >= knot[i + 1])
        i++;
    *share = log(x / knot[i]) / log(knot[i + 1] / knot[i]);
    return i;
}

void law_dense_corners(const double shape[LAW_DENSE_AXES], int cell[LAW_DENSE_CORNERS],
                       double weight[LAW_DENSE_CORNERS])
{
    int below[LAW_DENSE_AXES];
    double share[LAW_DENSE_AXES];

    for (int a = 0; a < LAW_DENSE_AXES; a++)
        below[a] = knot_below(a, shape[a], &share[a]);
    for (int c = 0; c < LAW_DENSE_CORNERS; c++) {
        int at = 0;

        weight[c] = 1;
        for (int a = 0; a < LAW_DENSE_AXES; a++) {
            int up = c >> a & 1, num;

            law_dense_knots(a, &num);
            at = at * num + below[a] + up;
            weight[c] *= up ? share[a] : 1 - share[a];
        }
        cell[c] = at;
    }
}

const struct hw_table *law_dense_table(const struct hw_profile *p, enum law_dense_dtype dtype)
{
    static const struct {
        const char *name;
        enum hw_field_id field;
    } tables[] = {{"dense.bf16", HW_BF16_EFF},
                  {"dense.fp8", HW_FP8_EFF},
                  {"dense.fp8_block", HW_BLOCK_EFF},
                  {"dense.nvfp4", HW_NVFP4_EFF}};
    const struct hw_table *t = hw_table_find(p, tables[dtype].name);
    bool own = hw_origin_is_own(p->f[tables[dtype].field].origin);

    return t && hw_origin_is_own(t->origin) == own ? t : NULL;
}

double law_dense_factor(const struct hw_table *t, double m, double n, double k)
{
    const double shape[LAW_DENSE_AXES] = {m, n, k};
    int cell[LAW_DENSE_CORNERS];
    double weight[LAW_DENSE_CORNERS], sum = 0;

    if (!t || t->n != (size_t)law_dense_cells())
        return 1;
    law_dense_corners(shape, cell, weight);
    for (int c = 0; c < LAW_DENSE_CORNERS; c++)
        sum += weight[c] * log(t->y[cell[c]]);
    return exp(sum);
}
