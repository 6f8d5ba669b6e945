#include "model/policy/policy.h"

#include <stdio.h>
#include <string.h>

static const struct policy *const policies[] = {
    &policy_none, &policy_peo, &policy_sbo, &policy_tbo, &policy_eps,
};

size_t policy_count(void)
{
    return sizeof policies / sizeof *policies;
}

const struct policy *policy_at(size_t i)
{
    return policies[i];
}

const struct policy *policy_find(const char *name)
{
    for (size_t i = 0; i < policy_count(); i++)
        if (!strcmp(policies[i]->name, name))
            return policies[i];
    return NULL;
}

void knobs_default(const struct policy *p, struct knobs *k)
{
    memset(k, 0, sizeof *k);
    for (size_t i = 0; i < policy_count(); i++)
        opt_set_defaults(policies[i]->knobs, k);
    opt_set_defaults(p->knobs, k);
}

void policy_knobs_text(const struct policy *p, const struct knobs *k, char *buf, size_t size)
{
    size_t at = 0;

    buf[0] = '\0';
    for (const struct opt *o = p->knobs; o->key && at < size; o++) {
        char value[64];

        opt_format(o, k, value, sizeof value);
        at += (size_t)snprintf(buf + at, size - at, "%s%s=%s", at ? " " : "", o->key, value);
    }
}
