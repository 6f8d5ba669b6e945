/* study/validate.h: layers as measured beside layers as predicted. */
#ifndef PEOSIM_STUDY_VALIDATE_H
#define PEOSIM_STUDY_VALIDATE_H

#include "study/config.h"
#include "study/evaluate.h"
#include "trace/gpu_result.h"
#include "trace/trace.h"

/* One point, as measured and, once all are measured, as predicted. */
struct validate_point {
    size_t index; /* in grid order */
    size_t scenario;
    const struct policy *policy;
    struct knobs knobs;
    bool measured; /* false: it could not run on the GPUs */
    struct gpu_result gpu;
    bool kept;           /* by an earlier run that this one goes on from */
    bool kinds;          /* gpu.kind_us holds: its spans were not refused */
    struct trace *trace; /* NULL: no spans at hand */
    /* From the configuration and the prediction. */
    int batch, experts, hidden, inter, ranks;
    double predicted_us;
    double kind_us[OP_KIND_COUNT], kind_wait_us[OP_KIND_COUNT]; /* as gpu.kind_us */
};

struct validate_set {
    const struct config *config;
    struct validate_point *point;
    size_t num_points;
    char versions[256];  /* of the machine measured */
    char emulation[384]; /* "", or what was emulated: every output says so */
    double pace_GBps;
};

/* Fills the points from the layers.csv and ops.csv of an earlier run. ERR_DATA (a row that is no
 * point of the configuration), ERR_PARSE, ERR_NOTFOUND. */
int validate_read(struct validate_set *v, const char *folder);

/* Was the folder measured as `want` (report/validate_files.h)? ERR_USAGE (logged): as something
 * else. */
#define VALIDATE_KEY_FILE "measured-as.txt"
int validate_key_check(const char *folder, const char *want);

/* "", or why the point's time is no steady one: any of "spread" (p95 over VALIDATE_SPREAD times the
 * median), "shared", "throttled", joined by +. Such points are shown, marked, and in no summary. */
#define VALIDATE_SPREAD 1.3
const char *validate_noise(const struct validate_point *p, char buf[32]);
/* Measured, and steady. */
bool validate_counts(const struct validate_point *p);
/* Every measured point has a prediction that is a time. ERR_DATA, logged. */
int validate_predicted(const struct validate_set *v);

double validate_ape(const struct validate_point *p);
/* `none` of the same scenario with the same ops, or NULL: where the policy moves attention, none
 * must have it too (attention.include on). */
const struct validate_point *validate_none(const struct validate_set *v,
                                           const struct validate_point *p);
/* Do both policies of a scenario have the same ops? With attention.include auto, only those that
 * move attention have it. */
bool validate_same_ops(const struct validate_set *v, size_t scenario, const struct policy *a,
                       const struct policy *b);
/* none, peo and sbo of one scenario must have given the same bits. ERR_DATA, logged. */
int validate_bits(const struct validate_set *v);

/* Knobs as files and tables name points by them. */
int validate_method(const struct validate_point *p);
int validate_rounds(const struct validate_point *p);
int validate_sms(const struct validate_point *p);
/* "group+dense": gate and up by one grouped GEMM, down by one GEMM per expert. "" where the policy
 * offers no choice. */
const char *validate_gemms(const struct validate_point *p, char buf[16]);
double validate_gain_pct(double none_us, double us);

#endif
