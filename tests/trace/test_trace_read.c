/* Every kind of file that holds a trace, folders of them, and parts of one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/err.h"
#include "base/file.h"
#include "trace/log.h"

static char folder[64];

static const char *path_of(const char *name)
{
    static char path[200];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");

    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/peosim_read_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    file_remove_tree(folder);
    return 0;
}

/* `nsys stats --report cuda_gpu_trace --format csv` of 2023 and later; copies have no grid. */
static const char nsys_csv[] =
    "Start (ns),Duration (ns),CorrId,GrdX,GrdY,GrdZ,BlkX,BlkY,BlkZ,Reg/Trd,StcSMem (MB),"
    "DymSMem (MB),Bytes (MB),Throughput (MBps),SrcMemKd,DstMemKd,Device,Ctx,GreenCtx,Strm,Name\n"
    "5000100,20000,1,132,1,1,128,1,1,32,0.0,0.2,,,,,NVIDIA H200 (0),1,,7,\"deep_gemm<a, b>\"\n"
    "5030100,10000,2,24,1,1,128,1,1,32,0.0,0.2,,,,,NVIDIA H200 (0),1,,13,dispatch_kernel\n"
    "5000600,30000,3,132,1,1,128,1,1,32,0.0,0.2,,,,,NVIDIA H200 (1),1,,7,\"deep_gemm<a, b>\"\n"
    "5040100,1000,4,,,,,,,,,,4.0,100.0,Device,Device,NVIDIA H200 (1),1,,7,[CUDA memcpy D2D]\n";

static void nsys_csv_is_read(void **state)
{
    struct trace_log *log;

    (void)state;
    put("n.csv", nsys_csv);
    assert_int_equal(trace_log_read(path_of("n.csv"), NULL, &log), 0);
    assert_int_equal(log->num_records, 4);
    assert_int_equal(log->ranks, 2);
    assert_string_equal(log->records[0].label, "deep_gemm<a, b>");
    assert_true(log->records[0].start_ns == 0 && log->records[0].end_ns == 20000);
    assert_int_equal(log->records[1].stream, 13);
    assert_true(log->records[1].start_ns == 30000);
    assert_int_equal(log->records[2].rank, 1);
    assert_true(log->records[2].start_ns == 500);
    trace_log_free(log);
}

static void old_columns_and_a_map(void **state)
{
    struct trace_map map;
    struct trace_log *log;

    (void)state;
    put("o.csv", "Start(nsec),Duration(nsec),Device,Strm,Name\n"
                 "100,20,NVIDIA A100 (3),7,gemm_up\n150,20,NVIDIA A100 (3),7,other\n");
    assert_int_equal(trace_map_parse("gemm_up=gate_up_gemm", &map), 0);
    assert_int_equal(trace_log_read(path_of("o.csv"), &map, &log), 0);
    assert_int_equal(log->num_records, 1);
    assert_string_equal(log->records[0].kind, "gate_up_gemm");
    assert_string_equal(log->records[0].class_name, "compute");
    assert_int_equal(log->records[0].rank, 3);
    trace_log_free(log);
    trace_map_free(&map);
}

static void nsys_mistakes_are_said(void **state)
{
    struct trace_log *log;

    (void)state;
    put("m.csv", "Start (ns),Duration (ns),Device,Strm\n1,2,a (0),3\n");
    assert_int_equal(trace_log_read(path_of("m.csv"), NULL, &log), ERR_PARSE);
    put("m.csv", "Start (ns),Duration (ns),Name\n1,-2,k\n");
    assert_int_equal(trace_log_read(path_of("m.csv"), NULL, &log), ERR_DATA);
    put("m.csv", "Start (ns),Duration (ns),Name\nx,2,k\n");
    assert_int_equal(trace_log_read(path_of("m.csv"), NULL, &log), ERR_DATA);
}

static void run_sql(const char *name, const char *sql)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path_of(name), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* Two processes with one device each, both called 0: two ranks. */
static void nsys_sqlite_is_read(void **state)
{
    struct trace_log *log;

    (void)state;
    run_sql("e.sqlite",
            "CREATE TABLE StringIds (id INTEGER, value TEXT);"
            "INSERT INTO StringIds VALUES (1, 'gemm'), (2, 'dispatch');"
            "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER, deviceId INTEGER,"
            " streamId INTEGER, globalPid INTEGER, demangledName INTEGER, shortName INTEGER);"
            "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (9000, 9500, 0, 7, 11, 1, 1),"
            " (9600, 9700, 0, 8, 11, 2, 2), (9100, 9900, 0, 7, 12, 1, 1)");
    assert_int_equal(trace_log_read(path_of("e.sqlite"), NULL, &log), 0);
    assert_int_equal(log->num_records, 3);
    assert_int_equal(log->ranks, 2);
    assert_true(log->records[0].start_ns == 0 && log->records[0].end_ns == 500);
    assert_string_equal(log->records[1].label, "dispatch");
    assert_true(log->records[2].rank == 1 && log->records[2].start_ns == 100);
    trace_log_free(log);
    run_sql("bad.sqlite", "CREATE TABLE t (x)");
    assert_int_equal(trace_log_read(path_of("bad.sqlite"), NULL, &log), ERR_PARSE);
}

/* Each file a rank; two that both call themselves 0 are counted on; clocks begin together. */
static void a_folder_is_read(void **state)
{
    struct trace_log *log;
    char cmd[200];

    (void)state;
    snprintf(cmd, sizeof cmd, "mkdir %s/ranks %s/none", folder, folder);
    assert_int_equal(system(cmd), 0);
    put("ranks/a.csv", "rank,label,start_us,end_us\n0,x,10,20\n0,y,20,25\n");
    put("ranks/b.csv", "rank,label,start_us,end_us\n0,x,110,121\n");
    put("ranks/notes.txt", "not a trace");
    assert_int_equal(trace_log_read(path_of("ranks"), NULL, &log), 0);
    assert_int_equal(log->num_records, 3);
    assert_int_equal(log->ranks, 2);
    assert_true(log->records[0].start_ns == 0);
    assert_true(log->records[2].rank == 1 && log->records[2].start_ns == 0 &&
                fabs(log->records[2].end_ns - 11000) < 1e-6);
    trace_log_free(log);
    assert_int_equal(trace_log_read(path_of("none"), NULL, &log), ERR_NOTFOUND);
}

static void parts_are_kept(void **state)
{
    struct trace_window window = {15e3, 1e9, -1}, layer = {-HUGE_VAL, HUGE_VAL, 2};
    struct trace_log *log;

    (void)state;
    put("p.csv", "rank,label,layer,start_us,end_us\n0,x,1,10,20\n0,y,1,20,25\n0,x,2,30,41\n");
    assert_int_equal(trace_log_read(path_of("p.csv"), NULL, &log), 0);
    assert_int_equal(trace_log_keep(log, &window, "p.csv"), 0);
    assert_int_equal(log->num_records, 2);
    assert_true(log->records[0].start_ns == 0 && fabs(log->records[1].end_ns - 21e3) < 1e-6);
    assert_int_equal(trace_log_keep(log, &layer, "p.csv"), 0);
    assert_int_equal(log->num_records, 1);
    layer.layer = 9;
    assert_int_equal(trace_log_keep(log, &layer, "p.csv"), ERR_DATA);
    trace_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nsys_csv_is_read),       cmocka_unit_test(old_columns_and_a_map),
        cmocka_unit_test(nsys_mistakes_are_said), cmocka_unit_test(nsys_sqlite_is_read),
        cmocka_unit_test(a_folder_is_read),       cmocka_unit_test(parts_are_kept),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
