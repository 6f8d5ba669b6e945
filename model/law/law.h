/* model/law/law.h: what all cost laws share.
 *
 * A law is a pure function from profile values (v[HW_FIELD_COUNT], by enum hw_field_id) and the
 * shape of one op to struct cost_work. Laws know no profile and no plan, so the simulator
 * (model/law/cost.c) and the fits (calib/fit.c) call the very same code. */
#ifndef PEOSIM_MODEL_LAW_LAW_H
#define PEOSIM_MODEL_LAW_LAW_H

#include "hw/fields.h"
#include "plan/cost.h"

/* What one rank sends while its op runs alone and all ranks do the same. */
struct law_traffic {
    double local_bytes, nvlink_bytes, nic_bytes; /* by where they go */
    double nvlink_GBps, nic_GBps;                /* what the links deliver; <= 0: no such link */
    double hbm_GBps;                             /* what the GPU's HBM delivers */
    double lat_ns;                               /* of the slowest flow that is waited for */
};

/* By how much a communication kernel is slowed beside a compute kernel: the more experts (warp
 * groups) one of its CTAs serves, the more it feels the other's memory traffic. Form and power from
 * microbenchmarks of sends beside grouped GEMMs (validate/evidence, kind interference). */
double law_interference_comm(const double *v, double experts, double ctas);

/* DeepEP's low-latency kernels beside a compute kernel: what one part (a sensitivity such as
 * INTERFERENCE_LL_DISP_SEND) loses on 16 CTAs, less with more of them; a dispatch send beside a
 * GEMM without clusters (`unpaired`) finds fewer pairs of free SMs for its own. Form and figures
 * from spans of PEO on 4 H200 (docs/model/interference.md). */
double law_interference_ll(const double *v, double sensitivity, int ctas, bool unpaired);
/* A grouped GEMM deals its tiles to its CTAs when it starts: what it loses by beginning beside a
 * kernel on `ctas` CTAs it loses to its end. */
double law_interference_place(const double *v, int ctas);

/* The validator's own kernels wait on memory latency, which a compute kernel beside them stretches:
 * by Little's law, by what its loads keep queued before the HBM. How much depends on how many SMs
 * ask and how near the HBM is to its limit:
 *     slowed by 1 + sensitivity * (sms/num_sms)^p * (hbm_GBps/nominal)^q
 * Form and powers from microbenchmarks of each part of an exchange beside grouped GEMMs
 * (validate/evidence, kinds interference_*). sensitivity: INTERFERENCE_DISP_SEND and the three that
 * follow it. */
double law_latency_stretch(const double *v, double sensitivity, double sms, double hbm_GBps);

/* Time of one kernel alone under balanced traffic: each segment takes its fixed time plus the
 * larger of SM and HBM time; sending takes the largest of posting, pushing, NVLink and NIC. */
double law_alone_ns(const struct cost_work *w, const struct law_traffic *t);
/* The same while something beside it slows it by `slow` throughout. */
double law_slowed_ns(const struct cost_work *w, const struct law_traffic *t, double slow);
double law_segment_ns(const struct cost_segment *s, double hbm_GBps);

/* What the links and the HBM of a profile deliver; the simulator's link capacities. */
double law_nvlink_GBps(const double *v);
double law_nic_GBps(const double *v); /* per GPU, without the fabric's derate */
double law_hbm_GBps(const double *v);

/* SM time and HBM time of one kernel together: (a^c + b^c)^(1/c), c >= 1. */
double law_corner(double a, double b, double corner);
/* Rate of one SM when `sms` of num_sms run, relative to few: clocks fall with power. */
double law_power(double drop, int sms, int num_sms);

#endif
