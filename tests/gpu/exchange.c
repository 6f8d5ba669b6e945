#include "tests/gpu/exchange.h"
#include "kernels/comm_ref.h"
#include "kernels/dedup.h"
#include "kernels/delay.h"
#include "tests/gpu/world.h"

/* Of the command line; world_run adds its own. */
#define MAX_ARGS 20

void exchange_die(const struct exchange_env *e, const char *file, int line, const char *what)
{
    fprintf(stderr, "rank %d: %s:%d: failed: %s\n", e->opt.rank, file, line, what);
    if (e->comm != NULL)
        kernels_comm_status(e->comm);
    _exit(1);
}

void *exchange_device_alloc(const struct exchange_env *e, size_t bytes)
{
    void *p = NULL;
    CHECK(e, cudaMalloc(&p, bytes + 256) == cudaSuccess);
    CHECK(e, cudaMemset(p, 0, bytes + 256) == cudaSuccess);
    return p;
}

void *exchange_host_alloc(const struct exchange_env *e, size_t bytes)
{
    void *p = calloc(1, bytes);
    CHECK(e, p != NULL);
    return p;
}

unsigned int exchange_rng_next(unsigned long long *state)
{
    *state += 0x9e3779b97f4a7c15ull;
    unsigned long long z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (unsigned int)((z ^ (z >> 31)) >> 16);
}

static double rng_uniform(unsigned long long *state)
{
    return (exchange_rng_next(state) + 0.5) / 4294967296.0;
}

static float factor_of(int gpu, int local)
{
    return 0.5f + (float)((gpu * 131 + local * 17) % 64) / 64.0f;
}

/* Rows and tiles of the stand-in's units of work, as a down GEMM would have them. */
enum block { BLOCK_M = 64, TILES = 7 };

static void buffers_open(struct exchange_env *e, struct exchange_buffers *b)
{
    const struct slots *s = &e->slots;
    size_t rows = (size_t)s->experts_local * (size_t)s->rows_max;
    size_t hidden = (size_t)s->shape.hidden;
    b->packed_bytes = rows * s->payload_bytes;
    b->scale_bytes = rows * hidden / SLOTS_CHANNELS * 4;
    b->y_packed_bytes = rows * hidden * 2;
    b->y_bytes = (size_t)s->shape.max_tokens * hidden * 2;
    b->units_bytes = (rows / BLOCK_M + (size_t)s->experts_local) * 4;
    b->packed_x = exchange_device_alloc(e, b->packed_bytes);
    b->packed_scales = exchange_device_alloc(e, b->scale_bytes);
    b->sources = exchange_device_alloc(e, rows * sizeof(*b->sources));
    b->rows = exchange_device_alloc(e, (size_t)s->experts_local * sizeof(int));
    b->segments = exchange_device_alloc(e, (size_t)s->shape.experts * sizeof(int2));
    b->y_packed = exchange_device_alloc(e, b->y_packed_bytes);
    b->y = exchange_device_alloc(e, b->y_bytes);
    b->units = exchange_device_alloc(e, b->units_bytes);
}

static void buffers_close(struct exchange_buffers *b)
{
    void *all[] = {b->packed_x, b->packed_scales, b->sources, b->rows,
                   b->segments, b->y_packed,      b->y,       b->units};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        cudaFree(all[i]);
}

void exchange_open(struct exchange_env *e, struct slots_shape shape, size_t scratch_bytes,
                   long long timeout_ns, const unsigned char *id)
{
    shape.ranks = e->opt.ranks;
    shape.rank = e->opt.rank;
    shape.dedup = 1;
    struct kernels_comm_config config = {
        .shape = shape,
        .scratch_bytes = scratch_bytes,
        .timeout_ns = timeout_ns > 0 ? timeout_ns : (long long)(e->opt.deadline_s * 1e9)};
    CHECK(e, kernels_comm_open(&e->comm, &config, id) == 0);
    e->slots = *kernels_comm_slots(e->comm);
    for (int i = 0; i < 2; i++)
        buffers_open(e, &e->buf[i]);
    size_t tokens = (size_t)shape.max_tokens, hidden = (size_t)shape.hidden;
    size_t choices = tokens * (size_t)shape.topk;
    e->x = exchange_device_alloc(e, tokens * hidden * 2);
    e->idx32 = exchange_device_alloc(e, choices * 4);
    e->idx64 = exchange_device_alloc(e, choices * 8);
    e->weights = exchange_device_alloc(e, choices * 4);
    e->factors = exchange_device_alloc(e, (size_t)e->slots.experts_local * 4);
    e->host_x = exchange_host_alloc(e, tokens * hidden * 2);
    e->host_y = exchange_host_alloc(e, tokens * hidden * 2);
    e->first_y = exchange_host_alloc(e, tokens * hidden * 2);
    e->host_idx = exchange_host_alloc(e, choices * 4);
    e->host_weights = exchange_host_alloc(e, choices * 4);
    e->ref = exchange_host_alloc(e, tokens * hidden * sizeof(double));
    float factors[SLOTS_MAX_EXPERTS];
    for (int i = 0; i < e->slots.experts_local; i++)
        factors[i] = factor_of(e->opt.rank, i);
    CHECK(e, cudaMemcpy(e->factors, factors, (size_t)e->slots.experts_local * 4,
                        cudaMemcpyHostToDevice) == cudaSuccess);
}

void exchange_close(struct exchange_env *e)
{
    kernels_comm_close(e->comm);
    e->comm = NULL;
    for (int i = 0; i < 2; i++)
        buffers_close(&e->buf[i]);
    void *device[] = {e->x, e->idx32, e->idx64, e->weights, e->factors};
    for (size_t i = 0; i < sizeof(device) / sizeof(device[0]); i++)
        cudaFree(device[i]);
    void *host[] = {e->host_x, e->host_y, e->first_y, e->host_idx, e->host_weights, e->ref};
    for (size_t i = 0; i < sizeof(host) / sizeof(host[0]); i++)
        free(host[i]);
}

/* The choices of a token, all different. */
static void choose_experts(const struct exchange_env *e, enum exchange_routing routing, int token,
                           unsigned long long *rng, int *out)
{
    int experts = e->slots.shape.experts, topk = e->slots.shape.topk;
    int few = topk + 1 < experts ? topk + 1 : experts;
    int start = (int)(exchange_rng_next(rng) % 2);
    for (int k = 0; k < topk; k++) {
        if (routing == EXCHANGE_ONE_EXPERT) { /* all tokens of all ranks, and nothing else */
            out[k] = k == 0 ? experts / 2 : -1;
        } else if (routing == EXCHANGE_SKEWED) { /* few experts get all, most none */
            out[k] = (start + k) % few;
        } else if (routing ==
                   EXCHANGE_ONE_RANK) { /* one rank's experts, as far as it has so many */
            out[k] = (token % e->slots.shape.vranks * e->slots.experts_local + k) % experts;
        } else {
            int taken;
            do {
                out[k] = (int)(exchange_rng_next(rng) % (unsigned int)experts);
                taken = 0;
                for (int j = 0; j < k; j++)
                    taken |= out[j] == out[k];
            } while (taken);
        }
    }
}

void exchange_inputs_make(struct exchange_env *e, enum exchange_routing routing, int tokens,
                          unsigned int seed)
{
    const struct slots_shape *shape = &e->slots.shape;
    unsigned long long rng = ((unsigned long long)e->opt.seed << 32) +
                             (unsigned long long)seed * 1000003 + (unsigned long long)e->opt.rank;
    for (int i = 0; i < tokens * shape->hidden; i++)
        e->host_x[i] =
            comm_ref_to_bf16((float)(rng_uniform(&rng) + rng_uniform(&rng) - 1.0) * 4.0f);
    for (int t = 0; t < tokens; t++) {
        choose_experts(e, routing, t, &rng, &e->host_idx[t * shape->topk]);
        int masked =
            routing == EXCHANGE_MASKED && exchange_rng_next(&rng) % 4 == 0; /* the whole token */
        for (int k = 0; k < shape->topk; k++) {
            int at = t * shape->topk + k;
            if (masked || (routing == EXCHANGE_MASKED && exchange_rng_next(&rng) % 3 == 0))
                e->host_idx[at] = -1;
            e->host_weights[at] = (float)rng_uniform(&rng);
        }
    }
    size_t choices = (size_t)tokens * (size_t)shape->topk;
    long long *wide = exchange_host_alloc(e, (choices + 1) * 8);
    for (size_t i = 0; i < choices; i++)
        wide[i] = e->host_idx[i];
    CHECK(e, cudaMemcpy(e->x, e->host_x, (size_t)tokens * (size_t)shape->hidden * 2,
                        cudaMemcpyHostToDevice) == cudaSuccess);
    CHECK(e, cudaMemcpy(e->idx32, e->host_idx, choices * 4, cudaMemcpyHostToDevice) == cudaSuccess);
    CHECK(e, cudaMemcpy(e->idx64, wide, choices * 8, cudaMemcpyHostToDevice) == cudaSuccess);
    CHECK(e, cudaMemcpy(e->weights, e->host_weights, choices * 4, cudaMemcpyHostToDevice) ==
                 cudaSuccess);
    free(wide);
}

void exchange_reference_make(struct exchange_env *e, int tokens)
{
    const struct slots_shape *shape = &e->slots.shape;
    double *cast = exchange_host_alloc(e, (size_t)shape->hidden * sizeof(double));
    for (int t = 0; t < tokens; t++) {
        double *ref = e->ref + (size_t)t * (size_t)shape->hidden, weight = 0;
        comm_ref_cast(cast, e->host_x + (size_t)t * (size_t)shape->hidden, shape->hidden,
                      shape->fp8);
        for (int k = 0; k < shape->topk; k++) {
            int expert = e->host_idx[t * shape->topk + k];
            if (expert >= 0)
                weight += (double)e->host_weights[t * shape->topk + k] *
                          (double)factor_of(slots_expert_gpu(&e->slots, expert),
                                            slots_expert_local(&e->slots, expert));
        }
        for (int h = 0; h < shape->hidden; h++)
            ref[h] = weight * cast[h];
    }
    free(cast);
}

struct dispatch_args exchange_dispatch_args(struct exchange_env *e, const struct exchange_how *how,
                                            int tokens)
{
    struct exchange_buffers *b = &e->buf[how->parity];
    int groups = e->slots.shape.hidden / SLOTS_CHANNELS;
    return (struct dispatch_args){.comm = e->comm,
                                  .parity = how->parity,
                                  .rounds = how->rounds,
                                  .num_sms = how->num_sms,
                                  .copy = how->copy,
                                  .tokens = tokens,
                                  .x = e->x,
                                  .topk_idx = how->idx_bytes == 8 ? e->idx64 : e->idx32,
                                  .topk_idx_bytes = how->idx_bytes == 8 ? 8 : 4,
                                  .topk_weights = e->weights,
                                  .packed_x = b->packed_x,
                                  .packed_scales = b->packed_scales,
                                  .scale_row = how->idx_bytes == 8 ? 1 : groups,
                                  .scale_group = how->idx_bytes == 8 ? e->slots.rows_max : 1,
                                  .sources = b->sources,
                                  .rows = b->rows,
                                  .segments = b->segments,
                                  .hot_rows = how->hot_rows,
                                  .pacing = how->pacing,
                                  .delay = {how->delay_ns, 17}};
}

struct combine_args exchange_combine_args(struct exchange_env *e, const struct exchange_how *how,
                                          int tokens)
{
    struct exchange_buffers *b = &e->buf[how->parity];
    return (struct combine_args){.comm = e->comm,
                                 .parity = how->parity,
                                 .rounds = how->rounds,
                                 .num_sms = how->num_sms,
                                 .copy = how->copy,
                                 .y_packed = b->y_packed,
                                 .sources = b->sources,
                                 .rows = b->rows,
                                 .segments = b->segments,
                                 .units_per_expert = (e->slots.rows_max + BLOCK_M - 1) / BLOCK_M,
                                 .block_m = BLOCK_M,
                                 .tiles_per_unit = TILES,
                                 .tokens = tokens,
                                 .topk_idx = how->idx_bytes == 8 ? e->idx64 : e->idx32,
                                 .topk_idx_bytes = how->idx_bytes == 8 ? 8 : 4,
                                 .topk_weights = e->weights,
                                 .y = b->y,
                                 .pacing = how->pacing,
                                 .delay = {how->delay_ns, 99}};
}

void exchange_finish(struct exchange_env *e)
{
    CHECK(e, cudaStreamSynchronize(e->main) == cudaSuccess);
    CHECK(e, cudaStreamSynchronize(e->side) == cudaSuccess);
    CHECK(e, kernels_comm_status(e->comm) == 0);
}

/* The next kernel's stamp, or NULL. */
static struct kernel_stamp *trail_next(struct exchange_env *e, const char *name, int parity)
{
    struct exchange_trail *t = &e->trail;
    if (t->stamps == NULL || t->count == 64)
        return NULL;
    t->names[t->count] = name;
    t->parity[t->count] = parity;
    return &t->stamps[t->count++];
}

void exchange_trail_begin(struct exchange_env *e)
{
    struct kernel_stamp zero[64];
    for (int i = 0; i < 64; i++)
        stamp_reset(&zero[i]);
    if (e->trail.stamps == NULL)
        e->trail.stamps = exchange_device_alloc(e, sizeof(zero));
    e->trail.count = 0;
    CHECK(e, cudaMemcpyAsync(e->trail.stamps, zero, sizeof(zero), cudaMemcpyHostToDevice,
                             e->main) == cudaSuccess);
    CHECK(e, cudaStreamSynchronize(e->main) == cudaSuccess);
}

void exchange_trail_end(struct exchange_env *e)
{
    cudaFree(e->trail.stamps);
    e->trail.stamps = NULL;
}

/* While kernels may still be running. Times from the first one's start. */
static void trail_print(const struct exchange_env *e)
{
    struct kernel_stamp seen[64];
    unsigned long long first_ns = ~0ull;
    char text[4096];
    int at = snprintf(text, sizeof(text), "rank %d, us:", e->opt.rank);
    cudaStream_t stream;
    CHECK(e, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(e, cudaMemcpyAsync(seen, e->trail.stamps, sizeof(seen), cudaMemcpyDeviceToHost, stream) ==
                 cudaSuccess);
    CHECK(e, cudaStreamSynchronize(stream) == cudaSuccess);
    for (int i = 0; i < e->trail.count; i++)
        first_ns = seen[i].start_ns < first_ns ? seen[i].start_ns : first_ns;
    for (int i = 0; i < e->trail.count; i++) {
        at += snprintf(text + at, sizeof(text) - (size_t)at, " %s%d ", e->trail.names[i],
                       e->trail.parity[i]);
        if (seen[i].start_ns == ~0ull)
            at += snprintf(text + at, sizeof(text) - (size_t)at, "not begun");
        else
            at += snprintf(text + at, sizeof(text) - (size_t)at, "%.0f..%.0f (%u CTAs)",
                           (double)(seen[i].start_ns - first_ns) * 1e-3,
                           seen[i].end_ns > 0 ? (double)(seen[i].end_ns - first_ns) * 1e-3 : -1.0,
                           seen[i].ctas);
    }
    fprintf(stderr, "%s\n", text);
    cudaStreamDestroy(stream);
}

void exchange_finish_watched(struct exchange_env *e)
{
    double begin_s = world_now_s();
    int told = 0;
    while (cudaStreamQuery(e->main) == cudaErrorNotReady ||
           cudaStreamQuery(e->side) == cudaErrorNotReady) {
        if (!told && world_now_s() - begin_s > e->opt.deadline_s / 2) {
            trail_print(e);
            told = 1;
        }
        usleep(100);
    }
    exchange_finish(e);
}

static void launch_standin(struct exchange_env *e, const struct exchange_how *how,
                           const struct dispatch_args *d, int round, int ctas, cudaStream_t stream)
{
    struct exchange_buffers *b = &e->buf[how->parity];
    int locals = e->slots.experts_local / how->rounds;
    struct standin_args a = {.comm = e->comm,
                             .ctas = ctas,
                             .local_first = round * locals,
                             .locals = locals,
                             .packed_x = b->packed_x,
                             .packed_scales = b->packed_scales,
                             .scale_row = d->scale_row,
                             .scale_group = d->scale_group,
                             .rows = b->rows,
                             .factors = e->factors,
                             .y_packed = b->y_packed,
                             .units = how->sbo ? b->units : NULL,
                             .units_per_expert = (e->slots.rows_max + BLOCK_M - 1) / BLOCK_M,
                             .block_m = BLOCK_M,
                             .tiles_per_unit = TILES,
                             .stamp = trail_next(e, "work", how->parity)};
    CHECK(e, kernels_standin_launch(&a, stream) == 0);
}

/* SBO: the stand-in for the down GEMM on one stream, the send that follows its tiles on another. */
static void launch_sbo(struct exchange_env *e, const struct exchange_how *how,
                       const struct dispatch_args *d, struct combine_args *c, cudaStream_t stream)
{
    c->units = e->buf[how->parity].units;
    c->num_sms = 3;
    CHECK(e, cudaEventRecord(e->event[0], stream) == cudaSuccess);
    CHECK(e, cudaStreamWaitEvent(e->side, e->event[0], 0) == cudaSuccess);
    CHECK(e, kernels_combine_send_launch(c, e->side) == 0);
    CHECK(e, cudaEventRecord(e->event[1], e->side) == cudaSuccess);
    launch_standin(e, how, d, 0, 16, stream);
    CHECK(e, cudaStreamWaitEvent(stream, e->event[1], 0) == cudaSuccess);
    c->units = NULL;
    c->num_sms = how->num_sms;
}

void exchange_launch(struct exchange_env *e, const struct exchange_how *how, int tokens,
                     cudaStream_t stream)
{
    struct dispatch_args d = exchange_dispatch_args(e, how, tokens);
    struct combine_args c = exchange_combine_args(e, how, tokens);
    if (how->dedup) {
        CHECK(e, kernels_dedup_dispatch_launch(&d, stream) == 0);
        launch_standin(e, how, &d, 0, 32, stream);
        CHECK(e, kernels_dedup_combine_launch(&c, stream) == 0);
        return;
    }
    if (how->fused) {
        CHECK(e, kernels_dispatch_fused_launch(&d, stream) == 0);
        launch_standin(e, how, &d, 0, 32, stream);
        CHECK(e, kernels_combine_fused_launch(&c, stream) == 0);
        return;
    }
    for (d.round = 0; d.round < d.rounds; d.round++) {
        d.stamp = trail_next(e, "send", how->parity);
        CHECK(e, kernels_dispatch_send_launch(&d, stream) == 0);
    }
    for (d.round = 0; d.round < d.rounds; d.round++) {
        d.stamp = trail_next(e, "receive", how->parity);
        CHECK(e, kernels_dispatch_recv_launch(&d, stream) == 0);
    }
    for (c.round = 0; c.round < c.rounds; c.round++) {
        if (how->sbo) {
            launch_sbo(e, how, &d, &c, stream);
            continue;
        }
        launch_standin(e, how, &d, c.round, 32, stream);
        c.stamp = trail_next(e, "combine send", how->parity);
        CHECK(e, kernels_combine_send_launch(&c, stream) == 0);
    }
    c.stamp = trail_next(e, "combine receive", how->parity);
    CHECK(e, kernels_combine_recv_launch(&c, stream) == 0);
}

cudaGraphExec_t exchange_capture(struct exchange_env *e,
                                 void (*body)(struct exchange_env *, const void *), const void *arg)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(e, cudaStreamBeginCapture(e->main, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    body(e, arg);
    CHECK(e, cudaStreamEndCapture(e->main, &graph) == cudaSuccess);
    CHECK(e, cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    CHECK(e, cudaGraphDestroy(graph) == cudaSuccess);
    return exec;
}

static int run_rank(const struct exchange_options *opt, const struct exchange_program *program)
{
    struct exchange_env e = {.opt = *opt};
    setvbuf(stdout, NULL, _IOLBF, 0);
    unsigned char id[KERNELS_COMM_ID_BYTES];
    CHECK(&e, cudaSetDevice(opt->rank) == cudaSuccess);
    CHECK(&e, cudaStreamCreateWithFlags(&e.main, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(&e, cudaStreamCreateWithFlags(&e.side, cudaStreamNonBlocking) == cudaSuccess);
    for (int i = 0; i < 2; i++)
        CHECK(&e, cudaEventCreate(&e.event[i]) == cudaSuccess);
    if (opt->rank == 0) {
        CHECK(&e, kernels_comm_id(id) == 0);
        CHECK(&e, write(3, id, sizeof(id)) == (ssize_t)sizeof(id));
    } else {
        CHECK(&e, world_read(3, id, sizeof(id), 120) == 0);
    }
    close(3);
    program->run(&e, id, program->arg);
    return 0;
}

static int probe(void)
{
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess)
        count = 0;
    return write(3, &count, sizeof(count)) == (ssize_t)sizeof(count) ? 0 : 1;
}

/* Runs this program with the same arguments once per GPU. */
static int run_world(const struct exchange_options *opt, int argc, char **argv)
{
    char *args[MAX_ARGS + 3] = {NULL}, seed[16];
    int gpus = world_gpus(argv[0]);
    if (gpus == 0) {
        printf("skipped: no GPU\n");
        return 0;
    }
    if (opt->gpus > 0 && opt->gpus < gpus)
        gpus = opt->gpus;
    if (argc > MAX_ARGS) {
        fprintf(stderr, "%s: more than %d arguments\n", argv[0], MAX_ARGS - 1);
        return 2;
    }
    memcpy(args, argv, (size_t)argc * sizeof(*args));
    if (opt->seed == 0) { /* all ranks need the same one; the last one given counts */
        snprintf(seed, sizeof(seed), "%u", (unsigned int)time(NULL));
        args[argc] = (char *)"--seed";
        args[argc + 1] = seed;
    }
    int failed = world_run(args, gpus, KERNELS_COMM_ID_BYTES, 240);
    printf("%s on %d GPUs\n", failed ? "FAILED" : "passed", gpus);
    return failed;
}

static void option_set(const struct exchange_option *option, const char *value)
{
    switch (option->kind) {
    case EXCHANGE_FLAG:
        *(int *)option->to = 1;
        break;
    case EXCHANGE_INT:
        *(int *)option->to = atoi(value);
        break;
    case EXCHANGE_UINT:
        *(unsigned int *)option->to = (unsigned int)strtoul(value, NULL, 0);
        break;
    case EXCHANGE_REAL:
        *(double *)option->to = atof(value);
        break;
    case EXCHANGE_TEXT:
        *(const char **)option->to = value;
        break;
    }
}

static const struct exchange_option *option_find(const struct exchange_option *options,
                                                 const char *name)
{
    for (; options->name != NULL; options++)
        if (strcmp(options->name, name) == 0)
            return options;
    return NULL;
}

static void usage_print(const struct exchange_option *options)
{
    for (; options->name != NULL; options++)
        if (options->kind == EXCHANGE_FLAG)
            fprintf(stderr, " [%s]", options->name);
        else if (options->value != NULL)
            fprintf(stderr, " [%s %s]", options->name, options->value);
}

/* 0, or -1 with the usage printed. */
static int options_read(struct exchange_options *opt, const struct exchange_option *own, int argc,
                        char **argv)
{
    const struct exchange_option shared[] = {
        {"--gpus", "N", EXCHANGE_INT, &opt->gpus},
        {"--seed", "N", EXCHANGE_UINT, &opt->seed},
        {"--deadline", "S", EXCHANGE_REAL, &opt->deadline_s},
        {"--rank", NULL, EXCHANGE_INT, &opt->rank}, /* these two: from parent to ranks */
        {"--ranks", NULL, EXCHANGE_INT, &opt->ranks},
        {0}};
    int i = 1;
    while (i < argc) {
        const struct exchange_option *option = option_find(own, argv[i]);
        if (option == NULL)
            option = option_find(shared, argv[i]);
        int valued = option != NULL && option->kind != EXCHANGE_FLAG;
        if (option == NULL || i + valued >= argc)
            break;
        option_set(option, argv[i + valued]);
        i += 1 + valued;
    }
    if (i == argc)
        return 0;
    fprintf(stderr, "usage: %s", argv[0]);
    usage_print(shared);
    usage_print(own);
    fprintf(stderr, "\n");
    return -1;
}

int exchange_main(int argc, char **argv, const struct exchange_program *program)
{
    struct exchange_options opt = {.rank = -1, .deadline_s = 10};
    if (argc == 2 && strcmp(argv[1], "--probe") == 0)
        return probe();
    if (options_read(&opt, program->own, argc, argv) != 0)
        return 2;
    if (opt.rank >= 0)
        return run_rank(&opt, program);
    return run_world(&opt, argc, argv);
}
