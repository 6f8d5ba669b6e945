#include "sim/flow/pairs_code.h"

const struct pairs_code *pairs_code_plain(void)
{
    static const struct pairs_code code = {pairs_begin, pairs_raise,  pairs_credits, pairs_fill,
                                           pairs_need,  pairs_ending, pairs_advance};

    return &code;
}
