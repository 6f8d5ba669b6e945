/* calib/read_gemm.h: readers of one row each of sweeps of GEMMs. law DATA_LAW_COUNT: a row to look
 * at that no law has. */
#ifndef PEOSIM_CALIB_READ_GEMM_H
#define PEOSIM_CALIB_READ_GEMM_H

#include "calib/read_cells.h"

void read_deepgemm(struct cells *c, struct data_row *r);
void read_deepgemm_power(struct cells *c, struct data_row *r);

#endif
