/* Measurements from any bytes, in every format: what is read must be predictable. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hw/profile.h"
#include "calib/accuracy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct hw_profile *profile, const char *text, size_t size,
                  const struct data_hint *hint)
{
    struct data_set *set = NULL;
    struct accuracy *a = NULL;

    if (data_parse(text, size, "fuzz.csv", hint, false, &set) == 0) {
        for (size_t i = 0; i < set->n; i++)
            if (!(isfinite(set->rows[i].latency_us) && set->rows[i].latency_us > 0))
                abort();
        if (accuracy_open(profile, set, &a) != 0)
            abort();
    }
    accuracy_free(a);
    data_free(set);
}

/* Once as it is, once with what a user may add to a log. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct data_hint told = {
        .ranks = 16, .ranks_per_node = 8, .experts = 256, .collective = "all_gather"};
    static struct hw_profile *profile;
    char *text = malloc(size + 1);

    if (!profile && hw_profile_read("hw/profiles/h200.yaml", &profile) != 0)
        abort();
    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    check(profile, text, size, NULL);
    check(profile, text, size, &told);
    free(text);
    return 0;
}
