/* trace/chrome.h: traces in the Chrome Trace Event format, as Perfetto (ui.perfetto.dev),
 * chrome://tracing and torch.profiler use it. https://docs.google.com/document/d/1CvAClvFfyA5R-
 * PhYUmn5OOQtYMH4h6I0nSsKchNAySU (ts and dur in us; pid = rank, tid = stream).
 *
 * Event names are the op's label, categories its class (compute, comm, coll); args hold op, kind,
 * round, SMs, waits, rows, bytes, cause and the parts of the time. Counter tracks: SMs in use, link
 * and HBM rates. Events are written one by one: a trace never stands in memory as JSON. */
#ifndef PEOSIM_TRACE_CHROME_H
#define PEOSIM_TRACE_CHROME_H

#include <stdbool.h>
#include <stdio.h>

#include "trace/log.h"

/* Traces beside each other in one file: group g has pids g * stride + rank; readers take group 0.
 */
#define TRACE_CHROME_STRIDE 1000000

struct trace_chrome_opts {
    bool all_ranks;  /* else: all up to first_ranks, else the first and the slowest */
    int first_ranks; /* 0 = 8 */
};

struct trace_chrome {
    FILE *f;
    struct trace_chrome_opts opts;
    int num_groups;
    bool any; /* an event was written: a comma comes first */
};

/* begin, then add per trace, then end. title: free text for the file's metadata, may be NULL.
 * group: "predicted", "measured"; NULL or "" for a file of one trace. opts may be NULL. */
void trace_chrome_begin(struct trace_chrome *c, FILE *f, const char *title,
                        const struct trace_chrome_opts *opts);
void trace_chrome_add(struct trace_chrome *c, const struct trace_log *log, const char *group);
int trace_chrome_end(struct trace_chrome *c); /* 0 or ERR_IO (silent: file_commit reports it) */

/* All three for one trace. */
int trace_chrome_write(const struct trace_log *log, FILE *f, const char *title,
                       const struct trace_chrome_opts *opts);

/* Reads peosim's own traces whole. Of other programs' traces it keeps complete events ("ph":"X") of
 * GPU work (category kernel, gpu_memcpy, gpu_memset), or every complete event if there is none of
 * these; with a map only those that it names, under the kind that it gives. Their times count from
 * the first event kept; rank is distributedInfo.rank, else a small pid. ERR_PARSE (cut off, not
 * JSON, not a trace), ERR_DATA, ERR_RANGE; logged. */
int trace_chrome_parse(const char *text, size_t len, const char *name, const struct trace_map *map,
                       struct trace_log **out);

#endif
