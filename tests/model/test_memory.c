/* What a GPU must hold, against sums by hand. */
#include "tests/check.h"

#include "model/memory.h"

static void near(double got, double want, double rel)
{
    if (!(got > want * (1 - rel) && got < want * (1 + rel)))
        print_error("got %.9g, want %.9g\n", got, want);
    assert_true(got > want * (1 - rel) && got < want * (1 + rel));
}

static struct memory_spec spec_of(const struct moe_model *m)
{
    return (struct memory_spec){.model = m,
                                .decode = true,
                                .ranks = 128,
                                .ranks_per_node = 8,
                                .attention_tp = 1,
                                .requests = 128,
                                .context_len = 4096,
                                .tokens = 128,
                                .max_dispatch_tokens = 128,
                                .comm = COMM_LOW_LATENCY,
                                .normal_num_sms = 24,
                                .weight_dtype = DTYPE_FP8,
                                .kv_bytes_per_element = 2,
                                .reserve_bytes = 4e9,
                                .capacity_bytes = 80e9};
}

/* On one GPU, in BF16, the weights are the model's parameters. */
static void weights_are_the_parameters(void **state)
{
    static const char *const names[] = {"deepseek-v3", "deepseek-v2",  "qwen3-235b",
                                        "qwen3-30b",   "mixtral-8x7b", "dbrx"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct moe_model *m;
        struct memory_spec s;
        struct memory_sum sum;

        assert_int_equal(moe_model_read(names[i], &m), 0);
        s = spec_of(m);
        s.ranks = 1;
        s.weight_dtype = DTYPE_BF16;
        memory_sum(&s, &sum);
        near(sum.weights, 2 * moe_params_total(m), 1e-9);
        moe_model_free(m);
    }
}

static void parts_by_hand(void **state)
{
    struct moe_model *m;
    struct memory_spec s;
    struct memory_sum sum;
    char text[200];

    (void)state;
    assert_int_equal(moe_model_read("deepseek-v3", &m), 0);
    s = spec_of(m);
    memory_sum(&s, &sum);
    near(sum.kv, 128.0 * 4096 * 576 * 2 * 61, 1e-12);
    near(sum.experts, 58 * 2 * 44040192.0 * (1 + 4.0 / 16384), 1e-12);
    /* two sets: send and receive room for 256 experts x 128 tokens x (14336 + 224) bytes, flags */
    near(sum.buffers, 2 * (2 * 256.0 * 128 * 14560 + 4 * 256), 1e-12);
    near(sum.total, sum.weights + sum.kv + sum.buffers + sum.activations + sum.reserve, 1e-12);
    memory_text(&sum, text, sizeof text);
    assert_non_null(strstr(text, "KV cache 36.8"));
    assert_non_null(strstr(text, "of 80.0"));
    moe_model_free(m);
}

static void split_attention_shrinks(void **state)
{
    struct moe_model *m;
    struct memory_spec s;
    struct memory_sum one, eight;

    (void)state;
    assert_int_equal(moe_model_read("qwen3-235b", &m), 0);
    s = spec_of(m);
    memory_sum(&s, &one);
    s.attention_tp = 4;
    memory_sum(&s, &eight);
    near(eight.attention, one.attention / 4, 1e-9);
    near(eight.embedding, one.embedding / 4, 1e-9);
    near(eight.kv, one.kv, 1e-9); /* 4 ranks' requests, a quarter of the heads each */
    assert_true(eight.experts == one.experts);
    moe_model_free(m);
}

static void the_largest_batch_is_the_largest(void **state)
{
    struct moe_model *m;
    struct memory_spec s;
    struct memory_sum sum;
    int most;

    (void)state;
    assert_int_equal(moe_model_read("deepseek-v3", &m), 0);
    s = spec_of(m);
    most = memory_max_requests(&s, 1);
    assert_true(most > 0);
    s.requests = s.tokens = most;
    memory_sum(&s, &sum);
    assert_true(sum.total <= sum.capacity);
    s.requests = s.tokens = most + 1;
    memory_sum(&s, &sum);
    assert_true(sum.total > sum.capacity);
    s.ranks = 8; /* 32 experts a GPU in each of 58 layers: not even the weights */
    assert_int_equal(memory_max_requests(&s, 1), 0);
    moe_model_free(m);
}

static void normal_buffers_grow_with_channels(void **state)
{
    (void)state;
    near(memory_normal_bytes(7168, 8, 8, 24) / memory_normal_bytes(7168, 8, 8, 12), 2, 1e-9);
    assert_true(memory_normal_bytes(7168, 32, 8, 24) > memory_normal_bytes(7168, 8, 8, 24));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_the_parameters),
        cmocka_unit_test(parts_by_hand),
        cmocka_unit_test(split_attention_shrinks),
        cmocka_unit_test(the_largest_batch_is_the_largest),
        cmocka_unit_test(normal_buffers_grow_with_channels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
