#include "serve/traffic.h"

#include "tests/check.h"

#include "base/err.h"

static char path[64];

static void file_write(const char *text)
{
    FILE *f;

    snprintf(path, sizeof path, "/tmp/peosim_trace_%d.jsonl", (int)getpid());
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Reads to the end or the first error; how many requests came before. */
static int read_all(struct traffic_request *out, int room, int *num)
{
    struct traffic_spec spec = {.kind = TRAFFIC_TRACE, .path = path};
    struct traffic *t;
    bool more = true;
    int err = traffic_open(&spec, &t);

    *num = 0;
    while (!err && more && *num < room) {
        err = traffic_next(t, 0, &out[*num], &more);
        *num += !err && more;
    }
    traffic_close(t);
    return err;
}

/* Mooncake's published lines as they are; the second shares its first two blocks. */
static void test_mooncake(void **state)
{
    struct traffic_request r[8];
    int n;

    (void)state;
    file_write("{\"timestamp\": 0, \"input_length\": 1755, \"output_length\": 52, \"hash_ids\": "
               "[0, 1, 2, 3]}\n"
               "{\"timestamp\": 3052, \"input_length\": 1600, \"output_length\": 26, "
               "\"hash_ids\": [0, 1, 9, 10]}\n\n"
               "{\"timestamp\": 3052, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": "
               "[0, 1]}\n");
    assert_int_equal(read_all(r, 8, &n), 0);
    assert_int_equal(n, 3);
    assert_int_equal(r[0].cached, 0);
    assert_int_equal(r[0].prompt, 1755);
    assert_true(r[1].arrival_s == 3.052);
    assert_int_equal(r[1].cached, 1024);
    assert_int_equal(r[1].answer, 26);
    assert_int_equal(r[2].cached, 599); /* the last token is computed */
}

#define GOOD "{\"timestamp\": 5, \"input_length\": 10, \"output_length\": 2}\n"

static void bad(const char *text, const char *want)
{
    struct traffic_request r[8];
    int n;

    file_write(text);
    CHECK_FAILS(read_all(r, 8, &n), ERR_DATA, want);
}

static void test_bad_traces(void **state)
{
    (void)state;
    bad(GOOD "{\"timestamp\": 4, \"input_length\": 10, \"output_length\": 2}\n", ":2");
    bad(GOOD "{\"timestamp\": 4, \"input_length\": 10, \"output_length\": 2}\n", "not sorted");
    bad("{\"timestamp\": -1, \"input_length\": 10, \"output_length\": 2}\n", "negative");
    bad(GOOD GOOD "{\"timestamp\": 5, \"input_length\": -10, \"output_length\": 2}\n", ":3");
    bad("{\"timestamp\": 5, \"input_length\": 1e12, \"output_length\": 2}\n", "10000000");
    bad("{\"timestamp\": 1e300, \"input_length\": 10, \"output_length\": 2}\n", "century");
    bad(GOOD "{\"timestamp\": 6, \"input_le", "cut off");
    bad(GOOD "[1, 2]\n", "no JSON object");
    bad(GOOD "{\"timestamp\": 6, \"input_length\": \"10\", \"output_length\": 2}\n", "numbers");
    bad(GOOD "{\"timestamp\": 6, \"input_length\": 10, \"output_length\": 2, \"hash_ids\": 3}\n",
        "hash_ids");
    bad("", "no request");
    unlink(path);
    {
        struct traffic_request r[1];
        int n;

        CHECK_FAILS(read_all(r, 1, &n), ERR_NOTFOUND, "peosim_trace");
    }
}

static void test_rates(void **state)
{
    static const enum traffic_kind kinds[] = {TRAFFIC_POISSON, TRAFFIC_GAMMA, TRAFFIC_EVEN};

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct traffic_spec spec = {.kind = kinds[k],
                                    .requests_s = 50,
                                    .variation = 2,
                                    .prompt = 1000,
                                    .answer = 10,
                                    .spread = 0.2,
                                    .seed = 5};
        struct traffic *t;
        struct traffic_request r = {0};
        bool more;

        assert_int_equal(traffic_open(&spec, &t), 0);
        for (int i = 0; i < 100000; i++) {
            double before = r.arrival_s;

            assert_int_equal(traffic_next(t, 0, &r, &more), 0);
            assert_true(more && r.arrival_s >= before);
            assert_true(r.prompt >= 800 && r.prompt <= 1000);
        }
        assert_true(r.arrival_s > 2000 * 0.97 && r.arrival_s < 2000 * 1.03);
        traffic_close(t);
    }
    {
        struct traffic_spec none = {.kind = TRAFFIC_POISSON};
        struct traffic *t;

        CHECK_FAILS(traffic_open(&none, &t), ERR_RANGE, "requests_s");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mooncake),
        cmocka_unit_test(test_bad_traces),
        cmocka_unit_test(test_rates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
