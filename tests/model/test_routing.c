#include "tests/check.h"

#include <math.h>

#include <gsl/gsl_cdf.h>

#include "base/csv.h"
#include "base/err.h"
#include "model/routing.h"
#include "plan/counts.h"
#include "model/routing_file.h"

static size_t entries(const struct plan_routing *r)
{
    return (size_t)r->ranks * (size_t)r->tokens * (size_t)r->topk;
}

/* Every token has topk different experts that exist. */
static void check_tokens(const struct plan_routing *r)
{
    for (size_t t = 0; t < entries(r); t += (size_t)r->topk) {
        for (int j = 0; j < r->topk; j++) {
            assert_in_range(r->expert[t + (size_t)j], 0, r->experts - 1);
            for (int i = 0; i < j; i++)
                assert_int_not_equal(r->expert[t + (size_t)j], r->expert[t + (size_t)i]);
        }
    }
}

static struct plan_routing *make(const struct routing_spec *spec, int ranks, int tokens,
                                 int experts, int topk)
{
    struct plan_routing *r;

    assert_int_equal(routing_make(spec, ranks, tokens, experts, topk, &r), 0);
    return r;
}

static void count_rows(const struct plan_routing *r, int *rows)
{
    memset(rows, 0, (size_t)r->experts * sizeof *rows);
    for (size_t i = 0; i < entries(r); i++)
        rows[r->expert[i]]++;
}

/* The chance of a chi-square at least this large; the seeds are fixed, so this never flickers. */
static double chi_square_p(const int *rows, const double *want, int n)
{
    double chi = 0;

    for (int i = 0; i < n; i++)
        chi += (rows[i] - want[i]) * (rows[i] - want[i]) / want[i];
    return gsl_cdf_chisq_Q(chi, n - 1);
}

static void no_token_names_an_expert_twice(void **state)
{
    static const enum routing_kind kinds[] = {ROUTING_BALANCED, ROUTING_UNIFORM, ROUTING_LOGNORMAL,
                                              ROUTING_ZIPF};
    static const int shapes[][4] = {{64, 16, 256, 8}, {8, 33, 160, 6}, {4, 7, 8, 2},
                                    {3, 5, 16, 4},    {1, 9, 8, 8},    {6, 11, 12, 12},
                                    {16, 3, 48, 5},   {5, 4, 7, 3}};

    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            struct routing_spec spec = {
                .kind = kinds[k], .sigma = 2, .exponent = 3, .rank_skew = 1, .seed = 7};
            struct plan_routing *r =
                make(&spec, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
            check_tokens(r);
            routing_free(r);
        }
    }
}

static void uniform_is_uniform(void **state)
{
    struct routing_spec spec = {.kind = ROUTING_UNIFORM, .seed = 1};
    struct plan_routing *r = make(&spec, 8, 4096, 64, 1);
    int rows[64];
    double want[64], p;

    (void)state;
    count_rows(r, rows);
    for (int e = 0; e < 64; e++)
        want[e] = 8 * 4096 / 64.0;
    p = chi_square_p(rows, want, 64);
    assert_true(p > 0.001 && p < 0.999);
    routing_free(r);
}

static int descending(const void *a, const void *b)
{
    return *(const int *)b - *(const int *)a;
}

static void zipf_follows_its_law(void **state)
{
    struct routing_spec spec = {.kind = ROUTING_ZIPF, .exponent = 1, .seed = 2};
    struct plan_routing *r = make(&spec, 8, 8192, 8, 1);
    int rows[8];
    double want[8], norm = 0, p;

    (void)state;
    count_rows(r, rows);
    qsort(rows, 8, sizeof *rows, descending); /* experts stand in random order */
    for (int e = 0; e < 8; e++)
        norm += 1.0 / (e + 1);
    for (int e = 0; e < 8; e++)
        want[e] = 65536 / norm / (e + 1);
    p = chi_square_p(rows, want, 8);
    assert_true(p > 0.001 && p < 0.999);
    routing_free(r);
}

/* Given the first choice, the second follows the popularity of what is left. */
static void second_choice_follows_what_is_left(void **state)
{
    struct routing_spec spec = {.kind = ROUTING_ZIPF, .exponent = 1, .seed = 3};
    struct plan_routing *r = make(&spec, 8, 16384, 6, 2);
    int first[6] = {0}, top = 0, second[6] = {0}, n = 0, rows[5];
    double want[5], left = 0, p;

    (void)state;
    for (size_t i = 0; i < entries(r); i += 2)
        first[r->expert[i]]++;
    for (int e = 0; e < 6; e++)
        top = first[e] > first[top] ? e : top;
    for (size_t i = 0; i < entries(r); i += 2)
        second[r->expert[i + 1]] += r->expert[i] == top;
    for (int e = 0; e < 6; e++)
        left += e == top ? 0 : first[e];
    for (int e = 0; e < 6; e++) {
        if (e != top) {
            rows[n] = second[e];
            want[n++] = first[top] * (first[e] / left);
        }
    }
    p = chi_square_p(rows, want, 5);
    assert_true(p > 0.001);
    routing_free(r);
}

static void lognormal_spread_grows_with_sigma(void **state)
{
    double last = 0;

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct routing_spec spec = {.kind = ROUTING_LOGNORMAL, .sigma = 0.5 * i, .seed = 5};
        struct plan_routing *r = make(&spec, 16, 512, 128, 4);
        struct routing_stats s;
        routing_stats_of(r, 16, &s);
        assert_true(s.max_over_mean_expert > last);
        assert_true(s.max_over_mean_rank <= s.max_over_mean_expert);
        last = s.max_over_mean_expert;
        routing_free(r);
    }
    assert_true(last > 3);
}

/* The weight of nearly all experts underflows next to the first; each token still gets k. */
static void extreme_popularity_ends(void **state)
{
    struct routing_spec spec = {.kind = ROUTING_ZIPF, .exponent = 100, .seed = 5};
    struct plan_routing *r = make(&spec, 4, 64, 256, 8);

    (void)state;
    check_tokens(r);
    routing_free(r);
    spec = (struct routing_spec){.kind = ROUTING_LOGNORMAL,
                                 .sigma = 100,
                                 .rank_skew = 100,
                                 .n_group = 8,
                                 .topk_group = 4,
                                 .seed = 5};
    r = make(&spec, 4, 64, 256, 128);
    check_tokens(r);
    routing_free(r);
}

static void groups_are_respected_and_all_used(void **state)
{
    struct routing_spec spec = {
        .kind = ROUTING_LOGNORMAL, .sigma = 0.3, .n_group = 8, .topk_group = 4, .seed = 11};
    struct plan_routing *r = make(&spec, 16, 128, 256, 8);
    int used[8] = {0}, most = 0;

    (void)state;
    check_tokens(r);
    for (size_t i = 0; i < entries(r); i += 8) {
        unsigned groups = 0;
        for (size_t j = 0; j < 8; j++)
            groups |= 1u << (r->expert[i + j] / 32);
        for (int g = 0; g < 8; g++)
            used[g] += groups >> g & 1;
        most = __builtin_popcount(groups) > most ? __builtin_popcount(groups) : most;
    }
    assert_int_equal(most, 4);
    for (int g = 0; g < 8; g++)
        assert_true(used[g] > 0);
    routing_free(r);
}

static void grouped_uniform_is_uniform_over_experts(void **state)
{
    struct routing_spec spec = {.kind = ROUTING_UNIFORM, .n_group = 4, .topk_group = 2, .seed = 12};
    struct plan_routing *r = make(&spec, 8, 4096, 32, 1);
    int rows[32];
    double want[32], p;

    (void)state;
    count_rows(r, rows);
    for (int e = 0; e < 32; e++)
        want[e] = 8 * 4096 / 32.0;
    p = chi_square_p(rows, want, 32);
    assert_true(p > 0.001 && p < 0.999);
    routing_free(r);
}

static void check_spread(const int *n, size_t count)
{
    int min = n[0], max = n[0];

    for (size_t i = 1; i < count; i++) {
        min = n[i] < min ? n[i] : min;
        max = n[i] > max ? n[i] : max;
    }
    assert_true(max - min <= 1);
}

static void balanced_is_exact(void **state)
{
    static const int shapes[][4] = {{64, 4, 256, 8}, {64, 256, 256, 8}, {16, 16, 160, 8},
                                    {8, 33, 160, 6}, {4, 7, 8, 2},      {320, 128, 320, 8},
                                    {16, 3, 48, 5},  {8, 1, 16, 4},     {4, 5, 64, 64}};

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct routing_spec spec = {.kind = ROUTING_BALANCED};
        int w = shapes[i][0], e = shapes[i][2], el = e / w;
        struct plan_routing *r = make(&spec, w, shapes[i][1], e, shapes[i][3]);
        int *rows = calloc((size_t)e, sizeof *rows);
        int *pair = calloc((size_t)w * (size_t)w, sizeof *pair);
        int *local = calloc((size_t)el, sizeof *local);
        check_tokens(r);
        count_rows(r, rows);
        check_spread(rows, (size_t)e);
        for (size_t n = 0; n < entries(r); n++) {
            size_t src = n / ((size_t)r->tokens * (size_t)r->topk);
            pair[src * (size_t)w + (size_t)(r->expert[n] / el)]++;
            if (src == 0)
                local[r->expert[n] % el]++;
        }
        check_spread(pair, (size_t)w * (size_t)w);
        check_spread(local, (size_t)el); /* so that every round of one sender is alike too */
        free(rows);
        free(pair);
        free(local);
        routing_free(r);
    }
}

/* Rank r is rank 0 turned by r: what a symmetric short cut in a back end relies on. */
static void balanced_ranks_are_turned_copies(void **state)
{
    struct routing_spec spec = {.kind = ROUTING_BALANCED};
    struct plan_routing *r = make(&spec, 8, 5, 32, 6);

    (void)state;
    for (int rank = 0; rank < 8; rank++) {
        for (int i = 0; i < 30; i++)
            assert_int_equal(r->expert[rank * 30 + i], (r->expert[i] + rank * 4) % 32);
    }
    routing_free(r);
}

/* Copies of a token, one per visited unit of `size` experts, in the mean. */
static double mean_visits(const struct plan_routing *r, int size)
{
    size_t visits = 0, k = (size_t)r->topk;

    for (size_t t = 0; t < entries(r); t += k)
        for (size_t j = 0; j < k; j++) {
            bool seen = false;

            for (size_t i = 0; i < j; i++)
                seen = seen || r->expert[t + i] / size == r->expert[t + j] / size;
            visits += !seen;
        }
    return (double)visits / (double)(entries(r) / k);
}

/* What it caught: "perfectly balanced" sent every token to all ranks, more than chance does, and so
 * was slower than no balance; and it took no notice of the groups a token may use. */
static void balanced_tokens_travel_no_further_than_chance(void **state)
{
    static const int shapes[][6] = {/* ranks, tokens, experts, k, n_group, topk_group */
                                    {8, 1024, 256, 8, 8, 4},  {64, 128, 256, 8, 8, 4},
                                    {8, 256, 160, 6, 8, 3},   {8, 1024, 128, 8, 1, 1},
                                    {16, 512, 512, 10, 1, 1}, {4, 100, 8, 2, 1, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i];
        struct routing_spec spec = {.kind = ROUTING_BALANCED, .n_group = s[4], .topk_group = s[5]};
        struct plan_routing *balanced = make(&spec, s[0], s[1], s[2], s[3]), *chance;
        int *rows = calloc((size_t)s[2], sizeof *rows), size = s[2] / (s[4] > 1 ? s[4] : s[0]);

        spec.kind = ROUTING_UNIFORM;
        chance = make(&spec, s[0], s[1], s[2], s[3]);
        check_tokens(balanced);
        assert_true(mean_visits(balanced, size) < 1.02 * mean_visits(chance, size));
        assert_true(mean_visits(balanced, size) > 0.9 * mean_visits(chance, size));
        count_rows(balanced, rows);
        for (int e = 0; e < s[2]; e++) /* within a row or two of the mean */
            assert_true(abs(rows[e] - s[0] * s[1] * s[3] / s[2]) <=
                        2 + s[0] * s[1] * s[3] / s[2] / 100);
        for (int t = 0; s[4] > 1 && t < s[0] * s[1]; t++) {
            bool used[64] = {false};
            int groups = 0;

            for (int j = 0; j < s[3]; j++) {
                int g = balanced->expert[t * s[3] + j] / size;

                groups += !used[g];
                used[g] = true;
            }
            assert_true(groups <= s[5]);
        }
        free(rows);
        routing_free(balanced);
        routing_free(chance);
    }
}

static int fill_text(const char *text, size_t len, int layer, struct plan_routing *r)
{
    struct routing_spec spec = {.kind = ROUTING_FILE, .layer = layer, .seed = 1};

    return routing_text_fill(&spec, text, len, "f", r);
}

/* 2 ranks x 2 tokens, top-2 of 4 experts: layouts of SGLang, vLLM and EPLB, and NumPy's. */
static void formats_of_the_field_are_read(void **state)
{
    static const char *const counts[] = {
        "layer_id,expert_id,count\n3,0,4\n3,1,2\n3,2,1\n3,3,1\n4,0,9\n",
        "rank,layer_id,expert_id,count\n0,3,0,2\n1,3,0,2\n0,3,1,2\n0,3,2,1\n1,3,3,1\n",
        "{\"logical_count\": [[4, 2, 1, 1], [0, 0, 0, 9]]}",
        "{\"logical_count\": [[[2, 1, 1, 0], [0, 0, 0, 9]], [[2, 1, 0, 1], [1, 1, 1, 1]]]}",
        "{\"expert_load\": [[2, 2, 1, 1, 2]], \"physical_to_logical_map\": [[0, 1, 2, 3, 0]]}",
        "[[4, 2, 1, 1]]",
        "{\"7\": {\"0\": 4, \"1\": 2, \"2\": 1, \"3\": 1}}",
        "{\"weight\": [4.0, 2.0, 1.0, 1.0]}",
    };
    static const char *const choices[] = {
        "[[0, 1], [2, 3], [-1, -1], [3, 0]]",
        "{\"topk_ids\": [[[0, 1], [2, 3], [-1, -1], [3, 0]]]}",
        "[[[[0, 1], [2, 3]], [[-1, -1], [3, 0]]]]",
        "layer,rank,token,e0,e1\n0,0,0,0,1\n0,0,1,2,3\n0,1,0,-1,-1\n0,1,1,3,0\n",
    };
    static const int32_t want[] = {0, 1, 2, 3, -1, -1, 3, 0};
    int32_t expert[8];
    struct plan_routing r = {.ranks = 2, .tokens = 2, .topk = 2, .experts = 4, .expert = expert};

    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        int rows[4];

        assert_int_equal(fill_text(counts[i], strlen(counts[i]), -1, &r), 0);
        count_rows(&r, rows);
        assert_int_equal(rows[0], 4);
        assert_int_equal(rows[1], 2);
    }
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        assert_int_equal(fill_text(choices[i], strlen(choices[i]), -1, &r), 0);
        assert_memory_equal(expert, want, sizeof want);
    }
}

static size_t npy(char *out, const char *descr, const char *shape, const void *data, size_t len)
{
    char head[119];
    int n = snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                     descr, shape);

    memset(head + n, ' ', sizeof head - (size_t)n);
    head[117] = '\n';
    memcpy(out, "\x93NUMPY\x01\x00\x76\x00", 10);
    memcpy(out + 10, head, 118);
    memcpy(out + 128, data, len);
    return 128 + len;
}

static void numpy_arrays_are_read(void **state)
{
    static const int64_t i8[] = {0, 1, 2, 3, -1, -1, 3, 0};
    static const int16_t i2[] = {0, 1, 2, 3, -1, -1, 3, 0};
    static const float f4[] = {4, 2, 1, 1};
    int32_t expert[8], want[] = {0, 1, 2, 3, -1, -1, 3, 0};
    struct plan_routing r = {.ranks = 2, .tokens = 2, .topk = 2, .experts = 4, .expert = expert};
    char text[512];
    int rows[4];
    size_t n;

    (void)state;
    n = npy(text, "<i8", "4, 2", i8, sizeof i8);
    assert_int_equal(fill_text(text, n, -1, &r), 0);
    assert_memory_equal(expert, want, sizeof want);
    CHECK_FAILS(fill_text(text, n - 1, -1, &r), ERR_PARSE, "shape and size do not go together");
    n = npy(text, "<i2", "1, 2, 2, 2", i2, sizeof i2);
    assert_int_equal(fill_text(text, n, 0, &r), 0);
    assert_memory_equal(expert, want, sizeof want);
    n = npy(text, "<f4", "4,", f4, sizeof f4);
    assert_int_equal(fill_text(text, n, -1, &r), 0);
    count_rows(&r, rows);
    assert_int_equal(rows[0], 4);
    n = npy(text, ">i4", "4,", f4, sizeof f4);
    CHECK_FAILS(fill_text(text, n, -1, &r), ERR_PARSE, "another type");
    n = npy(text, "<f4", "2, 2, 1", f4, sizeof f4);
    CHECK_FAILS(fill_text(text, n, -1, &r), ERR_DATA, "innermost length is 1");
    CHECK_FAILS(fill_text("PK\x03\x04zip", 7, -1, &r), ERR_PARSE, "torch.save");
    CHECK_FAILS(fill_text("[[0, 1], [2]]", 13, -1, &r), ERR_PARSE, "another length");
    CHECK_FAILS(fill_text("{\"logical_count\": [[1, 1, 1, 1]]}", 33, 5, &r), ERR_DATA,
                "layer asked for");
    CHECK_FAILS(fill_text("[[0, 0], [2, 3], [1, 2], [3, 0]]", 32, -1, &r), ERR_DATA,
                "names expert 0 twice");
}

static void same_seed_same_bytes(void **state)
{
    struct routing_spec spec = {.kind = ROUTING_LOGNORMAL,
                                .sigma = 1,
                                .rank_skew = 0.5,
                                .n_group = 8,
                                .topk_group = 4,
                                .seed = 42};
    struct plan_routing *a = make(&spec, 8, 64, 256, 8), *b = make(&spec, 8, 64, 256, 8), *c;

    (void)state;
    assert_memory_equal(a->expert, b->expert, entries(a) * sizeof *a->expert);
    spec.seed = 43;
    c = make(&spec, 8, 64, 256, 8);
    assert_memory_not_equal(a->expert, c->expert, entries(a) * sizeof *a->expert);
    routing_free(a);
    routing_free(b);
    routing_free(c);
}

/* Another batch size sees the same popular experts. */
static void popularity_does_not_depend_on_the_batch(void **state)
{
    struct routing_spec spec = {.kind = ROUTING_ZIPF, .exponent = 2, .seed = 9};
    struct plan_routing *a = make(&spec, 8, 512, 64, 1), *b = make(&spec, 8, 64, 64, 1);
    int ra[64], rb[64], top_a = 0, top_b = 0;

    (void)state;
    count_rows(a, ra);
    count_rows(b, rb);
    for (int e = 1; e < 64; e++) {
        top_a = ra[e] > ra[top_a] ? e : top_a;
        top_b = rb[e] > rb[top_b] ? e : top_b;
    }
    assert_int_equal(top_a, top_b);
    routing_free(a);
    routing_free(b);
}

static void bad_specs_say_one_line(void **state)
{
    struct routing_spec spec = {.kind = ROUTING_UNIFORM};
    struct plan_routing *r;

    (void)state;
    CHECK_FAILS(routing_make(&spec, 8, 4, 8, 9, &r), ERR_CONFIG, "more experts per token");
    assert_null(r);
    CHECK_FAILS(routing_make(&spec, 8, 0, 8, 2, &r), ERR_CONFIG, "positive");
    CHECK_FAILS(routing_make(&spec, 1 << 14, 1 << 14, 8, 8, &r), ERR_RANGE, "entries");
    spec.n_group = 3;
    spec.topk_group = 1;
    CHECK_FAILS(routing_make(&spec, 8, 4, 8, 2, &r), ERR_CONFIG, "n_group");
    spec.n_group = 4;
    CHECK_FAILS(routing_make(&spec, 8, 4, 8, 3, &r), ERR_CONFIG, "groups hold");
    spec.topk_group = 5;
    CHECK_FAILS(routing_make(&spec, 8, 4, 8, 2, &r), ERR_CONFIG, "topk_group");
    spec = (struct routing_spec){.kind = ROUTING_LOGNORMAL, .sigma = NAN};
    CHECK_FAILS(routing_make(&spec, 8, 4, 8, 2, &r), ERR_CONFIG, "sigma");
    spec = (struct routing_spec){.kind = ROUTING_FILE};
    CHECK_FAILS(routing_make(&spec, 8, 4, 8, 2, &r), ERR_CONFIG, "none is named");
    spec.path = "no/such/file.csv";
    CHECK_FAILS(routing_make(&spec, 8, 4, 8, 2, &r), ERR_NOTFOUND, "no/such/file.csv");
}

/* Fills a table of 2 ranks x 2 tokens x top-2 of 4 from text. */
static int fill(const char *text, int layer, int32_t expert[8])
{
    struct plan_routing r = {.ranks = 2, .tokens = 2, .topk = 2, .experts = 4, .expert = expert};
    struct routing_spec spec = {.kind = ROUTING_FILE, .layer = layer, .seed = 1};
    struct csv *csv;
    int rc = csv_parse(text, strlen(text), "rec.csv", &csv);

    if (rc == 0)
        rc = routing_csv_fill(&spec, csv, &r);
    csv_free(csv);
    return rc;
}

#define HEAD "layer,rank,token,e0,e1\n"

static void recorded_indices_are_read(void **state)
{
    static const int32_t want[8] = {0, 1, 2, -1, 3, 2, 1, 0};
    int32_t got[8];

    (void)state;
    assert_int_equal(fill(HEAD "3,1,1,1,0\r\n3,0,0,0,1\n4,0,0,3,3\n\n3,0,1,2,-1\n3,1,0,3,2\n"
                               "3,2,0,0,1\n3,0,2,0,1\n",
                          -1, got),
                     0);
    assert_memory_equal(got, want, sizeof want);
}

static void recorded_faults_name_their_line(void **state)
{
    int32_t e[8];

    (void)state;
    CHECK_FAILS(fill(HEAD "0,0,0,0,1\n0,0,0,1,2\n", 0, e), ERR_DATA, "rec.csv:3:");
    CHECK_FAILS(fill(HEAD "0,0,0,0,4\n", 0, e), ERR_DATA, "rec.csv:2:");
    CHECK_FAILS(fill(HEAD "0,0,0,0,-2\n", 0, e), ERR_DATA, "outside");
    CHECK_FAILS(fill(HEAD "0,0,0,1,1\n", 0, e), ERR_DATA, "twice");
    CHECK_FAILS(fill(HEAD "0,0,0,1\n", 0, e), ERR_DATA, "cells");
    CHECK_FAILS(fill(HEAD "0,0,0,1,x\n", 0, e), ERR_DATA, "'x'");
    CHECK_FAILS(fill(HEAD "0,-1,0,1,2\n", 0, e), ERR_DATA, "negative");
    CHECK_FAILS(fill(HEAD, 0, e), ERR_DATA, "no rows");
    CHECK_FAILS(fill(HEAD "0,0,0,1,2\n0,0,1,1,2\n", 0, e), ERR_DATA, "1 of the 2 ranks");
    CHECK_FAILS(fill(HEAD "0,0,0,1,2\n0,0,1,1,2\n0,1,0,0,1\n", 0, e), ERR_DATA,
                "rank 1: holds 1 of the 2 tokens");
    CHECK_FAILS(fill(HEAD "0,0,0,1,2\n", 7, e), ERR_DATA, "layer 7");
    CHECK_FAILS(fill("layer,rank,token,e0,e1,e2\n0,0,0,1,2,3\n", 0, e), ERR_DATA, "3 experts");
    CHECK_FAILS(fill("a,b\n1,2\n", 0, e), ERR_DATA, "layer,expert,count");
}

static void counts_are_met_exactly(void **state)
{
    static const char text[] = "layer,expert,count\n0,0,1000\n0,1,3\n0,2,500\n0,3,500\n"
                               "0,5,997\n1,4,9\n";
    struct plan_routing r = {.ranks = 4, .tokens = 250, .topk = 3, .experts = 6};
    struct routing_spec spec = {.kind = ROUTING_FILE, .layer = 0, .seed = 1};
    struct csv *csv;
    int rows[6];

    (void)state;
    r.expert = malloc(entries(&r) * sizeof *r.expert);
    assert_int_equal(csv_parse(text, strlen(text), "counts.csv", &csv), 0);
    assert_int_equal(routing_csv_fill(&spec, csv, &r), 0);
    check_tokens(&r);
    count_rows(&r, rows);
    assert_int_equal(rows[0], 1000); /* its share by weight and the most there can be */
    assert_int_equal(rows[1], 3);
    assert_int_equal(rows[2], 500);
    assert_int_equal(rows[3], 500);
    assert_int_equal(rows[4], 0);
    assert_int_equal(rows[5], 997);
    csv_free(csv);
    free(r.expert);
}

static void count_faults_name_their_line(void **state)
{
    int32_t e[8];

    (void)state;
    CHECK_FAILS(fill("layer,expert,count\n0,0,5\n0,9,5\n", 0, e), ERR_DATA, "rec.csv:3:");
    CHECK_FAILS(fill("layer,expert,count\n0,0,5\n0,0,5\n", 0, e), ERR_DATA, "before");
    CHECK_FAILS(fill("layer,expert,count\n0,0,-5\n", 0, e), ERR_DATA, "count");
    CHECK_FAILS(fill("layer,expert,count\n0,0,5\n0,1,0\n", 0, e), ERR_DATA, "only 1 experts");
    /* one expert cannot take more than every token once: the rest goes to the others */
    assert_int_equal(fill("layer,expert,count\n0,0,1000\n0,1,1\n0,2,1\n", 0, e), 0);
}

static void placement_spreads_over_replicas(void **state)
{
    static const int first[] = {0, 2, 3, 4, 5}, replica[] = {0, 4, 1, 2, 3};
    static const int bad[] = {0, 4, 1, 2, 4};
    int32_t e[8] = {0, 1, 0, 2, 0, -1, 0, 3};
    static const int32_t want[8] = {0, 1, 4, 2, 0, -1, 4, 3};
    struct plan_routing r = {.ranks = 2, .tokens = 2, .topk = 2, .experts = 4, .expert = e};

    (void)state;
    CHECK_FAILS(routing_place(&r, first, bad, 5), ERR_CONFIG, "used twice");
    CHECK_FAILS(routing_place(&r, first, replica, 4), ERR_CONFIG, "out of range");
    assert_int_equal(routing_place(&r, first, replica, 5), 0);
    assert_int_equal(r.experts, 5);
    assert_memory_equal(e, want, sizeof want);
    plan_counts_free(r.counts);
}

static void stats_count_rows(void **state)
{
    int32_t e[8] = {0, 1, 0, 1, 0, -1, 0, 2};
    struct plan_routing r = {.ranks = 2, .tokens = 2, .topk = 2, .experts = 4, .expert = e};
    struct routing_stats s;

    (void)state;
    routing_stats_of(&r, 2, &s);
    assert_int_equal(s.experts_without_rows, 1);
    assert_true(fabs(s.max_over_mean_expert - 4 / (7 / 4.0)) < 1e-12);
    assert_true(fabs(s.max_over_mean_rank - 6 / (7 / 2.0)) < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_token_names_an_expert_twice),
        cmocka_unit_test(uniform_is_uniform),
        cmocka_unit_test(zipf_follows_its_law),
        cmocka_unit_test(second_choice_follows_what_is_left),
        cmocka_unit_test(lognormal_spread_grows_with_sigma),
        cmocka_unit_test(extreme_popularity_ends),
        cmocka_unit_test(groups_are_respected_and_all_used),
        cmocka_unit_test(grouped_uniform_is_uniform_over_experts),
        cmocka_unit_test(balanced_is_exact),
        cmocka_unit_test(balanced_ranks_are_turned_copies),
        cmocka_unit_test(balanced_tokens_travel_no_further_than_chance),
        cmocka_unit_test(formats_of_the_field_are_read),
        cmocka_unit_test(numpy_arrays_are_read),
        cmocka_unit_test(same_seed_same_bytes),
        cmocka_unit_test(popularity_does_not_depend_on_the_batch),
        cmocka_unit_test(bad_specs_say_one_line),
        cmocka_unit_test(recorded_indices_are_read),
        cmocka_unit_test(recorded_faults_name_their_line),
        cmocka_unit_test(counts_are_met_exactly),
        cmocka_unit_test(count_faults_name_their_line),
        cmocka_unit_test(placement_spreads_over_replicas),
        cmocka_unit_test(stats_count_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
