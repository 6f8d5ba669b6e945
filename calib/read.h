/* calib/read.h: the readers behind data_read. Each appends rows to set, names bad ones with
 * data_bad and returns 0 or an error code. */
#ifndef PEOSIM_CALIB_READ_H
#define PEOSIM_CALIB_READ_H

#include "base/csv.h"
#include "calib/data.h"

/* After all rows: how many are bad for which reason, and the lines of those data_bad did not name
 * (with `strict` also when it named them all). */
void data_bad_summary(const struct data_set *set, bool strict);
void data_bad_free(struct data_set *set);

/* Our own microbenchmarks share one format for all kinds; cells that do not apply are empty:
 *
 *   kind,dtype,num_sms,tokens,experts,rounds,hidden,inter,rows,groups,n,k,topk,ranks,bytes,latency_us
 *
 * and optionally system, round (which of the rounds, 0 = the one that casts), alone_us, overlap_us,
 * wait_us, n_rep, p95_us. rows are per group; bytes per rank (push: all that one rank sends to
 * peers; hbm_copy: read plus written). kinds: ll_dispatch[_send|_recv], ll_combine[_send|_recv],
 * gemm_masked, gemm_contiguous, gemm_bf16, act_quant, push, hbm_copy, launch_gap_graph,
 * launch_gap_cross, launch_eager, flag_rtt, router, interference_{dispatch,combine}_{send,recv}
 * (beside the gate+up GEMM on the other SMs; dtype: comm or compute, the kernel that is slowed;
 * alone_us: its time alone, overlap_us: how long both ran), interference (combine sends in four
 * rounds, dtype comm, without overlap_us: beside it throughout). Repeats of one shape are welcome.
 * The format is chosen by the columns kind, dtype, num_sms, tokens, experts, rounds, rows, bytes
 * and latency_us. */

/* The format whose columns the header has; ERR_PARSE names what the nearest format lacks. */
int read_csv(struct data_set *set, const struct csv *csv);

/* DeepEP's test_low_latency.py, test_intranode.py, test_internode.py, and V2's test_ep.py. */
bool read_deepep_matches(const char *text);
int read_deepep(struct data_set *set, const char *text, const struct data_hint *hint);

/* nccl-tests: the table it prints, and its -J file. read_gpu_name: "NVIDIA H100 80GB HBM3" is h100.
 */
void read_gpu_name(const char *text, char *out, size_t size);
bool read_nccl_matches(const char *text);
/* Only the rows of its table: the file's name or a hint says which collective it was. */
bool read_nccl_bare(const char *text, const char *path, const struct data_hint *hint);
int read_nccl(struct data_set *set, const char *text, const struct data_hint *hint);
bool read_nccl_json_matches(const char *text);
int read_nccl_json(struct data_set *set, const char *text, size_t len,
                   const struct data_hint *hint);

#endif
