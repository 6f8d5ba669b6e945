#include "tests/check.h"

#include <math.h>

#include "study/config.h"
#include "study/coverage.h"

static struct coverage *of(const struct hw_profile *p)
{
    struct coverage *c = NULL;

    assert_int_equal(coverage_of(p, &c), 0);
    return c;
}

static double shares(const struct coverage_row *r, bool moe)
{
    double sum = 0;

    for (int b = 0; b < COVERAGE_BASES; b++)
        sum += coverage_share(r, (enum coverage_basis)b, moe);
    return sum;
}

static void test_shares_add_up_in_every_row(void **state)
{
    struct hw_profile *p;
    struct coverage *c;

    (void)state;
    assert_int_equal(hw_profile_read("gb200", &p), 0);
    c = of(p);
    assert_true(c->num >= 8);
    for (size_t i = 0; i < c->num; i++) {
        const struct coverage_row *r = &c->rows[i];

        assert_true(fabs(shares(r, false) - 1) < 1e-9);
        assert_true(fabs(shares(r, true) - 1) < 1e-9);
        if (r->nodes > 1)
            assert_string_equal(r->exchange, r->ranks <= 32 ? "one-sided" : "two-sided");
    }
    coverage_free(c);
    hw_profile_free(p);
}

/* What is said of fields decides: without any of its own nothing is measured, and what another GPU
 * gave is transferred, not assumed. */
static void test_origins_decide(void **state)
{
    static const enum hw_origin origins[] = {HW_FITTED, HW_TRANSFERRED, HW_ASSUMED};
    struct hw_profile *p;

    (void)state;
    assert_int_equal(hw_profile_read("h200", &p), 0);
    for (size_t k = 0; k < 3; k++) {
        struct coverage *c;

        for (int i = 0; i < HW_FIELD_COUNT; i++)
            if (p->f[i].origin != HW_DATASHEET)
                p->f[i].origin = origins[k];
        c = of(p);
        for (size_t i = 0; i < c->num; i++) {
            double dispatch = c->rows[i].kind_ns[OP_DISPATCH][k];
            double combine = c->rows[i].kind_ns[OP_COMBINE][k];

            assert_true(dispatch > 0 && combine > 0);
            for (size_t other = 0; other < 3; other++)
                if (other != k)
                    assert_true(c->rows[i].kind_ns[OP_COMBINE][other] == 0);
        }
        coverage_free(c);
    }
    hw_profile_free(p);
}

static void test_gaps_come_largest_first_and_have_a_cure(void **state)
{
    struct coverage_row r = {.ranks = 8, .nodes = 1};
    double share;

    (void)state;
    r.kind_ns[OP_DISPATCH][COVERAGE_MEASURED] = r.ns[COVERAGE_MEASURED] = 60;
    r.kind_ns[OP_ATTN_CORE][COVERAGE_ASSUMED] = r.ns[COVERAGE_ASSUMED] = 30;
    r.kind_ns[OP_COMBINE][COVERAGE_TRANSFERRED] = r.ns[COVERAGE_TRANSFERRED] = 10;
    assert_int_equal(coverage_gap(&r, 0, &share), OP_ATTN_CORE);
    assert_true(fabs(share - 0.3) < 1e-9);
    assert_int_equal(coverage_gap(&r, 1ull << OP_ATTN_CORE, &share), OP_COMBINE);
    assert_int_equal(coverage_gap(&r, 1ull << OP_ATTN_CORE | 1ull << OP_COMBINE, &share), -1);
    for (int k = 0; k < OP_KIND_COUNT; k++)
        assert_true(strlen(coverage_closed_by((enum plan_op_kind)k, 2)) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_add_up_in_every_row),
        cmocka_unit_test(test_origins_decide),
        cmocka_unit_test(test_gaps_come_largest_first_and_have_a_cure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
