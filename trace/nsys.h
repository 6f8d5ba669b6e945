/* trace/nsys.h: what Nsight Systems says of GPU work, in its two exports:
 *   nsys stats --report cuda_gpu_trace --format csv    "Start (ns)","Duration
 * (ns)","Device","Strm", "Name" (older: "Start(nsec)" and so on) nsys export --type sqlite tables
 * CUPTI_ACTIVITY_KIND_KERNEL and _MEMCPY, names in StringIds Source: the Nsight Systems User Guide,
 * sections on report scripts and SQLite schema. Every pair of process and device is a rank, in
 * order of both; times count from the first span kept. */
#ifndef PEOSIM_TRACE_NSYS_H
#define PEOSIM_TRACE_NSYS_H

#include <stdbool.h>
#include <stddef.h>

#include "trace/log.h"

bool trace_nsys_is_csv(const char *text, size_t len);
bool trace_nsys_is_sqlite(const char *text, size_t len);

/* ERR_PARSE, ERR_DATA with the line; map as for trace_log_read. */
int trace_nsys_parse_csv(const char *text, size_t len, const char *name,
                         const struct trace_map *map, struct trace_log **out);
int trace_nsys_read_sqlite(const char *path, const struct trace_map *map, struct trace_log **out);

#endif
