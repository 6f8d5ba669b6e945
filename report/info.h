/* report/info.h: what a model, a profile or a policy resolves to. */
#ifndef PEOSIM_REPORT_INFO_H
#define PEOSIM_REPORT_INFO_H

#include "hw/profile.h"
#include "model/moe.h"
#include "report/record.h"

struct policy;

/* Sentences for people; members and "layers", each kind of layer once. */
void info_report_model(const struct moe_model *m, struct record *r);
/* "fields", each with its origin and source, and nested "tables". */
void info_report_profile(const struct hw_profile *p, struct record *r);
/* "knobs" as the option table has them. */
void info_report_policy(const struct policy *p, struct record *r);

/* For programs a row of "names": the rows follow by record_row. */
struct info_name {
    const char *kind, *name, *summary;
};
void info_report_names(struct record *r);

#endif
