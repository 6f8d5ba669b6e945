/* trace/csv.h: traces as comma-separated files, for gnuplot, spreadsheets and `peosim diff`.
 *
 * spans.csv, one line per span, sorted as the log is; times in us from the common start of all
 * ranks, with 4 decimals:
 *   rank,stream,stream_name,op,kind,class,label,layer,batch,round,ready_us,start_us,end_us,wait_us,
 *   sms,rows,bytes,cause,cause_op,data_rank,data_op,part_fixed_us,part_sm_us,part_hbm_us,
 *   part_push_us,part_nvlink_us,part_nic_us,part_wait_us,part_blocked_us
 * class: compute, comm, coll, other. round: -1 for ops outside rounds. batch: which half batch.
 * sms: 0 = unknown. cause: see trace_cause_name; cause_op, data_rank, data_op: -1 = none.
 * counters.csv: rank,counter,t_us,value, each value holding from t_us on. */
#ifndef PEOSIM_TRACE_CSV_H
#define PEOSIM_TRACE_CSV_H

#include <stdio.h>

#include "trace/log.h"

/* 0 or ERR_IO (silent: file_commit reports the file). */
int trace_csv_write(const struct trace_log *log, FILE *f);
int trace_csv_write_counters(const struct trace_log *log, FILE *f);

/* The pieces: the header line, one line, one text field (quoted where it must be). */
void trace_csv_header(FILE *f);
void trace_csv_record(const struct trace_record *record, FILE *f);
void trace_csv_text(const char *text, FILE *f);

/* Columns are found by name; rank, label, start_us and end_us must be there, others have defaults
 * (stream 0, kind as the label, class other, cause unknown). ERR_PARSE, ERR_DATA with the line. */
int trace_csv_parse(const char *text, size_t len, const char *name, struct trace_log **out);

#endif
