/* CUPTI's records of kernels whose times are known otherwise: delays by their stamps, a library
 * GEMM by events, in a graph of two streams and without one; and that nothing of CUPTI stays
 * behind. test_cupti [REPLAYS] */
#include <string.h>

#include "base/err.h"
#include "kernels/delay.h"
#include "kernels/dense_gemm.h"
#include "tests/gpu/gemm_data.h"
#include "validate/gpu_cupti.h"

enum { FIRST, GEMM, LAST, BESIDE, TAGS };
enum { GEMM_ROWS = 512, GEMM_N = 4096, GEMM_K = 7168, GEMM_SMS = 96, ROW_KERNELS = 40 };

#define FIRST_NS   50000
#define LAST_NS    30000
#define BESIDE_NS  60000 /* beside the first and a part of the GEMM */
#define NEAR_NS    2000  /* records against stamps */
#define OVERLAP_NS 1000  /* a clock's error where two spans meet */
#define GEMM_OFF   0.10  /* a record's length against events */
#define MOVED_MOST 0.02  /* replays after CUPTI against replays before it */

static int failures;

static void check(int ok, const char *what)
{
    failures += !ok;
    printf("%s %s\n", ok ? "ok  " : "FAIL", what);
}

struct bed {
    struct gpu_cupti *cupti;
    struct dense_gemm *gemm;
    struct dense_gemm_args args;
    struct kernel_stamp *stamps; /* device, [TAGS] */
    cudaStream_t stream[2];
    cudaEvent_t event[2];
    cudaGraphExec_t exec;
    int replays;
};

static void bed_open(struct bed *b)
{
    struct dense_gemm_shape shape = {
        .dtype = GEMM_BF16, .m = GEMM_ROWS, .n = GEMM_N, .k = GEMM_K, .num_sms = GEMM_SMS};
    const int sizes[] = {GEMM_ROWS * GEMM_K, GEMM_N * GEMM_K, GEMM_ROWS * GEMM_N};
    const void **at[] = {&b->args.a, &b->args.b, (const void **)&b->args.c};
    for (int i = 0; i < 3; i++) {
        CUDA(cudaMalloc((void **)at[i], (size_t)sizes[i] * 2));
        CUDA(cudaMemset((void *)*at[i], 0x3c, (size_t)sizes[i] * 2));
    }
    LAUNCH(kernels_dense_gemm_open(&b->gemm, &shape));
    CUDA(cudaMalloc((void **)&b->stamps, TAGS * sizeof(*b->stamps)));
    for (int i = 0; i < 2; i++) {
        CUDA(cudaStreamCreateWithFlags(&b->stream[i], cudaStreamNonBlocking));
        CUDA(cudaEventCreate(&b->event[i]));
    }
}

static void delay(struct bed *b, int tag, int ctas, unsigned int ns, int stream)
{
    struct delay_args a = {.ctas = ctas, .min_ns = ns, .stamp = b->stamps + tag};
    gpu_cupti_tag(b->cupti, tag);
    LAUNCH(kernels_delay_launch(&a, b->stream[stream]));
    gpu_cupti_tag(b->cupti, -1);
}

static void enqueue_streams(struct bed *b, int with_gemm)
{
    cudaEvent_t fork, join;
    CUDA(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
    CUDA(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
    CUDA(cudaEventRecord(fork, b->stream[0]));
    CUDA(cudaStreamWaitEvent(b->stream[1], fork, 0));
    delay(b, BESIDE, 4, BESIDE_NS, 1);
    delay(b, FIRST, 8, FIRST_NS, 0);
    gpu_cupti_tag(b->cupti, GEMM);
    if (with_gemm)
        LAUNCH(kernels_dense_gemm_launch(b->gemm, &b->args, b->stream[0]));
    gpu_cupti_tag(b->cupti, -1);
    delay(b, LAST, 100, LAST_NS, 0);
    CUDA(cudaEventRecord(join, b->stream[1]));
    CUDA(cudaStreamWaitEvent(b->stream[0], join, 0));
    CUDA(cudaEventDestroy(fork));
    CUDA(cudaEventDestroy(join));
}

static void enqueue(struct bed *b)
{
    enqueue_streams(b, 1);
}

static void enqueue_no_gemm(struct bed *b)
{
    enqueue_streams(b, 0);
}

static cudaGraphExec_t captured(struct bed *b, void (*what)(struct bed *))
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CUDA(cudaStreamBeginCapture(b->stream[0], cudaStreamCaptureModeThreadLocal));
    what(b);
    CUDA(cudaStreamEndCapture(b->stream[0], &graph));
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    CUDA(cudaGraphDestroy(graph));
    return exec;
}

/* Many short kernels: where a profiler's cost shows most. */
static void row(struct bed *b)
{
    for (int i = 0; i < ROW_KERNELS; i++)
        delay(b, FIRST, 132, 3000, 0);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median ns of a replay, over n after a first one. */
static double replay_ns(struct bed *b, cudaGraphExec_t exec, int n)
{
    double *ns = calloc((size_t)n, sizeof(*ns)), median;
    for (int i = -1; i < n; i++) {
        struct delay_args head_start = {.ctas = 1, .min_ns = 500000};
        float ms;
        LAUNCH(kernels_delay_launch(&head_start, b->stream[0]));
        CUDA(cudaEventRecord(b->event[0], b->stream[0]));
        CUDA(cudaGraphLaunch(exec, b->stream[0]));
        CUDA(cudaEventRecord(b->event[1], b->stream[0]));
        CUDA(cudaStreamSynchronize(b->stream[0]));
        CUDA(cudaEventElapsedTime(&ms, b->event[0], b->event[1]));
        if (i >= 0)
            ns[i] = ms * 1e6;
    }
    qsort(ns, (size_t)n, sizeof(*ns), compare);
    median = ns[n / 2];
    free(ns);
    return median;
}

/* One run of the two streams: its stamps, and with records, how the clocks stand. */
static void run(struct bed *b, struct kernel_stamp *stamps, struct gpu_record *records,
                struct gpu_cupti_fit *fit)
{
    const bool own[TAGS] = {[FIRST] = true, [LAST] = true, [BESIDE] = true};
    for (int i = 0; i < TAGS; i++)
        stamp_reset(&stamps[i]);
    CUDA(cudaMemcpy(b->stamps, stamps, TAGS * sizeof(*stamps), cudaMemcpyHostToDevice));
    if (b->exec)
        CUDA(cudaGraphLaunch(b->exec, b->stream[0]));
    else
        enqueue(b);
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaMemcpy(stamps, b->stamps, TAGS * sizeof(*stamps), cudaMemcpyDeviceToHost));
    if (!records)
        return;
    LAUNCH(gpu_cupti_collect(b->cupti, records, TAGS));
    LAUNCH(gpu_cupti_fit(records, stamps, own, TAGS, fit));
}

static void check_two_streams(struct bed *b, const char *how, double gemm_ns)
{
    struct kernel_stamp s[TAGS];
    struct gpu_record r[TAGS];
    struct gpu_cupti_fit fit;
    int all = 1, near_stamps = 1, apart = 1, timed = 1;
    char what[160];
    for (int k = -1; k < b->replays; k++) {
        run(b, s, r, &fit);
        if (k < 0) /* loads code */
            continue;
        long long begin = r[GEMM].start_ns + fit.start_ns, end = r[GEMM].end_ns + fit.end_ns;
        double length = (double)(end - begin);
        for (int i = 0; i < TAGS; i++) {
            long long longer =
                r[i].end_ns - r[i].start_ns - (long long)(s[i].end_ns - s[i].start_ns);
            all &= i == GEMM ? r[i].kernels >= 1 : r[i].kernels == 1;
            near_stamps &= i == GEMM || llabs(longer) <= NEAR_NS;
        }
        apart &= begin >= (long long)s[FIRST].end_ns - OVERLAP_NS &&
                 end <= (long long)s[LAST].start_ns + OVERLAP_NS && begin < end;
        timed &= fabs(length / gemm_ns - 1) <= GEMM_OFF;
        if (k < 2 || k + 1 == b->replays)
            printf("  %s: GEMM %.2f us in %d kernels, %.2f after and %.2f before its neighbours; "
                   "records %+.2f us longer (farthest %+.2f), clocks within %.2f\n",
                   how, length * 1e-3, r[GEMM].kernels,
                   (double)(begin - (long long)s[FIRST].end_ns) * 1e-3,
                   (double)((long long)s[LAST].start_ns - end) * 1e-3, fit.longer_ns * 1e-3,
                   fit.longer_most_ns * 1e-3, fit.spread_ns * 1e-3);
    }
    snprintf(what, sizeof(what), "%s: every kernel has its record, n %d", how, b->replays);
    check(all, what);
    snprintf(what, sizeof(what), "%s: delays as their stamps, within %d ns", how, NEAR_NS);
    check(near_stamps, what);
    snprintf(what, sizeof(what), "%s: a GEMM overlaps no neighbour on its stream", how);
    check(apart, what);
    snprintf(what, sizeof(what), "%s: its length is that of events (%.2f us), within %.0f%%", how,
             gemm_ns * 1e-3, GEMM_OFF * 100);
    check(timed, what);
}

/* All that a turn with CUPTI does on the GPU, without it: work on a second stream alone can make
 * the graphs after it start some us later, which is not CUPTI's doing. */
static void turn_without(struct bed *b)
{
    struct kernel_stamp s[TAGS];
    cudaGraphExec_t fresh;
    b->exec = captured(b, enqueue);
    for (int k = 0; k < b->replays; k++)
        run(b, s, NULL, NULL);
    CUDA(cudaGraphExecDestroy(b->exec));
    b->exec = NULL;
    for (int k = 0; k < b->replays; k++)
        run(b, s, NULL, NULL);
    fresh = captured(b, row);
    replay_ns(b, fresh, 50);
    CUDA(cudaGraphExecDestroy(fresh));
}

/* Clocks 1e15 ns apart; records begin 400 ns early and end 600 ns late. */
static void check_fit(void)
{
    enum { KERNELS = 9 };
    struct kernel_stamp s[KERNELS];
    struct gpu_record r[KERNELS];
    bool own[KERNELS];
    struct gpu_cupti_fit fit;
    for (int i = 0; i < KERNELS; i++) {
        own[i] = i != 7;
        stamp_reset(&s[i]);
        s[i].start_ns = 1000000000000000ull + 5000 * (unsigned long long)i;
        s[i].end_ns = s[i].start_ns + 3000;
        s[i].ctas = 1;
        r[i] = (struct gpu_record){5000 * i - 400, 5000 * i + 3600, 1};
    }
    r[2].start_ns -= 7000;     /* its CTAs waited for SMs */
    s[4].ctas = 0;             /* a library kernel */
    s[4].end_ns = 0;           /* leaves none of these */
    s[7].end_ns += 900000;     /* of another kernel */
    r[6].kernels = 2;          /* one stamp of two kernels */
    r[6].end_ns += 1000000000; /* may begin and end elsewhere */
    check(gpu_cupti_fit(r, s, own, KERNELS, &fit) == 0 && fit.n == KERNELS - 3,
          "fit: of one kernel and one stamp each");
    check(fit.start_ns == 1000000000000400 && fit.end_ns == 999999999999400,
          "fit: starts and ends have offsets of their own");
    check(fit.longer_ns == 1000 && fit.longer_most_ns == 8000 && fit.spread_ns == 0,
          "fit: how much longer records are, and how far ends spread");
    check(gpu_cupti_fit(r + 4, s + 4, own + 4, 1, &fit) == ERR_DATA, "fit: nothing to compare");
}

int main(int argc, char **argv)
{
    struct bed b = {.replays = argc > 1 ? atoi(argv[1]) : 10};
    const char *why = NULL;
    char what[160];
    check_fit();
    if (!data_gpu_present("test_cupti"))
        return failures != 0;
    if (gpu_cupti_open(&b.cupti, &why) != 0) {
        printf("test_cupti: skipped: %s\n", why ? why : "no memory");
        return failures != 0;
    }
    bed_open(&b);
    cudaGraphExec_t with = captured(&b, enqueue), without = captured(&b, enqueue_no_gemm);
    cudaGraphExec_t delays = captured(&b, row);
    /* By events, with one launch gap more. */
    double gemm_ns = replay_ns(&b, with, 50) - replay_ns(&b, without, 50);
    double first = replay_ns(&b, delays, 50), before;
    turn_without(&b);
    before = replay_ns(&b, delays, 50);
    printf("CUPTI %d; %d kernels of 3 us: %.2f us at first, %.2f us before CUPTI\n",
           gpu_cupti_version(b.cupti), ROW_KERNELS, first * 1e-3, before * 1e-3);
    for (int turn = 0; turn < 2; turn++) { /* it must also start again */
        if (gpu_cupti_start(b.cupti) != 0) {
            printf("test_cupti: skipped: CUPTI does not start here\n");
            return failures != 0;
        }
        b.exec = captured(&b, enqueue);
        check_two_streams(&b, "graph", gemm_ns);
        CUDA(cudaGraphExecDestroy(b.exec));
        b.exec = NULL;
        check_two_streams(&b, "eager", gemm_ns);
        cudaGraphExec_t recorded = captured(&b, row);
        printf("  %d kernels of 3 us: %.2f us; recorded %.2f us\n", ROW_KERNELS, before * 1e-3,
               replay_ns(&b, recorded, 50) * 1e-3);
        CUDA(cudaGraphExecDestroy(recorded));
        CUDA(cudaDeviceSynchronize());
        gpu_cupti_stop(b.cupti);
        double after = replay_ns(&b, delays, 50);
        cudaGraphExec_t again = captured(&b, row);
        double fresh = replay_ns(&b, again, 50);
        CUDA(cudaGraphExecDestroy(again));
        snprintf(what, sizeof(what), "after CUPTI replays take as long: %.2f, new graph %.2f us",
                 after * 1e-3, fresh * 1e-3);
        check(fabs(after / before - 1) <= MOVED_MOST && fabs(fresh / before - 1) <= MOVED_MOST,
              what);
    }
    CUDA(cudaGraphExecDestroy(with));
    CUDA(cudaGraphExecDestroy(without));
    CUDA(cudaGraphExecDestroy(delays));
    kernels_dense_gemm_close(b.gemm);
    gpu_cupti_close(b.cupti);
    printf("%s\n", failures ? "FAILED" : "all passed");
    return failures != 0;
}
