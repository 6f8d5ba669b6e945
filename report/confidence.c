#include "report/confidence.h"

#include <jansson.h>

#include "report/report.h"

struct json_t *confidence_json(const struct confidence *c, const struct grid *g)
{
    json_t *rows = json_array();

    for (size_t i = 0; rows && i < c->num_rows; i++) {
        const struct confidence_row *r = &c->rows[i];
        char name[24], words[256];

        grid_point_name(r->point, name, sizeof name);
        report_scenario_words(g->config, r->point->scenario, words, sizeof words);
        json_array_append_new(rows, json_pack("{s:s,s:s,s:i,s:[f,f],s:[f,f],s:f,s:f,s:s}",
                                              "scenario", words, "policy", name, "draws", c->draws,
                                              "layer_us_90", r->layer_us.low, r->layer_us.high,
                                              "gain_pct_90", r->gain_pct.low, r->gain_pct.high,
                                              "beats_none", r->beats_none, "best", r->beats_all,
                                              "outside", r->outside));
    }
    return rows;
}

void confidence_print(const struct confidence *c, const struct grid *g, FILE *f)
{
    report_basis(g->config, false, f);
    fprintf(f,
            "confidence: 90%% of %d draws of the fits' covariance, of fields without data as far "
            "as such "
            "fields moved elsewhere, and of the laws' own error\n  %-6s %23s %22s %11s %6s\n",
            c->draws, "policy", "layer us", "gain %", "beats none", "best");
    for (size_t i = 0; i < c->num_rows; i++) {
        const struct confidence_row *r = &c->rows[i];
        char name[24], words[256];

        if (i == 0 || r->point->scenario != c->rows[i - 1].point->scenario) {
            report_scenario_words(g->config, r->point->scenario, words, sizeof words);
            fprintf(f, "%s%s", words, *words ? "\n" : "");
        }
        grid_point_name(r->point, name, sizeof name);
        fprintf(f, "  %-6s %10.1f to %9.1f %+9.1f to %+9.1f %10.0f%% %5.0f%%%s%s\n", name,
                r->layer_us.low, r->layer_us.high, r->gain_pct.low, r->gain_pct.high,
                100 * r->beats_none, 100 * r->beats_all, *r->outside ? "  outside: " : "",
                r->outside);
    }
}
