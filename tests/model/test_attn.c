#include "tests/check.h"

#include "model/attn.h"

/* Weights of public modules, added up by hand from their matrices. */
static void test_params_are_the_matrices(void **state)
{
    const struct attn_shape dsa = {ATTN_DSA,
                                   .hidden = 7168,
                                   .heads = 128,
                                   .kv_heads = 1,
                                   .qk_head_dim = 192,
                                   .v_head_dim = 128,
                                   .q_lora_rank = 1536,
                                   .kv_lora_rank = 512,
                                   .qk_rope_head_dim = 64,
                                   .index_heads = 64,
                                   .index_head_dim = 128,
                                   .index_topk = 2048};
    const struct attn_shape gdn = {ATTN_GATED_DELTA,    .hidden = 2048,     .state_k_heads = 16,
                                   .state_v_heads = 32, .state_k_dim = 128, .state_v_dim = 128,
                                   .conv_kernel = 4,    .state_bytes = 4};
    const struct attn_shape mamba = {ATTN_MAMBA2,         .hidden = 2688,     .state_k_heads = 8,
                                     .state_v_heads = 64, .state_k_dim = 128, .state_v_dim = 64,
                                     .conv_kernel = 4,    .state_bytes = 4};
    struct attn_shape mla = dsa;

    (void)state;
    mla.kind = ATTN_MLA;
    mla.index_heads = 0;
    assert_true(attn_params(&mla) == 11010048.0 + 37748736 + 4128768 + 16777216 + 117440512);
    /* index queries from the latent query, one key and a weight a head from the hidden state */
    assert_true(attn_params(&dsa) - attn_params(&mla) == 1536.0 * 8192 + 7168 * 128 + 7168 * 64);
    assert_true(attn_params(&gdn) == 2048.0 * 12288 + 2048 * 64 + 8192 * 4 + 4096 * 2048);
    assert_true(attn_params(&mamba) == 2688.0 * 10304 + 6144 * 4 + 4096 * 2688);
}

static void test_caches_and_states(void **state)
{
    const struct attn_shape window = {ATTN_WINDOW,   .hidden = 2880,    .heads = 64,
                                      .kv_heads = 8, .qk_head_dim = 64, .v_head_dim = 64,
                                      .window = 128};
    const struct attn_shape csa = {ATTN_COMPRESSED,       .hidden = 7168,      .heads = 128,
                                   .kv_heads = 1,         .qk_head_dim = 512,  .v_head_dim = 512,
                                   .window = 128,         .compress_ratio = 4, .index_heads = 64,
                                   .index_head_dim = 128, .index_topk = 1024,  .q_lora_rank = 1536};
    const struct attn_shape gdn = {ATTN_GATED_DELTA,    .hidden = 2048,     .state_k_heads = 16,
                                   .state_v_heads = 32, .state_k_dim = 128, .state_v_dim = 128,
                                   .conv_kernel = 4,    .state_bytes = 4};

    (void)state;
    assert_true(attn_cache_elements(&window, 32768) == 128 * 1024.0);
    assert_true(attn_cache_elements(&window, 100) == 100 * 1024.0);
    assert_true(attn_keys(&csa, 65536) == 128 + 1024);
    assert_true(attn_cache_elements(&csa, 65536) == 512 * (128.0 + 16384));
    assert_true(attn_index_elements(&csa, 65536) == 128 * 16384.0);
    assert_true(attn_cache_elements(&gdn, 65536) == 0);
    assert_true(attn_state_bytes(&gdn) == 32.0 * 128 * 128 * 4 + 8192 * 3 * 2);
}

/* Over tp ranks: heads go apart, latents and their indexer stay whole. */
static void test_a_rank_holds_its_heads(void **state)
{
    const struct attn_shape dsa = {ATTN_DSA,
                                   .hidden = 6144,
                                   .heads = 64,
                                   .kv_heads = 1,
                                   .qk_head_dim = 256,
                                   .v_head_dim = 256,
                                   .q_lora_rank = 2048,
                                   .kv_lora_rank = 512,
                                   .qk_rope_head_dim = 64,
                                   .index_heads = 32,
                                   .index_head_dim = 128,
                                   .index_topk = 2048};
    struct attn_shape r = attn_of_rank(&dsa, 8);

    (void)state;
    assert_int_equal(r.heads, 8);
    assert_int_equal(r.index_heads, 32);
    assert_true(attn_cache_elements(&r, 1) == 576);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_params_are_the_matrices),
        cmocka_unit_test(test_caches_and_states),
        cmocka_unit_test(test_a_rank_holds_its_heads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
