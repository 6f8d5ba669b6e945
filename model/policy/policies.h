/* model/policy/policies.h: the overlap policies, in the order of tables and of --help. A new one is
 * a file model/policy/<name>.c that defines `const struct policy policy_<name>`, and a row here. */
#ifndef PEOSIM_MODEL_POLICY_POLICIES_H
#define PEOSIM_MODEL_POLICY_POLICIES_H

/* clang-format off */
#define POLICIES(X)                                                                                \
    X(none)                                                                                        \
    X(peo)                                                                                         \
    X(sbo)                                                                                         \
    X(tbo)                                                                                         \
    X(dbo)                                                                                         \
    X(eps)                                                                                         \
    X(tp)                                                                                          \
    X(mega)
/* clang-format on */

#endif
