/* What DeepEP's own tests print, of every version: the low-latency test, the tuning of intranode
 * and internode, and V2's test_ep.py. Shapes that a log does not hold come from the hint, else from
 * the defaults of the tests (128 tokens, hidden 7168, 288 experts, top-8; 4096 tokens and 256
 * experts for normal kernels). How many ranks took part is never assumed. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "calib/log_line.h"
#include "calib/read.h"

#define MAX_US   1e7
#define MAX_RANK (1 << 16)

struct log_state {
    struct data_set *set;
    const struct data_hint *hint;
    struct data_row shape; /* as far as the log said */
    int highest, lowest;   /* rank of any line, and of those with times; -1 = none */
    int v2_lowest;
    bool v2_fp8;
};

bool read_deepep_matches(const char *text)
{
    return strstr(text, "ispatch bandwidth") || strstr(text, "ispatch send/recv time") ||
           strstr(text, "ispatch + combine bandwidth") || strstr(text, "[tuning] Best dispatch") ||
           strstr(text, "[tuning] Best combine") ||
           (strstr(text, " EP: ") && strstr(text, "GB/s (SU)"));
}

static int or_default(int said, int hinted, int fallback)
{
    return said > 0 ? said : hinted > 0 ? hinted : fallback;
}

static int missing(const struct log_state *s, int line, const char *what)
{
    log_error_at(s->set->path, line, "%s", what);
    return ERR_PARSE;
}

/* Ranks and nodes, from the lines of all ranks of the whole file, or from the user. */
static int find_ranks(const struct log_state *s, int line, bool rdma, struct data_row *r)
{
    int per_node = or_default(0, s->hint->ranks_per_node, 8), seen = s->highest + 1;

    r->ranks = s->hint->ranks > 0 ? s->hint->ranks : seen > 1 ? seen : 0;
    if (r->ranks == 0)
        return missing(s, line,
                       rdma ? "'RDMA chunk' says that several nodes took part, but nothing says "
                              "how many ranks; give --ranks"
                            : "nothing says how many ranks took part; give --ranks");
    if (r->ranks < seen) {
        log_error_at(s->set->path, line, "rank %d is in this file, but --ranks says %d", s->highest,
                     r->ranks);
        return ERR_PARSE;
    }
    if (r->ranks > per_node && r->ranks % per_node != 0) {
        log_error_at(s->set->path, line,
                     "%d ranks do not fill nodes of %d; give --ranks and --ranks-per-node",
                     r->ranks, per_node);
        return ERR_PARSE;
    }
    r->nodes = r->ranks > per_node ? r->ranks / per_node : 1;
    if (!rdma || r->nodes > 1)
        return 0;
    log_error_at(
        s->set->path, line,
        "'RDMA chunk' says that several nodes took part, but %d ranks fill one of %d; give "
        "--ranks and --ranks-per-node",
        r->ranks, per_node);
    return ERR_PARSE;
}

static int log_row(const struct log_state *s, enum data_law law, int line, bool rdma,
                   struct data_row *r)
{
    bool ll = law == DATA_LL_DISPATCH || law == DATA_LL_COMBINE;
    int rc;

    *r = s->shape;
    rc = find_ranks(s, line, rdma, r);
    r->law = law;
    r->line = line;
    r->rounds = 1;
    r->reference = true;
    r->tokens = or_default(r->tokens, s->hint->tokens, ll ? 128 : 4096);
    r->hidden = or_default(r->hidden, s->hint->hidden, 7168);
    r->topk = or_default(r->topk, s->hint->topk, 8);
    r->experts = or_default(r->experts, s->hint->experts, ll ? 288 : 256);
    r->dtype = law == DATA_LL_DISPATCH || law == DATA_NORMAL_DISPATCH ? DTYPE_FP8 : DTYPE_BF16;
    if (rc == 0 && r->experts % r->ranks != 0) {
        log_error_at(s->set->path, line, "%d experts do not divide by %d ranks; give --experts",
                     r->experts, r->ranks);
        rc = ERR_PARSE;
    }
    if (rc == 0)
        r->num_local = r->experts / r->ranks;
    if (s->hint->system)
        snprintf(r->system, sizeof r->system, "%.15s", s->hint->system);
    return rc;
}

static bool row_absurd(struct log_state *s, const struct data_row *r)
{
    if (!(r->latency_us > 0 && r->latency_us < MAX_US)) {
        data_bad(s->set, r->line, "a time of %g us", r->latency_us);
        return true;
    }
    if (r->tokens <= 1 << 24 && r->hidden <= 1 << 20 && r->topk <= 64 && r->topk <= r->experts)
        return false;
    data_bad(s->set, r->line, "absurd shape: %d tokens, hidden %d, top-%d of %d experts", r->tokens,
             r->hidden, r->topk, r->experts);
    return true;
}

/* The number behind `key`, which must stand before `end`. */
static bool number_after(const char *text, const char *end, const char *key, double *x)
{
    const char *at = strstr(text, key);
    char *stop;

    if (!at || at >= end)
        return false;
    *x = strtod(at + strlen(key), &stop);
    return stop > at + strlen(key) && stop <= end;
}

static bool contains(const char *text, const char *end, const char *what)
{
    const char *at = strstr(text, what);

    return at && at < end;
}

static int add_low_latency(struct log_state *s, struct data_row *r, enum data_part part,
                           double GBps, double us)
{
    r->latency_us = us;
    if (row_absurd(s, r))
        return 0;
    r->part = part;
    r->bytes = GBps * us * 1e3;
    snprintf(r->group, sizeof r->group, "EP%d %d/%d/%d", r->ranks, r->hidden, r->experts, r->topk);
    return data_add(s->set, r) ? 0 : ERR_NOMEM;
}

/* "20.10 + 8.20 us", or "28.30 = 20.10 + 8.20 us"; a sum alone names no part. */
static int add_parts(struct log_state *s, struct data_row *r, const char *text, const char *end)
{
    const char *colon = memchr(text, ':', (size_t)(end - text));
    double send_us, recv_us, sum_us;
    int rc;

    if (!colon || (sscanf(colon + 1, " %lf + %lf us", &send_us, &recv_us) != 2 &&
                   sscanf(colon + 1, " %lf = %lf + %lf us", &sum_us, &send_us, &recv_us) != 3)) {
        data_bad(s->set, r->line, "send and receive are not told apart");
        return 0;
    }
    rc = add_low_latency(s, r, DATA_SEND, 0, send_us);
    return rc ? rc : add_low_latency(s, r, DATA_RECV, 0, recv_us);
}

/* One side of a line, dispatch or combine: "[fp8 ]Dispatch bandwidth: x GB/s, avg_t=y us" and the
 * like. Types that no law is fitted to are read and shown, not fitted. */
static int read_side(struct log_state *s, const char *text, const char *end, bool combine, int line)
{
    struct data_row r;
    double GBps, us;
    int rc = log_row(s, combine ? DATA_LL_COMBINE : DATA_LL_DISPATCH, line, false, &r);

    if (rc)
        return rc;
    if (contains(text, end, "nvfp4 "))
        r.dtype = DTYPE_NVFP4;
    else if (contains(text, end, "use_logfmt=True"))
        r.dtype = DTYPE_LOGFMT10;
    else if (contains(text, end, "bf16 "))
        r.dtype = DTYPE_BF16;
    else if (contains(text, end, "fp8 "))
        r.dtype = DTYPE_FP8;
    r.reference = r.dtype == DTYPE_BF16 || (!combine && r.dtype == DTYPE_FP8);
    if (contains(text, end, "send/recv time"))
        return add_parts(s, &r, text, end);
    if (number_after(text, end, ": ", &GBps) && number_after(text, end, "avg_t=", &us))
        return add_low_latency(s, &r, DATA_FUSED, GBps, us);
    data_bad(s->set, line, "a bandwidth without a time");
    return 0;
}

/* Is this a line of times, "[rank 3] Dispatch bandwidth: ..." (not of the pair together)? */
static bool is_low_latency(const char *text, const char *end)
{
    return (contains(text, end, "ispatch bandwidth") ||
            contains(text, end, "ispatch send/recv time")) &&
           contains(text, end, "ombine");
}

/* Every rank prints its own line; the lowest in the file stands for all, as in the public data. */
static int read_low_latency(struct log_state *s, const char *text, const char *end, int line)
{
    const char *bar = memchr(text, '|', (size_t)(end - text));
    int rc;

    if (!bar) {
        data_bad(s->set, line, "dispatch without combine");
        return 0;
    }
    rc = read_side(s, text, bar, false, line);
    return rc ? rc : read_side(s, bar, end, true, line);
}

/* Calls read_low_latency for each "[rank N] ..." of a line: ranks that print at once may share it.
 */
static int read_rank_line(struct log_state *s, const char *text, int line)
{
    const char *at = strstr(text, "[rank ");
    int rank, rc = 0;

    while (at && rc == 0) {
        const char *next = strstr(at + 1, "[rank "), *end = next ? next : at + strlen(at);

        if (sscanf(at, "[rank %d]", &rank) == 1 && rank == s->lowest && is_low_latency(at, end))
            rc = read_low_latency(s, at, end, line);
        at = next;
    }
    return rc;
}

/* "... 56 + 1263 us, ..." (notify + transmit), "... transmit: 1263.00 us, notify: 56.00 us",
 * "..., t: 345.67 us" or "t=0.345ms" on one node. Older logs give bandwidths alone. */
static bool tuning_times(const char *text, double *notify_us, double *us)
{
    const char *plus = strstr(text, " + "), *start;

    *notify_us = 0;
    if ((start = strstr(text, "transmit: ")))
        return sscanf(start, "transmit: %lf us, notify: %lf us", us, notify_us) == 2;
    if (plus) {
        for (start = plus; start > text && start[-1] != ' '; start--)
            ;
        return sscanf(start, "%lf + %lf us", notify_us, us) == 2;
    }
    if ((start = strstr(text, " t=")) && strstr(start, "ms") && sscanf(start, " t=%lf", us) == 1) {
        *us *= 1e3;
        return true;
    }
    start = strstr(text, " t: ");
    return start && sscanf(start, " t: %lf us", us) == 1;
}

static int read_tuning_line(struct log_state *s, const char *text, int line)
{
    bool combine = strstr(text, "Best combine") != NULL;
    const char *sms = strstr(text, "SMs ");
    struct data_row r;
    double us;
    int rc;

    if (!strstr(text, "[tuning] Best "))
        return 0;
    rc = log_row(s, combine ? DATA_NORMAL_COMBINE : DATA_NORMAL_DISPATCH, line,
                 strstr(text, "RDMA chunk") != NULL, &r);
    if (rc)
        return rc;
    if (!combine && strstr(text, "(BF16)"))
        r.dtype = DTYPE_BF16;
    if (!sms || sscanf(sms, "SMs %d", &r.num_sms) != 1 || r.num_sms < 1 || r.num_sms > 1024) {
        data_bad(s->set, line, "no SM count in a [tuning] line");
        return 0;
    }
    if (!tuning_times(text, &r.notify_us, &us) || !(r.notify_us >= 0 && r.notify_us < MAX_US)) {
        data_bad(s->set, line, "this version of the test prints no time");
        return 0;
    }
    r.latency_us = us > 0 ? us + r.notify_us : us;
    if (row_absurd(s, &r))
        return 0;
    snprintf(r.group, sizeof r.group, "EP%d %d/%d/%d %d SMs", r.ranks, r.hidden, r.experts, r.topk,
             r.num_sms);
    return data_add(s->set, &r) ? 0 : ERR_NOMEM;
}

static void int_after(const char *text, const char *key, int *x)
{
    const char *at = strstr(text, key);
    int value;

    if (at && sscanf(at + strlen(key), "%d", &value) == 1 && value > 0)
        *x = value;
}

static void read_config_line(struct log_state *s, const char *text)
{
    if (!strstr(text, "[config]"))
        return;
    int_after(text, "num_tokens=", &s->shape.tokens);
    int_after(text, "hidden=", &s->shape.hidden);
    int_after(text, "num_topk=", &s->shape.topk);
    int_after(text, "num_experts=", &s->shape.experts);
}

/* V2's "Config:" block, a fact a line, and the mode under test. */
static void read_v2_config(struct log_state *s, const char *text)
{
    const char *at = text + strspn(text, " \t");
    int a, b;

    if (sscanf(at, "> Ranks: %d x %d", &a, &b) == 2 && a > 0 && b > 0 && a < 4096 && b < 4096) {
        s->shape.nodes = a;
        s->shape.ranks = a * b;
    } else if (sscanf(at, "> Experts: %d/%d", &a, &b) == 2 && a > 0 && b > 0) {
        s->shape.topk = a;
        s->shape.experts = b;
    } else if (sscanf(at, "> Tokens: %d (max: %*d), hidden: %d", &a, &b) == 2 && a > 0 && b > 0) {
        s->shape.tokens = a;
        s->shape.hidden = b;
    } else if (sscanf(at, "> #SM: %d", &a) == 1 && a > 0 && a <= 1024) {
        s->shape.num_sms = a;
    } else if (strstr(at, "use_fp8_dispatch=")) {
        s->v2_fp8 = strstr(at, "use_fp8_dispatch=1") || strstr(at, "use_fp8_dispatch=True");
    }
}

static const struct {
    const char *name, *variant;
    enum data_law law;
} v2_kernels[] = {{"| expanded dispatch: ", "expanded", DATA_V2_DISPATCH},
                  {"| cached dispatch: ", "cached", DATA_V2_DISPATCH},
                  {"| dispatch: ", "", DATA_V2_DISPATCH},
                  {"| reduced combine: ", "reduced", DATA_V2_COMBINE},
                  {"| combine: ", "", DATA_V2_COMBINE}};

/* "90 GB/s (SO), 123 GB/s (SU), 512.345 us, 123456 bytes | copy: 1234 GB/s, 45.678 us" */
static int add_v2(struct log_state *s, struct data_row *r, const char *variant, const char *text)
{
    const char *bar = strchr(text, '|'), *comma = bar ? strchr(bar, ',') : NULL;
    double us;

    if (r->ranks == 0 || r->tokens == 0 || r->experts == 0) {
        data_bad(s->set, r->line, "the Config block above these times is missing");
        return 0;
    }
    if (!comma ||
        sscanf(text, "%*f GB/s (SO), %*f GB/s (SU), %lf us, %lf bytes", &us, &r->bytes) != 2 ||
        sscanf(comma, ", %lf us", &r->epilogue_us) != 1 || !(us > 0) || !(r->epilogue_us >= 0) ||
        !(r->bytes >= 0 && r->bytes < 1e13)) {
        data_bad(s->set, r->line, "not the times of a kernel and its epilogue");
        return 0;
    }
    r->latency_us = us + r->epilogue_us;
    if (row_absurd(s, r))
        return 0;
    snprintf(r->coll, sizeof r->coll, "%s", variant);
    snprintf(r->group, sizeof r->group, "EP%d %d/%d/%d %d SMs%s%s", r->ranks, r->hidden, r->experts,
             r->topk, r->num_sms, variant[0] ? " " : "", variant);
    return data_add(s->set, r) ? 0 : ERR_NOMEM;
}

/* "   * EP:   3/16 | dispatch: ..."; the lowest rank of the file stands for all. */
static int read_v2_line(struct log_state *s, const char *text, int line)
{
    const char *ep = strstr(text, " EP: ");
    struct data_row r = s->shape;
    int rank, ranks;

    if (!ep || sscanf(ep, " EP: %d/%d", &rank, &ranks) != 2 || rank != s->v2_lowest)
        return 0;
    for (size_t i = 0; i < sizeof v2_kernels / sizeof *v2_kernels; i++) {
        const char *at = strstr(ep, v2_kernels[i].name);

        if (!at)
            continue;
        if (r.ranks > 0 && r.ranks != ranks) {
            data_bad(s->set, line, "%d ranks here, %d in the Config block", ranks, r.ranks);
            return 0;
        }
        r.law = v2_kernels[i].law;
        r.line = line;
        r.rounds = 1;
        r.reference = true;
        r.dtype = r.law == DATA_V2_DISPATCH && s->v2_fp8 ? DTYPE_FP8 : DTYPE_BF16;
        r.num_local = r.ranks > 0 ? r.experts / r.ranks : 0;
        if (s->hint->system)
            snprintf(r.system, sizeof r.system, "%.15s", s->hint->system);
        return add_v2(s, &r, v2_kernels[i].variant, at + strlen(v2_kernels[i].name));
    }
    return 0;
}

/* Which ranks the file holds, before any of its times is read. */
static void count_ranks(struct log_state *s, const char *text)
{
    struct log_lines l;
    int rank, ranks;

    for (log_lines_open(&l, text); log_lines_next(&l);) {
        const char *ep = strstr(l.text, " EP: ");

        for (const char *at = strstr(l.text, "[rank "); at; at = strstr(at + 1, "[rank ")) {
            const char *next = strstr(at + 1, "[rank "), *end = next ? next : at + strlen(at);

            if (sscanf(at, "[rank %d]", &rank) != 1 || rank < 0 || rank >= MAX_RANK)
                continue;
            s->highest = rank > s->highest ? rank : s->highest;
            if (is_low_latency(at, end) && (s->lowest < 0 || rank < s->lowest))
                s->lowest = rank;
        }
        if (ep && sscanf(ep, " EP: %d/%d", &rank, &ranks) == 2 && rank >= 0 &&
            (s->v2_lowest < 0 || rank < s->v2_lowest))
            s->v2_lowest = rank;
    }
}

int read_deepep(struct data_set *set, const char *text, const struct data_hint *hint)
{
    struct log_state s = {.set = set, .hint = hint, .highest = -1, .lowest = -1, .v2_lowest = -1};
    struct log_lines l;
    int rc = 0;

    set->format = "deepep_log";
    set->runs = true;
    count_ranks(&s, text);
    for (log_lines_open(&l, text); rc == 0 && log_lines_next(&l);) {
        read_config_line(&s, l.text);
        read_v2_config(&s, l.text);
        rc = read_rank_line(&s, l.text, l.line);
        if (rc == 0)
            rc = read_tuning_line(&s, l.text, l.line);
        if (rc == 0)
            rc = read_v2_line(&s, l.text, l.line);
    }
    if (rc == 0 && set->n == 0 && set->bad == 0) {
        log_error_at(set->path, 0,
                     "holds no times of dispatch and combine apart (the time of both together says "
                     "nothing of either)");
        rc = ERR_DATA;
    }
    return rc;
}
