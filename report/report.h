/* report/report.h: what results of all commands say alike: head, NICs, knobs. */
#ifndef PEOSIM_REPORT_REPORT_H
#define PEOSIM_REPORT_REPORT_H

#include <stdio.h>

#include "report/record.h"
#include "study/grid.h"

/* What every result carries: version, config and its hash, profile, seed, fidelity. */
void report_head(const struct config *c, FILE *f);
/* What is compared: "layer" (a whole decoder layer with attention, the steady period of one behind
 * another), "moe" (router to combine alone). Every table says it in a line behind its head;
 * moe: it has the columns of the MoE part alone, too. */
const char *report_basis_name(const struct config *c);
void report_basis(const struct config *c, bool moe, FILE *f);
/* The MoE part alone as members of a JSON object; none where there is none. */
struct json_t;
void report_moe_json(const struct evaluation *ev, struct json_t *out);
/* Nodes of some GPUs come with other NICs than the profile says: which are used, and how to say
 * otherwise; a line for each such profile, behind the head. Nothing for the others. */
void report_nics(const struct config *c, FILE *f);
/* The same for one profile; NICs per GPU and their speed, 0 = as the profile says. */
void report_nics_of(const char *profile, double nics_per_gpu, double nic_Gbitps, FILE *f);
/* The head as a record: a title with the basis for people, members for programs; and what programs
 * find behind the results. */
void report_title(const struct config *c, struct record *r);
/* The same with the basis in words. */
void report_title_on(const struct config *c, const char *basis, struct record *r);
/* Its members alone: version, configuration, profile, model. */
void report_members(const struct config *c, struct record *r);
void report_head_record(const struct config *c, struct record *r);
void report_tail_record(const struct config *c, struct record *r);
/* The first value that the file gives a key, or its default. */
const char *report_first_value(const struct config *c, const char *key);
/* "batch 64, cluster.nodes 8": the scenario keys that the file varies, with their values. */
void report_scenario_words(const struct config *c, size_t scenario, char *buf, size_t size);
/* "num_rounds=4 num_sms=8": the knobs worth naming; the others are at their defaults. */
void report_knob_words(const struct grid_point *p, char *buf, size_t size);
/* Every knob that the policy reads, into a JSON object. */
struct json_t;
int report_knobs_json(const struct grid_point *p, struct json_t *out);
/* Communication SMs, rounds as --json counts them: N and 1 where the policy has no such knob. */
int report_num_sms(const struct grid_point *p);
int report_num_rounds(const struct grid_point *p);

#endif
