#include "cmd/cmd.h"
#include "cmd/grid.h"
#include <stdio.h>
int cmd_run(int argc, char **argv)
{
    struct cli cli = {0};
    struct config *c = NULL;
    struct grid *g = NULL;
    int err = cli_parse(&cli, argc, argv, NULL, NULL);
    if (!err) err = config_read(cli.words[0], cli.sets, (size_t)cli.num_sets, &c);
    if (!err) err = grid_run(c, cli_jobs(&cli), NULL, NULL, &g);
    if (!err) for (size_t i = 0; i < g->num_points; i++) { char t[300]; struct grid_point *p = &g->points[i];
        if (p->skipped) continue;
        policy_knobs_text(p->policy, &p->knobs, t, sizeof t);
        printf("%zu %-5s %8.2f none %8.2f gain %6.2f exp %7.2f sm %.2f as %.2f ev %lu |", p->scenario, p->policy->name, p->ev.layer_us, p->ev.none_us, p->ev.gain_pct, p->ev.metrics.exposed_comm_ns/1e3, p->ev.metrics.sm_util, p->ev.assumed_share, (unsigned long)p->ev.events);
        for (int q = 0; q < PART_COUNT; q++) printf(" %s %.1f", trace_part_name(q), p->ev.metrics.part_ns[q]/1e3);
        printf(" launch %.1f %s\n", p->ev.metrics.launch_ns/1e3, t); }
    grid_free(g); config_free(c); cli_free(&cli);
    return err;
}
