/* The proven bound against random points of every policy: bound PLANS [SEED]. Status 1 where any is
 * beaten. */
#include "tests/torture/bound_check.h"

int main(int argc, char **argv)
{
    size_t plans = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
    uint64_t x = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct bound_checks c = {.least_gap = INFINITY};

    while (c.num < plans)
        bound_check(&x, &c, stdout);
    printf("bound: %zu points, %zu above their time, nearest %.3f%%\n", c.num, c.violations,
           100 * c.least_gap);
    return c.violations > 0;
}
