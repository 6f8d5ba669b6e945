#include "model/policy/policy.h"

#include <stdio.h>
#include <string.h>

static const struct policy *const policies[] = {
#define POLICY_ROW(name) &policy_##name,
    POLICIES(POLICY_ROW)
#undef POLICY_ROW
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

static const void *field_of(const struct opt *o, const struct knobs *k)
{
    return (const char *)k + o->offset;
}

/* Ints and enums are ints, bools are not: their field is a byte. */
int knob_get(const struct opt *o, const struct knobs *k)
{
    return o->type == OPT_BOOL ? *(const bool *)field_of(o, k) : *(const int *)field_of(o, k);
}

void knob_set(const struct opt *o, struct knobs *k, int value)
{
    void *at = (char *)k + o->offset;

    if (o->type == OPT_BOOL)
        *(bool *)at = value != 0;
    else
        *(int *)at = value;
}

int policy_knob(const struct policy *p, const struct knobs *k, const char *key, int otherwise)
{
    const struct opt *o = key ? opt_find(p->knobs, key) : NULL;

    return o ? knob_get(o, k) : otherwise;
}

const struct knob_search *policy_knob_search(const struct policy *p, const char *key)
{
    for (const struct knob_search *s = p->search; s && s->key; s++)
        if (!strcmp(s->key, key))
            return s;
    return NULL;
}

bool policy_knob_is_auto(const struct policy *p, const struct knobs *k,
                         const struct knob_search *row)
{
    char text[64];

    if (!row->auto_word || opt_format(opt_find(p->knobs, row->key), k, text, sizeof text))
        return false;
    return !strcmp(text, row->auto_word);
}

bool policy_has_auto(const struct policy *p, const struct knobs *k)
{
    for (const struct knob_search *s = p->search; s && s->key; s++)
        if (policy_knob_is_auto(p, k, s))
            return true;
    return false;
}

bool policy_on_arch(const struct policy *p, int arch)
{
    char name[16];

    snprintf(name, sizeof name, "sm_%d", arch);
    for (int i = 0; p->archs && p->archs[i]; i++)
        if (!strcmp(p->archs[i], name))
            return true;
    return !p->archs;
}

struct value_list {
    int *value, num, max;
};

static void value_add(struct value_list *l, int value)
{
    if (l->num < l->max)
        l->value[l->num++] = value;
}

/* A knob that its policy says nothing of: all its names; or powers of two, from its least value to
 * its largest or the GPU's SMs. */
static void values_by_type(const struct opt *o, const struct layer_spec *spec,
                           struct value_list *out)
{
    int names = 1;

    if (o->type == OPT_BOOL) {
        value_add(out, 0);
        value_add(out, 1);
    } else if (o->type == OPT_ENUM) {
        for (const char *c = o->choices; *c; c++)
            names += *c == '|';
        for (int i = 0; i < names; i++)
            value_add(out, i);
    } else if (o->type == OPT_INT) {
        double most = o->max < spec->num_sms ? o->max : spec->num_sms;

        value_add(out, (int)o->min);
        for (int v = 1; v <= most; v *= 2)
            if (v > o->min)
                value_add(out, v);
    }
}

int policy_knob_values(const struct policy *p, const struct opt *knob,
                       const struct layer_spec *spec, int *values, int max)
{
    const struct knob_search *s = policy_knob_search(p, knob->key);
    struct value_list out = {.value = values, .max = max};
    int local = spec->model->experts / spec->ranks;

    if (!p->search)
        values_by_type(knob, spec, &out);
    if (!s || (s->prefill && spec->decode))
        return out.num;
    switch (s->values) {
    case KNOB_RANGE:
        for (int v = s->from; v <= (s->to ? s->to : spec->num_sms / 2); v += s->step)
            value_add(&out, v);
        break;
    case KNOB_DIVISORS:
        for (int v = s->from; v <= local && v <= s->to; v++)
            if (local % v == 0)
                value_add(&out, v);
        break;
    case KNOB_LIST:
        for (int i = 0; i < KNOB_LIST_MAX && s->list[i]; i++)
            value_add(&out, s->list[i]);
        break;
    }
    return out.num;
}
