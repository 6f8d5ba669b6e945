#include "trace/chrome.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

/* Bytes of the UTF-8 sequence at s, or 0 if it is not one. */
static int utf8_len(const unsigned char *s)
{
    int n = s[0] < 0x80   ? 1
            : s[0] < 0xc2 ? 0
            : s[0] < 0xe0 ? 2
            : s[0] < 0xf0 ? 3
            : s[0] < 0xf5 ? 4
                          : 0;

    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    /* No overlong forms, surrogates, or code points past U+10FFFF. */
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static void json_text(const char *text, FILE *f)
{
    const unsigned char *s = (const unsigned char *)text;

    fputc('"', f);
    while (*s) {
        int n = utf8_len(s);

        if (!n) {
            fputs("\\ufffd", f);
            s++;
            continue;
        }
        if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else if (*s < 0x20 || *s == 0x7f)
            fprintf(f, "\\u%04x", *s);
        else
            fwrite(s, 1, (size_t)n, f);
        s += n;
    }
    fputc('"', f);
}

/* Times are rounded to 0.1 ns before differences are taken, so that spans of one stream that touch
 * do not overlap in the file by a rounding (Perfetto would nest them). */
static long long tenths(double ns)
{
    return llround(ns * 10);
}

void trace_chrome_begin(struct trace_chrome *c, FILE *f, const char *title,
                        const struct trace_chrome_opts *opts)
{
    *c = (struct trace_chrome){.f = f};
    if (opts)
        c->opts = *opts;
    if (c->opts.first_ranks <= 0)
        c->opts.first_ranks = 8;
    fputs("{\"displayTimeUnit\":\"ns\",\"otherData\":{\"producer\":\"peosim\",\"title\":", f);
    json_text(title ? title : "", f);
    fputs("},\n\"traceEvents\":[\n", f);
}

static void event_comma(struct trace_chrome *c)
{
    if (c->any)
        fputs(",\n", c->f);
    c->any = true;
}

static void write_meta(struct trace_chrome *c, const char *what, long long pid, int tid,
                       const char *name, long long sort_index)
{
    event_comma(c);
    fprintf(c->f, "{\"ph\":\"M\",\"name\":\"%s\",\"pid\":%lld", what, pid);
    if (tid >= 0)
        fprintf(c->f, ",\"tid\":%d", tid);
    fputs(",\"args\":{", c->f);
    if (name) {
        fputs("\"name\":", c->f);
        json_text(name, c->f);
    } else {
        fprintf(c->f, "\"sort_index\":%lld", sort_index);
    }
    fputs("}}", c->f);
}

static void write_args(const struct trace_record *r, FILE *f)
{
    bool first = true;

    fprintf(f, "\"args\":{\"op\":%d,\"kind\":", r->op);
    json_text(r->kind, f);
    fputs(",\"stream\":", f);
    json_text(r->stream_name, f);
    fprintf(f,
            ",\"layer\":%d,\"batch\":%d,\"round\":%d,\"sms\":%d,\"ready_us\":%.4f,"
            "\"wait_us\":%.4f,\"rows\":%lld,\"bytes\":%.0f,\"cause\":\"%s\"",
            r->layer, r->batch, r->round, r->sms, r->ready_ns / 1e3, r->wait_ns / 1e3, r->rows,
            r->bytes, trace_cause_name(r->cause));
    if (r->cause_op >= 0)
        fprintf(f, ",\"cause_op\":%d", r->cause_op);
    if (r->data_op >= 0)
        fprintf(f, ",\"data_rank\":%d,\"data_op\":%d", r->data_rank, r->data_op);
    for (int p = 0; p < PART_COUNT; p++) {
        if (!(r->part_ns[p] > 0))
            continue;
        fprintf(f, "%s\"%s\":%.4f", first ? ",\"parts_us\":{" : ",",
                trace_part_name((enum trace_part)p), (double)r->part_ns[p] / 1e3);
        first = false;
    }
    fputs(first ? "}" : "}}", f);
}

static void write_span(struct trace_chrome *c, const struct trace_record *r, long long pid)
{
    long long from = tenths(r->start_ns), to = tenths(r->end_ns);

    event_comma(c);
    fputs("{\"ph\":\"X\",\"name\":", c->f);
    json_text(r->label, c->f);
    fputs(",\"cat\":", c->f);
    json_text(r->class_name, c->f);
    fprintf(c->f, ",\"pid\":%lld,\"tid\":%d,\"ts\":%.4f,\"dur\":%.4f,", pid, r->stream,
            (double)from / 1e4, (double)(to - from) / 1e4);
    write_args(r, c->f);
    fputc('}', c->f);
}

static void write_counter(struct trace_chrome *c, const struct trace_counter *v, long long pid)
{
    static const char *const names[TRACE_NUM_COUNTERS] = {"SMs in use", "NVLink egress (GB/s)",
                                                          "NIC egress (GB/s)", "HBM (GB/s)"};
    static const char *const series[TRACE_NUM_COUNTERS] = {"SMs", "GB/s", "GB/s", "GB/s"};

    if (v->which < 0 || v->which >= TRACE_NUM_COUNTERS)
        return;
    event_comma(c);
    fprintf(c->f,
            "{\"ph\":\"C\",\"name\":\"%s\",\"pid\":%lld,\"tid\":0,\"ts\":%.4f,"
            "\"args\":{\"%s\":%.6g}}",
            names[v->which], pid, (double)tenths(v->t_ns) / 1e4, series[v->which], v->value);
}

static bool rank_wanted(const struct trace_chrome *c, int ranks, int slowest, int rank)
{
    return c->opts.all_ranks || ranks <= c->opts.first_ranks || rank < c->opts.first_ranks ||
           rank == slowest;
}

/* More streams than this on one rank stay unnamed. */
#define NAMED_STREAMS 64

static void write_thread_names(struct trace_chrome *c, const struct trace_log *log, size_t first,
                               long long pid)
{
    int seen[NAMED_STREAMS], num = 0, rank = log->records[first].rank;

    for (size_t i = first; i < log->num_records && log->records[i].rank == rank; i++) {
        const struct trace_record *r = &log->records[i];
        char name[128];
        int k = 0;

        while (k < num && seen[k] != r->stream)
            k++;
        if (k < num || num == NAMED_STREAMS)
            continue;
        seen[num++] = r->stream;
        snprintf(name, sizeof name, "stream %d%s%s", r->stream, *r->stream_name ? " " : "",
                 r->stream_name);
        write_meta(c, "thread_name", pid, r->stream, name, 0);
        write_meta(c, "thread_sort_index", pid, r->stream, NULL, r->stream);
    }
}

/* Names the rank as a process and its streams as threads, both in order; the same rank of several
 * groups stand below each other. */
static void write_names(struct trace_chrome *c, const struct trace_log *log, size_t first,
                        const char *group, bool slowest)
{
    const struct trace_record *r = &log->records[first];
    long long pid = (long long)c->num_groups * TRACE_CHROME_STRIDE + r->rank;
    char name[128];

    snprintf(name, sizeof name, "%s%srank %d%s", group, *group ? " " : "", r->rank,
             slowest ? " (slowest)" : "");
    write_meta(c, "process_name", pid, -1, name, 0);
    write_meta(c, "process_sort_index", pid, -1, NULL, 8LL * r->rank + c->num_groups);
    write_thread_names(c, log, first, pid);
}

void trace_chrome_add(struct trace_chrome *c, const struct trace_log *log, const char *group)
{
    int slowest = trace_log_slowest_rank(log);
    long long base = (long long)c->num_groups * TRACE_CHROME_STRIDE;

    for (size_t i = 0; i < log->num_records; i++) {
        const struct trace_record *r = &log->records[i];

        if (!rank_wanted(c, log->ranks, slowest, r->rank))
            continue;
        if (i == 0 || log->records[i - 1].rank != r->rank)
            write_names(c, log, i, group ? group : "", log->ranks > 1 && r->rank == slowest);
        write_span(c, r, base + r->rank);
    }
    for (size_t i = 0; i < log->num_counters; i++)
        if (rank_wanted(c, log->ranks, slowest, log->counters[i].rank))
            write_counter(c, &log->counters[i], base + log->counters[i].rank);
    c->num_groups++;
}

int trace_chrome_end(struct trace_chrome *c)
{
    fputs("\n]}\n", c->f);
    return ferror(c->f) ? ERR_IO : 0;
}

int trace_chrome_write(const struct trace_log *log, FILE *f, const char *title,
                       const struct trace_chrome_opts *opts)
{
    struct trace_chrome c;

    trace_chrome_begin(&c, f, title, opts);
    trace_chrome_add(&c, log, NULL);
    return trace_chrome_end(&c);
}

#define CHROME_MAX_TEXTS 4096
#define CHROME_TEXT_RANK 8192 /* and more: a rank whose process is a text, until all are known */

/* Reading: jansson parses one value at a time, so memory does not grow with the file. */
struct chrome_reader {
    const char *text, *name;
    size_t len, pos;
    const struct trace_map *map;
    struct trace_log *log;
    bool all_events; /* second pass: no event had a GPU category */
    bool saw_gpu;
    bool foreign;  /* an event kept was not peosim's */
    int file_rank; /* distributedInfo.rank, or -1 */
    size_t num_events;
    /* Processes and threads that a merged trace names by text; a text's index stands for it. */
    char *pids[CHROME_MAX_TEXTS], *tids[CHROME_MAX_TEXTS];
    int num_pids, num_tids;
};

static int reader_fail(const struct chrome_reader *rd, const char *what)
{
    if (rd->pos >= rd->len)
        log_error_at(rd->name, 0, "the trace is cut off after %zu events (%s)", rd->num_events,
                     what);
    else
        log_error_at(rd->name, 0, "not a Chrome trace: %s at byte %zu, after %zu events", what,
                     rd->pos, rd->num_events);
    return ERR_PARSE;
}

static int reader_peek(struct chrome_reader *rd)
{
    while (rd->pos < rd->len && strchr(" \t\r\n", rd->text[rd->pos]) && rd->text[rd->pos])
        rd->pos++;
    return rd->pos < rd->len ? (unsigned char)rd->text[rd->pos] : -1;
}

static bool reader_take(struct chrome_reader *rd, int ch)
{
    if (reader_peek(rd) != ch)
        return false;
    rd->pos++;
    return true;
}

static int reader_value(struct chrome_reader *rd, json_t **out)
{
    json_error_t e;

    reader_peek(rd);
    *out = json_loadb(rd->text + rd->pos, rd->len - rd->pos,
                      JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &e);
    if (!*out) {
        if (json_error_code(&e) == json_error_premature_end_of_input)
            rd->pos = rd->len;
        else if (e.position > 0)
            rd->pos += (size_t)e.position;
        return reader_fail(rd, e.text);
    }
    rd->pos += (size_t)e.position;
    return 0;
}

static const char *text_of(const json_t *object, const char *key, const char *def)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : def;
}

static double number_of(const json_t *object, const char *key, double def)
{
    const json_t *v = json_object_get(object, key);
    double x = json_is_number(v) ? json_number_value(v) : def;

    return isfinite(x) ? x : def;
}

static int int_of(const json_t *object, const char *key, int def, int min)
{
    double x = number_of(object, key, def);

    return x >= min && x <= INT_MAX ? (int)x : def;
}

static enum trace_cause cause_of(const char *name)
{
    for (int c = 0; c < CAUSE_UNKNOWN; c++)
        if (!strcmp(name, trace_cause_name((enum trace_cause)c)))
            return (enum trace_cause)c;
    return CAUSE_UNKNOWN;
}

static bool is_ours(const json_t *event, const json_t *args)
{
    const char *cat = text_of(event, "cat", "");

    return json_is_string(json_object_get(args, "kind")) &&
           json_is_string(json_object_get(args, "cause")) &&
           (!strcmp(cat, "compute") || !strcmp(cat, "comm") || !strcmp(cat, "coll") ||
            !strcmp(cat, "fused") || !strcmp(cat, "other"));
}

static void take_ours(const json_t *event, const json_t *args, struct trace_record *r)
{
    const json_t *parts = json_object_get(args, "parts_us");

    r->kind = text_of(args, "kind", "");
    r->class_name = text_of(event, "cat", "");
    r->stream_name = text_of(args, "stream", "");
    r->op = int_of(args, "op", -1, -1);
    r->layer = int_of(args, "layer", 0, 0);
    r->batch = int_of(args, "batch", 0, 0);
    r->round = int_of(args, "round", -1, -1);
    r->sms = int_of(args, "sms", 0, 0);
    r->ready_ns = number_of(args, "ready_us", r->start_ns / 1e3) * 1e3;
    r->wait_ns = number_of(args, "wait_us", 0) * 1e3;
    r->rows = (long long)fmin(1e15, fmax(0, number_of(args, "rows", 0)));
    r->bytes = number_of(args, "bytes", 0);
    r->cause = cause_of(text_of(args, "cause", "unknown"));
    r->cause_op = int_of(args, "cause_op", -1, -1);
    r->data_rank = int_of(args, "data_rank", -1, -1);
    r->data_op = int_of(args, "data_op", -1, -1);
    for (int p = 0; p < PART_COUNT; p++)
        r->part_ns[p] = (float)(number_of(parts, trace_part_name((enum trace_part)p), 0) * 1e3);
}

static bool gpu_category(const char *cat)
{
    return !strcmp(cat, "kernel") || !strcmp(cat, "Kernel") || !strcmp(cat, "gpu_memcpy") ||
           !strcmp(cat, "gpu_memset");
}

/* False where the event is not wanted. */
static bool take_foreign(struct chrome_reader *rd, const json_t *event, struct trace_record *r)
{
    int kind = trace_map_find(rd->map, r->label);
    bool gpu = gpu_category(text_of(event, "cat", ""));

    rd->saw_gpu |= gpu;
    if ((!gpu && !rd->all_events) || (rd->map && rd->map->num && kind < 0))
        return false;
    r->kind = kind < 0 ? r->label : plan_op_kind_name((enum plan_op_kind)kind);
    r->class_name = trace_kind_class(kind);
    r->ready_ns = r->start_ns;
    rd->foreign = true;
    return true;
}

/* The index of a text among those seen; -1 where there are too many. */
static int text_index(char **texts, int *num, const char *text, size_t len)
{
    for (int i = 0; i < *num; i++)
        if (strlen(texts[i]) == len && !memcmp(texts[i], text, len))
            return i;
    if (*num == CHROME_MAX_TEXTS || !(texts[*num] = strndup(text, len)))
        return -1;
    return (*num)++;
}

/* A process by number ("3", too) or by text. Mergers put a rank's label in brackets before what the
 * process was called: "[TP03-EP03] 12345" is as much of it as tells ranks apart. */
static double pid_of(struct chrome_reader *rd, const json_t *event)
{
    const char *text = json_string_value(json_object_get(event, "pid")), *close;
    char *end;
    double x;
    int index;

    if (!text)
        return number_of(event, "pid", 0);
    x = strtod(text, &end);
    if (*text && !*end && isfinite(x))
        return x;
    close = *text == '[' ? strchr(text, ']') : NULL;
    index =
        text_index(rd->pids, &rd->num_pids, text, close ? (size_t)(close - text) : strlen(text));
    return index < 0 ? -1 : CHROME_TEXT_RANK + index;
}

/* A thread by number, by the number in its text ("stream 7"), or by a text of its own. */
static int tid_of(struct chrome_reader *rd, const json_t *event)
{
    const char *text = json_string_value(json_object_get(event, "tid")), *digits;
    int index;

    if (!text)
        return int_of(event, "tid", 0, 0);
    digits = text + strcspn(text, "0123456789");
    if (*digits && strlen(digits) < 9)
        return atoi(digits);
    index = text_index(rd->tids, &rd->num_tids, text, strlen(text));
    return index < 0 ? 0 : index;
}

static int reader_event(struct chrome_reader *rd, const json_t *event)
{
    const json_t *args = json_object_get(event, "args");
    double pid, max_pid = 4096, ts = number_of(event, "ts", NAN);
    double dur = number_of(event, "dur", 0);
    struct trace_record r = {.cause = CAUSE_UNKNOWN,
                             .op = -1,
                             .round = -1,
                             .cause_op = -1,
                             .data_rank = -1,
                             .data_op = -1};

    if (!json_is_object(event))
        return reader_fail(rd, "an event that is not an object");
    if (strcmp(text_of(event, "ph", ""), "X"))
        return 0;
    if (!(ts > -1e18 && ts < 1e18) || !(dur >= 0 && dur < 1e18))
        return reader_fail(rd, "an event without a sound ts and dur");
    r.label = text_of(event, "name", "");
    r.stream = int_of(event, "tid", 0, 0);
    r.start_ns = ts * 1e3;
    r.end_ns = (ts + dur) * 1e3;
    if (is_ours(event, args)) {
        max_pid = TRACE_MAX_RANKS;
        pid = number_of(event, "pid", 0);
        if (pid < 0 || pid >= TRACE_CHROME_STRIDE)
            return 0; /* the second trace of a merged file */
        take_ours(event, args, &r);
    } else if (!take_foreign(rd, event, &r)) {
        return 0;
    } else {
        pid = pid_of(rd, event);
        r.stream = tid_of(rd, event);
        r.stream_name = text_of(event, "tid", "");
    }
    r.rank = pid >= 0 && pid < max_pid ? (int)pid : 0; /* larger ones are process ids */
    if (pid >= CHROME_TEXT_RANK)
        r.rank = (int)pid;
    return trace_log_add(rd->log, &r);
}

static int reader_events(struct chrome_reader *rd)
{
    int err = 0;

    if (!reader_take(rd, '['))
        return reader_fail(rd, "traceEvents is not a list");
    if (reader_take(rd, ']'))
        return 0;
    do {
        json_t *event = NULL;

        err = reader_value(rd, &event);
        if (!err)
            err = reader_event(rd, event);
        json_decref(event);
        rd->num_events += !err;
    } while (!err && reader_take(rd, ','));
    if (!err && !reader_take(rd, ']'))
        err = reader_fail(rd, "no end of traceEvents");
    return err;
}

/* {"key": value, ..., "traceEvents": [...], ...}; other values are parsed and dropped. */
static int reader_object(struct chrome_reader *rd)
{
    bool found = false;
    int err = 0;

    rd->pos++;
    do {
        json_t *key = NULL, *value = NULL;

        err = reader_value(rd, &key);
        if (!err && (!json_is_string(key) || !reader_take(rd, ':')))
            err = reader_fail(rd, "expected a key");
        if (!err && !strcmp(json_string_value(key), "traceEvents")) {
            found = true;
            err = reader_events(rd);
        } else if (!err) {
            err = reader_value(rd, &value);
            if (!err && !strcmp(json_string_value(key), "distributedInfo"))
                rd->file_rank = int_of(value, "rank", -1, 0);
        }
        json_decref(key);
        json_decref(value);
    } while (!err && reader_take(rd, ','));
    if (!err && !reader_take(rd, '}'))
        err = reader_fail(rd, "no end of the object");
    if (!err && !found) {
        log_error_at(rd->name, 0, "not a Chrome trace: it has no traceEvents");
        err = ERR_PARSE;
    }
    return err;
}

/* How many texts come before this one: labels are padded, so that their order is the ranks'. */
static int text_place(char *const *texts, int num, int index)
{
    int place = 0;

    for (int i = 0; i < num; i++)
        place += strcmp(texts[i], texts[index]) < 0;
    return place;
}

/* The file's own rank is that of all its events only where one process has them all: a merged
 * trace keeps the first file's, and its processes are the ranks. */
static void reader_ranks(struct chrome_reader *rd)
{
    const struct trace_log *log = rd->log;
    bool merged = rd->num_pids > 1;

    for (size_t i = 1; i < log->num_records && !merged; i++)
        merged = log->records[i].rank != log->records[0].rank;
    for (size_t i = 0; i < log->num_records; i++) {
        struct trace_record *r = &log->records[i];

        if (!merged && rd->file_rank >= 0 && rd->file_rank < TRACE_MAX_RANKS)
            r->rank = rd->file_rank;
        else if (r->rank >= CHROME_TEXT_RANK)
            r->rank = text_place(rd->pids, rd->num_pids, r->rank - CHROME_TEXT_RANK);
    }
}

/* Foreign clocks start anywhere: count from the first event kept. */
static void reader_rebase(struct chrome_reader *rd)
{
    double first_ns = INFINITY;

    rd->log->ranks = 0;
    for (size_t i = 0; i < rd->log->num_records; i++)
        first_ns = fmin(first_ns, rd->log->records[i].start_ns);
    for (size_t i = 0; i < rd->log->num_records; i++) {
        struct trace_record *r = &rd->log->records[i];

        r->ready_ns -= first_ns;
        r->start_ns -= first_ns;
        r->end_ns -= first_ns;
        if (r->rank >= rd->log->ranks)
            rd->log->ranks = r->rank + 1;
    }
}

static int reader_pass(struct chrome_reader *rd)
{
    int err;

    trace_log_free(rd->log);
    rd->log = NULL;
    rd->pos = rd->num_events = 0;
    err = trace_log_new(&rd->log, "");
    if (err)
        return err;
    if (reader_peek(rd) == '{')
        return reader_object(rd);
    return reader_events(rd);
}

int trace_chrome_parse(const char *text, size_t len, const char *name, const struct trace_map *map,
                       struct trace_log **out)
{
    struct chrome_reader rd = {.text = text, .name = name, .len = len, .map = map, .file_rank = -1};
    int err = reader_pass(&rd);

    if (!err && !rd.log->num_records && !rd.saw_gpu) {
        rd.all_events = true;
        err = reader_pass(&rd);
    }
    if (err)
        goto out;
    if (rd.foreign) {
        snprintf(rd.log->backend, sizeof rd.log->backend, "torch");
        reader_ranks(&rd);
        reader_rebase(&rd);
    }
    *out = rd.log;
    rd.log = NULL;
out:
    trace_log_free(rd.log);
    for (int i = 0; i < rd.num_pids; i++)
        free(rd.pids[i]);
    for (int i = 0; i < rd.num_tids; i++)
        free(rd.tids[i]);
    return err;
}
