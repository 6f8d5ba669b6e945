/* Every script in plots/ draws a tiny file; what plot_draw says when it cannot. Pictures are looked
 * at by people; here they must exist and be pictures. Skipped where there is no gnuplot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "report/plot.h"

static const char spans[] =
    "rank,stream,stream_name,kind,class,label,batch,round,start_us,end_us,wait_us,sms\n"
    "0,0,main,dispatch_send,comm,dispatch_send[0],0,0,0,10,0,78\n"
    "0,1,compute,gate_up_gemm,compute,gate_up_gemm[0],0,0,12,40.5,0,54\n"
    "0,0,main,dispatch_recv,comm,dispatch_recv[1],0,1,11,30,9,24\n"
    "1,0,main,router,compute,router,0,-1,0,5,0,0\n";
static const char lanes[] =
    "trace,rank,stream,stream_name,kind,class,label,batch,round,start_us,end_us,wait_us,sms\n"
    "predicted,0,0,main,dispatch,comm,dispatch,0,0,0,10,3,78\n"
    "measured,0,7,,dispatch,comm,\"void dispatch<1, 2>(int)\",0,0,0,12,0,0\n";
static const char points[] = "batch,policy,label,layer_us,gain_pct,num_rounds,num_sms,ep,y\n"
                             "4,none,,300,0,2,8,8,1\n"
                             "64,none,,500,0,2,24,16,1\n"
                             "4,peo 1,R=4,310,-3.2,4,8,8,2\n"
                             "64,peo 1,R=4,450,11.1,4,24,16,2\n";
static const char pareto[] = "gpu,tokens_s_user,tokens_s_gpu,pareto,label\n"
                             "h20,20,900,0,x\nh20,30,800,1,EP32\nb200,60,700,1,EP16\n";

struct dir {
    char path[64];
};

static int setup(void **state)
{
    static struct dir d;

    snprintf(d.path, sizeof d.path, "/tmp/peosim_plots_XXXXXX");
    assert_non_null(mkdtemp(d.path));
    *state = &d;
    return 0;
}

static int teardown(void **state)
{
    static const char *const names[] = {"in.csv", "out.png", "out.svg"};
    const struct dir *d = *state;

    for (int i = 0; i < 3; i++) {
        char path[128];

        snprintf(path, sizeof path, "%s/%s", d->path, names[i]);
        unlink(path);
    }
    return rmdir(d->path);
}

static void check_starts(const char *path, const char *magic)
{
    char head[8] = "";
    FILE *f = fopen(path, "rb");

    assert_non_null(f);
    assert_int_equal(fread(head, 1, strlen(magic), f), strlen(magic));
    assert_memory_equal(head, magic, strlen(magic));
    fclose(f);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void draw(const struct dir *d, const char *name, const char *text, const char *const *extra)
{
    char in[128], out[128], file[160];

    snprintf(in, sizeof in, "%s/in.csv", d->path);
    snprintf(out, sizeof out, "%s/out", d->path);
    write_text(in, text);
    assert_int_equal(plot_draw(name, in, out, "a 'title' with \"quotes\", $HOME and `ls`", extra),
                     0);
    snprintf(file, sizeof file, "%s.png", out);
    check_starts(file, "\x89PNG");
    snprintf(file, sizeof file, "%s.svg", out);
    check_starts(file, "<?xml");
}

static void every_script_draws(void **state)
{
    static const char *const rank0[] = {"0", "78", NULL};
    static const char *const part[] = {"0", "0", "5", "20", NULL};
    static const char *const ep[] = {"ep", "EP size", NULL};
    static const char *const axes[] = {"batch", "y", NULL};
    static const char *const nodes[] = {"cluster.nodes", NULL};
    static const char map[] =
        "row,cluster.nodes,batch,winner,layer_us,none_us,gain_pct,second,margin_pct,sure,assumed_"
        "pct\n"
        "1,1,4,none,100,100,0,sbo,2,tie,10\n1,1,64,sbo,90,100,11.1,none,10,clear,10\n"
        "2,2,4,mega,95,100,5.3,none,5,likely,10\n";

    if (!plot_available())
        skip();
    draw(*state, "timeline", spans, rank0);
    draw(*state, "timeline", spans, part);
    draw(*state, "compare", lanes, rank0);
    draw(*state, "latency_batch", points, NULL);
    draw(*state, "gain_batch", points, NULL);
    draw(*state, "heatmap", points, NULL);
    draw(*state, "heatmap", points, axes);
    draw(*state, "gainmap", points, ep);
    draw(*state, "scaling_ep", points, NULL);
    draw(*state, "pareto", pareto, NULL);
    draw(*state, "map", map, nodes);
}

static void a_single_point_draws(void **state)
{
    static const char one[] = "batch,policy,layer_us,gain_pct,num_rounds,num_sms,ep\n"
                              "4,none,300,0,2,8,8\n";

    if (!plot_available())
        skip();
    draw(*state, "latency_batch", one, NULL);
    draw(*state, "gain_batch", one, NULL);
    draw(*state, "heatmap", one, NULL);
    draw(*state, "scaling_ep", one, NULL);
}

static bool holds(const char *path, const char *what)
{
    static char text[1 << 20];
    FILE *f = fopen(path, "r");

    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return strstr(text, what) != NULL;
}

/* A lane for a link that carries something, none for one that does not; the scale is the mean over
 * a pixel, so that an instant does not set it. */
static void loads_of_links_are_drawn(void **state)
{
    static const char *const rank0[] = {"0", "78", NULL};
    const struct dir *d = *state;
    char in[128], loads[128], out[128], svg[160];

    if (!plot_available())
        skip();
    snprintf(in, sizeof in, "%s/a_spans.csv", d->path);
    snprintf(loads, sizeof loads, "%s/a_counters.csv", d->path);
    snprintf(out, sizeof out, "%s/out", d->path);
    snprintf(svg, sizeof svg, "%s/out.svg", d->path);
    write_text(in, spans);
    write_text(loads,
               "rank,counter,t_us,value\n0,nic_egress_GBps,1,40\n0,nic_egress_GBps,9,900\n"
               "0,nic_egress_GBps,9.0001,0\n0,nvlink_egress_GBps,1,0\n1,nvlink_egress_GBps,2,7\n");
    assert_int_equal(plot_draw("timeline", in, out, "t", rank0), 0);
    assert_true(holds(svg, "NIC out"));
    assert_false(holds(svg, "NVLink out"));
    assert_false(holds(svg, "900 GB/s"));
    assert_int_equal(unlink(loads), 0);
    assert_int_equal(plot_draw("timeline", in, out, "t", rank0), 0);
    assert_false(holds(svg, "NIC out"));
    assert_int_equal(unlink(in), 0);
}

static void failures_are_told_apart(void **state)
{
    const struct dir *d = *state;
    char out[128], *path = strdup(getenv("PATH"));

    snprintf(out, sizeof out, "%s/out", d->path);
    assert_int_equal(plot_draw("no_such_script", "x.csv", out, "t", NULL), ERR_NOTFOUND);
    if (plot_available())
        assert_int_equal(plot_draw("pareto", "/no/such.csv", out, "t", NULL), ERR_IO);
    assert_int_equal(setenv("PATH", "/nonexistent", 1), 0);
    assert_false(plot_available());
    assert_int_equal(plot_draw("pareto", "x.csv", out, "t", NULL), ERR_NOTFOUND);
    assert_int_equal(setenv("PATH", path, 1), 0);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_script_draws, setup, teardown),
        cmocka_unit_test_setup_teardown(a_single_point_draws, setup, teardown),
        cmocka_unit_test_setup_teardown(loads_of_links_are_drawn, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_are_told_apart, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
