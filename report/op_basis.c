#include "report/op_basis.h"

#include <stdlib.h>

#include <jansson.h>

static void line_print(const struct op_basis *b, enum coverage_basis basis, bool outside,
                       const char *head, FILE *f)
{
    char names[512];

    op_basis_names(b, basis, outside, names, sizeof names);
    if (names[0])
        fprintf(f, "%s%s: %s\n", head, outside ? ", but used outside the range of it" : "", names);
}

void op_basis_print(const struct op_basis *b, FILE *f)
{
    char measured[96];
    const char *head[COVERAGE_BASES] = {measured, "laws taken over from another GPU",
                                        "laws without any data"};

    snprintf(measured, sizeof measured, "laws measured on %s", b->profile);
    for (int basis = 0; basis < COVERAGE_BASES; basis++) {
        line_print(b, (enum coverage_basis)basis, false, head[basis], f);
        line_print(b, (enum coverage_basis)basis, true, head[basis], f);
    }
    if (b->why[0])
        fprintf(f, "  extrapolated: %s\n", b->why);
    if (b->seen[OP_GEMM_UP])
        fprintf(f,
                "GEMMs are priced as in bursts: after 70 ms of load without a pause those bound by "
                "tensor cores take 1.18 times as long (measured on H200)\n");
}

struct json_t *op_basis_json(const struct op_basis *b)
{
    json_t *out = json_object();

    for (int k = 0; out && k < OP_KIND_COUNT; k++)
        if (b->seen[k]) {
            char text[64];

            snprintf(text, sizeof text, "%s%s", coverage_basis_name(b->basis[k]),
                     b->outside[k] ? ", outside its range" : "");
            json_object_set_new(out, plan_op_kind_name((enum plan_op_kind)k), json_string(text));
        }
    return out;
}

void op_basis_record(const struct op_basis *b, struct record *r)
{
    char *text = NULL;
    size_t size;
    FILE *f;

    if (record_is_for(r, RECORD_NESTED)) {
        record_member(r, "laws", op_basis_json(b));
        return;
    }
    f = open_memstream(&text, &size);
    if (!f)
        return;
    op_basis_print(b, f);
    fclose(f);
    record_note(r, "%s", text);
    free(text);
}
