#include "report/info.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/version.h"
#include "model/pass.h"
#include "model/policy/policy.h"

/* "sliding window 128, 64 heads of 64, 8 KV heads". */
static void mixer_text(const struct attn_shape *s, char *buf, size_t size)
{
    int at = snprintf(buf, size, "%s", attn_kind_name(s->kind));

    if (at < 0 || (size_t)at >= size || s->kind == ATTN_NONE)
        return;
    if (attn_kind_has_state(s->kind)) {
        snprintf(buf + at, size - (size_t)at, ", %d heads, state %d x %d", s->state_v_heads,
                 s->state_k_dim, s->state_v_dim);
        return;
    }
    at += snprintf(buf + at, size - (size_t)at, ", %d heads of %d", s->heads, s->qk_head_dim);
    if (!attn_is_latent(s->kind) && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, ", %d KV heads", s->kv_heads);
    if (s->window && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, ", window %d", s->window);
    if (s->compress_ratio && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, ", %d tokens to one", s->compress_ratio);
    if (s->index_heads && (size_t)at < size)
        snprintf(buf + at, size - (size_t)at, ", top %d%s", s->index_topk,
                 s->index_shared ? " of an earlier layer" : "");
}

static void ffn_text(const struct moe_layer *l, char *buf, size_t size)
{
    int at = 0;

    buf[0] = '\0';
    if (l->experts)
        at = snprintf(buf, size, "%d experts of %d, top-%d", l->experts, l->inter, l->topk);
    if (l->zero_experts && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, ", %d zero experts", l->zero_experts);
    if (l->experts && l->expert_hidden != l->attn.hidden && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, " on a hidden of %d", l->expert_hidden);
    if (l->shared_inter && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, ", shared width %d", l->shared_inter);
    if (l->dense_inter && (size_t)at < size)
        at += snprintf(buf + at, size - (size_t)at, "%sdense width %d", at ? ", " : "",
                       l->dense_inter);
    if (l->matrices == 2 && at && (size_t)at < size)
        snprintf(buf + at, size - (size_t)at, ", two matrices each");
}

/* Each kind of layer once, and which layers are of which: "ab cc" as runs "2 x a, 3 x b". */
static void info_layers(const struct moe_model *m, FILE *f)
{
    fprintf(f, "  %d layers of %d kind%s:\n", m->num_layers, m->num_kinds,
            m->num_kinds == 1 ? "" : "s");
    for (int i = 0; i < m->num_kinds; i++) {
        char mixer[200], ffn[200];

        mixer_text(&m->layer[i].attn, mixer, sizeof mixer);
        ffn_text(&m->layer[i], ffn, sizeof ffn);
        fprintf(f, "    %c: %d of %s%s%s\n", 'a' + i % 26, m->layer[i].count,
                m->layer[i].attn.kind == ATTN_NONE ? "no attention" : mixer, *ffn ? "; " : "", ffn);
    }
    fprintf(f, "  pattern ");
    for (int l = 0; l < m->num_layers && m->num_kinds > 1; l++)
        fputc('a' + m->kind_of[l] % 26, f);
    fprintf(f, "%s\n", m->num_kinds > 1 ? "" : "a in all");
}

static void info_types(const struct moe_model *m, FILE *f)
{
    fprintf(f, "  weights in bytes:%s", m->quantised ? "" : " the file does not say types; BF16:");
    for (int p = 0; p < MOE_PARTS; p++)
        fprintf(f, "%s %s %s %.3g", p ? "," : "", moe_part_name((enum moe_part)p),
                moe_dtype_name(m->part[p].dtype), m->part[p].bytes_per_param);
    fprintf(f, "; %.1f GB\n", moe_weight_bytes(m) / 1e9);
}

/* Closed forms per token and pass, at a context of 4096 and of 65536. */
static void info_work(const struct moe_model *m, FILE *f)
{
    const double context = 4096, far = 65536;
    double kv = m->kv_bytes_per_element > 0 ? m->kv_bytes_per_element : 2;
    struct pass_work decode, prefill, long_decode;

    pass_work_of(m, context, true, DTYPE_FP8, kv, &decode);
    pass_work_of(m, far, true, DTYPE_FP8, kv, &long_decode);
    pass_work_of(m, context / 2, false, DTYPE_FP8, kv, &prefill);
    fprintf(
        f,
        "  per token, all layers: %.2f GFLOP in weights; attention core %.2f GFLOP in decode over "
        "%.0f tokens, %.2f GFLOP in prefill of as many\n",
        decode.linear_flops / 1e9, decode.attention_flops / 1e9, context,
        prefill.attention_flops / 1e9);
    fprintf(f, "  weights %.1f GB in FP8, of which one token needs %.1f GB\n",
            decode.weight_bytes / 1e9, decode.active_bytes / 1e9);
    fprintf(f,
            "  KV cache in %s: %.2f KB a token at %.0f, %.2f KB at %.0f; read per token %.3f and "
            "%.3f GB; state %.1f MB a request\n",
            kv == 2   ? "BF16"
            : kv == 1 ? "FP8"
                      : "4 bits",
            decode.kv_write_bytes / 1e3, context, long_decode.kv_write_bytes / 1e3, far,
            decode.kv_read_bytes / 1e9, long_decode.kv_read_bytes / 1e9, decode.state_bytes / 1e6);
    fprintf(f, "  messages per token: dispatch %.2f MB (FP8), combine %.2f MB (BF16)\n",
            decode.dispatch_bytes / 1e6, decode.combine_bytes / 1e6);
}

static void lines_print(const char *head, const char *lines, FILE *f)
{
    fprintf(f, "  %s\n", head);
    for (const char *at = lines; at && *at;) {
        size_t n = strcspn(at, "\n");

        fprintf(f, "    %.*s\n", (int)n, at);
        at += n + (at[n] == '\n');
    }
}

static void model_text(const struct moe_model *m, FILE *f)
{
    fprintf(f, "model %s (%s)\n", m->name, m->path);
    fprintf(f, "  hidden_size %d, vocabulary %d%s\n", m->hidden, m->vocab,
            m->tied_embeddings ? ", embedding tied" : "");
    info_layers(m, f);
    fprintf(f, "  routing groups %d, of which a token may use %d\n", m->n_group, m->topk_group);
    fprintf(f, "  parameters %.2f B total, %.2f B active per token\n", moe_params_total(m) / 1e9,
            moe_params_active(m) / 1e9);
    fprintf(f,
            "  per MoE layer: attention %.1f M, one routed expert %.1f M, shared experts %.1f M\n",
            moe_params_attention(m) / 1e6, moe_params_expert(m) / 1e6, moe_params_shared(m) / 1e6);
    info_types(m, f);
    info_work(m, f);
    lines_print("read:", m->read, f);
    if (m->notes)
        lines_print("note:", m->notes, f);
}

/* A text for people as one note. */
static void note_text(struct record *r, void (*write)(const struct moe_model *m, FILE *f),
                      const struct moe_model *m)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return;
    write(m, f);
    fclose(f);
    record_note(r, "%s", text);
    free(text);
}

/* A kind of layer of a model. */
struct layer_row {
    char kind[2], mixer[200], ffn[200];
    int count, experts, topk, inter, shared_inter, dense_inter;
};

#define LAYER(name, form)                                                                          \
    {                                                                                              \
        .key = #name, .type = form, .offset = offsetof(struct layer_row, name),                    \
        .views = RECORD_DATA                                                                       \
    }
static const struct record_column layer_columns[] = {
    LAYER(kind, RECORD_STRING), LAYER(count, RECORD_INT),        LAYER(mixer, RECORD_STRING),
    LAYER(ffn, RECORD_STRING),  LAYER(experts, RECORD_INT),      LAYER(topk, RECORD_INT),
    LAYER(inter, RECORD_INT),   LAYER(shared_inter, RECORD_INT), LAYER(dense_inter, RECORD_INT),
};
#define TABLE(name, columns, shown)                                                                \
    {                                                                                              \
        .key = name, .views = shown, .column = columns,                                            \
        .num_columns = sizeof columns / sizeof *columns                                            \
    }
static const struct record_table layer_table = TABLE("layers", layer_columns, RECORD_DATA);

static void layers_write(const struct moe_model *m, struct record *r)
{
    record_table(r, &layer_table);
    for (int i = 0; i < m->num_kinds; i++) {
        const struct moe_layer *l = &m->layer[i];
        struct layer_row row = {.kind = {(char)('a' + i % 26)},
                                .count = l->count,
                                .experts = l->experts,
                                .topk = l->topk,
                                .inter = l->inter,
                                .shared_inter = l->shared_inter,
                                .dense_inter = l->dense_inter};

        mixer_text(&l->attn, row.mixer, sizeof row.mixer);
        ffn_text(l, row.ffn, sizeof row.ffn);
        record_row(r, &row);
    }
    record_table_end(r);
}

static void head_write(const char *kind, const char *name, const char *path, struct record *r)
{
    record_member_text(r, "version", PEOSIM_VERSION);
    record_member_text(r, kind, name);
    if (path)
        record_member_text(r, "path", path);
}

void info_report_model(const struct moe_model *m, struct record *r)
{
    head_write("model", m->name, m->path, r);
    record_member(r, "hidden_size", json_integer(m->hidden));
    record_member(r, "vocabulary", json_integer(m->vocab));
    record_member(r, "num_layers", json_integer(m->num_layers));
    record_member(r, "params", json_real(moe_params_total(m)));
    record_member(r, "params_active", json_real(moe_params_active(m)));
    record_member(r, "params_attention", json_real(moe_params_attention(m)));
    record_member(r, "params_expert", json_real(moe_params_expert(m)));
    record_member(r, "params_shared", json_real(moe_params_shared(m)));
    record_member(r, "weight_bytes", json_real(moe_weight_bytes(m)));
    note_text(r, model_text, m);
    layers_write(m, r);
}

/* A field of a profile. */
struct field_row {
    const char *name, *origin, *source;
    char text[32], err_text[32]; /* for people */
    double value, std_err;
};

#define FIELD(id, text_, form, at, columns, shown)                                                 \
    {                                                                                              \
        .key = id, .head = text_, .type = form, .offset = offsetof(struct field_row, at),          \
        .width = columns, .views = shown                                                           \
    }
static const struct record_column field_columns[] = {
    FIELD("field", "field", RECORD_WORDS, name, -28, RECORD_ALL),
    FIELD(NULL, "value", RECORD_STRING, text, 12, RECORD_PEOPLE),
    FIELD(NULL, "std err", RECORD_STRING, err_text, 10, RECORD_PEOPLE),
    FIELD("value", NULL, RECORD_REAL, value, 0, RECORD_DATA),
    FIELD("std_err", NULL, RECORD_REAL, std_err, 0, RECORD_DATA),
    {.key = "origin",
     .head = "origin",
     .type = RECORD_WORDS,
     .offset = offsetof(struct field_row, origin),
     .width = -9,
     .wide = true,
     .views = RECORD_ALL},
    FIELD("source", "source", RECORD_WORDS, source, 0, RECORD_ALL),
};
static const struct record_table field_table = TABLE("fields", field_columns, RECORD_ALL);

struct table_row {
    const char *name, *origin, *source;
    int64_t points;
};

#define OF_TABLE(name, form)                                                                       \
    {                                                                                              \
        .key = #name, .type = form, .offset = offsetof(struct table_row, name),                    \
        .views = RECORD_NESTED                                                                     \
    }
static const struct record_column table_columns[] = {
    OF_TABLE(name, RECORD_WORDS), OF_TABLE(points, RECORD_INT64), OF_TABLE(origin, RECORD_WORDS),
    OF_TABLE(source, RECORD_WORDS)};
static const struct record_table table_table = TABLE("tables", table_columns, RECORD_NESTED);

static void tables_write(const struct hw_profile *p, struct record *r)
{
    record_table(r, &table_table);
    for (int i = 0; i < p->num_tables; i++) {
        const struct hw_table *t = &p->tables[i];
        const struct table_row row = {.name = t->name,
                                      .origin = hw_origin_name(t->origin),
                                      .source = t->source,
                                      .points = (int64_t)t->n};

        record_row(r, &row);
        record_note(r, "  table %-22s %12zu points      %-9s %s\n", t->name, t->n, row.origin,
                    t->source ? t->source : "");
    }
    record_table_end(r);
}

void info_report_profile(const struct hw_profile *p, struct record *r)
{
    const char *words = p->description ? p->description : "";

    head_write("profile", p->name, p->path, r);
    record_member_text(r, "description", words);
    record_note(r, "profile %s (%s): %s\n", p->name, p->path, words);
    record_table(r, &field_table);
    for (int i = 0; i < HW_FIELD_COUNT; i++) {
        struct field_row row = {.name = hw_field_name((enum hw_field_id)i),
                                .origin = hw_origin_name(p->f[i].origin),
                                .source = p->f[i].source ? p->f[i].source : "",
                                .value = p->f[i].value,
                                .std_err = p->f[i].std_err};

        snprintf(row.text, sizeof row.text, "%.6g", row.value);
        snprintf(row.err_text, sizeof row.err_text, "%.3g", row.std_err);
        record_row(r, &row);
    }
    record_table_end(r);
    tables_write(p, r);
}

struct knob_row {
    const char *key, *type, *dflt, *unit, *choices, *help;
    double min, max; /* NAN: not a number */
};

#define KNOB(id, form, at)                                                                         \
    {                                                                                              \
        .key = id, .type = form, .offset = offsetof(struct knob_row, at), .views = RECORD_DATA     \
    }
static const struct record_column knob_columns[] = {
    KNOB("key", RECORD_WORDS, key),         KNOB("type", RECORD_WORDS, type),
    KNOB("default", RECORD_WORDS, dflt),    KNOB("unit", RECORD_WORDS, unit),
    KNOB("min", RECORD_REAL, min),          KNOB("max", RECORD_REAL, max),
    KNOB("choices", RECORD_WORDS, choices), KNOB("help", RECORD_WORDS, help),
};
static const struct record_table knob_table = TABLE("knobs", knob_columns, RECORD_DATA);

static void knobs_write(const struct opt *table, struct record *r)
{
    record_table(r, &knob_table);
    for (const struct opt *o = table; o->key; o++) {
        bool number = o->type == OPT_INT || o->type == OPT_DOUBLE;
        const struct knob_row row = {.key = o->key,
                                     .type = opt_type_name(o->type),
                                     .dflt = o->def,
                                     .unit = o->unit,
                                     .choices = o->choices,
                                     .help = o->help,
                                     .min = number ? o->min : NAN,
                                     .max = number ? o->max : NAN};

        record_row(r, &row);
    }
    record_table_end(r);
}

void info_report_policy(const struct policy *p, struct record *r)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    if (f) {
        opt_print_help(p->knobs, f);
        fclose(f);
    }
    head_write("policy", p->name, NULL, r);
    record_member_text(r, "summary", p->summary);
    record_note(r, "policy %s: %s\n%s", p->name, p->summary, text ? text : "");
    knobs_write(p->knobs, r);
    free(text);
}

#define NAME(field)                                                                                \
    {                                                                                              \
        .key = #field, .type = RECORD_WORDS, .offset = offsetof(struct info_name, field),          \
        .views = RECORD_DATA                                                                       \
    }
static const struct record_column name_columns[] = {NAME(kind), NAME(name), NAME(summary)};
static const struct record_table name_table = TABLE("names", name_columns, RECORD_DATA);

void info_report_names(struct record *r)
{
    record_member_text(r, "version", PEOSIM_VERSION);
    record_table(r, &name_table);
}
