/* Every model shipped, every real file in the public data folder, and shapes of other models
 * written from public facts (tests/corpus/models): totals, active parameters, kinds of attention
 * and types. */
#include "tests/data_text.h"

#include <math.h>

#include "base/err.h"
#include "model/attn.h"
#include "model/moe.h"

/* total, active: billions, counted apart from the program as the sum of the weight matrices of
 * every layer, by family, from the definitions of their modules: GQA h(q + k + v) + o h, MLA and
 * its indexer, compressed attention with compressor and hyper-connections, delta nets with
 * convolution and gates, experts of 3 (relu2: 2) matrices, latent projections, gates, embedding and
 * head (one where tied). Active: those that one token meets, the head with them and the embedding
 * not; of zero experts an even share. No norms, biases, vision or drafting layers. published: what
 * the publisher says, total/active, which rounds and may count vision, embedding or drafting
 * layers. */
static const struct row {
    const char *file; /* "data:" in the public data folder */
    double total_b, active_b;
    const char *kinds; /* layers by attention */
    const char *published;
} rows[] = {
    {"configs/models/dbrx.json", 131.596, 35.853, "gqa 40", "132/36"},
    {"configs/models/deepseek-v2-lite.json", 15.706, 2.451, "mla 27", "15.7/2.4"},
    {"configs/models/deepseek-v2.json", 235.741, 20.851, "mla 60", "236/21"},
    {"configs/models/deepseek-v3.2.json", 671.877, 37.476, "dsa 61", "671/37"},
    {"configs/models/deepseek-v3.json", 671.025, 36.625, "mla 61", "671/37"},
    {"configs/models/deepseek-v4-flash.json", 284.330, 13.268, "compressed 43", "284/13"},
    {"configs/models/deepseek-v4-pro.json", 1572.994, 48.849, "compressed 61", "1600/49"},
    {"configs/models/glm-4.5-air.json", 106.851, 12.802, "gqa 46", "106/12"},
    {"configs/models/glm-4.5.json", 352.796, 32.854, "gqa 92", "355/32"},
    {"configs/models/glm-5.json", 743.910, 40.832, "dsa 78", "744/40"},
    {"configs/models/gpt-oss-120b.json", 116.789, 5.131, "gqa 18 window 18", "116.8/5.1"},
    {"configs/models/gpt-oss-20b.json", 20.908, 3.607, "gqa 12 window 12", "20.9/3.6"},
    {"configs/models/kimi-k2.5.json", 1026.407, 31.686, "mla 61", "1000/32"},
    {"configs/models/kimi-k2.json", 1026.407, 31.686, "mla 61", "1000/32"},
    {"configs/models/kimi-k3.json", 2779.479, 104.184, "kda 69 mla 24", "2800/-"},
    {"configs/models/llama-4-maverick.json", 400.711, 16.150, "gqa 12 window 36", "400/17"},
    {"configs/models/llama-4-scout.json", 107.769, 16.138, "gqa 12 window 36", "109/17"},
    {"configs/models/minimax-m2.5.json", 228.689, 10.415, "gqa 62", "230/10"},
    {"configs/models/minimax-m3.json", 426.174, 24.732, "gqa 3 msa 57", "426/23"},
    {"configs/models/mixtral-8x22b.json", 140.620, 38.955, "gqa 56", "141/39"},
    {"configs/models/mixtral-8x7b.json", 46.703, 12.749, "gqa 32", "46.7/12.9"},
    {"configs/models/nemotron-3-nano.json", 31.578, 3.227, "gqa 6 mamba2 23 none 23", "31.6/3.2"},
    {"configs/models/qwen3-235b.json", 235.093, 21.568, "gqa 94", "235/22"},
    {"configs/models/qwen3-30b.json", 30.532, 3.042, "gqa 48", "30.5/3.3"},
    {"configs/models/qwen3-coder-480b.json", 480.154, 34.540, "gqa 62", "480/35"},
    {"configs/models/qwen3-next-80b.json", 79.674, 3.563, "gdn 36 gqa 12", "80/3"},
    {"configs/models/qwen3.5-397b.json", 396.346, 16.331, "gdn 45 gqa 15", "397/17"},
    {"tests/corpus/models/ernie-4.5-300b.json", 299.483, 47.078, "gqa 54", "300/47"},
    {"tests/corpus/models/hunyuan-a13b.json", 80.393, 12.747, "gqa 32", "80/13"},
    {"tests/corpus/models/longcat-flash.json", 560.664, 27.149, "mla 56", "560/27"},
    {"tests/corpus/models/arctic.json", 478.584, 17.089, "gqa 35", "480/17"},
    {"tests/corpus/models/grok-2.json", 269.513, 113.821, "gqa 64", "270/115"},
    {"tests/corpus/models/grok-1.json", 315.683, 83.755, "gqa 64", "314/86"},
    {"tests/corpus/models/minimax-text-01.json", 456.088, 47.173, "gqa 10 lightning 70",
     "456/45.9"},
    {"tests/corpus/models/granite-4.0-h-small.json", 32.206, 8.802, "gqa 4 mamba2 36", "32/9"},
    {"tests/corpus/models/dots.llm1.json", 142.774, 13.393, "gqa 62", "142/14"},
    {"tests/corpus/models/olmoe-1b-7b.json", 6.919, 1.179, "gqa 16", "6.9/1.3"},
    {"tests/corpus/models/phi-3.5-moe.json", 41.872, 6.509, "window 32", "42/6.6"},
    {"tests/corpus/models/ling-1t.json", 999.704, 49.765, "gqa 80", "1000/50"},
    {"tests/corpus/models/qwen2-57b-a14b.json", 57.408, 13.704, "gqa 28", "57.4/14"},
    {"tests/corpus/models/qwen1.5-moe-a2.7b.json", 14.315, 2.378, "gqa 24", "14.3/2.7"},
    {"tests/corpus/models/kimi-linear-48b.json", 49.122, 3.107, "kda 20 mla 7", "48/3"},
    {"tests/corpus/models/deepseek-moe-16b.json", 16.376, 2.619, "gqa 28", "16.4/2.8"},
    {"tests/corpus/models/moonlight-16b-a3b.json", 15.960, 2.579, "mla 27", "16/3"},
    {"data:MiniMaxAI--MiniMax-M2.5_config.json", 228.689, 10.415, "gqa 62", "230/10"},
    {"data:MiniMaxAI--MiniMax-M2.7_config.json", 228.689, 10.415, "gqa 62", "230/10"},
    {"data:Qwen--Qwen3-235B-A22B-FP8_config.json", 235.093, 21.568, "gqa 94", "235/22"},
    {"data:Qwen--Qwen3-235B-A22B_config.json", 235.093, 21.568, "gqa 94", "235/22"},
    {"data:Qwen--Qwen3-30B-A3B-FP8_config.json", 30.532, 3.042, "gqa 48", "30.5/3.3"},
    {"data:Qwen--Qwen3-30B-A3B_config.json", 30.532, 3.042, "gqa 48", "30.5/3.3"},
    {"data:Qwen--Qwen3-Coder-480B-A35B-Instruct_config.json", 480.154, 34.540, "gqa 62", "480/35"},
    {"data:Qwen--Qwen3-VL-235B-A22B-Instruct_config.json", 235.093, 21.568, "gqa 94", "235/22"},
    {"data:Qwen--Qwen3-VL-30B-A3B-Instruct_config.json", 30.532, 3.042, "gqa 48", "30.5/3.3"},
    {"data:Qwen--Qwen3.5-35B-A3B_config.json", 34.660, 2.946, "gdn 30 gqa 10", "35/3"},
    {"data:Qwen--Qwen3.5-397B-A17B_config.json", 396.346, 16.331, "gdn 45 gqa 15", "397/17"},
    {"data:XiaomiMiMo--MiMo-V2-Flash_config.json", 308.778, 14.821, "gqa 9 window 39", "309/15"},
    {"data:deepseek-ai--DeepSeek-R1_config.json", 671.025, 36.625, "mla 61", "671/37"},
    {"data:deepseek-ai--DeepSeek-V3.2_config.json", 671.877, 37.476, "dsa 61", "671/37"},
    {"data:deepseek-ai--DeepSeek-V3_config.json", 671.025, 36.625, "mla 61", "671/37"},
    {"data:deepseek-ai--DeepSeek-V4-Flash_config.json", 284.330, 13.268, "compressed 43", "284/13"},
    {"data:deepseek-ai--DeepSeek-V4-Pro_config.json", 1572.994, 48.849, "compressed 61", "1600/49"},
    {"data:meta-llama--Llama-4-Maverick-17B-128E-Instruct_config.json", 400.711, 16.150,
     "gqa 12 window 36", "400/17"},
    {"data:mistralai--Mixtral-8x22B-v0.1_config.json", 140.620, 38.955, "gqa 56", "141/39"},
    {"data:mistralai--Mixtral-8x7B-v0.1_config.json", 46.703, 12.749, "gqa 32", "46.7/12.9"},
    {"data:moonshotai--Kimi-K2-Instruct_config.json", 1026.407, 31.686, "mla 61", "1000/32"},
    {"data:moonshotai--Kimi-K2.5_config.json", 1026.407, 31.686, "mla 61", "1000/32"},
    {"data:moonshotai--Kimi-K3_config.json", 2779.479, 104.184, "kda 69 mla 24", "2800/-"},
    {"data:nvidia--DeepSeek-V3.1-NVFP4_config.json", 671.025, 36.625, "mla 61", "671/37"},
    {"data:nvidia--DeepSeek-V3.2-NVFP4_config.json", 671.877, 37.476, "dsa 61", "671/37"},
    {"data:nvidia--DeepSeek-V4-Pro-NVFP4_config.json", 1572.994, 48.849, "compressed 61",
     "1600/49"},
    {"data:nvidia--GLM-5-NVFP4_config.json", 743.910, 40.832, "dsa 78", "744/40"},
    {"data:nvidia--GLM-5.1-NVFP4_config.json", 743.910, 40.832, "dsa 78", "744/40"},
    {"data:nvidia--GLM-5.2-NVFP4_config.json", 743.376, 40.298, "dsa 78", "744/40"},
    {"data:nvidia--Gemma-4-26B-A4B-NVFP4_config.json", 25.232, 3.822, "gqa 5 window 25",
     "25.2/3.8"},
    {"data:nvidia--Kimi-K2.5-NVFP4_config.json", 1026.407, 31.686, "mla 61", "1000/32"},
    {"data:nvidia--Kimi-K2.6-NVFP4_config.json", 1026.407, 31.686, "mla 61", "1000/32"},
    {"data:nvidia--MiniMax-M2.5-NVFP4_config.json", 228.689, 10.415, "gqa 62", "230/10"},
    {"data:nvidia--MiniMax-M2.7-NVFP4_config.json", 228.689, 10.415, "gqa 62", "230/10"},
    {"data:nvidia--MiniMax-M3-NVFP4_config.json", 426.174, 24.732, "gqa 3 msa 57", "426/23"},
    {"data:nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16_config.json", 31.578, 3.227,
     "gqa 6 mamba2 23 none 23", "31.6/3.2"},
    {"data:nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4_config.json", 31.578, 3.227,
     "gqa 6 mamba2 23 none 23", "31.6/3.2"},
    {"data:nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8_config.json", 120.668, 12.232,
     "gqa 8 mamba2 40 none 40", "120/12"},
    {"data:nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16_config.json", 549.306, 54.982,
     "gqa 12 mamba2 48 none 48", "550/55"},
    {"data:nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-FP8_config.json", 549.306, 54.982,
     "gqa 12 mamba2 48 none 48", "550/55"},
    {"data:nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-NVFP4_config.json", 549.306, 54.982,
     "gqa 12 mamba2 48 none 48", "550/55"},
    {"data:nvidia--Qwen3-235B-A22B-NVFP4_config.json", 235.093, 21.568, "gqa 94", "235/22"},
    {"data:nvidia--Qwen3.5-122B-A10B-NVFP4_config.json", 122.111, 9.008, "gdn 36 gqa 12", "122/10"},
    {"data:nvidia--Qwen3.5-397B-A17B-NVFP4_config.json", 396.346, 16.331, "gdn 45 gqa 15",
     "397/17"},
    {"data:openai--gpt-oss-120b_config.json", 116.789, 5.131, "gqa 18 window 18", "116.8/5.1"},
    {"data:sgl-project--DeepSeek-V4-Flash-FP8_config.json", 284.330, 13.268, "compressed 43",
     "284/13"},
    {"data:sgl-project--DeepSeek-V4-Pro-FP8_config.json", 1572.994, 48.849, "compressed 61",
     "1600/49"},
    {"data:stepfun-ai--Step-3.7-Flash_config.json", 195.832, 10.336, "gqa 12 window 33", "196/11"},
    {"data:zai-org--GLM-5-FP8_config.json", 743.910, 40.832, "dsa 78", "744/40"},
    {"data:zai-org--GLM-5.1-FP8_config.json", 743.910, 40.832, "dsa 78", "744/40"},
    {"data:zai-org--GLM-5.1_config.json", 743.910, 40.832, "dsa 78", "744/40"},
    {"data:zai-org--GLM-5.2-FP8_config.json", 743.376, 40.298, "dsa 78", "744/40"},
    {"data:zai-org--GLM-5_config.json", 743.910, 40.832, "dsa 78", "744/40"},
};

static int row_read(const char *file, struct moe_model **m)
{
    char path[512], name[256];

    if (strncmp(file, "data:", 5))
        return moe_model_read(file, m);
    snprintf(name, sizeof name, "models/%s", file + 5);
    return data_path(name, path, sizeof path) ? moe_model_read(path, m) : 1;
}

static void kinds_text(const struct moe_model *m, char *buf, size_t size)
{
    static const struct {
        const char *name;
        enum attn_kind kind;
    } names[] = {
        {"compressed", ATTN_COMPRESSED},
        {"dsa", ATTN_DSA},
        {"gdn", ATTN_GATED_DELTA},
        {"gqa", ATTN_GQA},
        {"kda", ATTN_KDA},
        {"lightning", ATTN_LIGHTNING},
        {"mamba2", ATTN_MAMBA2},
        {"mla", ATTN_MLA},
        {"msa", ATTN_MSA},
        {"none", ATTN_NONE},
        {"window", ATTN_WINDOW},
    };
    size_t at = 0;

    buf[0] = '\0';
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        int n = 0;

        for (int i = 0; i < m->num_kinds; i++)
            n += m->layer[i].attn.kind == names[k].kind ? m->layer[i].count : 0;
        if (n)
            at += (size_t)snprintf(buf + at, size - at, "%s%s %d", at ? " " : "", names[k].name, n);
    }
}

static void every_model_is_right(void **state)
{
    int read = 0;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        struct moe_model *m;
        char kinds[200];
        double total, active;
        int rc = row_read(r->file, &m);

        if (rc == 1)
            continue;
        assert_int_equal(rc, 0);
        total = moe_params_total(m) / 1e9;
        active = moe_params_active(m) / 1e9;
        kinds_text(m, kinds, sizeof kinds);
        if (fabs(total / r->total_b - 1) > 0.005 || fabs(active / r->active_b - 1) > 0.005)
            print_error("%s: %.3f and %.3f, by hand %.3f and %.3f, published %s\n", r->file, total,
                        active, r->total_b, r->active_b, r->published);
        assert_true(fabs(total / r->total_b - 1) <= 0.005);
        assert_true(fabs(active / r->active_b - 1) <= 0.005);
        assert_string_equal(kinds, r->kinds);
        moe_model_free(m);
        read++;
    }
    assert_true(read >= 44);
}

/* What the checkpoints hold, by their quantisation files. */
static const struct {
    const char *file;
    enum plan_dtype part[MOE_HEAD];
    double experts_bytes, kv_bytes;
} part_cases[] = {
    {"data:deepseek-ai--DeepSeek-V3_config.json",
     {DTYPE_FP8, DTYPE_FP8, DTYPE_FP8, DTYPE_FP8, DTYPE_FP8},
     1 + 4.0 / 16384,
     0},
    /* the output projection is quantised, the others are not */
    {"data:nvidia--DeepSeek-V3.1-NVFP4_config.json",
     {DTYPE_NVFP4, DTYPE_NVFP4, DTYPE_NVFP4, DTYPE_BF16, DTYPE_NVFP4},
     0.5625,
     1},
    {"data:nvidia--GLM-5-NVFP4_config.json",
     {DTYPE_NVFP4, DTYPE_NVFP4, DTYPE_NVFP4, DTYPE_BF16, DTYPE_BF16},
     0.5625,
     1},
    {"data:nvidia--GLM-5.1-NVFP4_config.json",
     {DTYPE_NVFP4, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16},
     0.5625,
     1},
    {"data:nvidia--Gemma-4-26B-A4B-NVFP4_config.json",
     {DTYPE_NVFP4, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16},
     0.5625,
     1},
    {"data:nvidia--Qwen3.5-397B-A17B-NVFP4_config.json",
     {DTYPE_NVFP4, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16},
     0.5625,
     1},
    {"data:nvidia--MiniMax-M2.5-NVFP4_config.json",
     {DTYPE_NVFP4, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16},
     0.5625,
     1},
    {"data:nvidia--MiniMax-M3-NVFP4_config.json",
     {DTYPE_NVFP4, DTYPE_FP8, DTYPE_FP8, DTYPE_FP8, DTYPE_FP8},
     0.5625,
     0},
    {"data:nvidia--DeepSeek-V4-Pro-NVFP4_config.json",
     {DTYPE_NVFP4, DTYPE_FP8, DTYPE_BF16, DTYPE_FP8, DTYPE_FP8},
     0.5625,
     0},
    {"data:deepseek-ai--DeepSeek-V4-Pro_config.json",
     {DTYPE_MXFP4, DTYPE_FP8, DTYPE_BF16, DTYPE_FP8, DTYPE_FP8},
     0.53125,
     0},
    {"data:openai--gpt-oss-120b_config.json",
     {DTYPE_MXFP4, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16},
     0.53125,
     0},
    {"data:moonshotai--Kimi-K2.5_config.json",
     {DTYPE_W4A16, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16},
     0.5625,
     0},
    {"data:moonshotai--Kimi-K3_config.json",
     {DTYPE_MXFP4, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16},
     0.53125,
     0},
    {"configs/models/minimax-m2.5.json",
     {DTYPE_FP8, DTYPE_BF16, DTYPE_BF16, DTYPE_FP8, DTYPE_FP8},
     1 + 4.0 / 16384,
     0},
};

static void parts_have_their_types(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof part_cases / sizeof *part_cases; i++) {
        struct moe_model *m;
        int rc = row_read(part_cases[i].file, &m);

        if (rc == 1)
            continue;
        assert_int_equal(rc, 0);
        assert_true(m->quantised);
        for (int p = 0; p < MOE_HEAD; p++) {
            if (m->part[p].dtype != part_cases[i].part[p])
                print_error("%s: %s is %s\n", part_cases[i].file, moe_part_name((enum moe_part)p),
                            moe_dtype_name(m->part[p].dtype));
            assert_int_equal(m->part[p].dtype, part_cases[i].part[p]);
        }
        if (fabs(m->part[MOE_EXPERTS].bytes_per_param - part_cases[i].experts_bytes) > 1e-9)
            print_error("%s: %.9f\n", part_cases[i].file, m->part[MOE_EXPERTS].bytes_per_param);
        assert_true(fabs(m->part[MOE_EXPERTS].bytes_per_param - part_cases[i].experts_bytes) <
                    1e-9);
        assert_true(m->kv_bytes_per_element == part_cases[i].kv_bytes);
        moe_model_free(m);
    }
}

#define TINY                                                                                       \
    "{\"hidden_size\":64,\"num_hidden_layers\":4,\"num_attention_heads\":4,\"num_experts\":8,"     \
    "\"num_experts_per_tok\":2,\"moe_intermediate_size\":32"

static int tiny(const char *more, const char *ignore, struct moe_model **m)
{
    char text[2048];
    struct moe_source source = {.text = text, .path = "tiny.json", .ignore_keys = ignore};

    source.len = (size_t)snprintf(text, sizeof text, TINY "%s}", more);
    return moe_model_parse_source(&source, m);
}

/* A key that nothing here reads is an error where its name says that it matters. */
static void unknown_keys_that_matter_are_errors(void **state)
{
    static const char *const cases[][2] = {
        {",\"num_null_experts\":2", "num_null_experts"},
        {",\"moe_router_hidden\":64", "moe_router_hidden"},
        {",\"latent_dim\":3", "latent_dim"},
        {",\"attn_layer_period\":8", "attn_layer_period"},
        {",\"sliding_window_pattern\":6", "sliding_window_pattern"},
        {",\"share_q_dim\":2048", "share_q_dim"},
        {",\"block_configs\":[{\"attention\":{\"no_op\":true}}]", "block_configs"},
        {",\"weight_quant\":\"int2\"", "weight_quant"},
        {",\"kv_cache_dtype\":\"int2\"", "kv_cache_dtype"},
        {",\"qk_nope_dim\":64", "qk_nope_dim"},
        {",\"expert_act\":\"x\"", "expert_act"},
        {",\"hidden_act\":\"mystery\"", "hidden_act"},
        {",\"use_cla\":true", "use_cla"},
        {",\"num_kv_shared_layers\":2", "num_kv_shared_layers"},
        {",\"layer_types\":[\"full_attention\",\"conv\",\"conv\",\"conv\"]", "conv"},
        {",\"layer_types\":[\"full_attention\"]", "layer_types"},
        {",\"layer_types\":[\"linear_attention\",\"full_attention\",\"full_attention\","
         "\"full_attention\"]",
         "linear attention"},
        {",\"index_topk\":64", "index_topk"},
        {",\"attention_chunk_size\":64", "attention_chunk_size"},
        {",\"n_shared_experts\":2,\"shared_intermediate_size\":48", "one or of all"},
        {",\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}", "bitsandbytes"},
        {",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":8}", "8 bits"},
        {",\"expert_dtype\":\"fp6\"", "fp6"},
        {",\"n_routed_experts\":9", "another key"},
        {",\"zero_expert_num\":4,\"zero_expert_type\":\"copy\"", "zero_expert_type"},
    };
    struct moe_model *m;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_FAILS(tiny(cases[i][0], NULL, &m), ERR_CONFIG, cases[i][1]);
    assert_int_equal(
        tiny(",\"attn_layer_period\":8,\"moe_magic\":1", "moe_magic,attn_layer_period", &m), 0);
    assert_non_null(strstr(m->notes, "attn_layer_period is ignored, as asked"));
    moe_model_free(m);
}

/* What no name gives away is counted, what is known to be beside the point is not. */
static void other_keys_are_counted(void **state)
{
    struct moe_model *m;

    (void)state;
    assert_int_equal(tiny(",\"colour\":\"red\",\"rope_theta\":1e6,\"image_token_index\":7,"
                          "\"taste\":1,\"vision_config\":{\"hidden_size\":9}",
                          NULL, &m),
                     0);
    assert_non_null(strstr(m->notes, "2 keys not known and not used: colour, taste"));
    assert_non_null(strstr(m->notes, "vision_config is left out"));
    moe_model_free(m);
}

static void zero_and_latent_experts(void **state)
{
    struct moe_model *m;

    (void)state;
    assert_int_equal(tiny(",\"zero_expert_num\":8,\"zero_expert_type\":\"identity\"", NULL, &m), 0);
    assert_int_equal(m->zero_experts, 8);
    assert_true(moe_layer_used(&m->layer[0]) == 1); /* half of the two */
    moe_model_free(m);
    assert_int_equal(tiny(",\"moe_latent_size\":16", NULL, &m), 0);
    assert_int_equal(m->expert_hidden, 16);
    assert_true(moe_params_expert(m) == 3 * 16 * 32.0);
    assert_true(moe_layer_gate(&m->layer[0]) == 64 * 8 + 2 * 64 * 16.0);
    moe_model_free(m);
}

static void widths_may_differ_by_layer(void **state)
{
    struct moe_model *m;

    (void)state;
    assert_int_equal(tiny(",\"n_shared_experts\":[1,1,2,2]", NULL, &m), 0);
    assert_int_equal(m->num_kinds, 2);
    assert_int_equal(m->layer[0].shared_inter, 32);
    assert_int_equal(m->layer[1].shared_inter, 64);
    assert_int_equal(moe_model_of_layer(m, 1).shared_inter, 64);
    moe_model_free(m);
    CHECK_FAILS(tiny(",\"n_shared_experts\":[1,2]", NULL, &m), ERR_CONFIG, "differ");
}

/* At 64K a window reads 128 keys, an indexer's choice 2048 latents and all index keys. */
static void long_contexts_read_what_their_kind_reads(void **state)
{
    struct moe_model *v3, *v32, *oss;
    const struct attn_shape *full, *sparse;

    (void)state;
    assert_int_equal(moe_model_read("deepseek-v3", &v3), 0);
    assert_int_equal(moe_model_read("deepseek-v3.2", &v32), 0);
    assert_int_equal(moe_model_read("gpt-oss-120b", &oss), 0);
    full = &v3->attn;
    sparse = &v32->attn;
    assert_true(attn_read_bytes(full, 65536, 2) == 65536 * 576 * 2.0);
    assert_true(attn_read_bytes(sparse, 65536, 2) == 2048 * 576 * 2.0 + 65536 * 132.0);
    /* half the layers keep 128 of 65536 tokens */
    assert_true(fabs(moe_cache_bytes(oss, 65536, 2) / (36 * 65536 * 2048.0) - 0.501) < 0.001);
    moe_model_free(v3);
    moe_model_free(v32);
    moe_model_free(oss);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_is_right),
        cmocka_unit_test(parts_have_their_types),
        cmocka_unit_test(unknown_keys_that_matter_are_errors),
        cmocka_unit_test(other_keys_are_counted),
        cmocka_unit_test(zero_and_latent_experts),
        cmocka_unit_test(widths_may_differ_by_layer),
        cmocka_unit_test(long_contexts_read_what_their_kind_reads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
