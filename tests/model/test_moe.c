#include "tests/check.h"

#include <math.h>

#include "base/err.h"
#include "model/moe.h"

struct published {
    const char *name;
    double total_b, active_b; /* billions, as the model cards give them */
    double total_digit, active_digit;
    int counts_embedding; /* the active figure counts the input embedding */
    int experts, topk, hidden, inter, moe_layers;
};

static const struct published models[] = {
    {"deepseek-v2", 236, 21, 1, 1, 0, 160, 6, 5120, 1536, 59},
    /* 36.7 B is the figure of the weights' own README; the paper rounds it to 37. */
    {"deepseek-v3", 671, 36.7, 1, 0.1, 0, 256, 8, 7168, 2048, 58},
    {"qwen3-coder-480b", 480, 35, 1, 1, 1, 160, 8, 6144, 2560, 62},
    {"qwen3-235b", 235, 22, 1, 1, 1, 128, 8, 4096, 1536, 94},
    {"qwen3-30b", 30.5, 3.3, 0.1, 0.1, 1, 128, 8, 2048, 768, 48},
    {"mixtral-8x7b", 46.7, 12.9, 0.1, 0.1, 1, 8, 2, 4096, 14336, 32},
    {"dbrx", 132, 36, 1, 1, 0, 16, 4, 6144, 10752, 40},
};

/* Within 1%, or within the last digit of the published figure where that is coarser: cards round
 * (35.5 as 35) or cut (3.35 as 3.3). */
static void check_near(const char *name, double got_b, double want_b, double digit)
{
    double below = fmax(0.01 * want_b, 0.5 * digit), above = fmax(0.01 * want_b, 0.55 * digit);

    if (got_b < want_b - below || got_b > want_b + above)
        print_error("%s: %.3f B, published %.1f B\n", name, got_b, want_b);
    assert_true(got_b >= want_b - below && got_b <= want_b + above);
}

static void shipped_models_match_their_published_sizes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const struct published *p = &models[i];
        struct moe_model *m;
        double embedding;

        assert_int_equal(moe_model_read(p->name, &m), 0);
        assert_string_equal(m->name, p->name);
        assert_int_equal(m->experts, p->experts);
        assert_int_equal(m->topk, p->topk);
        assert_int_equal(m->hidden, p->hidden);
        assert_int_equal(m->inter, p->inter);
        assert_int_equal(m->moe_layers, p->moe_layers);
        embedding = p->counts_embedding ? (double)m->vocab * m->hidden : 0;
        check_near(p->name, moe_params_total(m) / 1e9, p->total_b, p->total_digit);
        check_near(p->name, (moe_params_active(m) + embedding) / 1e9, p->active_b, p->active_digit);
        moe_model_free(m);
    }
}

static void deepseek_v3_by_hand(void **state)
{
    struct moe_model *m;

    (void)state;
    assert_int_equal(moe_model_read("configs/models/deepseek-v3.json", &m), 0);
    assert_int_equal(m->attention, MOE_ATTN_MLA);
    assert_int_equal(m->first_dense_layers, 3);
    assert_int_equal(m->n_group, 8);
    assert_int_equal(m->topk_group, 4);
    assert_int_equal(m->mtp_layers, 1);
    assert_int_equal(moe_kv_elements(m), 576);
    assert_true(moe_params_expert(m) == 44040192.0);
    assert_true(moe_params_shared(m) == 44040192.0);
    assert_true(moe_params_attention(m) == 11010048.0 + 37748736 + 4128768 + 16777216 + 117440512);
    moe_model_free(m);
}

static int parse(const char *json, struct moe_model **m)
{
    return moe_model_parse(json, strlen(json), "x/Tiny/config.json", m);
}

#define TINY "\"hidden_size\":64,\"num_hidden_layers\":4,\"num_attention_heads\":4"

static void aliases_and_nesting(void **state)
{
    static const char *const same[] = {
        "{" TINY ",\"num_experts\":8,\"num_experts_per_tok\":2,\"moe_intermediate_size\":32}",
        "{" TINY ",\"n_routed_experts\":8,\"num_experts_per_tok\":2,\"moe_intermediate_size\":32,"
        "\"n_shared_experts\":null,\"q_lora_rank\":null}",
        "{" TINY ",\"num_local_experts\":8,\"experts_per_token\":2,\"intermediate_size\":32}",
        "{" TINY ",\"num_experts\":8,\"moe_topk\":[2,2,2,2],\"moe_intermediate_size\":[32,32]}",
        "{\"text_config\":{" TINY ",\"num_experts\":8,\"num_experts_per_tok\":2,"
        "\"moe_intermediate_size\":32},\"hidden_size\":9,\"vision_config\":{\"hidden_size\":7}}",
        "{\"language_config\":{" TINY ",\"num_experts\":8,\"num_experts_per_tok\":2,"
        "\"moe_intermediate_size\":32}}",
        ("{\"d_model\":64,\"n_layers\":4,\"n_heads\":4,\"ffn_config\":{\"ffn_hidden_size\":32,"
         "\"moe_num_experts\":8,\"moe_top_k\":2},\"attn_config\":{\"kv_n_heads\":4}}"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        struct moe_model *m;
        assert_int_equal(parse(same[i], &m), 0);
        assert_string_equal(m->name, "Tiny");
        assert_int_equal(m->hidden, 64);
        assert_int_equal(m->experts, 8);
        assert_int_equal(m->topk, 2);
        assert_int_equal(m->inter, 32);
        assert_int_equal(m->moe_layers, 4);
        assert_int_equal(m->kv_heads, 4);
        assert_int_equal(m->head_dim, 16);
        assert_int_equal(m->n_group, 1);
        moe_model_free(m);
    }
}

#define TINY_MOE TINY ",\"num_experts\":8,\"num_experts_per_tok\":2,\"moe_intermediate_size\":32"

static void layer_patterns(void **state)
{
    static const struct {
        const char *rule;
        int moe_layers, first_dense;
    } cases[] = {
        {",\"first_k_dense_replace\":1", 3, 1},  {",\"decoder_sparse_step\":2", 2, 1},
        {",\"mlp_only_layers\":[0,3,99]", 2, 1}, {",\"moe_layer_freq\":[0,0,1,1]", 2, 2},
        {",\"moe_layer_freq\":2", 2, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct moe_model *m;
        char json[512];
        snprintf(json, sizeof json, "{" TINY_MOE "%s}", cases[i].rule);
        assert_int_equal(parse(json, &m), 0);
        assert_int_equal(m->moe_layers, cases[i].moe_layers);
        assert_int_equal(m->first_dense_layers, cases[i].first_dense);
        moe_model_free(m);
    }
}

static void shared_experts_both_ways(void **state)
{
    struct moe_model *m;

    (void)state;
    assert_int_equal(parse("{" TINY_MOE ",\"n_shared_experts\":2}", &m), 0);
    assert_int_equal(m->shared_experts, 2);
    assert_int_equal(m->shared_inter, 64);
    moe_model_free(m);
    assert_int_equal(parse("{" TINY_MOE ",\"shared_expert_intermediate_size\":48}", &m), 0);
    assert_int_equal(m->shared_experts, 1);
    assert_int_equal(m->shared_inter, 48);
    moe_model_free(m);
}

static void bad_files_say_one_line(void **state)
{
    struct moe_model *m;

    (void)state;
    CHECK_FAILS(parse("{" TINY ",\"intermediate_size\":256}", &m), ERR_CONFIG, "n_routed_experts");
    assert_null(m);
    CHECK_FAILS(parse("{" TINY ",\n\"num_experts\":0}", &m), ERR_CONFIG, "config.json:2:");
    CHECK_FAILS(parse("{" TINY ",\"num_experts\":\"8\"}", &m), ERR_CONFIG, "whole number");
    CHECK_FAILS(parse("{" TINY ",\"num_experts\":-8}", &m), ERR_CONFIG, "outside");
    CHECK_FAILS(parse("{" TINY ",\"num_experts\":1e300}", &m), ERR_CONFIG, "whole number");
    CHECK_FAILS(parse("{" TINY_MOE ",\"num_local_experts\":16}", &m), ERR_CONFIG, "another key");
    CHECK_FAILS(parse("{" TINY_MOE ",\"n_group\":3}", &m), ERR_CONFIG, "n_group");
    CHECK_FAILS(parse("{" TINY_MOE ",\"n_group\":8,\"topk_group\":1}", &m), ERR_CONFIG, "groups");
    CHECK_FAILS(parse("{" TINY_MOE ",\"n_group\":2,\"topk_group\":4}", &m), ERR_CONFIG,
                "topk_group");
    CHECK_FAILS(parse("{" TINY_MOE ",\"kv_lora_rank\":512}", &m), ERR_CONFIG, "v_head_dim");
    CHECK_FAILS(parse("{" TINY_MOE ",\"first_k_dense_replace\":4}", &m), ERR_CONFIG, "MoE layer");
    CHECK_FAILS(parse("{" TINY ",\"num_experts\":8,\"num_experts_per_tok\":9,"
                      "\"moe_intermediate_size\":32}",
                      &m),
                ERR_CONFIG, "more experts per token");
    CHECK_FAILS(parse("[1]", &m), ERR_CONFIG, "object");
    CHECK_FAILS(parse("{", &m), ERR_PARSE, "not JSON");
    CHECK_FAILS(moe_model_read("no-such-model", &m), ERR_NOTFOUND, "no-such-model");
    CHECK_FAILS(moe_model_read("tests", &m), ERR_NOTFOUND, "tests/config.json");
}

/* Found while reviewing: 10000 layers times a list of a million names took minutes. */
static void long_layer_list_is_read_in_linear_time(void **state)
{
    size_t cap = 3u << 20, n;
    char *json = malloc(cap);
    struct moe_model *m;

    (void)state;
    assert_non_null(json);
    n = (size_t)snprintf(json, cap,
                         "{\"hidden_size\":64,\"num_hidden_layers\":10000,"
                         "\"num_attention_heads\":4,\"num_experts\":8,\"num_experts_per_tok\":2,"
                         "\"moe_intermediate_size\":32,\"mlp_only_layers\":[0");
    while (n < cap - 8 && n < 1900000)
        n += (size_t)snprintf(json + n, cap - n, ",0");
    snprintf(json + n, cap - n, "]}");
    assert_int_equal(parse(json, &m), 0);
    assert_int_equal(m->moe_layers, 9999);
    moe_model_free(m);
    free(json);
}

static int context_of(const char *more)
{
    char text[512];
    struct moe_model *m;
    int context;

    snprintf(text, sizeof text,
             "{\"num_experts\": 8, \"num_experts_per_tok\": 2, \"hidden_size\": 64,"
             "\"num_hidden_layers\": 2, \"moe_intermediate_size\": 32,"
             "\"num_attention_heads\": 4%s}",
             more);
    assert_int_equal(moe_model_parse(text, strlen(text), "m.json", &m), 0);
    context = m->max_context;
    moe_model_free(m);
    return context;
}

static void contexts_and_their_scaling(void **state)
{
    static const struct {
        const char *name;
        int context;
    } shipped[] = {{"deepseek-v3", 163840}, {"deepseek-v2", 163840},      {"qwen3-30b", 40960},
                   {"qwen3-235b", 40960},   {"qwen3-coder-480b", 262144}, {"mixtral-8x7b", 32768},
                   {"dbrx", 32768}};
    struct moe_model *m;

    (void)state;
    for (size_t i = 0; i < sizeof shipped / sizeof *shipped; i++) {
        assert_int_equal(moe_model_read(shipped[i].name, &m), 0);
        assert_int_equal(m->max_context, shipped[i].context);
        moe_model_free(m);
    }
    assert_int_equal(context_of(""), 0);
    assert_int_equal(context_of(", \"max_position_embeddings\": null"), 0);
    assert_int_equal(context_of(", \"max_seq_len\": 2048, \"rope_scaling\": null"), 2048);
    assert_int_equal(context_of(", \"max_position_embeddings\": 40960, \"rope_scaling\": {"
                                "\"rope_type\": \"yarn\", \"factor\": 4.0,"
                                "\"original_max_position_embeddings\": 32768}"),
                     131072);
    assert_int_equal(context_of(", \"max_position_embeddings\": 163840, \"rope_scaling\": {"
                                "\"type\": \"yarn\", \"factor\": 40,"
                                "\"original_max_position_embeddings\": 4096}"),
                     163840);
    assert_int_equal(context_of(", \"max_position_embeddings\": 4096, \"rope_scaling\": {"
                                "\"type\": \"linear\", \"factor\": 2}"),
                     8192);
    assert_int_equal(context_of(", \"max_position_embeddings\": 131072, \"rope_scaling\": {"
                                "\"rope_type\": \"llama3\", \"factor\": 8}"),
                     131072);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shipped_models_match_their_published_sizes),
        cmocka_unit_test(deepseek_v3_by_hand),
        cmocka_unit_test(aliases_and_nesting),
        cmocka_unit_test(layer_patterns),
        cmocka_unit_test(shared_experts_both_ways),
        cmocka_unit_test(bad_files_say_one_line),
        cmocka_unit_test(contexts_and_their_scaling),
        cmocka_unit_test(long_layer_list_is_read_in_linear_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
