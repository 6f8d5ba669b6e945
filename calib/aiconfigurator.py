#!/usr/bin/env python3
"""Turns aiconfigurator's measured tables (parquet or CSV) into files that `peosim calibrate` reads.

    calib/aiconfigurator.py TABLE SYSTEM > out.csv        SYSTEM: h200, b200 ...

The kind of table is known by its columns. Their latencies are in milliseconds, ours in microseconds;
their message_size counts elements of the type (collector/network/collect_nccl.py divides the bytes
that nccl-tests was given), ours bytes.
  gemm_perf   gemm_dtype m n k latency                        -> system,dtype,m,n,k,latency_us
  nccl_perf   nccl_dtype num_gpus message_size op_name latency
                                         -> system,collective,dtype,num_gpus,bytes,latency_us
Rows of other types than fp8 and bfloat16/float16, and tables of other kinds, are named and left out.
Needs pyarrow for parquet.
"""
import csv
import sys

COLLECTIVES = {"all_reduce", "all_gather", "reduce_scatter", "alltoall"}
GEMM_TYPES = {"fp8": "fp8", "fp8_block": "fp8_block", "bfloat16": "bfloat16", "bf16": "bfloat16",
              "float16": "bfloat16", "half": "bfloat16"}
BYTES = {"half": 2, "float16": 2, "bfloat16": 2, "bf16": 2, "int8": 1, "fp8": 1, "float": 4}


def rows_of(path):
    if path.endswith(".parquet"):
        try:
            import pyarrow.parquet
        except ImportError:
            sys.exit(f"{path}: reading parquet needs pyarrow (pip install pyarrow)")
        table = pyarrow.parquet.read_table(path).to_pydict()
        names = list(table)
        return names, [dict(zip(names, v)) for v in zip(*table.values())]
    with open(path, newline="") as f:
        reader = csv.DictReader(f)
        rows = list(reader)
        return reader.fieldnames or [], rows


def first(row, *names):
    for name in names:
        if row.get(name) not in (None, ""):
            return str(row[name])
    return ""


def latency_us(row):
    us = float(first(row, "latency")) * 1e3
    if not 0 < us < 1e7:
        raise ValueError(f"a latency of {us} us")
    return f"{us:.6g}"


def gemm(row, system):
    dtype = GEMM_TYPES.get(first(row, "gemm_dtype", "dtype", "quant_type"))
    if not dtype:
        raise ValueError("neither fp8 nor bfloat16")
    return [system, dtype, int(first(row, "m")), int(first(row, "n")), int(first(row, "k")), latency_us(row)]


def collective(row, system):
    name = first(row, "op_name", "operation").removeprefix("nccl_")
    dtype = first(row, "nccl_dtype", "dtype", "allreduce_dtype")
    if name not in COLLECTIVES:
        raise ValueError(f"no collective '{name}'")
    if dtype not in BYTES:
        raise ValueError(f"no type '{dtype}'")
    size = int(first(row, "message_size"))
    return [system, {"alltoall": "all_to_all"}.get(name, name), dtype, int(first(row, "num_gpus")),
            size * BYTES[dtype], latency_us(row)]


KINDS = [({"gemm_dtype", "m", "n", "k", "latency"}, gemm, ["system", "dtype", "m", "n", "k", "latency_us"]),
         ({"nccl_dtype", "num_gpus", "message_size", "latency"}, collective,
          ["system", "collective", "dtype", "num_gpus", "bytes", "latency_us"])]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    path, system = sys.argv[1:]
    names, rows = rows_of(path)
    for columns, convert, header in KINDS:
        if columns <= set(names):
            break
    else:
        sys.exit(f"{path}: no table this converter knows; its columns are {', '.join(names)}")
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(header)
    left = {}
    for row in rows:
        try:
            out.writerow(convert(row, system))
        except ValueError as e:
            left[str(e)] = left.get(str(e), 0) + 1
    for why, n in left.items():
        print(f"{path}: {n} rows left out: {why}", file=sys.stderr)


if __name__ == "__main__":
    main()
