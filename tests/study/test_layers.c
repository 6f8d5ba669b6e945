#include "tests/check.h"

#include <math.h>

#include "base/err.h"
#include "study/layers.h"
#include "tests/data_text.h"

static int write_text(const char *text, char *path)
{
    int fd = mkstemps(path, 4);

    if (fd < 0)
        return -1;
    assert_int_equal(write(fd, text, strlen(text)), (long)strlen(text));
    return close(fd);
}

#define HEADER "shape,hidden,inter,experts,topk,ep,tokens_per_rank,schedule,num_rounds,sms,us\n"

/* A gain is counted against the non-overlap row of the same batch, by sign. */
static void test_counts_gains_that_are_none(void **state)
{
    static const char text[] = HEADER "dpsk64,7168,2048,64,8,4,32,non-overlap,0,132,100\n"
                                      "dpsk64,7168,2048,64,8,4,32,peo-2,2,16,50\n"
                                      "dpsk64,7168,2048,64,8,4,32,hand-made,2,16,50\n";
    char path[] = "/tmp/peosim_layers_XXXXXX.csv";
    struct hw_profile *p = NULL;
    struct layers l;

    (void)state;
    assert_int_equal(write_text(text, path), 0);
    assert_true(layers_matches(path));
    assert_int_equal(hw_profile_read("h200", &p), 0);
    assert_int_equal(layers_predict(p, path, &l), 0);
    assert_int_equal(l.num, 3);
    assert_int_equal(l.err.n, 2);
    assert_true(isnan(l.rows[2].predicted_us));
    assert_int_equal(l.schedules, 1);
    assert_int_equal(l.false_losses, 1); /* measured twice as fast, which no law says */
    assert_true(fabs(l.rows[1].measured_gain_pct - 100) < 1e-9);
    layers_free(&l);
    hw_profile_free(p);
    unlink(path);
}

/* Every PEO schedule measured on 4 H200 loses; a promise of the public profile. */
static void test_no_false_gain_on_real_peo(void **state)
{
    struct hw_profile *p = NULL;
    struct layers l;
    char path[512];

    (void)state;
    if (!data_path("peo_h200x4_layers.csv", path, sizeof path))
        skip();
    assert_int_equal(hw_profile_read("h200", &p), 0);
    assert_int_equal(layers_predict(p, path, &l), 0);
    print_message("median %.1f%%, p90 %.1f%%\n", 100 * l.err.median_ape, 100 * l.err.p90_ape);
    assert_int_equal(l.schedules, 20);
    assert_int_equal(l.false_gains, 0);
    assert_true(l.err.median_ape <= 0.05);
    assert_true(l.err.p90_ape <= 0.10);
    layers_free(&l);
    hw_profile_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_gains_that_are_none),
        cmocka_unit_test(test_no_false_gain_on_real_peo),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
