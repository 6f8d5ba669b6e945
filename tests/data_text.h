/* tests/data_text.h: measurements made up for tests: text that grows, and files the public data
 * folder may hold. */
#ifndef PEOSIM_TESTS_DATA_TEXT_H
#define PEOSIM_TESTS_DATA_TEXT_H

#include "tests/check.h"
#include "calib/data.h"

struct text {
    char buf[262144];
    size_t len;
};

static inline void text_add(struct text *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static inline void text_add(struct text *t, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    t->len += (size_t)vsnprintf(t->buf + t->len, sizeof t->buf - t->len, fmt, ap);
    va_end(ap);
    assert_true(t->len < sizeof t->buf);
}

static inline struct data_set *text_parse(const struct text *t)
{
    struct data_set *set = NULL;

    assert_int_equal(data_parse(t->buf, t->len, "made_up.csv", NULL, false, &set), 0);
    return set;
}

/* "$PEOSIM_DATA/NAME", default ../shared/data; false (and said) where it is not there. */
static inline bool data_path(const char *name, char *buf, size_t size)
{
    const char *dir = getenv("PEOSIM_DATA");

    snprintf(buf, size, "%s/%s", dir ? dir : "../shared/data", name);
    if (access(buf, R_OK) == 0)
        return true;
    print_message("skipped: no %s (set PEOSIM_DATA to the folder of public measurements)\n", buf);
    return false;
}

#define LL_HEADER                                                                                  \
    "system,nodes,ep,hidden,num_experts,topk,tokens_per_rank,phase,dtype,bytes_per_rank,"          \
    "latency_us\n"

#endif
