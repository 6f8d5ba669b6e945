/* recommend: the search finds the grid's best within 1% with far fewer simulations; what it says
 * where overlap does not pay. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report/engine.h"
#include "study/grid.h"
#include "study/recommend.h"
#include "tests/config_text.h"

/* Over all scenarios: what the winner takes against the best of the whole grid; the simulations
 * against its points. */
static void against_grid(const char *text, double most_simulations)
{
    struct config *c = config_of_text(text);
    struct recommend *r;
    struct grid *g;
    size_t per = config_num_points_per_scenario(c);

    assert_int_equal(recommend_run(c, 2, 0, &r), 0);
    assert_int_equal(grid_run(c, 2, -1, NULL, NULL, &g), 0);
    for (size_t i = 0; i < r->num_picks; i++) {
        const struct recommend_pick *p = &r->pick[i];
        const struct evaluation *found = &p->entry[p->best].ev;
        double saves = -1e300, none_us = 0;

        assert_true(p->best >= 0);
        for (size_t j = i * per; j < (i + 1) * per; j++) {
            const struct grid_point *q = &g->points[j];
            double s = q->ev.none_us - q->ev.layer_us;

            if (!q->skipped && q->policy != &policy_none && s > saves) {
                saves = s;
                none_us = q->ev.none_us;
            }
        }
        /* A small grid is simulated in full; in a large one, and where the answer is by exact
         * sharing, within 1% of the layer's time. */
        if (found->none_us - found->layer_us <
            saves - (r->partly || p->exact ? 0.01 : 1e-9) * none_us)
            fail_msg("scenario %zu: saves %g us, the grid's best %g", i,
                     found->none_us - found->layer_us, saves);
    }
    assert_true(r->simulations <= r->grid && r->partly == (most_simulations < 1));
    if (r->simulations > most_simulations * r->grid)
        fail_msg("%zu simulations for %g points", r->simulations, r->grid);
    grid_free(g);
    recommend_free(r);
    config_free(c);
}

static void finds_the_best_between_nodes(void **state)
{
    (void)state;
    against_grid("model: qwen3-30b\n"
                 "batch: [8, 64, 128, 256]\n"
                 "cluster: {profile: h20, nodes: 2, gpus_per_node: 4}\n"
                 "routing: {kind: lognormal, sigma: 0.3}\n"
                 "policies:\n"
                 "  - policy: none\n"
                 "  - policy: peo\n"
                 "    overlap_method: [1, 2, 3, 4]\n"
                 "    num_rounds: [2, 4, 8, 16]\n"
                 "    num_sms: [4, 8, 12, 16, 20, 24, 28, 32, 36]\n",
                 1);
}

static void finds_the_best_with_one_expert_a_round(void **state)
{
    (void)state;
    against_grid("model: qwen3-coder-480b\n"
                 "batch: [16, 128]\n"
                 "cluster: {profile: h20, nodes: 2, gpus_per_node: 8}\n"
                 "policies:\n"
                 "  - policy: none\n"
                 "  - policy: peo\n"
                 "    overlap_method: [1, 2, 3, 4]\n"
                 "    num_rounds: [2, 5, 10]\n"
                 "    num_sms: [4, 8, 12, 16, 20, 24, 28, 32, 36]\n"
                 "  - policy: sbo\n"
                 "    combine_num_sms: [1, 2, 3, 4, 8, 16]\n",
                 1);
}

static void finds_the_best_on_nvlink(void **state)
{
    (void)state;
    against_grid(
        "model: qwen3-30b\n"
        "batch: [16, 256]\n"
        "cluster: {profile: h800, gpus_per_node: 4}\n"
        "policies:\n"
        "  - policy: none\n"
        "  - policy: peo\n"
        "    overlap_method: [1, 2, 3, 4]\n"
        "    num_rounds: [2, 4, 8, 16]\n"
        "    num_sms: [4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, "
        "42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62, 64, 66]\n",
        0.4);
}

static void finds_the_best_pipeline(void **state)
{
    (void)state;
    against_grid("model: deepseek-v2\n"
                 "phase: prefill\n"
                 "batch: [512, 2048]\n"
                 "comm: nccl\n"
                 "cluster: {profile: h800, gpus_per_node: 4}\n"
                 "attention: {include: on, prompt_len: 512}\n"
                 "policies:\n"
                 "  - policy: none\n"
                 "  - policy: eps\n"
                 "    pipeline_num: [1, 2, 4, 5, 8, 10, 20, 40]\n"
                 "    num_sms: [8, 12, 16, 20, 24, 32]\n"
                 "    gate_up_gemm: [group, dense]\n"
                 "    down_gemm: group\n",
                 1);
}

/* Same answer for any number of threads. */
static void threads_do_not_change_the_answer(void **state)
{
    static const char text[] = "model: qwen3-30b\n"
                               "batch: [4, 32, 256]\n"
                               "cluster: {profile: h20, nodes: 2, gpus_per_node: 2}\n"
                               "policies: [none, peo, sbo]\n";
    struct config *c = config_of_text(text);
    struct recommend *one, *four;

    (void)state;
    assert_int_equal(recommend_run(c, 1, 3, &one), 0);
    assert_int_equal(recommend_run(c, 4, 3, &four), 0);
    assert_int_equal(one->simulations, four->simulations);
    for (size_t i = 0; i < one->num_picks; i++) {
        const struct recommend_pick *a = &one->pick[i], *b = &four->pick[i];

        assert_int_equal(a->best, b->best);
        assert_memory_equal(&a->entry[a->best].knobs, &b->entry[b->best].knobs,
                            sizeof(struct knobs));
        assert_true(a->gain_low_pct == b->gain_low_pct && a->gain_high_pct == b->gain_high_pct);
    }
    recommend_free(one);
    recommend_free(four);
    config_free(c);
}

/* A value given once is not searched; the flat range lies around the best and within the list. */
static void ranges_are_kept(void **state)
{
    static const char text[] = "model: qwen3-30b\n"
                               "batch: 256\n"
                               "cluster: {profile: h20, nodes: 2, gpus_per_node: 2}\n"
                               "policies:\n"
                               "  - policy: peo\n"
                               "    overlap_method: 2\n"
                               "    num_sms: [12, 8, 16]\n";
    struct config *c = config_of_text(text);
    struct recommend *r;
    const struct search_result *s;

    (void)state;
    assert_int_equal(recommend_run(c, 2, 0, &r), 0);
    s = &r->pick[0].entry[0];
    assert_int_equal(s->knobs.overlap_method, 2);
    assert_in_range(s->knobs.num_sms, 8, 16);
    assert_int_equal(32 % s->knobs.num_rounds, 0);
    for (int i = 0; i < s->num_flat; i++) {
        assert_true(s->flat[i].range_low <= s->flat[i].low && s->flat[i].low <= s->flat[i].best);
        assert_true(s->flat[i].best <= s->flat[i].high && s->flat[i].high <= s->flat[i].range_high);
    }
    recommend_free(r);
    config_free(c);
}

/* Break-even lies between a batch that does not pay and one that does, and is true. */
static void break_even_is_between(void **state)
{
    static const char text[] = "model: qwen3-30b\n"
                               "batch: [2, 256]\n"
                               "cluster: {profile: h20, nodes: 2, gpus_per_node: 4}\n"
                               "policies:\n"
                               "  - policy: peo\n"
                               "    overlap_method: [1, 3]\n"
                               "    num_sms: [8, 16]\n"
                               "    num_rounds: [2, 4]\n";
    struct config *c = config_of_text(text);
    struct recommend *r;

    (void)state;
    assert_int_equal(recommend_run(c, 2, 0, &r), 0);
    assert_false(recommend_pays(&r->pick[0]));
    assert_true(recommend_pays(&r->pick[1]));
    assert_int_equal(r->num_turns, 1);
    assert_true(r->turn[0].pays_above);
    assert_in_range(r->turn[0].batch, 3, 256);
    recommend_free(r);
    config_free(c);
}

static void settings_use_the_engines_names(void **state)
{
    const struct policy_place place = {.num_sms = 78, .decode = true};
    struct knobs k;
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    (void)state;
    knobs_default(&policy_peo, &k);
    k.overlap_method = 3;
    k.num_rounds = 4;
    k.num_sms = 16;
    assert_int_equal(engine_settings_print(&policy_peo, &k, &place, "", f), 0);
    fclose(f);
    assert_non_null(strstr(text, "DeepEP (pull 492, open): use_expert_overlap=True num_rounds=4 "
                                 "send_num_sms=16 recv_num_sms=16"));
    assert_non_null(strstr(text, "RTP-LLM (pull 605, closed; commit f3ede8e11): enable_peo_level=3 "
                                 "num_peo_rounds=4 deep_ep_num_sm=16"));
    assert_non_null(strstr(text, "num_up_deepgemm_sms=46"));
    free(text);
}

/* Whoever names a pull request says what became of it; exchanges are named for engines that have
 * the policy, and for them alone. */
static void settings_say_what_is_merged(void **state)
{
    (void)state;
    for (size_t i = 0; i < policy_count(); i++)
        for (int blackwell = 0; blackwell < 2; blackwell++) {
            const struct policy *p = policy_at(i);
            struct policy_place place = {
                .num_sms = 132, .decode = true, .blackwell = blackwell, .comm = COMM_DEEPEP_V2};
            char *text = NULL, *rest, *line;
            struct knobs k;
            size_t len;
            FILE *f = open_memstream(&text, &len);

            knobs_default(p, &k);
            assert_int_equal(engine_settings_print(p, &k, &place, "", f), 0);
            assert_int_equal(engine_exchange_print(p, &k, &place, "", f), 0);
            fclose(f);
            if (p == &policy_dbo) {
                assert_non_null(strstr(text, "vLLM, exchange (pull 41183, merged)"));
                assert_null(strstr(text, "SGLang"));
            }
            if (p == &policy_mega)
                assert_true((strstr(text, "vLLM") != NULL) == (blackwell != 0));
            for (rest = text; (line = strsep(&rest, "\n")) != NULL;)
                if (strstr(line, "pull ") && !strstr(line, "merged") && !strstr(line, "open") &&
                    !strstr(line, "closed"))
                    fail_msg("%s: %s", p->name, line);
            free(text);
        }
}

static int sh(const char *text)
{
    const char *program = getenv("PEOSIM");
    int status;

    setenv("P", program ? program : "./peosim", 1);
    status = system(text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void says_not_to_overlap(void **state)
{
    (void)state;
    assert_int_equal(sh("printf 'model: qwen3-30b\\nbatch: 2\\ncluster: {profile: h800, "
                        "gpus_per_node: 4}\\npolicies: [none, peo]\\n' >/tmp/peosim_no.yaml; "
                        "$P recommend /tmp/peosim_no.yaml --draws 2 | "
                        "grep -q 'do not enable overlap here'; s=$?; rm /tmp/peosim_no.yaml; "
                        "exit $s"),
                     0);
}

static void nothing_to_recommend_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(sh("printf 'batch: 2\\npolicies: [none]\\n' >/tmp/peosim_none.yaml; "
                        "$P recommend /tmp/peosim_none.yaml 2>/dev/null; s=$?; "
                        "rm /tmp/peosim_none.yaml; exit $s"),
                     2);
}

/* A baseline that nothing beats by much: the answer and the figures are those of exact sharing. */
static void close_answers_are_exact(void **state)
{
    struct config *c = config_of_text("model: qwen3-30b\n"
                                      "batch: [4, 8, 32]\n"
                                      "cluster: {profile: h20, nodes: 2, gpus_per_node: 4}\n"
                                      "routing: {kind: lognormal}\n"
                                      "policies: [{policy: none}, {policy: peo, num_rounds: 2, "
                                      "num_sms: [8, 16]}, {policy: sbo}]\n");
    struct evaluator *e = NULL;
    struct recommend *r;
    int exact = 0;

    (void)state;
    assert_int_equal(recommend_run(c, 2, 0, &r), 0);
    assert_int_equal(evaluator_open(&e), 0);
    evaluator_whole_layers(e);
    for (size_t i = 0; i < r->num_picks; i++) {
        const struct recommend_pick *p = &r->pick[i];
        const struct search_result *best = &p->entry[p->best];
        struct evaluation ev;
        struct scenario s;

        assert_int_equal(config_scenario(c, p->scenario, &s), 0);
        s.fidelity = !p->exact;
        assert_int_equal(
            evaluate_point(e, &s, c->policies[p->best].policy, &best->knobs, -1, &ev, NULL, NULL),
            0);
        scenario_free(&s);
        assert_true(ev.layer_us == best->ev.layer_us && ev.none_us == best->ev.none_us);
        assert_true(p->exact || fabs(ev.none_us - ev.layer_us) > RECOMMEND_NEAR * ev.none_us);
        exact += p->exact;
    }
    assert_in_range(exact, 1, r->num_picks - 1);
    evaluator_close(e);
    recommend_free(r);
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_best_between_nodes),
        cmocka_unit_test(finds_the_best_with_one_expert_a_round),
        cmocka_unit_test(finds_the_best_on_nvlink),
        cmocka_unit_test(finds_the_best_pipeline),
        cmocka_unit_test(threads_do_not_change_the_answer),
        cmocka_unit_test(close_answers_are_exact),
        cmocka_unit_test(ranges_are_kept),
        cmocka_unit_test(break_even_is_between),
        cmocka_unit_test(settings_use_the_engines_names),
        cmocka_unit_test(settings_say_what_is_merged),
        cmocka_unit_test(says_not_to_overlap),
        cmocka_unit_test(nothing_to_recommend_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
