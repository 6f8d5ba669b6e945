/* kernels/tiles.h: which tiles a launch of the grouped GEMM is cut into. A function of its shape
 * and its number of SMs alone, so that whoever predicts its time can follow it: model/law/gemm.h's
 * tile rule 3 says the same in its own words, and tests/model/test_cost.c compares the two. */
#ifndef PEOSIM_KERNELS_TILES_H
#define PEOSIM_KERNELS_TILES_H

#include <stdbool.h>
#include <stddef.h>

enum { TILES_FEW_ROWS = 64 }; /* an expert with at most so many has few rows */

struct tiles_shape {
    bool fp8;        /* else BF16 */
    int experts;     /* of the launch */
    int rows;        /* expected in the fullest of them, > 0 */
    int n;           /* a multiple of 128 */
    int num_sms;     /* CTAs */
    int block_m;     /* 64, 128 or 256 rows of a tile; 0 chooses */
    bool counted;    /* finished tiles are counted: each has block_m rows and 128 columns */
    const int *each; /* rows expected in each expert; NULL: `rows` in all */
};

/* A tile is block_m x 128, unless wide: 128 x 256, for block_m 256. */
struct tiles {
    int block_m;
    bool wide;
    bool mixed; /* experts with few rows get tiles of 64 x 256; the rest holds for the others */
    bool split; /* tiles of a last pass that leaves half of the CTAs idle or more are halved, to
                   128 x 128 */
};

static inline long long tiles_count(const struct tiles_shape *s, int block_m)
{
    return (long long)s->experts * ((s->rows + block_m - 1) / block_m) * (s->n / 128);
}

/* Hundredths of the time of a full pass of 256-row tiles over the SMs, if every expert has `rows`
 * rows. Measured: a 128-row tile costs 58 of a 256-row tile's hundredths in FP8 and 63 in BF16; it
 * moves more bytes per product. */
static inline long long tiles_cost(const struct tiles_shape *s, int block_m)
{
    const int tile = block_m == 256 ? 100 : s->fp8 ? 58 : 63;
    return (tiles_count(s, block_m) + s->num_sms - 1) / s->num_sms * tile;
}

static inline int tiles_block_m(const struct tiles_shape *s)
{
    if (s->block_m != 0)
        return s->block_m;
    if (s->rows <= 128)
        return s->rows <= 64 ? 64 : 128;
    return tiles_cost(s, 256) < tiles_cost(s, 128) ? 256 : 128;
}

/* The FP8 kernel that may halve tiles is a few percent slower at whole ones (measured: 5%), so it
 * must save half a pass out of few. */
static inline bool tiles_split_pays(const struct tiles_shape *s)
{
    const long long tiles = tiles_count(s, 256), rest = tiles % s->num_sms;
    return rest > 0 && 2 * rest <= s->num_sms && tiles / s->num_sms < 8;
}

/* Some experts have few rows, others more than 128, and the launch may look at each. */
static inline bool tiles_mixed(const struct tiles_shape *s)
{
    bool few = false;
    for (int e = 0; s->each != NULL && e < s->experts; e++)
        few |= s->each[e] > 0 && s->each[e] <= TILES_FEW_ROWS;
    return few && s->rows > 128 && s->block_m == 0 && !s->counted && s->n % 256 == 0;
}

/* Of the large tiles, 128 x 256 reads less of the shared memory than 256 x 128 does, whose
 * bandwidth binds: A once for 256 columns, not for 128. FP8 has no registers for it. */
static inline struct tiles tiles_choose(const struct tiles_shape *s)
{
    struct tiles t = {tiles_block_m(s), false, false, false};
    if (tiles_mixed(s)) {
        t = (struct tiles){256, !s->fp8, true, false};
        return t;
    }
    if (t.block_m != 256 || s->counted)
        return t;
    t.wide = !s->fp8 && s->n % 256 == 0;
    t.split = s->fp8 ? tiles_split_pays(s) : t.wide;
    return t;
}

#endif
