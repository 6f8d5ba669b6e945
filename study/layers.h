/* study/layers.h: whole layers measured on real GPUs (peo_layers) beside what a profile says of the
 * same schedules. No layer time is ever fitted. */
#ifndef PEOSIM_STUDY_LAYERS_H
#define PEOSIM_STUDY_LAYERS_H

#include "base/stats.h"
#include "hw/profile.h"

struct layers_row {
    char schedule[24];
    int line, tokens, num_rounds, sms;
    double measured_us;
    double predicted_us; /* mean over draws of the routing; NAN = no schedule of ours */
    bool overlaps;
    double measured_gain_pct, predicted_gain_pct; /* against non-overlap; overlaps only */
};
struct layers {
    struct layers_row *rows;
    size_t num;
    struct stats_error err;                   /* of the rows predicted */
    int schedules, false_gains, false_losses; /* of those that overlap: wrong by sign */
};

/* Does the file hold such layers? False too where it cannot be read. */
bool layers_matches(const char *path);
/* Without router, shared expert and attention, as measured: from the first dispatch to the end of
 * the last op. ERR_PARSE, ERR_DATA (a bad row, named by file and line), ERR_NOMEM. */
int layers_predict(const struct hw_profile *profile, const char *path, struct layers *out);
void layers_free(struct layers *l);

#endif
