/* serve/engine.h: what an engine makes of the kernels of a step, and adds to them. A few parameters
 * per engine, fitted over all its measured deployments (serve/fit.h) and kept in
 * hw/profiles/engines/<engine>.yaml; none is a model's or a GPU's. */
#ifndef PEOSIM_SERVE_ENGINE_H
#define PEOSIM_SERVE_ENGINE_H

#include "serve/deployment.h"
#include "serve/step.h"

/* Name, unit, usual value, least, most, scale of its prior, what it is. */
#define ENGINE_PARAMS(X)                                                                           \
    /* measured modules hold launches that a CUDA graph hides, so these may be below 1 */          \
    X(ATTN, "attention", "", 0.5, 0.1, 2, 0.5, "projections and cache reads, times measured ones") \
    X(EXPERTS, "experts", "", 1.2, 0.3, 2.5, 0.5, "the expert layer, times the measured one")      \
    X(GATE, "gate", "", 0.5, 0, 2, 0.5, "the gate and its choice, times the law's")                \
    X(COMM, "collectives", "", 1.1, 0.1, 3, 0.5, "all-reduces and exchanges, times measured ones") \
    X(LAYER_US, "layer_us", "us", 3, -10, 60, 10, "small kernels of a layer that no law has")      \
    X(STEP_MS, "step_ms", "ms", 0.3, 0, 6, 0.5, "scheduling, sampling and launch of a step")       \
    X(REQUEST_US, "request_us", "us", 2, 0, 50, 5, "the same for each request of the step")        \
    X(PROMPT, "prompt", "", 1, 0.3, 2.5, 0.5, "prompt passes, times what the laws say")            \
    X(TOKENS, "tokens_per_step", "", 1.7, 1, 2, 0.2, "tokens of a step that drafts one more")      \
    X(START_MS, "start_ms", "ms", 30, 0, 500, 50, "a request until it is scheduled, and back")     \
    X(BURST, "burst", "", 0.1, 0, 1, 0.1, "share of all prompts in flight that one waits for")     \
    X(WAIT, "wait_steps", "", 2, 0, 20, 5, "steps that a prompt waits for before its turn")

enum engine_param {
#define ENGINE_ENUM(name, ...) ENGINE_##name,
    ENGINE_PARAMS(ENGINE_ENUM)
#undef ENGINE_ENUM
        ENGINE_PARAM_COUNT
};

struct engine_param_info {
    const char *name, *unit;
    double usual, lo, hi, scale;
    const char *help;
};
extern const struct engine_param_info engine_param_info[ENGINE_PARAM_COUNT];

/* Versions whose published runs draft tokens (MTP), which rows do not say. "" and 0: any. */
struct engine_drafts {
    char version[32], model[32];
    int min_ep;
};
enum { ENGINE_MAX_DRAFTS = 8 };

struct engine {
    double v[ENGINE_PARAM_COUNT], std_err[ENGINE_PARAM_COUNT];
    struct engine_drafts drafts[ENGINE_MAX_DRAFTS];
    int num_drafts;
    char source[160];
};

/* The usual values, nothing fitted. */
void engine_usual(struct engine *e);
/* hw/profiles/engines/<name>.yaml. ERR_NOTFOUND, ERR_CONFIG, ERR_PARSE; logged with file and line.
 */
int engine_read(enum serve_engine which, struct engine *e);
/* The same file with the parameters of e. Whole or not at all. */
int engine_write(enum serve_engine which, const struct engine *e, const char *path);

/* Does the run that a row tells of draft tokens? */
bool engine_drafts(const struct engine *e, const struct e2e_row *row,
                   const struct serve_deployment *d);

/* A decode step of `requests` on an instance, and a pass over prompts. */
double engine_step_us(const double *v, const struct step_parts *p, int layers, double requests);
double engine_prompt_us(const double *v, const struct step_parts *p, int layers);

#endif
