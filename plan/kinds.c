/* The tables of plan/op_kinds.h and plan/comm_kinds.h. */
#include "plan/comm_kinds.h"
#include "plan/op_kinds.h"

static const struct plan_op_traits op_traits[] = {
#define OP_ROW(name, text, class, network, work, part, brief)                                      \
    {text, OP_CLASS_##class, OP_NET_##network, OP_WORK_##work, PLAN_PART_##part, brief},
    PLAN_OP_KINDS(OP_ROW)
#undef OP_ROW
};

static const struct plan_comm_traits comm_traits[] = {
#define COMM_ROW(name, text, dedup, back, flag, message, kernels, rows, sms, buffers, reach,       \
                 beside)                                                                           \
    {text,                                                                                         \
     FLOW_PER_##dedup,                                                                             \
     FLOW_PER_##back,                                                                              \
     flag,                                                                                         \
     COMM_MESSAGE_##message,                                                                       \
     COMM_KERNELS_##kernels,                                                                       \
     COMM_ROWS_##rows,                                                                             \
     COMM_SMS_##sms,                                                                               \
     COMM_BUFFERS_##buffers,                                                                       \
     COMM_REACH_##reach,                                                                           \
     COMM_BESIDE_##beside},
    PLAN_COMM_KINDS(COMM_ROW)
#undef COMM_ROW
};

static const struct {
    const char *name;
    int colour;
} parts[PLAN_PART_COUNT] = {
    [PLAN_PART_ATTENTION] = {"attention", -1}, [PLAN_PART_ROUTER] = {"router", -1},
    [PLAN_PART_DISPATCH] = {"dispatch", 0},    [PLAN_PART_EXPERTS] = {"experts", 1},
    [PLAN_PART_COMBINE] = {"combine", 2},      [PLAN_PART_MLP] = {"mlp", -1},
    [PLAN_PART_OTHER] = {"other", -1},
};

const struct plan_op_traits *plan_op_traits(enum plan_op_kind kind)
{
    return &op_traits[kind];
}

const struct plan_comm_traits *plan_comm_traits(enum plan_comm comm)
{
    return &comm_traits[comm];
}

int plan_part_colour(enum plan_part part)
{
    return parts[part].colour;
}

const char *plan_part_name(enum plan_part part)
{
    return parts[part].name;
}
