/* `peo`, Per Expert Overlap: the local experts of every rank are cut into R rounds, so that the
 * communication of one round runs beside the GEMMs of another on a share of the SMs.
 *
 * Rounds and SM arguments are those of DeepEP pull request 492, the four methods as RTP-LLM wired
 * them (commit f3ede8e11). N = all SMs, n = num_sms. The methods differ only in where the dispatch
 * kernels and the GEMMs run; experts_and_combine() is common to all. */
#include "base/err.h"
#include "model/policy/layer.h"

#define PEO_MAX_ROUNDS 64

static const struct opt peo_knobs[] = {
    KNOB_INT(overlap_method, 1, 4, "1", "overlap method, as numbered by RTP-LLM"),
    KNOB_INT(num_rounds, 2, PEO_MAX_ROUNDS, "2", "rounds R that the local experts are cut into"),
    KNOB_INT(num_sms, 4, 1024, "16", "communication SMs n while GEMMs run beside"),
    KNOB_INT(deepep_send_num_sms, 0, 1024, "0", "replaces n in dispatch and combine sends; 0 = n"),
    KNOB_INT(deepep_recv_num_sms, 0, 1024, "0", "replaces n in dispatch receives; 0 = n"),
    KNOB_INT(up_deepgemm_num_sms, 0, 1024, "0", "SMs of overlapped gate+up GEMMs; 0 = the rest"),
    KNOB_INT(down_deepgemm_num_sms, 0, 1024, "0", "SMs of overlapped down GEMMs; 0 = the rest"),
    KNOB_ENUM(launch_order, "rtp_llm|sglang", "rtp_llm",
              "GEMM and combine of each round in turn, or all GEMMs first"),
    KNOB_SHARED,
    KNOB_END,
};

static const struct knob_search peo_search[] = {
    {.key = "overlap_method", .from = 1, .to = 4, .step = 1, .unordered = true},
    {.key = "num_rounds", .values = KNOB_DIVISORS, .from = 2, .to = 16},
    {.key = "num_sms", .from = 4, .step = 4},
    KNOB_SEARCH_END,
};

struct peo {
    struct layer_builder b;
    int R, N;
    int send_sms, recv_sms;
    int main_stream, compute, comm; /* M, X, K */
    int dispatched[PEO_MAX_ROUNDS]; /* last dispatch op of a round: what G[i] waits for */
};

static int first_set(int value, int otherwise)
{
    return value > 0 ? value : otherwise;
}

static int peo_check_sms(const struct layer_spec *spec, const struct knobs *k, char *why,
                         size_t size)
{
    int N = spec->num_sms, n = k->num_sms, least = k->overlap_method == 3 ? N - 2 * n : N - n;

    if (n >= N || least < 1)
        return layer_infeasible(why, size, "num_sms %d leaves no SM of %d to the GEMMs (method %d)",
                                n, N, k->overlap_method);
    if (k->overlap_method == 3 && k->deepep_recv_num_sms >= N)
        return layer_infeasible(why, size, "deepep_recv_num_sms %d leaves no SM of %d (method 3)",
                                k->deepep_recv_num_sms, N);
    if (k->deepep_send_num_sms > N || k->deepep_recv_num_sms > N || k->up_deepgemm_num_sms > N ||
        k->down_deepgemm_num_sms > N)
        return layer_infeasible(why, size, "an SM count is above the GPU's %d", N);
    return 0;
}

static int peo_check(const struct layer_spec *spec, const struct knobs *k, char *why, size_t size)
{
    int err = layer_check(spec, k, why, size), local = spec->model->experts / spec->ranks;

    if (err)
        return err;
    if (spec->comm != COMM_LOW_LATENCY)
        return layer_infeasible(why, size, "peo runs on the low-latency kernels");
    if (local % k->num_rounds)
        return layer_infeasible(why, size, "%d local experts are not divisible by num_rounds %d",
                                local, k->num_rounds);
    return peo_check_sms(spec, k, why, size);
}

static struct layer_round round_of(const struct peo *p, int i)
{
    return (struct layer_round){i, p->R};
}

static int send(struct peo *p, int i, int stream, int sms, int after)
{
    return layer_dispatch_send(&p->b, round_of(p, i), stream, sms, after);
}

static int recv(struct peo *p, int i, int stream, int sms, int send_op, int after)
{
    return p->dispatched[i] =
               layer_dispatch_recv(&p->b, round_of(p, i), stream, sms, send_op, after);
}

/* Method 1: all sends with N, then the receives. */
static void dispatch_method1(struct peo *p)
{
    int sent[PEO_MAX_ROUNDS];

    for (int i = 0; i < p->R; i++)
        sent[i] = send(p, i, p->main_stream, p->N, -1);
    for (int i = 0; i < p->R; i++)
        recv(p, i, p->main_stream, i ? p->recv_sms : p->N, sent[i], -1);
}

/* Method 2: send and receive of each round in turn; only round 0 has all SMs (SGLang's draft sends
 * every round with all). */
static void dispatch_method2(struct peo *p)
{
    bool sglang = p->b.knobs->launch_order == LAUNCH_SGLANG;

    for (int i = 0; i < p->R; i++) {
        int sent = send(p, i, p->main_stream, i && !sglang ? p->send_sms : p->N, -1);

        recv(p, i, p->main_stream, i ? p->recv_sms : p->N, sent, -1);
    }
}

/* Method 3: sends on M, receives beside them on K; the last receive returns to M. */
static void dispatch_method3(struct peo *p)
{
    int last = p->R - 1, sent[PEO_MAX_ROUNDS];

    for (int i = 0; i < p->R; i++)
        sent[i] = send(p, i, p->main_stream, i ? p->send_sms : p->N, -1);
    for (int i = 0; i < last; i++)
        recv(p, i, p->comm, i ? p->recv_sms : p->N - p->recv_sms, sent[i], sent[i]);
    recv(p, last, p->main_stream, p->recv_sms, sent[last], p->dispatched[last - 1]);
}

/* Method 4: the ordinary fused dispatch; only the combine overlaps. */
static void dispatch_method4(struct peo *p)
{
    int op = layer_dispatch(&p->b, p->main_stream, p->N, -1);

    for (int i = 0; i < p->R; i++)
        p->dispatched[i] = op;
}

/* Stream and SM share of G[i], and the earlier GEMM that it must follow across streams. */
struct peo_gemm {
    int stream, sms, after_gemm;
};

static struct peo_gemm gemm_of(const struct peo *p, int i, const int *gemm)
{
    int n = p->b.knobs->num_sms;

    switch (p->b.knobs->overlap_method) {
    case 3:
        if (i <= p->R - 3)
            return (struct peo_gemm){p->compute, p->N - 2 * n, -1};
        return (struct peo_gemm){p->comm, p->N - n, i == p->R - 2 && i > 0 ? gemm[i - 1] : -1};
    case 4:
        if (i == 0)
            return (struct peo_gemm){p->main_stream, p->N, -1};
        return (struct peo_gemm){p->compute, p->N - n, i == 1 ? gemm[0] : -1};
    default:
        return (struct peo_gemm){p->compute, p->N - n, -1};
    }
}

static int ffn(struct peo *p, int i, const int *gemm)
{
    struct peo_gemm g = gemm_of(p, i, gemm);
    const struct knobs *k = p->b.knobs;
    bool all = g.sms == p->N;
    struct layer_ffn f = {
        .up_sms = all ? p->N : first_set(k->up_deepgemm_num_sms, g.sms),
        .act_sms = g.sms,
        .down_sms = all ? p->N : first_set(k->down_deepgemm_num_sms, g.sms),
        .up_gemm = layer_default_gemm(p->b.spec),
        .down_gemm = layer_default_gemm(p->b.spec),
    };

    return layer_ffn(&p->b, round_of(p, i), g.stream, &f, p->dispatched[i], g.after_gemm);
}

static int combine(struct peo *p, int i, const int *gemm)
{
    return layer_combine_send(&p->b, round_of(p, i), p->main_stream,
                              i == p->R - 1 ? p->N : p->send_sms, gemm[i]);
}

/* G[i] then Cs[i] for each round in turn, so that G[i+1] runs beside Cs[i]. */
static void experts_and_combine(struct peo *p)
{
    int gemm[PEO_MAX_ROUNDS], sent[PEO_MAX_ROUNDS];
    bool gemms_first = p->b.knobs->launch_order == LAUNCH_SGLANG;

    for (int i = 0; i < p->R; i++) {
        gemm[i] = ffn(p, i, gemm);
        if (!gemms_first)
            sent[i] = combine(p, i, gemm);
    }
    for (int i = 0; i < p->R && gemms_first; i++)
        sent[i] = combine(p, i, gemm);
    layer_combine_recv(&p->b, p->main_stream, p->N, sent, p->R, -1);
}

static void peo_layer(struct peo *p)
{
    static void (*const dispatch[])(struct peo *) = {dispatch_method1, dispatch_method2,
                                                     dispatch_method3, dispatch_method4};

    layer_head(&p->b, p->main_stream, p->N, -1);
    dispatch[p->b.knobs->overlap_method - 1](p);
    experts_and_combine(p);
    layer_tail(&p->b, p->main_stream, p->N);
}

static int peo_build(const struct layer_spec *spec, const struct knobs *k, struct plan **out)
{
    struct peo p = {.R = k->num_rounds, .N = spec->num_sms};

    if (p.R > PEO_MAX_ROUNDS)
        return ERR_INFEASIBLE;
    p.send_sms = first_set(k->deepep_send_num_sms, k->num_sms);
    p.recv_sms = first_set(k->deepep_recv_num_sms, k->num_sms);
    layer_begin(&p.b, &policy_peo, spec, k, false);
    p.main_stream = layer_stream(&p.b, "main", -1);
    p.compute = layer_stream(&p.b, "compute", 0);
    p.comm = k->overlap_method == 3 ? layer_stream(&p.b, "comm", -1) : -1;
    for (p.b.layer = 0; p.b.layer < spec->layers; p.b.layer++) {
        p.b.buffer = p.b.layer % 2;
        peo_layer(&p);
    }
    return layer_finish(&p.b, out);
}

static void peo_headline(const struct knobs *k, char *buf, size_t size)
{
    snprintf(buf, size, ", %d rounds, %d SMs", k->num_rounds, k->num_sms);
}

/* Names as in DeepEP pull request 492 (arguments of low_latency_dispatch and low_latency_combine),
 * RTP-LLM f3ede8e11 (fields of its MoE configuration) and SGLang pull request 13442 (a draft that
 * was closed: fields of its PEO executor). */
static void peo_settings(const struct knobs *k, const struct policy_place *place, FILE *f)
{
    int n = k->num_sms, gemm = place->num_sms - (k->overlap_method == 3 ? 2 * n : n);
    int send_sms = first_set(k->deepep_send_num_sms, n);
    int recv_sms = first_set(k->deepep_recv_num_sms, n);

    fprintf(f,
            "DeepEP (pull 492, open): use_expert_overlap=True num_rounds=%d send_num_sms=%d "
            "recv_num_sms=%d (rounds that overlap nothing: %d)\n",
            k->num_rounds, send_sms, recv_sms, place->num_sms);
    if (send_sms == n && recv_sms == n && k->launch_order == LAUNCH_RTP_LLM)
        fprintf(f,
                "RTP-LLM (pull 605, closed; commit f3ede8e11): enable_peo_level=%d "
                "num_peo_rounds=%d deep_ep_num_sm=%d\n",
                k->overlap_method, k->num_rounds, n);
    fprintf(f,
            "SGLang (pull 13442, closed): overlap_method=%d num_rounds=%d num_deepep_send_sms=%d "
            "num_deepep_recv_sms=%d num_up_deepgemm_sms=%d num_down_deepgemm_sms=%d\n",
            k->overlap_method, k->num_rounds, send_sms, recv_sms,
            first_set(k->up_deepgemm_num_sms, gemm), first_set(k->down_deepgemm_num_sms, gemm));
}

const struct policy policy_peo = {
    .name = "peo",
    .summary = "Per Expert Overlap (DeepEP 492): experts in rounds, four overlap methods",
    .knobs = peo_knobs,
    .same_bits = true,
    .method_knob = "overlap_method",
    .rounds_knob = "num_rounds",
    .sms_knob = "num_sms",
    .search = peo_search,
    .headline = peo_headline,
    .settings = peo_settings,
    .check = peo_check,
    .build = peo_build,
};
