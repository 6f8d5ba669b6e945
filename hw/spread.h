/* hw/spread.h: how far a value without data of this GPU may be off. */
#ifndef PEOSIM_HW_SPREAD_H
#define PEOSIM_HW_SPREAD_H

#include "hw/fields.h"

/* The factor, either way, within which nine of ten true values lie, >= 1. For a field that is
 * transferred, assumed or unset: what fields of its section moved by wherever two GPUs have data of
 * their own (docs/tables/transfer.py). For a law's error (section `error`): what the law missed by
 * on groups left out of its fit (docs/results/accuracy.md). 1: a rule, a count or a nominal rate,
 * which is chosen and not estimated. */
#define HW_WITHIN_ALL 2.48 /* over the fields of all sections */
double hw_field_within(enum hw_field_id id);

#endif
