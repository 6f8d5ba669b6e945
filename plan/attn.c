#include "plan/attn.h"

const char *attn_kind_name(enum attn_kind kind)
{
    static const char *const names[] = {
#define ATTN_NAME(name, text, state) text,
        ATTN_KINDS(ATTN_NAME)
#undef ATTN_NAME
    };

    return names[kind];
}

bool attn_kind_has_state(enum attn_kind kind)
{
    static const bool states[] = {
#define ATTN_STATE(name, text, state) state,
        ATTN_KINDS(ATTN_STATE)
#undef ATTN_STATE
    };

    return states[kind];
}
