#include "model/policy/program.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"

#define HEAD "peosim plan"

/* has_round: of one round's experts; needs: the step of the same round, or of the layer, that must
 * come before it. */
static const struct kind {
    const char *name;
    bool has_round;
} kinds[STEP_KINDS] = {
    [STEP_ATTENTION] = {"attention", false},
    [STEP_ROUTER] = {"router", false},
    [STEP_SHARED] = {"shared", false},
    [STEP_DISPATCH] = {"dispatch", false},
    [STEP_DISPATCH_SEND] = {"dispatch_send", true},
    [STEP_DISPATCH_RECV] = {"dispatch_recv", true},
    [STEP_FFN] = {"ffn", true},
    [STEP_COMBINE] = {"combine", false},
    [STEP_COMBINE_SEND] = {"combine_send", true},
    [STEP_COMBINE_RECV] = {"combine_recv", false},
};

const char *program_kind_name(enum program_kind kind)
{
    return kinds[kind].name;
}

void program_step_name(const struct program_step *s, char *buf, size_t size)
{
    if (kinds[s->kind].has_round)
        snprintf(buf, size, "%s %d", kinds[s->kind].name, s->round);
    else
        snprintf(buf, size, "%s", kinds[s->kind].name);
}

int program_find(const struct program *p, enum program_kind kind, int round)
{
    for (int i = 0; i < p->num_steps; i++)
        if (p->step[i].kind == kind && (!kinds[kind].has_round || p->step[i].round == round))
            return i;
    return -1;
}

bool program_follows_tiles(const struct program *p)
{
    for (int i = 0; i < p->num_steps; i++)
        if (p->step[i].block_m > 0)
            return true;
    return false;
}

static int fault(int at_line, int *line, char *why, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
static int fault(int at_line, int *line, char *why, size_t size, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, size, fmt, ap);
    va_end(ap);
    *line = at_line;
    return ERR_CONFIG;
}

/* What a step must have before it; -1: nothing. */
static int need_of(const struct program *p, const struct program_step *s, enum program_kind *kind)
{
    bool whole = program_find(p, STEP_DISPATCH, -1) >= 0;

    switch (s->kind) {
    case STEP_ROUTER:
    case STEP_SHARED:
        *kind = STEP_ATTENTION;
        return 1;
    case STEP_DISPATCH:
    case STEP_DISPATCH_SEND:
        *kind = STEP_ROUTER;
        return 1;
    case STEP_DISPATCH_RECV:
        *kind = STEP_DISPATCH_SEND;
        return 1;
    case STEP_FFN:
        *kind = whole ? STEP_DISPATCH : STEP_DISPATCH_RECV;
        return 1;
    case STEP_COMBINE_SEND:
        *kind = STEP_FFN;
        return 1;
    default:
        return 0;
    }
}

static int check_step(const struct program *p, int i, int *line, char *why, size_t size)
{
    const struct program_step *s = &p->step[i];
    enum program_kind need;
    char name[32];
    int sms = s->kind == STEP_FFN ? 3 : 1, on;

    program_step_name(s, name, sizeof name);
    for (int j = 0; j < sms; j++)
        if (s->sms[j] < 1 || s->sms[j] > p->num_sms)
            return fault(s->line, line, why, size, "%s on %d SMs: the GPU has %d", name, s->sms[j],
                         p->num_sms);
    if (kinds[s->kind].has_round && (s->round < 0 || s->round >= p->num_rounds))
        return fault(s->line, line, why, size, "%s: there are rounds 0 to %d", name,
                     p->num_rounds - 1);
    if (program_find(p, s->kind, s->round) < i)
        return fault(s->line, line, why, size, "%s stands twice: both use the same buffers", name);
    if (s->after >= i)
        return fault(s->line, line, why, size,
                     "%s waits for a step that is launched after it: a "
                     "cycle",
                     name);
    if (!need_of(p, s, &need))
        return 0;
    on = program_find(p, need, s->round);
    if (on < 0)
        return fault(s->line, line, why, size, "%s has no %s", name, program_kind_name(need));
    if (on > i)
        return fault(s->line, line, why, size, "%s needs %s, which is launched after it: a cycle",
                     name, program_kind_name(need));
    return 0;
}

/* Everything that is sent is received, after it. */
static int check_ends(const struct program *p, int *line, char *why, size_t size)
{
    int last = p->num_steps ? p->step[p->num_steps - 1].line : 0;
    int recv = program_find(p, STEP_COMBINE_RECV, -1), whole = program_find(p, STEP_COMBINE, -1);
    int dispatch = program_find(p, STEP_DISPATCH, -1);

    for (int r = 0; r < p->num_rounds; r++) {
        int sent = program_find(p, STEP_DISPATCH_SEND, r), ffn = program_find(p, STEP_FFN, r);
        int back = program_find(p, STEP_COMBINE_SEND, r);

        if (sent >= 0 && dispatch >= 0)
            return fault(p->step[sent].line, line, why, size,
                         "round %d is dispatched twice, into the same buffers", r);
        if (sent >= 0 && program_find(p, STEP_DISPATCH_RECV, r) < 0)
            return fault(p->step[sent].line, line, why, size,
                         "dispatch_send %d is received nowhere", r);
        if (ffn < 0)
            return fault(last, line, why, size, "round %d has no ffn", r);
        if (whole < 0 && back < 0)
            return fault(p->step[ffn].line, line, why, size, "ffn %d is sent back nowhere", r);
        if (back >= 0 && (whole >= 0 || recv < back))
            return fault(p->step[back].line, line, why, size,
                         recv < 0 ? "combine_send %d is received nowhere"
                                  : "combine_send %d comes after the combine that should take it",
                         r);
        if (whole >= 0 && whole < ffn)
            return fault(p->step[ffn].line, line, why, size, "ffn %d comes after the combine", r);
    }
    if (recv < 0 && whole < 0)
        return fault(last, line, why, size, "there is no combine");
    return 0;
}

int program_check(const struct program *p, int *line, char *why, size_t size)
{
    int err = 0;

    *line = 0;
    if (p->num_rounds < 1 || p->num_streams < 1 || p->num_steps < 1)
        return fault(0, line, why, size, "it has no rounds, streams or steps");
    for (int i = 0; i < p->num_steps && !err; i++)
        err = check_step(p, i, line, why, size);
    return err ? err : check_ends(p, line, why, size);
}

static void step_write(const struct program *p, const struct program_step *s, FILE *f)
{
    char name[32];

    program_step_name(s, name, sizeof name);
    fprintf(f, "%s %s %d", name, p->stream[s->stream].name, s->sms[0]);
    if (s->kind == STEP_FFN)
        fprintf(f, " %d %d", s->sms[1], s->sms[2]);
    if (s->block_m)
        fprintf(f, " tiles %d %d", s->block_m, s->block_n);
    if (s->after >= 0) {
        program_step_name(&p->step[s->after], name, sizeof name);
        fprintf(f, " after %s", name);
    }
    fputc('\n', f);
}

int program_write(const struct program *p, FILE *f)
{
    fprintf(f, HEAD " %d\nsms %d\nrounds", PROGRAM_VERSION, p->num_sms);
    for (int r = 0; r < p->num_rounds; r++)
        fprintf(f, " %d", p->size[r]);
    fputc('\n', f);
    for (int i = 0; i < p->num_streams; i++)
        fprintf(f, "stream %s %d\n", p->stream[i].name, p->stream[i].priority);
    for (int i = 0; i < p->num_steps; i++)
        step_write(p, &p->step[i], f);
    return ferror(f) ? ERR_IO : 0;
}

/* The words of a line. */
struct reader {
    const char *path;
    int line;
    char *save;
    struct program *p;
};

static char *word(struct reader *r)
{
    return strtok_r(NULL, " \t\r", &r->save);
}

static int bad(const struct reader *r, const char *what, const char *got)
{
    log_error_at(r->path, r->line, "%s, not '%s'", what, got ? got : "the end of the line");
    return ERR_PARSE;
}

static int number(struct reader *r, int lo, int hi, const char *what, int *out)
{
    char *text = word(r), *end;
    long n = text ? strtol(text, &end, 10) : 0;

    if (!text || end == text || *end || n < lo || n > hi)
        return bad(r, what, text);
    *out = (int)n;
    return 0;
}

static int rounds_read(struct reader *r)
{
    for (char *text = word(r); text; text = word(r)) {
        char *end;
        long n = strtol(text, &end, 10);

        if (*end || n < 1 || n > 4096 || r->p->num_rounds == PROGRAM_ROUNDS)
            return bad(r, "rounds: up to 32 numbers of local experts", text);
        r->p->size[r->p->num_rounds++] = (int)n;
    }
    return 0;
}

static int stream_read(struct reader *r)
{
    struct plan_stream *s = &r->p->stream[r->p->num_streams];
    char *name = word(r);

    if (r->p->num_streams == PROGRAM_STREAMS || !name || strlen(name) >= sizeof s->name)
        return bad(r, "stream: at most 4, each a short name and a priority", name);
    strcpy(s->name, name);
    r->p->num_streams++;
    return number(r, -8, 8, "stream: a priority from -8 to 8", &s->priority);
}

static int kind_of(const char *text)
{
    for (int k = 0; text && k < STEP_KINDS; k++)
        if (!strcmp(text, kinds[k].name))
            return k;
    return -1;
}

static int kind_read(struct reader *r, const char *text, enum program_kind *kind, int *round)
{
    int k = kind_of(text);

    *round = -1;
    if (k < 0)
        return bad(r,
                   "a step: attention, router, shared, dispatch, dispatch_send, dispatch_recv, "
                   "ffn, combine, combine_send or combine_recv",
                   text);
    *kind = (enum program_kind)k;
    return kinds[k].has_round ? number(r, 0, PROGRAM_ROUNDS - 1, "the number of a round", round)
                              : 0;
}

/* `tiles M N`, `after STEP`. */
static int options_read(struct reader *r, struct program_step *s)
{
    int err = 0;

    for (char *text = word(r); text && !err; text = word(r)) {
        if (!strcmp(text, "tiles") && s->kind == STEP_COMBINE_SEND) {
            err = number(r, 16, 1024, "tiles: rows of a block", &s->block_m);
            if (!err)
                err = number(r, 16, 1024, "tiles: columns of a block", &s->block_n);
        } else if (!strcmp(text, "after")) {
            enum program_kind kind;
            int round;

            err = kind_read(r, word(r), &kind, &round);
            s->after = err ? -1 : program_find(r->p, kind, round);
            if (!err && s->after < 0)
                s->after = PROGRAM_STEPS; /* later, or nowhere: program_check says so */
        } else {
            err = bad(r, "'after STEP' or, of a combine_send, 'tiles M N'", text);
        }
    }
    return err;
}

static int step_read(struct reader *r, const char *text)
{
    struct program_step s = {.after = -1, .line = r->line};
    char *stream;
    int err = kind_read(r, text, &s.kind, &s.round);

    if (err)
        return err;
    if (r->p->num_steps == PROGRAM_STEPS)
        return bad(r, "at most 160 steps", text);
    stream = word(r);
    s.stream = -1;
    for (int i = 0; stream && i < r->p->num_streams; i++)
        if (!strcmp(r->p->stream[i].name, stream))
            s.stream = i;
    if (s.stream < 0)
        return bad(r, "the name of a stream that stands above", stream);
    for (int i = 0; i < (s.kind == STEP_FFN ? 3 : 1) && !err; i++)
        err = number(r, -1000000, 1000000, "SMs", &s.sms[i]);
    if (!err)
        err = options_read(r, &s);
    r->p->step[r->p->num_steps++] = s;
    return err;
}

static int line_read(struct reader *r, char *line)
{
    char *text = strtok_r(line, " \t\r", &r->save);

    if (!text || *text == '#')
        return 0;
    if (!strcmp(text, "sms"))
        return number(r, 1, 1024, "sms: those of the GPU", &r->p->num_sms);
    if (!strcmp(text, "rounds"))
        return rounds_read(r);
    if (!strcmp(text, "stream"))
        return stream_read(r);
    return step_read(r, text);
}

static int head_read(struct reader *r, const char *line)
{
    int version = 0, used = 0;

    if (sscanf(line, HEAD " %d%n", &version, &used) != 1 || line[used + (line[used] == '\r')])
        return bad(r, "a plan file begins with '" HEAD " 1'", line);
    if (version != PROGRAM_VERSION) {
        log_error_at(r->path, r->line,
                     "plan files of version %d, this one is %d: newer than "
                     "this program?",
                     PROGRAM_VERSION, version);
        return ERR_PARSE;
    }
    return 0;
}

static int text_read(struct reader *r, char *text)
{
    int err = 0;

    for (char *at = text; at && !err;) {
        char *end = strchr(at, '\n');

        if (end)
            *end = '\0';
        r->line++;
        err = r->line == 1 ? head_read(r, at) : line_read(r, at);
        at = end ? end + 1 : NULL;
    }
    return err;
}

int program_read(const char *path, struct program *out)
{
    struct reader r = {.path = path, .p = out};
    char *text = NULL, why[160];
    size_t len;
    int line, err = file_read(path, 1 << 20, &text, &len);

    memset(out, 0, sizeof *out);
    if (err)
        return err;
    if (strlen(text) != len) {
        log_error_at(path, 1, "not a plan file: it holds bytes of zero");
        err = ERR_PARSE;
    }
    if (!err)
        err = text_read(&r, text);
    if (!err)
        err = program_check(out, &line, why, sizeof why);
    if (err == ERR_CONFIG)
        log_error_at(path, line, "%s", why);
    free(text);
    return err;
}
