/* What DeepEP's own tests print. Shapes that a log does not hold come from the hint, else from the
 * defaults of the tests (128 tokens, hidden 7168, 288 experts, top-8; 4096 tokens for normal). */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "calib/read.h"

struct log_state {
    struct data_set *set;
    const struct data_hint *hint;
    struct data_row shape; /* as far as the log said */
    int ranks_seen;        /* highest "[rank N]" + 1 */
};

bool read_deepep_matches(const char *text)
{
    return strstr(text, "Dispatch bandwidth:") || strstr(text, "Dispatch send/recv time:") ||
           strstr(text, "[tuning] Best dispatch") || strstr(text, "[tuning] Best combine");
}

static int or_default(int said, int hinted, int fallback)
{
    return said > 0 ? said : hinted > 0 ? hinted : fallback;
}

static int log_ranks(const struct log_state *s)
{
    return or_default(0, s->hint->ranks, s->ranks_seen > 1 ? s->ranks_seen : 8);
}

static struct data_row log_row(const struct log_state *s, enum data_law law, int line, int tokens)
{
    struct data_row r = s->shape;
    int per_node = or_default(0, s->hint->ranks_per_node, 8);

    r.law = law;
    r.line = line;
    r.rounds = 1;
    r.reference = true;
    r.ranks = log_ranks(s);
    r.nodes = r.ranks > per_node && r.ranks % per_node == 0 ? r.ranks / per_node : 1;
    r.tokens = or_default(r.tokens, s->hint->tokens, tokens);
    r.hidden = or_default(r.hidden, s->hint->hidden, 7168);
    r.topk = or_default(r.topk, s->hint->topk, 8);
    r.experts = or_default(0, s->hint->experts, tokens == 128 ? 288 : 256);
    r.dtype = law == DATA_LL_DISPATCH || law == DATA_NORMAL_DISPATCH ? DTYPE_FP8 : DTYPE_BF16;
    r.num_local = r.experts / r.ranks;
    if (s->hint->system)
        snprintf(r.system, sizeof r.system, "%.15s", s->hint->system);
    return r;
}

static bool shape_absurd(struct log_state *s, const struct data_row *r)
{
    if (r->tokens <= 1 << 24 && r->hidden <= 1 << 20 && r->topk <= 64 && r->topk <= r->experts)
        return false;
    data_bad(s->set, r->line, "absurd shape: %d tokens, hidden %d, top-%d of %d experts", r->tokens,
             r->hidden, r->topk, r->experts);
    return true;
}

static int add_low_latency(struct log_state *s, enum data_law law, enum data_part part, int line,
                           double GBps, double us)
{
    struct data_row r = log_row(s, law, line, 128);

    if (!(us > 0 && us < 1e7)) {
        data_bad(s->set, line, "a time of %g us", us);
        return 0;
    }
    if (shape_absurd(s, &r))
        return 0;
    r.part = part;
    r.latency_us = us;
    r.bytes = GBps * us * 1e3;
    snprintf(r.group, sizeof r.group, "EP%d %d/%d/%d", r.ranks, r.hidden, r.experts, r.topk);
    return data_add(s->set, &r) ? 0 : ERR_NOMEM;
}

/* Every rank prints its own line; rank 0 stands for all, as in the public data. */
static int read_low_latency_line(struct log_state *s, const char *text, int line)
{
    double d_GBps, d_us, c_GBps, c_us, send_us, recv_us, c_send_us, c_recv_us;
    int rank, rc = 0;

    const char *end = strchr(text, ']');

    if (!end || sscanf(text, "[rank %d", &rank) != 1 || rank < 0 || rank >= 1 << 16)
        return 0;
    if (rank + 1 > s->ranks_seen)
        s->ranks_seen = rank + 1;
    if (rank != 0)
        return 0;
    text = end + 1;
    if (sscanf(text,
               " Dispatch bandwidth: %lf GB/s, avg_t=%lf us | Combine bandwidth: %lf GB/s, "
               "avg_t=%lf us",
               &d_GBps, &d_us, &c_GBps, &c_us) == 4) {
        rc = add_low_latency(s, DATA_LL_DISPATCH, DATA_FUSED, line, d_GBps, d_us);
        return rc ? rc : add_low_latency(s, DATA_LL_COMBINE, DATA_FUSED, line, c_GBps, c_us);
    }
    if (sscanf(text,
               " Dispatch send/recv time: %lf + %lf us | Combine send/recv time: %lf + %lf us",
               &send_us, &recv_us, &c_send_us, &c_recv_us) != 4)
        return 0;
    rc = add_low_latency(s, DATA_LL_DISPATCH, DATA_SEND, line, 0, send_us);
    if (rc == 0)
        rc = add_low_latency(s, DATA_LL_DISPATCH, DATA_RECV, line, 0, recv_us);
    if (rc == 0)
        rc = add_low_latency(s, DATA_LL_COMBINE, DATA_SEND, line, 0, c_send_us);
    return rc ? rc : add_low_latency(s, DATA_LL_COMBINE, DATA_RECV, line, 0, c_recv_us);
}

/* "... 56 + 1263 us, ..." (notify + transmit), "... transmit: 1263.00 us, notify: 56.00 us", or
 * "..., t: 345.67 us" on one node. Older logs give bandwidths alone; they hold no time. */
static bool tuning_times(const char *text, double *notify_us, double *us)
{
    const char *plus = strstr(text, " + "), *t = strstr(text, "t: "), *start;

    *notify_us = 0;
    if (sscanf(text, "%*[^t]transmit: %lf us, notify: %lf us", us, notify_us) == 2)
        return true;
    if ((start = strstr(text, "transmit: ")) &&
        sscanf(start, "transmit: %lf us, notify: %lf us", us, notify_us) == 2)
        return true;
    if (plus) {
        for (start = plus; start > text && start[-1] != ' '; start--)
            ;
        return sscanf(start, "%lf + %lf us", notify_us, us) == 2;
    }
    return t && sscanf(t, "t: %lf us", us) == 1;
}

static int read_tuning_line(struct log_state *s, const char *text, int line)
{
    bool combine = strstr(text, "Best combine") != NULL;
    const char *sms = strstr(text, "SMs ");
    double us = 0, notify_us = 0;
    struct data_row r;

    if (!strstr(text, "[tuning] Best "))
        return 0;
    r = log_row(s, combine ? DATA_NORMAL_COMBINE : DATA_NORMAL_DISPATCH, line, 4096);
    if (!combine && strstr(text, "(BF16)"))
        r.dtype = DTYPE_BF16;
    if (!sms || sscanf(sms, "SMs %d", &r.num_sms) != 1 || r.num_sms < 1) {
        data_bad(s->set, line, "no SM count in a [tuning] line");
        return 0;
    }
    if (!tuning_times(text, &notify_us, &us) || !(us > 0 && us < 1e7 && notify_us >= 0) ||
        !(notify_us < 1e7)) {
        data_bad(s->set, line, "this version of the test prints no time");
        return 0;
    }
    if (shape_absurd(s, &r))
        return 0;
    r.latency_us = us + notify_us;
    r.notify_us = notify_us;
    snprintf(r.group, sizeof r.group, "EP%d %d/%d/%d %d SMs", r.ranks, r.hidden, r.experts, r.topk,
             r.num_sms);
    return data_add(s->set, &r) ? 0 : ERR_NOMEM;
}

static void read_config_line(struct log_state *s, const char *text)
{
    const char *p;

    if (!strstr(text, "[config]"))
        return;
    if ((p = strstr(text, "num_tokens=")))
        sscanf(p, "num_tokens=%d", &s->shape.tokens);
    if ((p = strstr(text, "hidden=")))
        sscanf(p, "hidden=%d", &s->shape.hidden);
    if ((p = strstr(text, "num_topk=")))
        sscanf(p, "num_topk=%d", &s->shape.topk);
}

int read_deepep(struct data_set *set, const char *text, const struct data_hint *hint)
{
    struct log_state s = {.set = set, .hint = hint};
    int line = 1, rc = 0;
    char buf[1024];

    set->format = "deepep_log";
    for (const char *p = text; *p && rc == 0; line++) {
        size_t len = strcspn(p, "\n");

        snprintf(buf, sizeof buf, "%.*s", len < 1000 ? (int)len : 1000, p);
        read_config_line(&s, buf);
        rc = read_low_latency_line(&s, buf, line);
        if (rc == 0)
            rc = read_tuning_line(&s, buf, line);
        p += len + (p[len] == '\n');
    }
    return rc;
}
