/* The validator around a back end that is none: what it keeps, resumes, marks and refuses. The back
 * end answers in place of validate/no_gpu.c; ranks are this program, started again. */
#include "tests/check.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "cmd/cmd_validate.h"
#include "study/validate.h"
#include "validate/gpu.h"
#include "validate/shape.h"

/* --- the back end ------------------------------------------------------------------------------
 * FAKE_LOG: a file that gets a line per plan run. FAKE_STOP: so many, then it fails. FAKE_NOISE:
 * the plan of this number has a wide spread. */

struct gpu_session {
    struct gpu_team *team;
    int runs;
};

bool gpu_built(void)
{
    return true;
}

int gpu_session_open(struct gpu_session **out, struct gpu_team *team, bool experimental_gin)
{
    unsigned char id[GPU_TEAM_ID_BYTES] = {1};

    (void)experimental_gin;
    *out = calloc(1, sizeof **out);
    if (!*out)
        return ERR_NOMEM;
    (*out)->team = team;
    return gpu_team_id_share(team, id, 20);
}

void gpu_session_close(struct gpu_session *s)
{
    free(s);
}

static int number_of(const char *name)
{
    const char *text = getenv(name);

    return text ? atoi(text) : -1;
}

int gpu_session_run(struct gpu_session *s, const struct plan *plan, const struct gpu_options *o,
                    struct gpu_result *result, struct trace **trace)
{
    const char *path = getenv("FAKE_LOG");
    FILE *f = path && s->team->rank == 0 ? fopen(path, "a") : NULL;

    *trace = NULL;
    memset(result, 0, sizeof *result);
    if (f) {
        fprintf(f, "%s %d\n", plan->policy, plan->batches[0].num_tokens);
        fclose(f);
    }
    if (s->runs == number_of("FAKE_STOP"))
        return ERR_GPU;
    result->n = o->repeats;
    result->median_us = result->min_us = 500 + s->runs;
    result->p95_us = result->median_us * (s->runs == number_of("FAKE_NOISE") ? 1.5 : 1.01);
    for (int k = 0; k < OP_KIND_COUNT; k++)
        result->kind_us[k] = -1;
    s->runs++;
    return 0;
}

int gpu_bench(struct gpu_session *s, const char *csv_path, bool quick, const char *only)
{
    (void)s, (void)csv_path, (void)quick, (void)only;
    return ERR_UNSUPPORTED;
}

void gpu_versions(const struct gpu_session *s, char *buf, size_t size)
{
    (void)s;
    snprintf(buf, size, "no GPU at all");
}

/* --- running it --------------------------------------------------------------------------------
 */

struct place {
    char folder[64], log[96], out[96];
};

static void place_open(struct place *p)
{
    snprintf(p->folder, sizeof p->folder, "/tmp/peosim-validate-XXXXXX");
    assert_true(mkdtemp(p->folder) != NULL);
    snprintf(p->log, sizeof p->log, "%s/fake.log", p->folder);
    snprintf(p->out, sizeof p->out, "%s/out", p->folder);
    setenv("FAKE_LOG", p->log, 1);
    unsetenv("FAKE_STOP");
    unsetenv("FAKE_NOISE");
}

static void place_close(const struct place *p)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", p->folder);
    assert_true(system(command) == 0);
}

/* Exit status of `peosim validate CONFIG --gpus 2 --no-plots ...` with all it says in p->out. */
static int run(const struct place *p, const char *config, const char *more)
{
    char folder[96], *argv[16] = {"validate",   (char *)config, "--gpus", "2",
                                  "--no-plots", "--output-dir", folder};
    char words[256], *rest = NULL;
    int argc = 7, status;
    pid_t child;

    snprintf(folder, sizeof folder, "%s/results", p->folder);
    snprintf(words, sizeof words, "%s", more);
    for (char *w = strtok_r(words, " ", &rest); w; w = strtok_r(NULL, " ", &rest))
        argv[argc++] = w;
    child = fork();
    if (child == 0) {
        int fd = open(p->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        dup2(fd, 1);
        dup2(fd, 2);
        exit(cmd_validate(argc, argv) ? 1 : 0);
    }
    assert_true(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char *text_of(const char *path)
{
    static char text[65536];
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;

    text[n] = '\0';
    if (f)
        fclose(f);
    return text;
}

static int lines_of(const char *path)
{
    int n = 0;

    for (const char *c = text_of(path); *c; c++)
        n += *c == '\n';
    return n;
}

static void config_write(const struct place *p, char path[96], const char *model)
{
    FILE *f;

    snprintf(path, 96, "%s/layers.yaml", p->folder);
    f = fopen(path, "w");
    assert_true(f != NULL);
    if (!f)
        return;
    fprintf(f,
            "model: %s\nphase: decode\nbatch: [16, 32]\ncluster:\n  profile: h200-own\n"
            "  nodes: 1\n  gpus_per_node: 2\npolicies:\n  - policy: none\n  - policy: sbo\n",
            model);
    fclose(f);
}

/* --- tests -------------------------------------------------------------------------------------
 */

static void kept_and_resumed(void **state)
{
    struct place p;
    char config[96], layers[128];

    (void)state;
    place_open(&p);
    config_write(&p, config, "qwen3-30b");
    snprintf(layers, sizeof layers, "%s/results/layers.csv", p.folder);
    setenv("FAKE_STOP", "3", 1);
    assert_true(run(&p, config, "") == 1);
    assert_true(strstr(text_of(p.out), "3 of 4 points are kept") != NULL);
    assert_true(lines_of(layers) == 1 + 3);
    assert_true(lines_of(p.log) == 4); /* the fourth failed */

    unsetenv("FAKE_STOP");
    assert_true(run(&p, config, "--resume") == 0);
    assert_true(lines_of(p.log) == 5); /* it alone was run again */
    assert_true(strstr(text_of(p.out), "measured 1 of 1") != NULL);
    assert_true(strstr(text_of(p.out), "layer time, 4 points") != NULL);
    assert_true(lines_of(layers) == 1 + 4);
    /* What was kept twice is kept still. */
    assert_true(run(&p, config, "--resume") == 0);
    assert_true(lines_of(p.log) == 5 && lines_of(layers) == 1 + 4);

    /* Another routing is another measurement. */
    assert_true(run(&p, config, "--resume --routing.kind=zipf") == 1);
    assert_true(strstr(text_of(p.out), "was measured as") != NULL);
    assert_true(lines_of(p.log) == 5);
    place_close(&p);
}

static void noisy_points(void **state)
{
    struct place p;
    char config[96];

    (void)state;
    place_open(&p);
    config_write(&p, config, "qwen3-30b");
    setenv("FAKE_NOISE", "1", 1);
    assert_true(run(&p, config, "") == 0);
    assert_true(strstr(text_of(p.out), "noisy: spread") != NULL);
    assert_true(strstr(text_of(p.out), "layer time, 3 points") != NULL);
    assert_true(strstr(text_of(p.out), "1 of 4 points are noisy") != NULL);
    place_close(&p);
}

static void shapes_refused(void **state)
{
    struct place p;
    char config[96];

    (void)state;
    place_open(&p);
    config_write(&p, config, "gpt-oss-20b");
    assert_true(run(&p, config, "") == 1);
    assert_true(strstr(text_of(p.out), "hidden 2880 is no multiple of 512") != NULL);
    assert_true(strstr(text_of(p.out), "no point can run") != NULL);
    assert_true(lines_of(p.log) == 0); /* no rank was started */
    place_close(&p);
}

static void noise_named(void **state)
{
    struct validate_point point = {.measured = true};
    char noise[32];

    (void)state;
    point.gpu.median_us = 100;
    point.gpu.p95_us = 129;
    assert_true(validate_noise(&point, noise)[0] == '\0' && validate_counts(&point));
    point.gpu.p95_us = 131;
    assert_true(strcmp(validate_noise(&point, noise), "spread") == 0 && !validate_counts(&point));
    point.gpu.disturbed = GPU_SHARED | GPU_THROTTLED;
    assert_true(strcmp(validate_noise(&point, noise), "spread+shared+throttled") == 0);
    point.gpu.p95_us = 100;
    assert_true(strcmp(validate_noise(&point, noise), "shared+throttled") == 0);
}

static void no_prediction(void **state)
{
    struct validate_point point = {.measured = true, .policy = &policy_none, .batch = 8};
    struct validate_set set = {.point = &point, .num_points = 1};

    (void)state;
    point.predicted_us = 10;
    assert_true(validate_predicted(&set) == 0);
    point.predicted_us = NAN;
    assert_true(validate_predicted(&set) == ERR_DATA);
    point.measured = false;
    assert_true(validate_predicted(&set) == 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_and_resumed), cmocka_unit_test(noisy_points),
        cmocka_unit_test(shapes_refused), cmocka_unit_test(noise_named),
        cmocka_unit_test(no_prediction)};

    if (getenv("PEOSIM_RANK")) /* a rank of the team that a test has started */
        return cmd_validate(argc - 1, argv + 1) ? 1 : 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
