/* trace/log.h: a trace that explains itself: every record carries its names, so that writers,
 * readers, pictures and the comparison need neither the plan nor the program that made it. Times in
 * ns from the common start. A log is a flat array of records with one owner, which also owns every
 * string (equal strings are one pointer). */
#ifndef PEOSIM_TRACE_LOG_H
#define PEOSIM_TRACE_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "trace/trace.h"

#define TRACE_MAX_BYTES   ((size_t)512 << 20) /* the largest file a reader accepts */
#define TRACE_MAX_RECORDS 2000000             /* and the most spans it keeps */
#define TRACE_MAX_RANKS   100000              /* and the most ranks */

struct trace_record {
    int rank, stream, op;    /* op: index in launch order; -1 where the file does not say */
    const char *stream_name; /* "main" */
    const char *label;       /* "dispatch_send[2]"; a kernel's name in foreign traces */
    const char *kind;        /* "dispatch_send"; as label where unknown */
    const char *class_name;  /* "compute", "comm", "coll"; "other" where unknown */
    int layer, batch;
    int round; /* -1: the op is not part of a round */
    double ready_ns, start_ns, end_ns, wait_ns;
    int sms;        /* 0: unknown */
    long long rows; /* rows on this rank: expert rows, else tokens */
    double bytes;   /* message bytes sent to other ranks; collectives: as nccl-tests' -b */
    enum trace_cause cause;
    int cause_op, data_rank, data_op; /* -1: none */
    float part_ns[PART_COUNT];
};

static inline double trace_record_ns(const struct trace_record *r)
{
    return r->end_ns - r->start_ns;
}

struct trace_log {
    char backend[8]; /* "sim", "gpu", "torch", "" */
    int ranks;       /* 1 + the highest rank */
    int num_sms;     /* of the GPU; 0: unknown */
    struct trace_record *records;
    size_t num_records, cap_records;
    struct trace_counter *counters;
    size_t num_counters, cap_counters;
    char **names; /* the pool of strings and its hash table of 1-based indices */
    size_t num_names, cap_names;
    uint32_t *slots;
    size_t num_slots;
};

/* Kernel names to op kinds, for traces of other programs. The first pattern that matches counts;
 * with * or ? in it a pattern is a shell pattern, else it matches anywhere in the name. */
struct trace_map_entry {
    char *pattern;
    enum plan_op_kind kind;
};
struct trace_map {
    struct trace_map_entry *entries;
    size_t num;
};
/* text: "pattern=kind,pattern=kind". ERR_USAGE (logged) for a kind that does not exist. */
int trace_map_parse(const char *text, struct trace_map *out);
void trace_map_free(struct trace_map *map);
/* The kind a name maps to, or -1. */
int trace_map_find(const struct trace_map *map, const char *name);

/* "compute", "comm", "coll", "fused"; "other" for kind -1. */
const char *trace_kind_class(int kind);

int trace_log_new(struct trace_log **out, const char *backend);
void trace_log_free(struct trace_log *log); /* accepts NULL */
/* Copies a record and its strings (NULL strings become ""). ERR_NOMEM, ERR_RANGE; logged. */
int trace_log_add(struct trace_log *log, const struct trace_record *record);
int trace_log_add_counter(struct trace_log *log, const struct trace_counter *counter);
/* Sorts by rank, then start, then op; counters by rank, which, time. */
void trace_log_sort(struct trace_log *log);

/* The log of a trace and the plan that it ran, in the trace's order. ERR_DATA for spans that are
 * not the plan's. */
int trace_log_of(const struct trace *trace, const struct plan *plan, struct trace_log **out);

/* Reads a trace, whichever of these it is, and sorts it: spans.csv, a Chrome trace (peosim's or
 * torch.profiler's), Nsight Systems' kernels as CSV or SQLite (trace/nsys.h), packed by gzip or
 * not; or a folder of such files, one or more ranks each, in order of their names (ranks that two
 * files both have are counted on; each file's clock begins with its first span). map may be NULL;
 * with one, only kernels that it maps are kept of other programs' traces. ERR_NOTFOUND, ERR_IO,
 * ERR_RANGE (too large), ERR_PARSE (empty, cut off, not a trace), ERR_DATA (no spans); logged. */
int trace_log_read(const char *path, const struct trace_map *map, struct trace_log **out);

/* A part of a trace: what starts in [from_ns, to_ns), of one layer (-1: all). */
struct trace_window {
    double from_ns, to_ns;
    int layer;
};
/* Keeps that part and counts its times from its first span. ERR_DATA (logged, by name) where
 * nothing is left. */
int trace_log_keep(struct trace_log *log, const struct trace_window *part, const char *name);

double trace_log_rank_end(const struct trace_log *log, int rank); /* ns; 0 if it has no spans */
int trace_log_slowest_rank(const struct trace_log *log);          /* -1 if there are no spans */

/* "sms_in_use", "nvlink_egress_GBps", "nic_egress_GBps", "hbm_GBps"; the index of a name or -1. */
const char *trace_counter_name(int which);
int trace_counter_find(const char *name);
#define TRACE_NUM_COUNTERS 4

#endif
