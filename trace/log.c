#include "trace/log.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"

static const char *const counter_names[TRACE_NUM_COUNTERS] = {"sms_in_use", "nvlink_egress_GBps",
                                                              "nic_egress_GBps", "hbm_GBps"};

const char *trace_counter_name(int which)
{
    return which >= 0 && which < TRACE_NUM_COUNTERS ? counter_names[which] : "unknown";
}

int trace_counter_find(const char *name)
{
    for (int i = 0; i < TRACE_NUM_COUNTERS; i++)
        if (!strcmp(name, counter_names[i]))
            return i;
    return -1;
}

static int kind_find(const char *name, size_t len)
{
    for (int k = 0; k < OP_KIND_COUNT; k++) {
        const char *have = plan_op_kind_name((enum plan_op_kind)k);

        if (strlen(have) == len && !strncmp(have, name, len))
            return k;
    }
    return -1;
}

static int map_entry_parse(const char *text, size_t len, struct trace_map_entry *out)
{
    const char *eq = NULL;
    int kind;

    /* The last '=': C++ kernel names may hold some, kinds never do. */
    for (size_t i = 0; i < len; i++)
        if (text[i] == '=')
            eq = text + i;
    if (!eq || eq == text) {
        log_error("--map: '%.*s' is not pattern=kind", (int)len, text);
        return ERR_USAGE;
    }
    kind = kind_find(eq + 1, (size_t)(text + len - eq - 1));
    if (kind < 0) {
        log_error("--map: unknown op kind in '%.*s' (known: dispatch_send, gate_up_gemm, ...; see "
                  "`peosim help diff`)",
                  (int)len, text);
        return ERR_USAGE;
    }
    out->kind = (enum plan_op_kind)kind;
    out->pattern = strndup(text, (size_t)(eq - text));
    return out->pattern ? 0 : ERR_NOMEM;
}

int trace_map_parse(const char *text, struct trace_map *out)
{
    int err = 0;

    *out = (struct trace_map){0};
    while (*text && !err) {
        size_t len = strcspn(text, ",");
        struct trace_map_entry *grown =
            realloc(out->entries, (out->num + 1) * sizeof *out->entries);

        if (!grown) {
            err = ERR_NOMEM;
            break;
        }
        out->entries = grown;
        err = map_entry_parse(text, len, &out->entries[out->num]);
        out->num += !err;
        text += len + (text[len] == ',');
    }
    if (err)
        trace_map_free(out);
    return err;
}

void trace_map_free(struct trace_map *map)
{
    for (size_t i = 0; i < map->num; i++)
        free(map->entries[i].pattern);
    free(map->entries);
    *map = (struct trace_map){0};
}

int trace_map_find(const struct trace_map *map, const char *name)
{
    for (size_t i = 0; map && i < map->num; i++) {
        const char *pattern = map->entries[i].pattern;

        if (strpbrk(pattern, "*?") ? !fnmatch(pattern, name, 0) : strstr(name, pattern) != NULL)
            return (int)map->entries[i].kind;
    }
    return -1;
}

int trace_log_new(struct trace_log **out, const char *backend)
{
    struct trace_log *log = calloc(1, sizeof *log);

    if (!log) {
        log_error("out of memory for a trace");
        return ERR_NOMEM;
    }
    snprintf(log->backend, sizeof log->backend, "%.7s", backend);
    *out = log;
    return 0;
}

void trace_log_free(struct trace_log *log)
{
    if (!log)
        return;
    for (size_t i = 0; i < log->num_names; i++)
        free(log->names[i]);
    free(log->names);
    free(log->slots);
    free(log->records);
    free(log->counters);
    free(log);
}

static void *log_grow(void *array, size_t num, size_t *cap, size_t elem_bytes)
{
    size_t n = *cap ? *cap * 2 : 64;
    void *p = array;

    if (num < *cap)
        return array;
    p = realloc(array, n * elem_bytes);
    if (p)
        *cap = n;
    return p;
}

static uint64_t name_hash(const char *s)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a */

    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211u;
    return h;
}

static int names_rehash(struct trace_log *log)
{
    size_t n = log->num_slots ? log->num_slots * 2 : 256;
    uint32_t *slots = calloc(n, sizeof *slots);

    if (!slots)
        return ERR_NOMEM;
    for (size_t i = 0; i < log->num_names; i++) {
        size_t at = name_hash(log->names[i]) & (n - 1);

        while (slots[at])
            at = (at + 1) & (n - 1);
        slots[at] = (uint32_t)i + 1;
    }
    free(log->slots);
    log->slots = slots;
    log->num_slots = n;
    return 0;
}

/* The log's own copy of a string, one per distinct string; NULL when out of memory. */
static const char *log_intern(struct trace_log *log, const char *s)
{
    char **grown;
    size_t at;

    if (log->num_names * 2 >= log->num_slots && names_rehash(log))
        return NULL;
    at = name_hash(s) & (log->num_slots - 1);
    for (; log->slots[at]; at = (at + 1) & (log->num_slots - 1))
        if (!strcmp(log->names[log->slots[at] - 1], s))
            return log->names[log->slots[at] - 1];
    grown = log_grow(log->names, log->num_names, &log->cap_names, sizeof *log->names);
    if (!grown)
        return NULL;
    log->names = grown;
    log->names[log->num_names] = strdup(s);
    if (!log->names[log->num_names])
        return NULL;
    log->slots[at] = (uint32_t)++log->num_names;
    return log->names[log->num_names - 1];
}

static int log_out_of_memory(void)
{
    log_error("out of memory for a trace");
    return ERR_NOMEM;
}

int trace_log_add(struct trace_log *log, const struct trace_record *record)
{
    struct trace_record r = *record, *grown;
    const char **names[] = {&r.stream_name, &r.label, &r.kind, &r.class_name};

    if (log->num_records >= TRACE_MAX_RECORDS) {
        log_error("the trace has more than %d spans", TRACE_MAX_RECORDS);
        return ERR_RANGE;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *names[i] = log_intern(log, *names[i] ? *names[i] : "");
        if (!*names[i])
            return log_out_of_memory();
    }
    grown = log_grow(log->records, log->num_records, &log->cap_records, sizeof *log->records);
    if (!grown)
        return log_out_of_memory();
    log->records = grown;
    log->records[log->num_records++] = r;
    if (r.rank >= log->ranks)
        log->ranks = r.rank + 1;
    return 0;
}

int trace_log_add_counter(struct trace_log *log, const struct trace_counter *counter)
{
    struct trace_counter *grown =
        log_grow(log->counters, log->num_counters, &log->cap_counters, sizeof *log->counters);

    if (!grown)
        return log_out_of_memory();
    log->counters = grown;
    log->counters[log->num_counters++] = *counter;
    return 0;
}

static int record_cmp(const void *va, const void *vb)
{
    const struct trace_record *a = va, *b = vb;

    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (a->start_ns != b->start_ns)
        return a->start_ns < b->start_ns ? -1 : 1;
    if (a->op != b->op)
        return a->op < b->op ? -1 : 1;
    if (a->stream != b->stream)
        return a->stream < b->stream ? -1 : 1;
    if (a->end_ns != b->end_ns)
        return a->end_ns < b->end_ns ? -1 : 1;
    return strcmp(a->label, b->label);
}

static int log_counter_cmp(const void *va, const void *vb)
{
    const struct trace_counter *a = va, *b = vb;

    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (a->which != b->which)
        return a->which < b->which ? -1 : 1;
    if (a->t_ns != b->t_ns)
        return a->t_ns < b->t_ns ? -1 : 1;
    return (a->value > b->value) - (a->value < b->value);
}

void trace_log_sort(struct trace_log *log)
{
    if (log->num_records)
        qsort(log->records, log->num_records, sizeof *log->records, record_cmp);
    if (log->num_counters)
        qsort(log->counters, log->num_counters, sizeof *log->counters, log_counter_cmp);
}

const char *trace_kind_class(int kind)
{
    static const char *const names[] = {[OP_CLASS_COMPUTE] = "compute",
                                        [OP_CLASS_COMM] = "comm",
                                        [OP_CLASS_COLL] = "coll",
                                        [OP_CLASS_FUSED] = "fused"};

    return kind < 0 ? "other" : names[plan_op_kind_class((enum plan_op_kind)kind)];
}

/* Message bytes that an op of the plan sends to other ranks from one rank. rows: [2 * ranks]. */
static double op_bytes(const struct plan *plan, int op, int rank, int *rows)
{
    double bytes = (double)plan->ops[op].coll_bytes;

    for (int f = 0; f < plan->num_flows; f++) {
        int *fwd = rows + plan->ranks;

        if (plan->flows[f].send_op != op)
            continue;
        plan_flow_rows(plan, f, rank, rows, fwd);
        for (int peer = 0; peer < plan->ranks; peer++)
            if (peer != rank)
                bytes += (double)plan->flows[f].bytes_per_row * (rows[peer] + fwd[peer]);
    }
    return bytes;
}

static bool in_a_round(const struct plan_op *o)
{
    return o->num_experts > 0 || plan_op_sends(o->kind) || plan_op_recvs(o->kind);
}

static int log_add_span(struct trace_log *log, const struct trace_span *s, const struct plan *plan,
                        int *rows)
{
    const struct plan_op *o = &plan->ops[s->op];
    char label[96];
    struct trace_record r = {.rank = s->rank,
                             .stream = s->stream,
                             .op = s->op,
                             .label = label,
                             .kind = plan_op_kind_name(o->kind),
                             .class_name = trace_kind_class(o->kind),
                             .layer = o->layer,
                             .batch = o->batch,
                             .round = in_a_round(o) ? o->round : -1,
                             .ready_ns = s->ready_ns,
                             .start_ns = s->start_ns,
                             .end_ns = s->end_ns,
                             .wait_ns = s->wait_ns,
                             .sms = s->sms,
                             .rows = o->rows,
                             .cause = s->cause,
                             .cause_op = s->cause_op,
                             .data_rank = s->data_rank,
                             .data_op = s->data_op};

    plan_op_label(plan, s->op, label, sizeof label);
    if (s->stream >= 0 && s->stream < plan->num_streams)
        r.stream_name = plan->streams[s->stream].name;
    if (o->num_experts > 0 && o->batch < plan->num_batches)
        r.rows = plan_op_rows(plan, s->op, s->rank, NULL);
    r.bytes = op_bytes(plan, s->op, s->rank, rows);
    memcpy(r.part_ns, s->part_ns, sizeof r.part_ns);
    return trace_log_add(log, &r);
}

int trace_log_of(const struct trace *trace, const struct plan *plan, struct trace_log **out)
{
    int *rows = calloc(2 * (size_t)(plan->ranks > 0 ? plan->ranks : 1), sizeof *rows);
    struct trace_log *log = NULL;
    int err = rows ? trace_log_new(&log, trace->backend) : log_out_of_memory();

    if (err)
        goto out;
    log->num_sms = plan->num_sms;
    for (size_t i = 0; i < trace->num_spans && !err; i++) {
        const struct trace_span *s = &trace->spans[i];

        if (s->op < 0 || s->op >= plan->num_ops || s->rank < 0 || s->rank >= plan->ranks) {
            log_error("trace: span %zu (rank %d, op %d) does not belong to the plan", i, s->rank,
                      s->op);
            err = ERR_DATA;
        } else {
            err = log_add_span(log, s, plan, rows);
        }
    }
    for (size_t i = 0; i < trace->num_counters && !err; i++)
        err = trace_log_add_counter(log, &trace->counters[i]);
    if (err)
        goto out;
    *out = log;
    log = NULL;
out:
    trace_log_free(log);
    free(rows);
    return err;
}

double trace_log_rank_end(const struct trace_log *log, int rank)
{
    double end_ns = 0;

    for (size_t i = 0; i < log->num_records; i++)
        if (log->records[i].rank == rank)
            end_ns = fmax(end_ns, log->records[i].end_ns);
    return end_ns;
}

int trace_log_slowest_rank(const struct trace_log *log)
{
    const struct trace_record *last = NULL;

    for (size_t i = 0; i < log->num_records; i++) {
        const struct trace_record *r = &log->records[i];

        if (!last || r->end_ns > last->end_ns ||
            (r->end_ns == last->end_ns && r->rank < last->rank))
            last = r;
    }
    return last ? last->rank : -1;
}
