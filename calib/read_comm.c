/* Public measurements of communication: logs and tables of threads, each row with its own GPU, NIC
 * and version, and the collectives and exchanges that a generator of tables measured. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "calib/read_comm.h"

#include "calib/draws.h"
#include "model/law/ll.h"
#include "model/law/mega.h"

/* "h100 (p5)" -> h100; GPUs that are only named by what they are compiled for go by that. */
static void public_system(struct cells *c, struct data_row *r)
{
    static const struct {
        const char *starts, *system;
    } names[] = {{"sm90", "hopper"},        {"sm100", "b200"},
                 {"hopper or", "unstated"}, {"unstated hopper", "hopper"},
                 {"blackwell", "unstated"}, {"unstated", "unstated"}};
    const char *hw = cell_text(c, "hw");
    size_t n = strcspn(hw, " +;,");

    if (!hw[0])
        cell_bad(c, "hw", "is empty");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(hw, names[i].starts, strlen(names[i].starts)) == 0) {
            snprintf(r->system, sizeof r->system, "%s", names[i].system);
            return;
        }
    snprintf(r->system, sizeof r->system, "%.*s", (int)(n < 15 ? n : 15), hw);
}

/* What one GPU's share of the NICs carries, GB/s: "4x CX7 400Gb", "32x EFA 100Gb", "CX7 400Gb" (one
 * for each GPU). 0: not said. */
static double nic_GBps(const char *nic, int gpus)
{
    const char *unit = strstr(nic, "Gb"), *p = unit;
    double count = gpus, Gbit = 0;

    if (!unit || gpus < 1)
        return 0;
    while (p > nic && isdigit((unsigned char)p[-1]))
        p--;
    if (sscanf(p, "%lf", &Gbit) != 1)
        return 0;
    sscanf(nic, "%lfx", &count);
    return count * Gbit / 8 / gpus;
}

static void public_shape(struct cells *c, struct data_row *r)
{
    int gpus = (int)cell_optional(c, "gpus_per_node", 1024);

    public_system(c, r);
    r->ranks = cell_int(c, "ep", 1, 4096);
    r->nodes = (int)cell_optional(c, "nodes", 1024);
    if (r->nodes < 1)
        r->nodes = 1;
    r->tokens = cell_int(c, "tokens", 1, 1 << 24);
    r->hidden = cell_int(c, "hidden", 128, 1 << 20);
    r->topk = cell_int(c, "topk", 1, 64);
    r->experts = (int)cell_optional(c, "experts", 1 << 16);
    r->num_sms = (int)cell_optional(c, "num_sms", 1024);
    if (r->experts == 0) /* the tests' default; a multiple of the ranks */
        r->experts = r->ranks > 0 ? 256 / r->ranks * r->ranks : 256;
    if (!c->err && r->ranks % r->nodes != 0)
        cell_bad(c, "nodes", "does not divide ep");
    if (!c->err && r->topk > r->experts)
        cell_bad(c, "topk", "is more than experts");
    r->nic_GBps = r->nodes > 1 ? nic_GBps(cell_text(c, "nic"), gpus) : 0;
    r->num_local = r->ranks ? r->experts / r->ranks : 0;
}

static enum plan_dtype one_dtype(struct cells *c, bool *known)
{
    const char *text = cell_text(c, "dtype");

    *known = strcmp(text, "fp8") == 0 || strcmp(text, "bf16") == 0;
    return strcmp(text, "fp8") == 0 ? DTYPE_FP8 : DTYPE_BF16;
}

static void public_group(struct cells *c, struct data_row *r)
{
    const char *version = cell_text(c, "version"), *nic = cell_text(c, "nic");

    snprintf(r->group, sizeof r->group, "EP%d %.20s%s%.20s", r->ranks, version,
             version[0] && nic[0] ? ", " : "", nic);
}

/* Off-node bytes over the whole time are a lower bound of what the NICs did; a row that beats the
 * NICs it names was measured on better ones, which nodes of this kind also come with. */
static bool nic_refuted(struct data_row *r)
{
    static const double come_with[] = {12.5, 25, 50, 100};
    double off = 1 - 1.0 / r->nodes, rows = (double)r->tokens * r->topk;
    double bytes =
        rows * off * (r->dtype == DTYPE_FP8 ? r->hidden * (1 + 1 / 32.0) : 2 * r->hidden);
    double GBps = r->latency_us > 0 ? bytes / r->latency_us / 1e3 : 0;

    if (r->nic_GBps <= 0 || GBps <= r->nic_GBps)
        return false;
    for (size_t i = 0; i < sizeof come_with / sizeof *come_with; i++)
        if (come_with[i] >= GBps) {
            r->nic_GBps = come_with[i];
            return true;
        }
    return false;
}

static int add_part(struct cells *c, const struct data_row *r, enum data_part part, const char *col)
{
    double us = cell_optional(c, col, CELL_MAX_US);
    struct data_row one = *r;

    if (!(us > 0))
        return 0;
    one.part = part;
    one.latency_us = us;
    one.reference = r->law == DATA_LL_LAYERED; /* else without a law of the parts */
    return data_add(c->set, &one) ? 0 : ERR_NOMEM;
}

#define LATENCY_BOUND_TOKENS 16 /* a rank's messages fit in what any NIC moves meanwhile */

/* Layered kernels are no hint of the NICs they had: those of the run beside them with DeepEP's own.
 */
static void layered_row(struct cells *c, struct data_row *r)
{
    const struct data_row *last = c->set->n ? &c->set->rows[c->set->n - 1] : NULL;

    r->law = DATA_LL_LAYERED;
    r->reference = true;
    if (last && last->law == DATA_LL_DISPATCH && last->ranks == r->ranks &&
        last->tokens == r->tokens)
        r->nic_GBps = last->nic_GBps;
}

/* Send and receive beside it where the hook's times stand too. */
static void read_public_ll(struct cells *c, struct data_row *r)
{
    const char *phase = cell_text(c, "phase"), *version = cell_text(c, "version");
    bool known;

    r->law = DATA_SHOWN;
    public_shape(c, r);
    r->dtype = one_dtype(c, &known);
    public_group(c, r);
    r->latency_us = cell_optional(c, "us", CELL_MAX_US);
    if (c->err)
        return;
    if (!(r->latency_us > 0)) { /* a bandwidth in prose */
        r->law = DATA_LAW_COUNT;
        return;
    }
    if (!known || strncmp(version, "hook", 4) == 0)
        return; /* dispatch and combine together; without the arrival */
    if (strstr(version, "layered"))
        layered_row(c, r);
    else if (strcmp(phase, "dispatch") == 0)
        r->law = DATA_LL_DISPATCH;
    else if (strcmp(phase, "combine") == 0)
        r->law = DATA_LL_COMBINE;
    else
        return;
    /* What a few tokens take is latency, whatever the NICs; of the networks that one article
     * compares at more, that whose NICs were all in use. */
    if (r->law != DATA_LL_LAYERED)
        r->reference = strcmp(r->system, "h20") == 0 && r->nodes > 1 &&
                       (nic_refuted(r) || r->tokens <= LATENCY_BOUND_TOKENS);
    if (add_part(c, r, DATA_SEND, "send_us") || add_part(c, r, DATA_RECV, "recv_us"))
        c->err = true;
}

double read_bandwidth_us(const struct data_row *r, double GBps)
{
    double bins = r->nodes > 1 ? r->nodes : r->ranks;
    double copies = law_touched(data_usable_experts(r), r->experts / bins, r->topk);
    double payload = r->dtype == DTYPE_FP8 ? r->hidden * (1 + 1 / 32.0) : 2.0 * r->hidden;

    return r->tokens * copies * payload / GBps / 1e3;
}

static void normal_phase(struct cells *c, struct data_row *r)
{
    const char *phase = cell_text(c, "phase");

    if (strcmp(phase, "dispatch") == 0)
        r->law = DATA_NORMAL_DISPATCH;
    else if (strcmp(phase, "combine") == 0)
        r->law = DATA_NORMAL_COMBINE;
    else
        r->law = DATA_SHOWN;
}

/* Of the NICs and versions that one thread compares, those in full use. */
static bool normal_is_reference(struct cells *c, const struct data_row *r)
{
    const char *nic = cell_text(c, "nic");

    return strcmp(cell_text(c, "confidence"), "a") == 0 && r->nodes > 1 &&
           ((strcmp(r->system, "h20") == 0 && strstr(nic, "several QPs")) ||
            strcmp(r->system, "b200") == 0);
}

static void read_public_normal(struct cells *c, struct data_row *r)
{
    const char *what = cell_text(c, "bw_what");
    double GBps = cell_optional(c, "bw_GBps", 1e5), us = cell_optional(c, "us", CELL_MAX_US);
    bool known, other = strstr(cell_text(c, "library"), "PCIe") != NULL;

    public_shape(c, r);
    r->dtype = one_dtype(c, &known);
    public_group(c, r);
    normal_phase(c, r);
    if (c->err)
        return;
    if (!(GBps > 0) && !(us > 0)) {
        r->law = DATA_LAW_COUNT;
        return;
    }
    /* The RDMA line of a measurement over nodes says it all; its NVLink line is the same time. */
    if (r->nodes > 1 && strcmp(what, "nvlink") == 0 && !(us > 0)) {
        r->law = DATA_LAW_COUNT;
        return;
    }
    if (!known || other || r->num_sms == 0)
        r->law = DATA_SHOWN;
    r->notify_us = cell_optional(c, "notify_us", CELL_MAX_US);
    r->kernel_only = true;
    r->latency_us = us > 0 ? us : read_bandwidth_us(r, GBps);
    r->reference = normal_is_reference(c, r);
    if (r->num_sms == 0)
        r->num_sms = 24;
}

void read_public_v1(struct cells *c, struct data_row *r)
{
    const char *kind = cell_text(c, "kind");

    if (strcmp(kind, "ll") == 0)
        read_public_ll(c, r);
    else if (strcmp(kind, "normal") == 0)
        read_public_normal(c, r);
    else
        cell_bad(c, "kind", "is neither ll nor normal");
}

static void shown_us(struct cells *c, struct data_row *r, const char *col)
{
    r->law = DATA_SHOWN;
    r->latency_us = cell_optional(c, col, CELL_MAX_US);
    if (!(r->latency_us > 0))
        r->law = DATA_LAW_COUNT; /* a bandwidth by another measure */
}

void read_public_v2(struct cells *c, struct data_row *r)
{
    const char *op = cell_text(c, "op");

    public_shape(c, r);
    shown_us(c, r, "us");
    if (r->law == DATA_SHOWN && !strchr(op, '+'))
        r->law = strstr(op, "dispatch") ? DATA_V2_DISPATCH : DATA_V2_COMBINE;
    snprintf(r->group, sizeof r->group, "V2 EP%d %.20s %.20s", r->ranks, cell_text(c, "mode"), op);
}

void read_public_other(struct cells *c, struct data_row *r)
{
    public_shape(c, r);
    shown_us(c, r, "us");
    snprintf(r->group, sizeof r->group, "EP%d %.34s %.10s", r->ranks, cell_text(c, "library"),
             cell_text(c, "phase"));
}

void read_public_nccl(struct cells *c, struct data_row *r)
{
    const char *name = cell_text(c, "collective");

    public_system(c, r);
    r->ranks = cell_int(c, "gpus", 2, 4096);
    r->nodes = cell_int(c, "nodes", 1, 1024);
    r->bytes = cell_optional(c, "bytes", 1e13);
    shown_us(c, r, "us");
    if (c->err || r->law == DATA_LAW_COUNT)
        return;
    r->nic_GBps = r->nodes > 1 ? nic_GBps(cell_text(c, "nic"), r->ranks / r->nodes) : 0;
    if (r->bytes > 0 && strcmp(name, "all_reduce") == 0)
        r->law = DATA_COLLECTIVE;
    snprintf(r->coll, sizeof r->coll, "%.15s", strcmp(name, "alltoall") == 0 ? "all_to_all" : name);
    snprintf(r->group, sizeof r->group, "%s x%d, %.24s", r->coll, r->ranks, cell_text(c, "nic"));
}

/* As engines run it, inside a graph; launched one by one the host shows. */
void read_custom_allreduce(struct cells *c, struct data_row *r)
{
    const char *kernel = cell_text(c, "kernel"), *engine = cell_text(c, "engine");

    r->law = DATA_COLLECTIVE;
    r->nodes = 1;
    cell_system(c, "system", r);
    r->ranks = cell_int(c, "num_gpus", 2, 4096);
    r->bytes = cell_number(c, "bytes", 1, 1e13);
    cell_latency(c, "latency_us", r);
    if (!engine[0])
        cell_bad(c, "engine", "is empty");
    snprintf(r->coll, sizeof r->coll, "ar_%.12s", engine);
    r->reference = !strstr(kernel, "eager");
    if (!r->reference)
        r->law = DATA_SHOWN;
    snprintf(r->group, sizeof r->group, "%s x%d", r->coll, r->ranks);
}

/* Prepare, dispatch and combine of the exchange over one NVLink domain. */
void read_a2a_nvl(struct cells *c, struct data_row *r)
{
    static const struct {
        const char *kernel, *op, *name;
    } ops[] = {{"NVLinkOneSided", "dispatch", "1s_dispatch"},
               {"NVLinkOneSided", "combine", "1s_combine"},
               {"NVLinkTwoSided", "prepare", "2s_prepare"},
               {"NVLinkTwoSided", "dispatch", "2s_dispatch"},
               {"NVLinkTwoSided", "combine", "2s_combine"},
               {"NVLinkTwoSided", "combine_low_precision", "2s_combine_lp"}};
    const char *kernel = cell_text(c, "kernel"), *op = cell_text(c, "op");
    const char *dtype = cell_text(c, "dtype");
    double element = strcmp(dtype, "bfloat16") == 0 ? 2
                     : strcmp(dtype, "fp8") == 0    ? 1
                     : strcmp(dtype, "nvfp4") == 0  ? 0.5 + 1 / 16.0
                                                    : 0;

    r->law = DATA_A2A_NVL;
    cell_system(c, "system", r);
    r->hidden = cell_int(c, "hidden", 128, 1 << 20);
    r->topk = cell_int(c, "topk", 1, 64);
    r->experts = cell_int(c, "num_experts", 1, 1 << 16);
    r->ranks = cell_int(c, "ep", 2, 4096);
    r->tokens = cell_int(c, "tokens_per_rank", 1, 1 << 24);
    r->nodes = 1; /* one NVLink domain */
    cell_latency(c, "latency_us", r);
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (strcmp(kernel, ops[i].kernel) == 0 && strcmp(op, ops[i].op) == 0)
            snprintf(r->coll, sizeof r->coll, "%s", ops[i].name);
    if (!r->coll[0])
        cell_bad(c, "op", "is unknown");
    if (element == 0)
        cell_bad(c, "dtype", "is not bfloat16, fp8 or nvfp4");
    /* Only dispatch and the low-precision combine move what dtype says: a combine moves BF16, and
     * preparing nothing but counts. */
    if (strcmp(op, "combine") == 0)
        element = 2;
    if (strcmp(op, "prepare") == 0)
        element = 0;
    r->bytes = r->hidden * element;
    r->dtype = strcmp(op, "combine") == 0 || element == 2 ? DTYPE_BF16 : DTYPE_FP8;
    snprintf(r->group, sizeof r->group, "%s EP%d %.10s", r->coll, r->ranks, dtype);
    r->reference = true;
}

void read_megamoe(struct cells *c, struct data_row *r)
{
    const char *dist = cell_text(c, "distribution");

    cell_system(c, "system", r);
    r->hidden = cell_int(c, "hidden", 128, 1 << 20);
    r->inter = cell_int(c, "inter", 16, 1 << 20);
    r->topk = cell_int(c, "topk", 1, 64);
    r->experts = cell_int(c, "num_experts", 1, 1 << 16);
    r->ranks = cell_int(c, "ep", 1, 4096);
    r->tokens = cell_int(c, "tokens_per_rank", 1, 1 << 24);
    shown_us(c, r, "latency_us");
    snprintf(r->group, sizeof r->group, "%.8s EP%d %.20s %.10s", cell_text(c, "phase"), r->ranks,
             dist, cell_text(c, "dtype"));
    snprintf(r->coll, sizeof r->coll, "%.15s", strstr(dist, "sampled") ? "sampled" : dist);
    r->law = DATA_MEGA;
    r->mega_rules = LAW_MEGA_316; /* sglang 0.5.10, April 2026 */
    r->dtype = DTYPE_MXFP4;
    r->reference = true;
    if (!c->err && r->experts % r->ranks != 0)
        cell_bad(c, "ep", "does not divide num_experts");
    if (!c->err && draws_mega(c->set, r, dist) != 0)
        c->err = true;
}

/* Whose scheduler made a public row: by the pull or the date that the row states. */
static int public_rules(struct cells *c, const char **version)
{
    const char *source = cell_text(c, "source"), *date = cell_text(c, "date");

    if (strstr(source, "DeepGEMM#316")) {
        *version = "pull 316";
        return LAW_MEGA_316;
    }
    if (strstr(source, "sgl-project/DeepGEMM#36")) {
        *version = "SM90, sgl 36";
        return LAW_MEGA_SM90;
    }
    *version = strcmp(date, "2026-06") > 0 ? "pull 364 or later" : "April";
    return strcmp(date, "2026-06") > 0 ? LAW_MEGA_364 : LAW_MEGA_316;
}

/* DeepGEMM's fused kernel and layers of kernels one after another, where GPU, EP and model are
 * stated; other fused kernels are shown. */
static void public_mega_law(struct cells *c, struct data_row *r, const char *what)
{
    bool baseline = strncmp(what, "baseline deepep_", 16) == 0, fp8 = false;

    if (r->law != DATA_SHOWN || r->ranks < 1 || strcmp(r->system, "unstated") == 0 ||
        strcmp(r->system, "hopper") == 0 || r->experts % r->ranks)
        return;
    fp8 = strcmp(cell_text(c, "dtype"), "fp8") == 0;
    if (!baseline && strcmp(what, "megamoe fused") != 0 && !strstr(what, "fused deepgemm"))
        return;
    r->law = baseline ? DATA_SPLIT : DATA_MEGA;
    r->dtype = fp8 ? DTYPE_FP8 : DTYPE_MXFP4;
    snprintf(r->coll, sizeof r->coll, "%s",
             !baseline              ? "uniform"
             : strstr(what, "_ll+") ? "low_latency"
                                    : "normal");
    r->kernel_only = strstr(cell_text(c, "source"), "/DeepGEMM#") != NULL; /* its tests' trace */
    r->reference = strcmp(r->system, "b200") == 0; /* no other rows are of that GPU */
    /* Uniform popularity, tokens drawn as the tests of that repository do. */
    if (!c->err && draws_mega(c->set, r, "uniform") != 0)
        c->err = true;
}

void read_public_megamoe(struct cells *c, struct data_row *r)
{
    const char *what = cell_text(c, "what"), *version;

    public_system(c, r);
    r->ranks = (int)cell_optional(c, "ep", 4096);
    r->nodes = 1;
    r->tokens = (int)cell_optional(c, "tokens_per_rank", 1 << 24);
    r->hidden = cell_int(c, "hidden", 128, 1 << 20);
    r->inter = cell_int(c, "inter", 16, 1 << 20);
    r->topk = cell_int(c, "topk", 1, 64);
    r->experts = cell_int(c, "experts", 1, 1 << 16);
    shown_us(c, r, "us");
    r->mega_rules = public_rules(c, &version);
    snprintf(r->group, sizeof r->group, "EP%d %.10s %.24s, %.14s", r->ranks, cell_text(c, "model"),
             what, version);
    if (!c->err)
        public_mega_law(c, r, what);
}

/* DeepSeek's training of V3 on H800: EP64 on 8 nodes, 4,096 tokens, tokens to at most 4 nodes. */
static void trace_shape(struct data_row *r, int sms)
{
    r->ranks = 64;
    r->nodes = 8;
    r->tokens = 4096;
    r->hidden = 7168;
    r->topk = 8;
    r->experts = 256;
    r->node_limit = 4;
    r->num_sms = sms;
    r->kernel_only = true;
}

void read_public_trace(struct cells *c, struct data_row *r)
{
    const char *kernel = cell_text(c, "kernel"),
               *us = csv_col(c->csv, "dur_us") >= 0 ? "dur_us" : "median_us";
    int sms = 20; /* of its communication kernels, as their grids say */

    snprintf(r->system, sizeof r->system, "h800");
    shown_us(c, r, us);
    snprintf(r->group, sizeof r->group, "%.50s", kernel);
    if (c->err || r->law == DATA_LAW_COUNT)
        return;
    if (strncmp(kernel, "ep_dispatch", 11) == 0)
        r->law = DATA_NORMAL_DISPATCH;
    else if (strncmp(kernel, "ep_combine", 10) == 0)
        r->law = DATA_NORMAL_COMBINE;
    else
        return;
    trace_shape(r, sms);
    r->dtype = r->law == DATA_NORMAL_DISPATCH ? DTYPE_FP8 : DTYPE_BF16;
}
