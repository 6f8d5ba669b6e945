/* calib/read_comm.h: formats of public communication measurements, one row each (read_csv.c lists
 * their columns). Rows without a law of ours are DATA_SHOWN: read and counted, not predicted. */
#ifndef PEOSIM_CALIB_READ_COMM_H
#define PEOSIM_CALIB_READ_COMM_H

#include "calib/read_cells.h"

void read_public_v1(struct cells *c, struct data_row *r);
/* The time that a bandwidth of DeepEP's tests of normal kernels stands for: payload and scales of
 * all copies that go to nodes (the own one included) or, on one node, to ranks, over the time of
 * the transmitting kernel. Of the row, shape and dtype are read. */
double read_bandwidth_us(const struct data_row *r, double GBps);
void read_public_v2(struct cells *c, struct data_row *r);
void read_public_other(struct cells *c, struct data_row *r);
void read_public_nccl(struct cells *c, struct data_row *r);
void read_custom_allreduce(struct cells *c, struct data_row *r);
void read_a2a_nvl(struct cells *c, struct data_row *r);
void read_megamoe(struct cells *c, struct data_row *r);
void read_public_megamoe(struct cells *c, struct data_row *r);
void read_public_trace(struct cells *c, struct data_row *r);

#endif
