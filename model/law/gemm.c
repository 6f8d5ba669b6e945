#include "model/law/gemm.h"
#include "model/law/dense_table.h"
#include "model/law/memo.h"

#include <float.h>
#include <math.h>

enum { MAX_SMS = 1024 }; /* what a profile may say */
enum { ACT_CORNER = 2 };
#define NVFP4_BYTES (0.5 + 1.0 / 16) /* a one-byte scale per 16 values */

static double ceil_div(double a, double b)
{
    return ceil(a / b);
}

static int ceil_int(int a, int b)
{
    return (a + b - 1) / b;
}

static double dtype_bytes(enum plan_dtype dtype)
{
    return dtype == DTYPE_BF16 ? 2 : 1;
}

static void work_init(const double *v, int grid, struct cost_work *out)
{
    *out = (struct cost_work){.grid = grid, .waves = 1, .push_GBps = 1};
    out->hbm_GBps = fmin(grid * v[HW_GPU_SM_HBM_GBPS], v[HW_GPU_HBM_GBPS]);
}

static int grid_of(double tiles, int sms)
{
    return tiles < 1 ? 1 : tiles < sms ? (int)tiles : sms;
}

static int waves_of(double waves)
{
    return waves < 1 ? 1 : waves > 1e9 ? 1000000000 : (int)waves;
}

bool law_grouped_unclustered(int groups, int m, int n, int sms)
{
    return (int64_t)groups * ceil_int(m, 128) * ceil_int(n, 192) <= sms;
}

/* What is fitted of one GEMM kernel. */
struct kernel {
    double fixed_ns, tile_ns, kblock_ns, load_ns, hbm_GBps, corner;
    double sm_GBps;  /* most that one SM draws */
    double flops_ns; /* of one SM while few run */
    double drop;
    double width; /* bytes of an operand element */
};

/* A tile of which `loaded` rows and columns come from beyond the SM's own cluster partner. */
static double loaded_tile_ns(const struct kernel *q, int block_m, int block_n, double loaded,
                             double k, double rate)
{
    double block_k = 128 / q->width, load = q->kblock_ns + q->load_ns * loaded / 256;

    return q->tile_ns + ceil_div(k, block_k) * fmax(load, 2.0 * block_m * block_n * block_k / rate);
}

static double tile_ns(const struct kernel *q, int block_m, int block_n, double k, int sms,
                      int num_sms)
{
    return loaded_tile_ns(q, block_m, block_n, block_m + block_n, k,
                          q->flops_ns * law_power(q->drop, sms, num_sms));
}

/* Fewest waves; among equals the fullest last wave; then DeepGEMM's three tie breaks. */
struct choice {
    int m, n;
    int64_t waves, last, blocks;
};

static bool choice_better(const struct choice *a, const struct choice *b, int m, int n)
{
    if (b->m == 0 || a->waves != b->waves)
        return b->m == 0 || a->waves < b->waves;
    if (a->last != b->last)
        return a->last > b->last;
    return (a->m == b->m && a->n < b->n) || (a->n == b->n && a->m < b->m) ||
           (a->m != b->m && a->n > b->n && a->n <= n && a->m <= m);
}

struct law_tile law_fewest_waves_tile(int m, int n, int sms)
{
    static const int block_ms[] = {64, 128, 256};
    static const int block_ns[] = {16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 192};
    struct choice best = {0};

    for (size_t i = 0; i < sizeof block_ms / sizeof *block_ms; i++)
        for (size_t j = 0; j < sizeof block_ns / sizeof *block_ns; j++) {
            struct choice c = {.m = block_ms[i], .n = block_ns[j]};

            if (c.m > 128 && c.n > 128)
                continue;
            c.blocks = (int64_t)ceil_int(m, c.m) * ceil_int(n, c.n);
            c.waves = (c.blocks + sms - 1) / sms;
            c.last = c.blocks % sms == 0 ? sms : c.blocks % sms;
            if (choice_better(&c, &best, m, n))
                best = c;
        }
    return (struct law_tile){
        best.m, best.n, (int)((best.blocks + best.waves - 1) / best.waves), false, false, 1, 1};
}

static int align_int(int a, int b)
{
    return ceil_int(a, b) * b;
}

/* Does the layout leave room for three stages of operands (four where it is small)? */
static bool deepgemm_fits(const struct law_grouped *in, int block_m, int block_n, int block_k)
{
    bool fp8 = in->dtype != DTYPE_BF16;
    int smem = 232448 - align_int(block_m * block_n * 2, 1024) - 256, stages;
    int stage = (block_m + block_n) * 128 + (fp8 ? align_int(4 * block_m, 128) : 0);

    if (fp8)
        smem -= align_int(ceil_int(in->k, block_k) * 4 * (block_k % block_n ? 2 : 1), 8);
    stages = smem / stage;
    return stages >= 4 || (stages == 3 && block_m * block_n >= 128 * 192);
}

/* Block-scaled kernels unroll over the scales of at most two blocks of columns. */
static bool deepgemm_unrolls(const struct law_grouped *in, int block_n, int block_k)
{
    int over = block_n - block_k;

    return in->dtype == DTYPE_BF16 || over <= 0 || block_n % over == 0 || block_k % over == 0;
}

static int64_t deepgemm_cycles(const struct law_grouped *in, int m, const struct law_tile *t)
{
    int64_t sms = in->sms, width = in->dtype == DTYPE_BF16 ? 2 : 1, k = in->k;
    int64_t blocks = (int64_t)ceil_int(m, t->m) * ceil_int(in->n, t->n) *
                     (in->layout == GEMM_MASKED ? in->groups : 1);
    int64_t waves = (blocks + sms - 1) / sms, out = 2 * (int64_t)t->m * t->n;
    int64_t l2_rate = (int64_t)fmin(64.0 * (double)sms, 8e6 / 1.3e3);
    int64_t l2 = k * (t->m / t->cluster_n + t->n / t->cluster_m) * width + out;
    int64_t l1 = 2 * k * (t->m + t->n) * width + 2 * out;
    float filled = (float)blocks / (float)(waves * sms);

    if (t->cluster_m * t->cluster_n > 1 && waves <= 1)
        return INT64_MAX;
    l2 = l2 * blocks / l2_rate;
    l1 = l1 * blocks / (128 * sms);
    return (int64_t)((float)(l1 > l2 ? l1 : l2) / filled);
}

/* All block_n of one block_m and cluster, in DeepGEMM's order: the first of equals stays. */
static void deepgemm_try(const struct law_grouped *in, int m, struct law_tile t,
                         struct law_tile *best, int64_t *least)
{
    int block_k = in->dtype == DTYPE_BF16 ? 64 : 128, most = in->dtype == DTYPE_BF16 ? 256 : 192;
    int pair = t.cluster_m * t.cluster_n;

    if (in->sms % pair)
        return;
    for (t.n = 16; t.n <= most; t.n += 16) {
        int64_t cycles;

        if (!deepgemm_unrolls(in, t.n, block_k) ||
            (in->layout == GEMM_MASKED && ceil_int(in->n, t.n) % pair) ||
            !deepgemm_fits(in, t.m, t.n, block_k))
            continue;
        cycles = deepgemm_cycles(in, m, &t);
        if (best->m == 0 || cycles < *least) {
            *best = t;
            *least = cycles;
        }
    }
}

struct law_tile law_deepgemm_tile(const struct law_grouped *in, int m)
{
    static const int clusters[][2] = {{1, 1}, {1, 2}, {2, 1}};
    struct law_tile best = {0};
    int64_t least = INT64_MAX;

    for (size_t i = 0; i < sizeof clusters / sizeof *clusters; i++) {
        struct law_tile t = {
            .m = 64, .sms = in->sms, .cluster_m = clusters[i][0], .cluster_n = clusters[i][1]};

        if (in->layout == GEMM_MASKED)
            deepgemm_try(in, m, t, &best, &least);
        t.m = 128;
        deepgemm_try(in, m, t, &best, &least);
    }
    return best;
}

static int64_t own_tiles_num(const struct law_grouped *in, int m, int block_m)
{
    return (int64_t)ceil_int(m, block_m) * ceil_int(in->n, 128) * in->groups;
}

static int64_t own_passes_num(const struct law_grouped *in, int m, int block_m)
{
    return (own_tiles_num(in, m, block_m) + in->sms - 1) / in->sms;
}

static int own_block_m(int rule, const struct law_grouped *in, int m)
{
    int half = rule > 1 && in->dtype == DTYPE_BF16 ? 63 : 58;

    if (in->block_m > 0)
        return in->block_m;
    if (m > 128 && own_passes_num(in, m, 256) * 100 < own_passes_num(in, m, 128) * half)
        return 256;
    return m <= 64 ? 64 : 128;
}

/* The FP8 kernel that may halve tiles is slower: it must save half a pass out of few. */
static bool own_split_pays(const struct law_grouped *in, int m)
{
    int64_t tiles = own_tiles_num(in, m, 256), rest = tiles % in->sms;

    return rest > 0 && 2 * rest <= in->sms && tiles / in->sms < 8;
}

enum { FEW_ROWS = 64, FEW_COLUMNS = 256 };

static bool own_mixed(int rule, const struct law_grouped *in, int m)
{
    bool few = false;

    for (int i = 0; in->rows && i < in->groups; i++)
        few |= in->rows[i] > 0 && in->rows[i] <= FEW_ROWS;
    return rule > 2 && in->expected_m == 0 && in->block_m == 0 && few && m > 128 &&
           in->n % FEW_COLUMNS == 0;
}

/* A forced block_m says that finished tiles are counted: each must be whole and as tall as that. */
struct law_tile law_own_tile(int rule, const struct law_grouped *in, int m)
{
    struct law_tile t = {.m = own_block_m(rule, in, m), .n = 128, .sms = in->sms};

    if (own_mixed(rule, in, m))
        return in->dtype == DTYPE_BF16
                   ? (struct law_tile){.m = 128, .n = 256, .sms = in->sms, .mixed = true}
                   : (struct law_tile){.m = 256, .n = 128, .sms = in->sms, .mixed = true};
    if (rule < 2 || t.m != 256 || in->block_m > 0)
        return t;
    if (in->dtype != DTYPE_BF16) {
        t.split = own_split_pays(in, m);
    } else if (in->n % 256 == 0) {
        t.m = 128;
        t.n = 256;
        t.split = true;
    }
    return t;
}

static struct kernel grouped_kernel(const double *v, const struct law_grouped *in)
{
    bool masked = in->layout == GEMM_MASKED;
    double nominal = v[in->dtype == DTYPE_BF16 ? HW_GPU_BF16_TFLOPS : HW_GPU_FP8_TFLOPS];
    struct kernel q = {
        .fixed_ns = v[masked ? HW_MASKED_FIXED_US : HW_CONTIG_FIXED_US] * 1e3,
        .tile_ns = v[masked ? HW_MASKED_TILE_NS : HW_CONTIG_TILE_NS],
        .kblock_ns = v[masked ? HW_MASKED_KBLOCK_NS : HW_CONTIG_KBLOCK_NS],
        .load_ns = v[masked ? HW_MASKED_LOAD_NS : HW_CONTIG_LOAD_NS],
        .hbm_GBps = v[masked ? HW_MASKED_HBM_EFF : HW_CONTIG_HBM_EFF] * v[HW_GPU_HBM_GBPS],
        .flops_ns = nominal * 1e3 / in->num_sms * v[masked ? HW_MASKED_EFF : HW_CONTIG_EFF],
        .drop = v[HW_GROUPED_POWER_DROP],
        .width = dtype_bytes(in->dtype)};

    return q;
}

struct grouped_sums {
    int64_t rows, aligned; /* aligned: each group padded to 128, as the contiguous layout has it */
    int active;
};

static struct grouped_sums grouped_sum(const struct law_grouped *in)
{
    struct grouped_sums s = {0};

    for (int i = 0; i < in->groups; i++) {
        s.rows += in->rows[i];
        s.aligned += (in->rows[i] + 127) / 128 * 128;
        s.active += in->rows[i] > 0;
    }
    return s;
}

/* Weights once per expert that has rows, then operands and result. */
static double grouped_bytes(const struct law_grouped *in, const struct grouped_sums *s,
                            double width)
{
    return (double)s->active * in->n * in->k * width +
           (double)s->rows * (in->k * width + in->n * 2.0);
}

static double grouped_tiles_m(const struct law_grouped *in, int block_m)
{
    int64_t tiles = 0;

    for (int i = 0; i < in->groups; i++)
        tiles += (in->rows[i] + block_m - 1) / block_m;
    return (double)tiles;
}

/* Rule 3: of the fullest group. */
static int grouped_most_m(const struct law_grouped *in)
{
    int most = 1;

    for (int i = 0; i < in->groups; i++)
        most = in->rows[i] > most ? in->rows[i] : most;
    return most;
}

static int grouped_expected_m(const struct law_grouped *in, const struct grouped_sums *s)
{
    int64_t m = s->aligned;

    if (in->layout == GEMM_MASKED)
        m = in->expected_m > 0 ? in->expected_m : (s->rows + in->groups - 1) / in->groups;
    return m < 1 ? 1 : m > INT32_MAX / 2 ? INT32_MAX / 2 : (int)m;
}

/* The validator's kernel: a tile skips the blocks of 64 rows that no row of its expert fills. */
struct own_tiles {
    struct law_tile tile;
    double block_ns[4]; /* of a tile with so many filled blocks, less one */
    double half_ns[2];  /* of one of 128 x 128, likewise */
    int64_t num, columns;
    int64_t whole; /* tiles before the first that is halved */
};

/* Rows of the tile that starts at row m0 of its expert, at most `most`. */
static int filled_blocks(int rows, int m0, int most)
{
    int filled = rows - m0 < most ? rows - m0 : most;

    return filled > 0 ? (filled + 63) / 64 : 0;
}

/* Half of a tile: its lower or upper 128 rows, or of a wide one its left or right columns. */
static double own_half_ns(const struct own_tiles *t, int rows, int m0, int second)
{
    int blocks = filled_blocks(rows, m0 + (t->tile.m == 256 ? 128 * second : 0), 128);

    return blocks > 0 ? t->half_ns[blocks - 1] : 0;
}

/* Where the i-th tile of an expert begins: rows run fastest, in bands of 2048. */
static int own_first_row(const struct own_tiles *t, int blocks, int64_t i)
{
    int band = 2048 / t->tile.m, first = (int)(i / (band * t->columns)) * band;
    int height = blocks - first < band ? blocks - first : band;

    return (first + (int)((i - first * t->columns) % height)) * t->tile.m;
}

/* What the CTAs have to do, tile t going to CTA t % sms: diff[i] is what CTA i has beyond CTA i -
 * 1, `all` what each has. */
struct dealt {
    double diff[MAX_SMS + 1], all;
    int sms, at; /* at: the CTA of the next tile */
};

static void deal(struct dealt *d, int64_t tiles, double ns)
{
    int rest = (int)(tiles % d->sms), end = d->at + rest;

    d->all += (double)(tiles / d->sms) * ns;
    d->diff[d->at] += ns;
    d->diff[end < d->sms ? end : d->sms] -= ns;
    if (end > d->sms) {
        d->diff[0] += ns;
        d->diff[end - d->sms] -= ns;
    }
    d->at = end % d->sms;
}

static double dealt_most(const struct dealt *d)
{
    double sum = 0, most = 0;

    for (int i = 0; i < d->sms; i++) {
        sum += d->diff[i];
        most = fmax(most, sum);
    }
    return d->all + most;
}

/* An expert's tiles, none halved: all as its first ones, then what the last of each column takes
 * less or more. */
static void deal_expert(struct dealt *d, const struct own_tiles *t, int rows, double factor)
{
    int blocks = ceil_int(rows, t->tile.m), first = d->at;
    double full = t->block_ns[filled_blocks(rows, 0, t->tile.m) - 1] * factor;
    double last =
        t->block_ns[filled_blocks(rows, (blocks - 1) * t->tile.m, t->tile.m) - 1] * factor - full;

    deal(d, blocks * t->columns, full);
    for (int c = 0; last != 0 && c < t->columns; c++) {
        int cta = (int)((first + (int64_t)c * blocks + blocks - 1) % d->sms);

        d->diff[cta] += last;
        d->diff[cta + 1] -= last;
    }
}

/* No tile is halved, and no expert has more rows than a band. */
static bool own_simple(const struct law_grouped *in, const struct own_tiles *t)
{
    for (int e = 0; e < in->groups; e++)
        if (in->rows[e] > 2048)
            return false;
    return t->whole == t->num;
}

static double own_simple_cta(const struct law_grouped *in, const struct own_tiles *t)
{
    struct dealt d = {.sms = in->sms};

    for (int e = 0; e < in->groups; e++)
        if (in->rows[e] > 0)
            deal_expert(&d, t, in->rows[e], 1);
    return dealt_most(&d);
}

/* Tile t belongs to CTA t % sms, in the order experts, columns, rows: the CTA with the most to do
 * sets the time. Halves count as tiles; the whole ones before them fill their passes. */
static double own_slowest_cta(const struct law_grouped *in, const struct own_tiles *t)
{
    double cta_ns[MAX_SMS] = {0}, most = 0;
    int64_t at = 0;

    if (own_simple(in, t))
        return own_simple_cta(in, t);
    for (int e = 0; e < in->groups; e++) {
        int blocks = ceil_int(in->rows[e], t->tile.m);

        for (int64_t i = 0; i < blocks * t->columns; i++, at++) {
            int m0 = own_first_row(t, blocks, i);
            int64_t half = 2 * (at - t->whole);

            if (half < 0)
                cta_ns[at % in->sms] += t->block_ns[filled_blocks(in->rows[e], m0, t->tile.m) - 1];
            for (int j = 0; half >= 0 && j < 2; j++)
                cta_ns[half + j] += own_half_ns(t, in->rows[e], m0, j);
        }
    }
    for (int i = 0; i < in->sms; i++)
        most = fmax(most, cta_ns[i]);
    return most;
}

/* The filled blocks, less one, of all tiles alike; -1 if tiles differ. */
static int own_tiles_alike(const struct law_grouped *in, int block_m)
{
    int most = 0, least = block_m;

    for (int i = 0; i < in->groups; i++) {
        most = in->rows[i] > most ? in->rows[i] : most;
        least = in->rows[i] > 0 && in->rows[i] < least ? in->rows[i] : least;
    }
    return most <= block_m && (most - 1) / 64 == (least - 1) / 64 ? (most - 1) / 64 : -1;
}

static double own_all_ns(const struct law_grouped *in, const struct own_tiles *t)
{
    int alike = own_tiles_alike(in, t->tile.m);
    double passes = ceil_div((double)t->whole, in->sms);

    if (alike < 0)
        return own_slowest_cta(in, t);
    return passes * t->block_ns[alike] +
           (t->whole < t->num ? t->half_ns[alike < 1 ? alike : 1] : 0);
}

/* All passes but a last one that fills few SMs, which cannot draw all of HBM: its tiles take what
 * one tile takes, after the full passes, however short of bandwidth those were. It stands in the
 * tail. In a full pass both limits are felt at once. */
static void own_passes(const double *v, const struct law_grouped *in, const struct own_tiles *t,
                       struct cost_work *out)
{
    double tiles = (double)t->num, full = floor(tiles / in->sms), bytes = out->head.hbm_bytes;
    double share = full * in->sms / tiles, corner = v[HW_MASKED_CORNER];
    /* A pass of halves is half a pass. */
    double last = t->whole < t->num ? 0.5 : 1, passes = full + (share < 1 ? last : 0);
    double all_ns = own_all_ns(in, t), last_ns = all_ns * last / passes;

    if (full < 1) {
        out->head.sm_ns = law_corner(all_ns, bytes / law_hbm_GBps(v), corner);
        return;
    }
    out->waves = waves_of(full);
    out->head.hbm_bytes = share * bytes;
    out->tail.hbm_bytes = (1 - share) * bytes;
    if (share < 1) {
        out->tail.sm_ns = law_corner(last_ns, out->tail.hbm_bytes / law_hbm_GBps(v), corner);
        all_ns -= last_ns;
    }
    out->head.sm_ns = law_corner(all_ns, out->head.hbm_bytes / law_hbm_GBps(v), corner);
}

static struct own_tiles own_tiles_of(const double *v, const struct law_grouped *in,
                                     const struct kernel *q, int m)
{
    struct own_tiles t = {.tile = law_own_tile((int)v[HW_GROUPED_TILE_RULE], in, m)};
    double loss = t.tile.split && in->dtype != DTYPE_BF16 ? v[HW_GROUPED_SPLIT_LOSS] : 0;

    t.columns = ceil_int(in->n, t.tile.n);
    t.num = (int64_t)grouped_tiles_m(in, t.tile.m) * t.columns;
    t.whole = t.num;
    if (t.tile.split && 2 * (t.num % in->sms) <= in->sms)
        t.whole -= t.num % in->sms;
    if (t.tile.m == 64 && v[HW_GROUPED_TILE_RULE] > 2.5)
        loss = v[HW_GROUPED_LOW_LOSS];
    if (in->block_m > 0)
        loss += v[HW_GROUPED_COUNTED_LOSS];
    for (int i = 0; i < 4; i++)
        t.block_ns[i] =
            tile_ns(q, 64 * (i + 1), t.tile.n, in->k, in->sms, in->num_sms) * (1 + loss);
    /* Of three blocks one warpgroup has two, as of four. */
    if (t.tile.m == 256 && v[HW_GROUPED_TILE_RULE] > 2.5)
        t.block_ns[2] = (t.block_ns[2] + t.block_ns[3]) / 2;
    for (int i = 0; i < 2; i++)
        t.half_ns[i] = tile_ns(q, 64 * (i + 1), 128, in->k, in->sms, in->num_sms);
    return t;
}

/* Two kinds of tiles, dealt one kind after the other; a CTA takes those of experts with few rows,
 * whose time is that of the weights they stream, while others multiply. */
static double own_mixed_cta(const double *v, const struct law_grouped *in, const struct kernel *q,
                            const struct own_tiles *many)
{
    struct dealt d = {.sms = in->sms};
    double few_ns = tile_ns(q, FEW_ROWS, FEW_COLUMNS, in->k, in->sms, in->num_sms);
    int64_t few = 0;

    for (int e = 0; e < in->groups; e++) {
        if (in->rows[e] > FEW_ROWS)
            deal_expert(&d, many, in->rows[e], 1 + v[HW_GROUPED_MIXED_LOSS]);
        few += in->rows[e] > 0 && in->rows[e] <= FEW_ROWS;
    }
    deal(&d, few * (in->n / FEW_COLUMNS), few_ns);
    return dealt_most(&d);
}

/* The validator's own kernel knows one layout. Its tile follows from the fullest expert. */
static void own_grouped_work(const double *v, const struct law_grouped *asked,
                             struct cost_work *out)
{
    struct law_grouped in = *asked;

    in.layout = GEMM_MASKED;

    struct kernel q = grouped_kernel(v, &in);
    struct grouped_sums s = grouped_sum(&in);

    if (in.dtype == DTYPE_BF16)
        q.flops_ns *= 1 + v[HW_GROUPED_BF16_GAIN];

    bool known = v[HW_GROUPED_TILE_RULE] > 2.5 && in.expected_m == 0;
    struct own_tiles t =
        own_tiles_of(v, &in, &q, known ? grouped_most_m(&in) : grouped_expected_m(&in, &s));

    work_init(v, in.sms, out);
    out->head.fixed_ns = q.fixed_ns; /* empty experts have no tiles and cost nothing */
    out->flops = 2.0 * (double)s.rows * in.n * in.k;
    out->head.hbm_bytes = grouped_bytes(&in, &s, q.width);
    if (t.tile.mixed) {
        out->head.sm_ns = law_corner(own_mixed_cta(v, &in, &q, &t),
                                     out->head.hbm_bytes / law_hbm_GBps(v), v[HW_MASKED_CORNER]);
        out->waves = waves_of(floor((double)t.num / in.sms));
    } else if (t.num > 0) {
        own_passes(v, &in, &t, out);
    }
}

/* What is fitted of DeepGEMM's grouped kernels for one tile: 64 rows of FP8 keep one warp group
 * busy and have a rate of their own, as BF16 has; sharing loads in a cluster halves one side. */
static struct kernel deepgemm_kernel(const double *v, const struct law_grouped *in,
                                     const struct law_tile *t)
{
    struct kernel q = grouped_kernel(v, in);

    q.drop = 0;
    q.corner = v[in->layout == GEMM_MASKED ? HW_MASKED_CORNER : HW_CONTIG_CORNER];
    q.sm_GBps = v[in->layout == GEMM_MASKED ? HW_MASKED_SM_GBPS : HW_CONTIG_SM_GBPS];
    if (in->layout == GEMM_MASKED && t->m <= 64)
        q.flops_ns *= v[HW_MASKED_EFF64] / v[HW_MASKED_EFF];
    if (in->layout == GEMM_MASKED && t->cluster_m * t->cluster_n > 1) {
        q.flops_ns /= v[HW_MASKED_PAIR];
        q.kblock_ns *= v[HW_MASKED_PAIR];
        q.load_ns *= v[HW_MASKED_PAIR];
    }
    if (in->dtype == DTYPE_BF16)
        q.flops_ns *= v[HW_DEEPGEMM_BF16_GAIN];
    if (in->sustained)
        q.flops_ns *= v[HW_GROUPED_SUSTAINED];
    return q;
}

/* `tiles` of one wave: their SMs multiply, and draw their share of all bytes as fast as so many
 * SMs can. Neither hides all of the other. */
static double wave_ns(const struct kernel *q, double tile, double bytes, double tiles)
{
    return tiles > 0
               ? law_corner(tile, tiles * bytes / fmin(q->hbm_GBps, tiles * q->sm_GBps), q->corner)
               : 0;
}

/* A second block of an expert's rows needs the same weights: its cluster partner hands them over,
 * or L2 does; a share comes from HBM again. */
static double reread_bytes(const double *v, const struct law_grouped *in, const struct law_tile *t,
                           const struct grouped_sums *s, double width)
{
    double again = grouped_tiles_m(in, t->m) - s->active;

    if (in->layout != GEMM_MASKED || t->cluster_m > 1)
        return 0;
    return v[HW_MASKED_REREAD] * again * in->n * in->k * width;
}

/* Full waves, then what is left over: few tiles that draw little and take a tile's whole time. */
static void deepgemm_grouped_work(const double *v, const struct law_grouped *in,
                                  struct cost_work *out)
{
    struct grouped_sums s = grouped_sum(in);
    struct law_tile t = in->tile ? *in->tile : law_memo_tile(in, grouped_expected_m(in, &s));
    struct kernel q = deepgemm_kernel(v, in, &t);
    double tiles = grouped_tiles_m(in, t.m) * ceil_int(in->n, t.n), full = floor(tiles / in->sms);
    double rest = tiles - full * in->sms, ns;

    work_init(v, in->sms, out);
    out->hbm_GBps = fmin(q.hbm_GBps, in->sms * q.sm_GBps);
    out->head.fixed_ns = q.fixed_ns;
    if (in->layout == GEMM_MASKED)
        out->head.fixed_ns += in->groups * v[HW_MASKED_GROUP_NS];
    out->head.hbm_bytes = grouped_bytes(in, &s, q.width) + reread_bytes(v, in, &t, &s, q.width);
    ns = loaded_tile_ns(&q, t.m, t.n, (double)t.m / t.cluster_n + (double)t.n / t.cluster_m, in->k,
                        q.flops_ns);
    if (tiles > 0)
        out->head.sm_ns = full * wave_ns(&q, ns, out->head.hbm_bytes / tiles, in->sms) +
                          wave_ns(&q, ns, out->head.hbm_bytes / tiles, rest);
    out->flops = 2.0 * (double)s.rows * in->n * in->k;
    out->waves = waves_of(full + (rest > 0));
}

void law_grouped_work(const double *v, const struct law_grouped *in, struct cost_work *out)
{
    if (v[HW_GROUPED_TILE_RULE] > 0.5) {
        own_grouped_work(v, in, out);
        return;
    }

    deepgemm_grouped_work(v, in, out);
}

/* SM time of block_m rows of one group and all columns, by the widths and clusters that do it in
 * least; INFINITY where none fits. */
static double deepgemm_block_ns(const double *v, const struct law_grouped *in, int block_m)
{
    static const int clusters[][2] = {{1, 1}, {1, 2}, {2, 1}};
    int block_k = in->dtype == DTYPE_BF16 ? 64 : 128, most = in->dtype == DTYPE_BF16 ? 256 : 192;
    double least = INFINITY;

    for (size_t i = 0; i < sizeof clusters / sizeof *clusters; i++)
        for (int n = 16; n <= most; n += 16) {
            struct law_tile t = {.m = block_m, .n = n};
            struct kernel q = deepgemm_kernel(v, in, &t);
            double loaded = (double)t.m / clusters[i][1] + (double)t.n / clusters[i][0];

            if (deepgemm_unrolls(in, n, block_k) && deepgemm_fits(in, block_m, n, block_k))
                least = fmin(least, ceil_int(in->n, n) *
                                        loaded_tile_ns(&q, t.m, t.n, loaded, in->k, q.flops_ns));
        }
    return least;
}

/* Tiles of all groups, each in blocks of the height that suits it. */
static double deepgemm_least_ns(const double *v, const struct law_grouped *in)
{
    double low = in->layout == GEMM_MASKED ? deepgemm_block_ns(v, in, 64) : INFINITY;
    double high = deepgemm_block_ns(v, in, 128), ns = 0;

    for (int i = 0; i < in->groups; i++)
        if (in->rows[i] > 0)
            ns += fmin(ceil_int(in->rows[i], 64) * low, ceil_int(in->rows[i], 128) * high);
    return ns;
}

double law_most_TFLOPS(const double *v, enum plan_dtype dtype)
{
    bool bf16 = dtype == DTYPE_BF16 || dtype == DTYPE_W4A16;
    double nominal = v[bf16 ? HW_GPU_BF16_TFLOPS : HW_GPU_FP8_TFLOPS];
    double eff = fmax(v[HW_MASKED_EFF], v[HW_CONTIG_EFF]), gain = 1;

    if (bf16)
        gain = fmax(v[HW_DEEPGEMM_BF16_GAIN], 1 + v[HW_GROUPED_BF16_GAIN]);
    if (dtype == DTYPE_NVFP4)
        nominal = fmax(nominal, v[HW_GPU_FP4_TFLOPS]);
    return nominal * fmax(1, eff * gain);
}

void law_grouped_least(const double *v, const struct law_grouped *asked, struct cost_least *out)
{
    bool own = v[HW_GROUPED_TILE_RULE] > 0.5;
    struct law_grouped masked = *asked;
    const struct law_grouped *in = own ? &masked : asked;
    struct grouped_sums s = grouped_sum(in);
    struct law_tile t = {.m = 128};
    struct kernel q;

    masked.layout = GEMM_MASKED; /* the only one of the validator's kernel */
    q = own ? grouped_kernel(v, in) : deepgemm_kernel(v, in, &t);
    if (own && in->dtype == DTYPE_BF16)
        q.flops_ns *= 1 + v[HW_GROUPED_BF16_GAIN];
    *out = (struct cost_least){
        .sm_ns = 2.0 * (double)s.rows * in->n * in->k / q.flops_ns,
        .hbm_bytes = grouped_bytes(in, &s, q.width),
        .fixed_ns = q.fixed_ns,
    };
    if (!own)
        out->sm_ns = law_corner(deepgemm_least_ns(v, in), out->hbm_bytes / q.sm_GBps, q.corner);
}

static struct kernel dense_kernel(const double *v, const struct law_dense *in)
{
    /* The fields of the four kernels stand in the same order. */
    static const int first[] = {HW_BF16_FIXED_US, HW_FP8_FIXED_US, HW_BLOCK_FIXED_US,
                                HW_NVFP4_FIXED_US};
    const double *f = v + first[in->dtype];
    bool wide = in->dtype == LAW_DENSE_BF16;
    bool four = in->dtype == LAW_DENSE_NVFP4 && v[HW_GPU_FP4_TFLOPS] > 0;
    double nominal = v[wide ? HW_GPU_BF16_TFLOPS : four ? HW_GPU_FP4_TFLOPS : HW_GPU_FP8_TFLOPS];
    struct kernel q = {.fixed_ns = f[HW_BF16_FIXED_US - HW_BF16_FIXED_US] * 1e3,
                       .tile_ns = f[HW_BF16_TILE_NS - HW_BF16_FIXED_US],
                       .kblock_ns = f[HW_BF16_KBLOCK_NS - HW_BF16_FIXED_US],
                       .load_ns = f[HW_BF16_LOAD_NS - HW_BF16_FIXED_US],
                       .flops_ns = nominal * 1e3 / in->num_sms * f[HW_BF16_EFF - HW_BF16_FIXED_US],
                       .hbm_GBps = f[HW_BF16_HBM_EFF - HW_BF16_FIXED_US] * v[HW_GPU_HBM_GBPS],
                       .corner = f[HW_BF16_CORNER - HW_BF16_FIXED_US],
                       .drop = v[HW_GEMM_POWER_DROP],
                       .width = wide                           ? 2
                                : in->dtype == LAW_DENSE_NVFP4 ? NVFP4_BYTES
                                                               : 1};

    return q;
}

struct dense_plan {
    double sm_ns;
    int grid, waves;
};

static void dense_try(const struct kernel *q, const struct law_dense *in, int block_m, int block_n,
                      int split, double split_ns, struct dense_plan *best)
{
    double tiles = (double)ceil_int(in->m, block_m) * ceil_int(in->n, block_n) * split;
    int grid = grid_of(tiles, in->sms);
    double waves = ceil_div(tiles, in->sms);
    double ns = waves * tile_ns(q, block_m, block_n, ceil_div(in->k, split), grid, in->num_sms);

    if (split > 1)
        ns += split_ns + 4.0 * in->m * in->n * split / q->hbm_GBps;
    if (ns < best->sm_ns)
        *best = (struct dense_plan){ns, grid, waves_of(waves)};
}

/* cuBLAS picks among many kernels: the fastest of a representative list. Only in BF16 is k split
 * (block scales hold for whole tiles of k). */
static struct dense_plan dense_fastest(const double *v, const struct kernel *q,
                                       const struct law_dense *in)
{
    static const int tiles[][2] = {{64, 64},   {64, 128},  {128, 64}, {128, 128}, {128, 192},
                                   {128, 256}, {256, 128}, {64, 192}, {64, 256}};
    struct dense_plan best = {.sm_ns = DBL_MAX};
    int most = in->dtype == LAW_DENSE_BF16 ? 8 : 1;

    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++)
        for (int split = 1; split <= most; split *= 2)
            dense_try(q, in, tiles[i][0], tiles[i][1], split, v[HW_BF16_SPLIT_US] * 1e3, &best);
    return best;
}

static struct dense_plan dense_by_m(const struct kernel *q, const struct law_dense *in)
{
    struct dense_plan best = {.sm_ns = DBL_MAX};

    dense_try(q, in, in->m <= 128 ? 64 : 128, in->m <= 64 ? 64 : 128, 1, 0, &best);
    return best;
}

static struct dense_plan dense_fewest_waves(const struct kernel *q, const struct law_dense *in)
{
    struct law_tile t = law_fewest_waves_tile(in->m, in->n, in->sms);
    double tiles = (double)ceil_int(in->m, t.m) * ceil_int(in->n, t.n);
    double waves = ceil_div(tiles, t.sms);

    return (struct dense_plan){waves * tile_ns(q, t.m, t.n, in->k, t.sms, in->num_sms), t.sms,
                               waves_of(waves)};
}

static struct dense_plan dense_block_plan(const double *v, const struct kernel *q,
                                          const struct law_dense *in)
{
    return v[HW_BLOCK_TILE_RULE] > 0.5 ? dense_fastest(v, q, in) : dense_fewest_waves(q, in);
}

static double quantise_ns(const double *v, const struct law_dense *in)
{
    return v[HW_QUANT_FIXED_US] * 1e3 +
           3.0 * in->m * in->k / (v[HW_QUANT_HBM_EFF] * v[HW_GPU_HBM_GBPS]);
}

/* The kernel's time becomes `factor` of what it was; what came from L2 takes no HBM time. */
static void work_scale(double factor, struct cost_work *out)
{
    double ns = fmax(out->head.sm_ns, out->head.hbm_bytes / out->hbm_GBps) * factor;

    out->head.fixed_ns *= factor;
    out->head.sm_ns = ns;
    out->head.hbm_bytes = fmin(out->head.hbm_bytes, ns * out->hbm_GBps);
}

/* The validator asks cuBLASLt for block scales where k is a multiple of 512, else for one scale a
 * tensor (validate/gpu_dense.c). Tables are of libraries that do not. */
static enum law_dense_dtype dense_scaling(const double *v, const struct law_dense *in)
{
    bool own = in->dtype == LAW_DENSE_FP8_BLOCK && v[HW_BLOCK_TILE_RULE] > 0.5 && !in->table;

    return own && (in->n % 128 || in->k % 512) ? LAW_DENSE_FP8 : in->dtype;
}

void law_dense_work(const double *v, const struct law_dense *asked, struct cost_work *out)
{
    struct law_dense scaled = *asked;
    const struct law_dense *in = &scaled;
    struct kernel q;
    struct dense_plan p;

    scaled.dtype = dense_scaling(v, asked);
    q = dense_kernel(v, in);
    p = in->dtype == LAW_DENSE_BF16    ? dense_fastest(v, &q, in)
        : in->dtype == LAW_DENSE_FP8   ? dense_by_m(&q, in)
        : in->dtype == LAW_DENSE_NVFP4 ? dense_fastest(v, &q, in)
                                       : dense_block_plan(v, &q, in);

    work_init(v, p.grid, out);
    out->head.fixed_ns = q.fixed_ns;
    out->head.hbm_bytes = q.width * in->k * ((double)in->n + in->m) + 2.0 * in->m * in->n;
    out->head.sm_ns = law_corner(p.sm_ns, out->head.hbm_bytes / q.hbm_GBps, q.corner);
    if (in->table)
        work_scale(law_dense_factor(in->table, in->m, in->n, in->k), out);
    if (in->quantise)
        out->head.fixed_ns += quantise_ns(v, in);
    out->flops = 2.0 * in->m * in->n * in->k;
    out->waves = p.waves;
}

static double stream_GBps(const double *v, int sms, double sm_GBps)
{
    return fmin(v[HW_ACT_HBM_EFF] * v[HW_GPU_HBM_GBPS], sms * sm_GBps);
}

void law_stream_add(const double *v, double bytes, int sms, struct cost_work *out)
{
    out->tail.sm_ns += bytes / stream_GBps(v, sms, v[HW_GPU_SM_HBM_GBPS]);
    out->tail.hbm_bytes += bytes;
}

static void stream_work(const double *v, double rows, double bytes, int sms, double sm_GBps,
                        struct cost_work *out)
{
    work_init(v, grid_of(rows, sms), out);
    out->head.fixed_ns = v[HW_ACT_FIXED_US] * 1e3;
    out->head.sm_ns =
        fmax(ceil_div(rows, sms) * v[HW_ACT_ROW_NS], bytes / stream_GBps(v, out->grid, sm_GBps));
    out->head.hbm_bytes = bytes;
}

void law_copy_work(const double *v, double rows, double bytes, int sms, struct cost_work *out)
{
    stream_work(v, rows, bytes, sms, v[HW_GPU_SM_HBM_GBPS], out);
}

void law_gather_work(const double *v, double rows, double bytes, int sms, struct cost_work *out)
{
    stream_work(v, rows, bytes, sms, v[HW_GPU_SM_HBM_GBPS], out);
    out->head.sm_ns = fmax(
        ceil_div(rows, sms) * v[HW_ACT_ROW_NS],
        bytes / fmin(v[HW_ACT_GATHER_EFF] * v[HW_GPU_HBM_GBPS], out->grid * v[HW_GPU_SM_HBM_GBPS]));
}

void law_act_work(const double *v, double rows, int groups, int inter, enum plan_dtype dtype,
                  int sms, struct cost_work *out)
{
    double sm_GBps = v[HW_ACT_SM_GBPS] > 0 ? v[HW_ACT_SM_GBPS] : v[HW_GPU_SM_HBM_GBPS];

    stream_work(v, rows, rows * inter * (4 + dtype_bytes(dtype)), sms, sm_GBps, out);
    /* Warps look for their rows' experts while others wait for the memory. */
    if (groups * v[HW_ACT_GROUP_NS] > 0)
        out->head.sm_ns = law_corner(out->head.sm_ns, groups * v[HW_ACT_GROUP_NS], ACT_CORNER);
}

void law_topk_add(const double *v, int tokens, int sms, struct cost_work *out)
{
    out->tail.fixed_ns += v[HW_ROUTER_FIXED_US] * 1e3;
    out->tail.sm_ns += ceil_div(tokens, sms) * v[HW_ROUTER_TOKEN_NS];
}

void law_attn_work(const double *v, const struct law_attn *in, struct cost_work *out)
{
    double eff = v[in->prefill ? HW_ATTN_PREFILL_EFF : HW_ATTN_DECODE_EFF];
    double rate = v[HW_GPU_BF16_TFLOPS] * 1e3 * eff * in->sms / in->num_sms;

    work_init(v, in->sms, out);
    out->hbm_GBps = fmin(out->hbm_GBps, v[HW_ATTN_DECODE_HBM_EFF] * v[HW_GPU_HBM_GBPS]);
    out->flops = 2 * in->rows * in->heads * in->context * (in->qk_dim + in->v_dim);
    out->head.fixed_ns = v[HW_ATTN_FIXED_US] * 1e3;
    out->head.sm_ns = out->flops / rate;
    out->head.hbm_bytes = in->kv_bytes + in->rows * in->heads * (in->qk_dim + in->v_dim) * 2;
}
