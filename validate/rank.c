#include "validate/rank.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* What rank 0 sends: one head, then its spans. */
struct message {
    size_t num_spans;
    struct gpu_answer answer;
};

static int answer_send(struct gpu_team *team, const struct gpu_answer *a)
{
    size_t spans = a->trace ? a->trace->num_spans : 0, bytes = sizeof(struct message);
    char *buf = calloc(1, bytes + spans * sizeof *a->trace->spans);
    struct message head = {.num_spans = spans, .answer = *a};
    int err;

    if (!buf)
        return ERR_NOMEM;
    head.answer.trace = NULL;
    memcpy(buf, &head, sizeof head);
    if (spans)
        memcpy(buf + bytes, a->trace->spans, spans * sizeof *a->trace->spans);
    err = gpu_team_send(team, buf, bytes + spans * sizeof *a->trace->spans);
    free(buf);
    return err;
}

static int trace_restore(const struct message *head, const struct trace_span *spans, int ranks,
                         struct trace **out)
{
    struct trace_sink sink;
    int err = trace_new(out, "gpu", ranks);

    if (err)
        return err;
    sink = trace_collect(*out);
    for (size_t i = 0; !err && i < head->num_spans; i++)
        err = sink.span(sink.self, &spans[i]);
    if (!err)
        trace_sort(*out);
    return err;
}

int gpu_answer_read(const void *data, size_t bytes, int ranks, struct gpu_answer *out)
{
    struct message head;

    if (bytes < sizeof head)
        return ERR_DATA;
    memcpy(&head, data, sizeof head);
    if (bytes != sizeof head + head.num_spans * sizeof(struct trace_span))
        return ERR_DATA;
    *out = head.answer;
    out->trace = NULL;
    return head.num_spans == 0
               ? 0
               : trace_restore(
                     &head,
                     (const struct trace_span *)(const void *)((const char *)data + sizeof head),
                     ranks, &out->trace);
}

static int point_run(struct gpu_session *session, struct gpu_team *team,
                     const struct gpu_work *work, size_t index)
{
    struct gpu_options o = work->options;
    struct gpu_answer answer = {.index = index};
    struct plan *plan = NULL;
    int err = work->plan(work->self, index, &o, &plan);

    if (!err)
        err = gpu_session_run(session, plan, &o, &answer.gpu, &answer.trace);
    if (!err && team->rank == 0)
        err = answer_send(team, &answer);
    if (err == ERR_UNSUPPORTED || err == ERR_INFEASIBLE) /* said why; the other points go on */
        err = 0;
    trace_free(answer.trace);
    plan_free(plan);
    return err;
}

int gpu_rank_run(struct gpu_team *team, const struct gpu_work *work)
{
    struct gpu_session *session = NULL;
    struct gpu_answer machine = {.index = GPU_ANSWER_MACHINE};
    int err = gpu_session_open(&session, team, work->experimental_gin);

    if (!err && team->rank == 0) {
        gpu_versions(session, machine.versions, sizeof machine.versions);
        err = answer_send(team, &machine);
    }
    for (size_t i = 0; !err && i < work->num_points; i++)
        if (!work->skip[i])
            err = point_run(session, team, work, i);
    gpu_session_close(session);
    return err;
}
