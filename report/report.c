#include "report/report.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/err.h"
#include "base/version.h"

/* Scenario keys worth naming in a table: those that the file varies. */
void report_scenario_words(const struct config *c, size_t index, char *buf, size_t size)
{
    size_t at = 0, rest = index;

    buf[0] = '\0';
    for (int i = c->num_axes - 1; i >= 0; i--) {
        const struct axis *a = &c->axes[i];
        const char *value = a->values[rest % (size_t)a->num_values];

        rest /= (size_t)a->num_values;
        if (a->num_values > 1 && at < size)
            at += (size_t)snprintf(buf + at, size - at, "%s%s %s", at ? ", " : "", a->opt->key,
                                   value);
    }
}

/* "h20, h800": every value that the file gives the key. */
static const char *all_values(const struct config *c, const char *key, char *buf, size_t size)
{
    const struct axis *a = config_axis(c, key);
    size_t at = 0;

    snprintf(buf, size, "%s", a ? "" : opt_find(scenario_options, key)->def);
    for (int i = 0; a && i < a->num_values && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, "%s%s", i ? ", " : "", a->values[i]);
    return buf;
}

const char *report_first_value(const struct config *c, const char *key)
{
    const struct axis *a = config_axis(c, key);
    const struct opt *o = opt_find(scenario_options, key);

    return a ? a->values[0] : o->def;
}

/* What bandwidth sharing ran, and how far layer times are from exact by it: what
 * random points show (docs/flow-engine.md), baselines too, on fabrics without leaves. */
static const char *fidelity_words(const struct config *c)
{
    const char *fabric = report_first_value(c, "cluster.fabric");

    if (!strcmp(report_first_value(c, "simulation.fidelity"), "exact"))
        return "exact sharing";
    return strcmp(fabric, "flat") ? "coalesced sharing (no tested bound on this fabric)"
                                  : "fast sharing (98 of 100 layers within 1% of exact)";
}

void report_head(const struct config *c, FILE *f)
{
    char profiles[256], models[512], seeds[128];

    fprintf(f, "peosim %s  %s (%.12s)  profile %s  model %s  seed %s  %s\n", PEOSIM_VERSION,
            c->path, c->hash, all_values(c, "cluster.profile", profiles, sizeof profiles),
            all_values(c, "model", models, sizeof models),
            all_values(c, "seed", seeds, sizeof seeds), fidelity_words(c));
    report_nics(c, f);
}

/* One list may hold both: then each row has its own. */
const char *report_basis_name(const struct config *c)
{
    const struct axis *a = config_axis(c, "attention.include");
    int off = 0;

    for (int i = 0; a && i < a->num_values; i++)
        off += !strcmp(a->values[i], "off");
    return !off ? "layer" : off == a->num_values ? "moe" : "as attention.include says";
}

void report_basis(const struct config *c, bool moe, FILE *f)
{
    const char *name = report_basis_name(c);

    if (!strcmp(name, "layer"))
        fprintf(f, "  basis: a whole decoder layer with attention, one behind another%s\n",
                moe ? "; MoE: its part from router to combine, alone" : "");
    else if (!strcmp(name, "moe"))
        fprintf(f, "  basis: the MoE part of a layer alone, router to combine\n");
    else
        fprintf(f, "  basis: as attention.include says in each scenario (off: the MoE part alone, "
                   "else a whole layer)\n");
}

void report_nics_of(const char *profile, double nics_per_gpu, double nic_Gbitps, FILE *f)
{
    struct hw_profile *p = NULL;
    double nics, Gbit, host;

    if (hw_profile_read(profile, &p) != 0 || !p->nic_choices[0]) {
        hw_profile_free(p);
        return;
    }
    nics = nics_per_gpu > 0 ? nics_per_gpu : hw_value(p, HW_NET_NICS_PER_GPU);
    Gbit = nic_Gbitps > 0 ? nic_Gbitps : hw_value(p, HW_NET_NIC_GBITPS);
    host = hw_value(p, HW_NET_HOST_GPUS);
    fprintf(
        f,
        "  NICs: %gx%g Gb/s for %g GPUs; nodes of %s come with %s: set cluster.nics_per_gpu and "
        "cluster.nic_Gbitps\n",
        nics * host, Gbit, host, p->name, p->nic_choices);
    hw_profile_free(p);
}

/* What the file sets the key to, the first value of a list; 0: nothing. */
static double value_set(const struct config *c, const char *key)
{
    double x = 0;

    if (config_axis(c, key))
        sscanf(config_axis(c, key)->values[0], "%lf", &x);
    return x;
}

void report_nics(const struct config *c, FILE *f)
{
    const struct axis *axis = config_axis(c, "cluster.profile");
    double nics = value_set(c, "cluster.nics_per_gpu"), Gbit = value_set(c, "cluster.nic_Gbitps");

    if (!axis)
        report_nics_of(report_first_value(c, "cluster.profile"), nics, Gbit, f);
    for (int i = 0; axis && i < axis->num_values; i++)
        report_nics_of(axis->values[i], nics, Gbit, f);
}

int report_num_rounds(const struct grid_point *p)
{
    return policy_knob(p->policy, &p->knobs, p->policy->rounds_knob, 1);
}

int report_num_sms(const struct grid_point *p)
{
    return policy_knob(p->policy, &p->knobs, p->policy->sms_knob, p->ev.num_sms);
}

static bool is_key(const char *key, const char *other)
{
    return other && !strcmp(key, other);
}

/* The knobs that a reader sets: those of the policy that are not at their default. */
void report_knob_words(const struct grid_point *p, char *buf, size_t size)
{
    struct knobs dflt;
    size_t at = 0;

    buf[0] = '\0';
    knobs_default(p->policy, &dflt);
    for (const struct opt *o = p->policy->knobs; o->key && at < size; o++) {
        char value[64], usual[64];
        bool main_knob =
            is_key(o->key, p->policy->rounds_knob) || is_key(o->key, p->policy->sms_knob);

        opt_format(o, &p->knobs, value, sizeof value);
        opt_format(o, &dflt, usual, sizeof usual);
        if (is_key(o->key, p->policy->method_knob) || (!main_knob && !strcmp(value, usual)))
            continue;
        at += (size_t)snprintf(buf + at, size - at, "%s%s=%s", at ? " " : "", o->key, value);
    }
}

int report_knobs_json(const struct grid_point *p, struct json_t *out)
{
    int err = 0;

    for (const struct opt *o = p->policy->knobs; o->key && !err; o++) {
        const char *at = (const char *)&p->knobs + o->offset;
        char text[64];
        json_t *v;

        opt_format(o, &p->knobs, text, sizeof text);
        v = o->type == OPT_INT    ? json_integer(*(const int *)(const void *)at)
            : o->type == OPT_BOOL ? json_boolean(*(const bool *)at)
                                  : json_string(text);
        err = json_object_set_new(out, o->key, v);
    }
    return err;
}

void report_moe_json(const struct evaluation *ev, struct json_t *out)
{
    if (ev->moe_us > 0) {
        json_object_set_new(out, "moe_us", json_real(ev->moe_us));
        json_object_set_new(out, "moe_gain_pct", json_real(ev->moe_gain_pct));
    }
}

void report_members(const struct config *c, struct record *r)
{
    record_member_text(r, "version", PEOSIM_VERSION);
    record_member_text(r, "config", c->path);
    record_member_text(r, "config_hash", c->hash);
    record_member_text(r, "profile", report_first_value(c, "cluster.profile"));
    record_member_text(r, "model", report_first_value(c, "model"));
}

void report_title_on(const struct config *c, const char *basis, struct record *r)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return;
    report_head(c, f);
    if (basis)
        fprintf(f, "  basis: %s\n", basis);
    else
        report_basis(c, true, f);
    fclose(f);
    record_title(r, text);
    free(text);
}

void report_title(const struct config *c, struct record *r)
{
    report_title_on(c, NULL, r);
}

void report_head_record(const struct config *c, struct record *r)
{
    report_members(c, r);
    if (record_is_for(r, RECORD_PEOPLE))
        report_title(c, r);
}

void report_tail_record(const struct config *c, struct record *r)
{
    record_member(r, "seed", json_integer(atoll(report_first_value(c, "seed"))));
    record_member_text(r, "basis", report_basis_name(c));
    record_member_text(r, "fidelity", fidelity_words(c));
}
