/* What an engine is to be set to is the same for people and for programs. */
#include "report/recommend.h"
#include "tests/config_text.h"

#include <jansson.h>

static char *written(const struct recommend *r, const char *format)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    struct record out;

    assert_non_null(f);
    record_open(&out, record_format_find(format), f);
    assert_int_equal(recommend_report(r, &out), 0);
    assert_int_equal(record_close(&out), 0);
    fclose(f);
    return text;
}

/* The lines of settings in the text, without their indentation; the caller frees. */
static char *settings_of_text(char *text)
{
    char *at = strstr(text, "\nsettings\n"), *out = calloc(1, strlen(text) + 1);

    assert_non_null(at);
    assert_non_null(out);
    at = strchr(at + 10, '\n') + 1; /* behind the policy's own line */
    while (!strncmp(at, "    ", 4)) {
        size_t n = strcspn(at, "\n") + 1;

        strncat(out, at + 4, n - 4);
        at += n;
    }
    return out;
}

static void case_holds(const char *profile, const char *rest)
{
    char config_text[1024], *text, *json, *from_text;
    struct recommend *r;
    struct config *c;
    json_t *root, *pick;

    snprintf(config_text, sizeof config_text,
             "model: qwen3-coder-480b\ncluster: {profile: %s, nodes: 2, gpus_per_node: 8}\n%s",
             profile, rest);
    c = config_of_text(config_text);
    assert_int_equal(recommend_run(c, 1, 0, &r), 0);
    assert_true(recommend_pays(&r->pick[0]));
    text = written(r, "text");
    json = written(r, "json");
    from_text = settings_of_text(text);
    root = json_loads(json, 0, NULL);
    assert_non_null(root);
    pick = json_array_get(json_object_get(root, "results"), 0);
    assert_true(strlen(from_text) > 20);
    assert_string_equal(json_string_value(json_object_get(pick, "settings")), from_text);
    json_decref(root);
    free(from_text);
    free(text);
    free(json);
    recommend_free(r);
    config_free(c);
}

static const char decode[] = "phase: decode\ncomm: low_latency\nbatch: 64\n"
                             "policies:\n  - policy: sbo\n    combine_num_sms: [4, 24]\n";
static const char prefill[] = "phase: prefill\ncomm: normal\nbatch: 4096\n"
                              "policies:\n  - policy: tbo\n    num_sms: [16, 36]\n";

static void settings_of_decode_agree(void **state)
{
    (void)state;
    case_holds("h200", decode);
    case_holds("b200", decode);
}

static void settings_of_prefill_agree(void **state)
{
    (void)state;
    case_holds("h200", prefill);
    case_holds("b200", prefill);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_of_decode_agree),
        cmocka_unit_test(settings_of_prefill_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
