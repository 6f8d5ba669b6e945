#include "model/law/attention.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/attn.h"
#include "model/law/law.h"

#define ROWS_DECODE 64   /* query rows that a decode kernel puts into one tensor tile */
#define KEYS_BLOCK  128  /* keys of a block; of latents half as many */
#define CHUNK       64   /* tokens of a chunk of a delta rule */
#define CONV_TOKENS 8    /* that a convolution's thread takes one after another */
#define CONV_UNIT   8192 /* channels times tokens of a unit of a convolution */

const struct law_attn_param_info law_attn_param_info[LAW_ATTN_PARAM_COUNT] = {
#define LAW_ATTN_INFO(id, name, lo, hi, usual, help) {name, lo, hi, usual},
    LAW_ATTN_PARAMS(LAW_ATTN_INFO)
#undef LAW_ATTN_INFO
};

void law_attn_usual(double *param)
{
    for (int i = 0; i < LAW_ATTN_PARAM_COUNT; i++)
        param[i] = law_attn_param_info[i].usual;
}

static double ceil_div(double a, double b)
{
    return ceil(a / b - 1e-9);
}

/* Widths of a key and a value as the kernel multiplies them, per query head. */
static void widths(const struct law_attn_load *in, double *qk, double *v)
{
    const struct attn_shape *s = &in->shape;
    bool latent = (s->kind == ATTN_MLA || s->kind == ATTN_DSA) && !in->expanded;

    *qk = latent ? s->kv_lora_rank + s->qk_rope_head_dim : s->qk_head_dim;
    *v = latent ? s->kv_lora_rank : s->v_head_dim;
}

static bool shares_keys(const struct law_attn_load *in)
{
    return attn_is_latent(in->shape.kind) && !in->expanded;
}

static double key_heads(const struct law_attn_load *in)
{
    if (shares_keys(in))
        return 1;
    return in->expanded ? in->shape.heads : fmax(in->shape.kv_heads, 1);
}

/* Elements of the cache that one key of this rank holds; the expanded keys lie there in BF16. */
static double key_bytes(const struct law_attn_load *in)
{
    double qk, v;

    widths(in, &qk, &v);
    if (in->expanded)
        return in->shape.heads * (qk + v) * 2;
    if (in->shape.kind == ATTN_COMPRESSED)
        return qk * in->kv_bytes;
    return (shares_keys(in) ? qk : key_heads(in) * (qk + v)) * in->kv_bytes;
}

/* Keys that a query with `context` before and at it attends to. */
static double keys_of(const struct law_attn_load *in, double context)
{
    double keys = attn_keys(&in->shape, context);

    return fmax(in->expanded && in->shape.kind == ATTN_DSA ? context : keys, 1);
}

/* Mean over the queries of a request, which see from kv_len - q_len + 1 to kv_len tokens. */
static double keys_mean(const struct law_attn_load *in)
{
    double first = in->kv_len - in->q_len + 1, sum = 0;
    int steps = in->q_len > 64 ? 64 : (int)in->q_len;

    for (int i = 0; i < steps; i++)
        sum += keys_of(in, first + (in->q_len - 1) * (i + 0.5) / steps);
    return sum / steps;
}

/* Each unit walks over all keys of its request. */
static void terms_decode(const struct law_attn_load *in, struct law_attn_terms *t)
{
    double qk, v, keys = keys_of(in, in->kv_len), heads = key_heads(in);
    double rows = in->shape.heads / heads * in->q_len, tiles = ceil_div(rows, ROWS_DECODE);
    double block = shares_keys(in) ? KEYS_BLOCK / 2 : KEYS_BLOCK;

    widths(in, &qk, &v);
    t->units = in->requests * heads * tiles;
    t->chain = ceil_div(keys, block);
    t->blocks = t->units * t->chain;
    t->block_flops = 2 * ROWS_DECODE * block * (qk + v);
    t->bytes = in->requests * keys * key_bytes(in);
    t->split = true;
}

/* Sparse prefill: every query has keys of its own, so that a unit is one query's heads. */
static void terms_sparse(const struct law_attn_load *in, struct law_attn_terms *t)
{
    double qk, v, keys = keys_mean(in), heads = key_heads(in);
    double tiles = ceil_div(in->shape.heads / heads, ROWS_DECODE);

    widths(in, &qk, &v);
    t->units = in->requests * in->q_len * heads * tiles;
    t->chain = keys / (KEYS_BLOCK / 2);
    t->blocks = t->units * t->chain;
    t->block_flops = 2 * ROWS_DECODE * (KEYS_BLOCK / 2) * (qk + v);
    t->bytes = in->requests * fmin(in->q_len * keys, in->kv_len * 4) * key_bytes(in);
    t->cache_bytes = in->requests * in->kv_len * key_bytes(in);
}

/* Blocks of keys under the causal mask, and inside the window, of one head's tiles: in all, and of
 * the longest. step: query tokens of a tile. */
static double triangle(const struct law_attn_load *in, double tiles, double step, double *chain)
{
    double before = in->kv_len - in->q_len, window = in->shape.window, sum = 0;

    *chain = 0;
    for (double i = 0; i < tiles; i++) {
        double end = ceil_div(fmin((i + 1) * step, in->q_len) + before, KEYS_BLOCK);
        double start = window > 0 ? floor(fmax(i * step + before - window, 0) / KEYS_BLOCK) : 0;

        sum += end - start;
        *chain = fmax(*chain, end - start);
    }
    return sum;
}

/* Packing the query heads of one KV head pays where it leaves fewer rows of a tile empty. */
static bool packs(double q, double group, double tile)
{
    double apart = q / (ceil_div(q, tile) * tile);
    double packed = q * group / (ceil_div(q * group, tile) * tile);

    return apart < 0.9 * packed;
}

static void terms_prefill(const struct law_attn_load *in, double tile, bool pack,
                          struct law_attn_terms *t)
{
    double qk, v, heads = in->shape.heads, kv_heads = key_heads(in), group = heads / kv_heads;
    bool packed = pack && packs(in->q_len, group, tile);
    double step = packed ? tile / group : tile, of = packed ? kv_heads : heads;
    double tiles = ceil_div(in->q_len, step);

    widths(in, &qk, &v);
    t->units = in->requests * of * tiles;
    t->blocks = in->requests * of * triangle(in, tiles, step, &t->chain);
    t->block_flops = 2 * tile * KEYS_BLOCK * (qk + v);
    t->bytes = in->requests * in->kv_len * key_bytes(in);
}

/* A state per head, read and written once, and chunks of tokens one after another. */
static void terms_state(const struct law_attn_load *in, struct law_attn_terms *t)
{
    const struct attn_shape *s = &in->shape;
    double k = s->state_k_dim, v = s->state_v_dim, tokens = in->requests * in->q_len;
    double chunk = in->prefill ? CHUNK : 1;

    t->units = in->requests * s->state_v_heads;
    t->chain = ceil_div(in->q_len, chunk);
    t->blocks = t->units * t->chain;
    t->block_flops = 2 * chunk * (chunk * (2 * k + 2 * v) + 2 * k * v);
    t->bytes = 2 * t->units * k * v * s->state_bytes;
    t->io_bytes = tokens * 2 * (2 * s->state_k_heads * k + 2 * s->state_v_heads * v);
    t->flops = t->blocks * t->block_flops;
}

static double conv_channels(const struct attn_shape *s)
{
    return 2.0 * s->state_k_heads * s->state_k_dim + (double)s->state_v_heads * s->state_v_dim;
}

static void terms_conv(const struct law_attn_load *in, struct law_attn_terms *t)
{
    double tokens = in->requests * in->q_len, channels = conv_channels(&in->shape);

    t->units = in->requests * ceil_div(channels * in->q_len, CONV_UNIT);
    t->chain = fmin(in->q_len, CONV_TOKENS) / CONV_TOKENS;
    t->blocks = t->units * t->chain;
    t->block_flops = 2.0 * CONV_UNIT * in->shape.conv_kernel;
    t->bytes = 4 * tokens * channels + 4 * in->requests * channels * in->shape.conv_kernel;
    t->flops = 2 * tokens * channels * in->shape.conv_kernel;
}

/* One key is scored per token (COMPRESSED: per latent; MSA: a block keeps its largest). Prompts of
 * several requests lie in one matrix of scores, whose cells outside a row's request are cleared. */
static void terms_index(const struct law_attn_load *in, struct law_attn_terms *t)
{
    const struct attn_shape *s = &in->shape;
    double ratio = s->kind == ATTN_COMPRESSED ? s->compress_ratio : 1;
    double keys = (in->kv_len - (in->q_len - 1) / 2) / ratio;
    double tokens = in->requests * in->q_len, last = in->kv_len / ratio;

    if (s->index_heads == 0 || s->index_shared)
        return;
    t->index_rows = tokens;
    t->selects = last > s->index_topk * (s->kind == ATTN_MSA ? s->index_block : 1);
    t->index_keys = keys;
    t->index_flops = 2 * tokens * keys * s->index_heads * s->index_head_dim;
    /* Keys are read once per request; scores are written and read again by the selection. */
    if (in->prefill)
        t->index_all_bytes = 4 * tokens * in->requests * last;
    t->index_bytes = in->requests * last * (s->index_head_dim + 4) + 8 * tokens * keys;
}

/* Of one weight with its scales (plan/plan.h). */
static double weight_bytes(enum plan_dtype dtype)
{
    switch (dtype) {
    case DTYPE_BF16:
    case DTYPE_LOGFMT10:
        return 2;
    case DTYPE_NVFP4:
        return 0.5 + 1.0 / 16;
    case DTYPE_MXFP4:
        return 0.5 + 1.0 / 32;
    case DTYPE_W4A8:
    case DTYPE_W4A16:
        return 0.5 + 2.0 / 128;
    default:
        return 1 + 4.0 / (128 * 128);
    }
}

/* Norms, rotary embedding, cache write: both norms with their residuals 8 bytes a channel, queries,
 * keys and results read and written once more. */
static void terms_linear(const struct law_attn_load *in, struct law_attn_terms *t)
{
    const struct attn_shape *s = &in->shape;
    double tokens = in->requests * in->q_len;
    double weights = attn_params_in(s) + attn_params_out(s);
    double wide = attn_kind_has_state(s->kind)
                      ? conv_channels(s)
                      : s->heads * (double)(s->qk_head_dim + s->v_head_dim);

    t->weight_bytes = weights * weight_bytes(in->weight_dtype);
    t->linear_flops = 2 * tokens * weights;
    t->side_bytes =
        tokens * (8.0 * s->hidden + 8 * wide + 4.0 * (s->q_lora_rank + s->kv_lora_rank));
    t->quantised = in->weight_dtype != DTYPE_BF16;
}

static bool is_sparse(const struct law_attn_load *in)
{
    enum attn_kind kind = in->shape.kind;

    return kind == ATTN_DSA || kind == ATTN_COMPRESSED || kind == ATTN_MSA;
}

void law_attn_terms(const struct law_attn_load *in, double tile, bool pack,
                    struct law_attn_terms *out)
{
    const struct attn_shape *s = &in->shape;
    double qk, v, tokens = in->requests * in->q_len;

    memset(out, 0, sizeof *out);
    widths(in, &qk, &v);
    if (in->part == LAW_ATTN_CONV) {
        terms_conv(in, out);
        return;
    }
    if (attn_kind_has_state(s->kind)) {
        terms_state(in, out);
    } else {
        if (!in->prefill)
            terms_decode(in, out);
        else if (is_sparse(in) && !in->expanded)
            terms_sparse(in, out);
        else
            terms_prefill(in, tile, pack, out);
        out->io_bytes = 2 * tokens * s->heads * (qk + v);
        out->flops = 2 * tokens * s->heads * keys_mean(in) * (qk + v);
        terms_index(in, out);
        out->flops += out->index_flops;
    }
    if (in->part == LAW_ATTN_MODULE)
        terms_linear(in, out);
}

static double sms_of(const double *v, const struct law_attn_load *in)
{
    return in->sms > 0 ? in->sms : v[HW_GPU_NUM_SMS];
}

/* Nominal, FLOP/us; FP4 as FP8 where the GPU has no units for it. */
static double tensor_rate(const double *v, enum plan_dtype dtype)
{
    switch (dtype) {
    case DTYPE_BF16:
    case DTYPE_LOGFMT10:
    case DTYPE_W4A16:
        return v[HW_GPU_BF16_TFLOPS] * 1e6;
    case DTYPE_NVFP4:
        return fmax(v[HW_GPU_FP4_TFLOPS], v[HW_GPU_FP8_TFLOPS]) * 1e6;
    default:
        return v[HW_GPU_FP8_TFLOPS] * 1e6;
    }
}

/* Units in waves over the SMs' slots: whole waves, or shared evenly, or between. */
static double waves_of(double units, double slots, double whole)
{
    return whole * ceil_div(units, slots) + (1 - whole) * fmax(units / slots, 1);
}

/* Chunks of all heads side by side, then one behind another for the states between them. */
static double state_us(const double *param, const struct law_attn_terms *t, double slots,
                       double block)
{
    return fmax(t->blocks / slots, 1) * block +
           fmax(t->units / slots, 1) * t->chain * param[LAW_ATTN_CHAIN];
}

static double core_us(const double *v, const double *param, const struct law_attn_load *in,
                      const struct law_attn_terms *t)
{
    double slots = sms_of(v, in) * param[LAW_ATTN_SLOTS];
    double rate = tensor_rate(v, in->tensor_dtype) / v[HW_GPU_NUM_SMS] * param[LAW_ATTN_EFF];
    double block = param[LAW_ATTN_BLOCK] + t->block_flops / rate, splits = 1, sm, hbm;

    if (t->split)
        splits = fmin(fmax(floor(slots / t->units), 1), t->chain);
    if (t->split)
        sm = waves_of(t->units * splits, slots, param[LAW_ATTN_WAVES]) *
             (param[LAW_ATTN_UNIT] + ceil_div(t->chain, splits) * block);
    else
        sm = waves_of(t->units, slots, param[LAW_ATTN_WAVES]) * param[LAW_ATTN_UNIT] +
             (attn_kind_has_state(in->shape.kind) ? state_us(param, t, slots, block)
                                                  : fmax(t->blocks / slots, t->chain) * block);
    hbm = (t->bytes + t->io_bytes) / (param[LAW_ATTN_HBM] * v[HW_GPU_HBM_GBPS] * 1e3);
    if (t->bytes < param[LAW_ATTN_L2] * v[HW_GPU_L2_MIB] * 1048576)
        hbm *= param[LAW_ATTN_L2_TIME];
    return law_corner(sm, hbm, param[LAW_ATTN_CORNER]) + param[LAW_ATTN_SPLIT] * log2(splits) +
           param[LAW_ATTN_GATHER] * t->cache_bytes / (v[HW_GPU_HBM_GBPS] * 1e3);
}

static double index_us(const double *v, const double *param, const struct law_attn_load *in,
                       const struct law_attn_terms *t)
{
    double sms = sms_of(v, in);
    double rate = tensor_rate(v, DTYPE_FP8) * param[LAW_ATTN_INDEX] * sms / v[HW_GPU_NUM_SMS];

    if (!(t->index_rows > 0))
        return 0;
    return fmax(t->index_flops / rate,
                t->index_bytes / (param[LAW_ATTN_HBM] * v[HW_GPU_HBM_GBPS] * 1e3)) +
           param[LAW_ATTN_INDEX_ALL] * t->index_all_bytes / (v[HW_GPU_HBM_GBPS] * 1e3) +
           t->index_keys / 1024 *
               fmax(param[LAW_ATTN_INDEX_CHAIN], t->index_rows / sms * param[LAW_ATTN_INDEX_ROW]) +
           (t->selects ? param[LAW_ATTN_INDEX_FIXED] : 0);
}

static double linear_us(const double *v, const double *param, const struct law_attn_load *in,
                        const struct law_attn_terms *t)
{
    double hbm = v[HW_GPU_HBM_GBPS] * 1e3, share = sms_of(v, in) / v[HW_GPU_NUM_SMS];
    double side = param[LAW_ATTN_SIDE] + (t->quantised ? param[LAW_ATTN_QUANT_SIDE] : 0);

    if (in->part != LAW_ATTN_MODULE)
        return 0;
    return law_corner(t->weight_bytes / (param[LAW_ATTN_WEIGHTS] * hbm),
                      t->linear_flops /
                          (param[LAW_ATTN_LINEAR] * tensor_rate(v, in->weight_dtype) * share),
                      param[LAW_ATTN_LIN_CORNER]) +
           side * t->side_bytes / hbm;
}

static enum law_attn_param host_param(enum plan_dtype weights)
{
    if (weights == DTYPE_BF16)
        return LAW_ATTN_HOST;
    return weights == DTYPE_NVFP4 || weights == DTYPE_MXFP4 ? LAW_ATTN_HOST_FP4 : LAW_ATTN_HOST_FP8;
}

void law_attn_time(const double *v, const double *param, const struct law_attn_load *in,
                   const struct law_attn_terms *t, struct law_attn_time *out)
{
    out->fixed = param[LAW_ATTN_FIXED] + (t->quantised ? param[LAW_ATTN_QUANT] : 0);
    out->core = core_us(v, param, in, t);
    out->index = index_us(v, param, in, t);
    out->linear = linear_us(v, param, in, t);
    out->gpu = out->fixed + out->core + out->index + out->linear;
    out->host = 0;
    out->total = out->gpu;
    if (in->part == LAW_ATTN_MODULE && in->prefill) {
        out->host = param[host_param(in->weight_dtype)];
        out->total = law_corner(out->gpu, out->host, param[LAW_ATTN_HOST_CORNER]);
    }
}

double law_attn_us(const double *v, const double *param, const struct law_attn_load *in)
{
    struct law_attn_terms t;
    struct law_attn_time time;

    law_attn_terms(in, param[LAW_ATTN_TILE], param[LAW_ATTN_PACK] > 1.5, &t);
    law_attn_time(v, param, in, &t, &time);
    return time.total;
}

static bool indexes(const struct law_attn_load *in)
{
    return in->shape.index_heads > 0 && !in->shape.index_shared && !in->expanded;
}

bool law_attn_uses(const struct law_attn_load *in, enum law_attn_param id)
{
    bool module = in->part == LAW_ATTN_MODULE;
    bool tiles =
        in->prefill && !attn_kind_has_state(in->shape.kind) && (in->expanded || !is_sparse(in));

    switch (id) {
    case LAW_ATTN_SPLIT:
    case LAW_ATTN_L2:
    case LAW_ATTN_L2_TIME:
        return !in->prefill && !attn_kind_has_state(in->shape.kind);
    case LAW_ATTN_CHAIN:
        return attn_kind_has_state(in->shape.kind) && in->part == LAW_ATTN_CORE;
    case LAW_ATTN_GATHER:
        return in->prefill && is_sparse(in) && !in->expanded;
    case LAW_ATTN_INDEX:
    case LAW_ATTN_INDEX_CHAIN:
    case LAW_ATTN_INDEX_ROW:
    case LAW_ATTN_INDEX_FIXED:
        return indexes(in);
    case LAW_ATTN_INDEX_ALL:
        return indexes(in) && in->prefill;
    case LAW_ATTN_WEIGHTS:
    case LAW_ATTN_LINEAR:
    case LAW_ATTN_LIN_CORNER:
    case LAW_ATTN_SIDE:
    case LAW_ATTN_QUANT:
    case LAW_ATTN_QUANT_SIDE:
        return module;
    case LAW_ATTN_HOST:
    case LAW_ATTN_HOST_FP8:
    case LAW_ATTN_HOST_FP4:
        return module && in->prefill && id == host_param(in->weight_dtype);
    case LAW_ATTN_HOST_CORNER:
        return module && in->prefill;
    case LAW_ATTN_TILE:
    case LAW_ATTN_PACK:
        return tiles;
    default:
        return true;
    }
}

const double *law_attn_family(const struct hw_profile *p, const char *family, bool *assumed)
{
    char name[96];
    const struct hw_table *t;

    snprintf(name, sizeof name, "attn.%s", family);
    t = hw_table_find(p, name);
    if (!t || t->n != LAW_ATTN_PARAM_COUNT)
        return NULL;
    *assumed = !hw_origin_is_own(t->origin);
    return t->y;
}
