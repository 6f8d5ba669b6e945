#!/usr/bin/env python3
"""Turns aiconfigurator's measured tables (parquet or CSV) into files that `peosim calibrate` reads.

    calib/aiconfigurator.py TABLE SYSTEM > out.csv        SYSTEM: h200, b200 ...

The kind of table is known by its columns. Their latencies are in milliseconds, ours in microseconds;
their message_size counts elements of the type (collector/network/collect_nccl.py divides the bytes
that nccl-tests was given), ours bytes.
  gemm_perf   gemm_dtype m n k                       -> system,dtype,m,n,k,latency_us
  nccl_perf   nccl_dtype num_gpus message_size op_name -> system,collective,dtype,num_gpus,bytes,...
  moe_perf, wideep_{context,generation}_moe_perf     -> the columns of moe_ffn.csv
              moe_dtype num_tokens hidden_size inter_size topk num_experts moe_tp_size moe_ep_size
              distribution; num_tokens stays as it is written. DeepEP's runs (kernel_source deepepmoe)
              are DeepGEMM's contiguous layout (op_name moe_context) or the masked one
              (moe_generation); all else is fused, which is read and counted, not fitted
  context_attention_perf, generation_attention_perf  -> the columns of attn_gqa.csv
              attn_dtype kv_cache_dtype num_heads num_key_value_heads head_dim window_size batch_size
              isl step. num_key_value_heads 0 means as many as heads
  context_mla_perf, generation_mla_perf, mla_*_module_perf -> the columns of attn_mla.csv
              mla_dtype kv_cache_dtype gemm_type num_heads batch_size isl tp_size step; num_heads are
              a rank's own (a table without them is of a model of 128)
Attention: a prompt has q_len = isl behind `step` tokens of the cache; a decode step has q_len 1 and
kv_len = isl + step (the collector counts the new token in isl). A beam_width above 1 is left out.
Rows of other types than those above name, and tables of other kinds, are named and left out.
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


ENGINES = {"sglang": "sglang", "vllm": "vllm", "trtllm": "trtllm", "tensorrt-llm": "trtllm"}
CACHES = {"bfloat16": "bfloat16", "float16": "bfloat16", "auto": "bfloat16", "fp8": "fp8"}


def engine_of(row):
    name = first(row, "framework").lower()
    if name not in ENGINES:
        raise ValueError(f"no engine '{name}'")
    return ENGINES[name]


def number(row, *names):
    text = first(row, *names)
    if not text or float(text) != int(float(text)):
        raise ValueError(f"no whole {names[0]}")
    return int(float(text))


def moe(row, system):
    kernel, layout = first(row, "kernel_source"), "fused"
    if kernel == "deepepmoe":
        kernel = "deepgemm"
        layout = "contiguous" if "context" in first(row, "op_name") else "masked"
    experts = number(row, "num_experts")
    return [system, engine_of(row), kernel, layout, first(row, "moe_dtype"), number(row, "hidden_size"),
            number(row, "inter_size"), number(row, "topk"), experts, experts, number(row, "moe_tp_size"),
            number(row, "moe_ep_size"), number(row, "num_tokens"), first(row, "distribution"), latency_us(row)]


def lengths(row):
    """Phase, query and key lengths."""
    isl, step = number(row, "isl"), number(row, "step")
    if first(row, "beam_width") not in ("", "1"):
        raise ValueError("a beam_width above 1")
    if "context" in first(row, "op_name"):
        return ["prefill", isl, isl + step]
    if "generation" in first(row, "op_name"):
        return ["decode", 1, isl + step]
    raise ValueError(f"neither context nor generation: op_name '{first(row, 'op_name')}'")


def cache_of(row):
    name = first(row, "kv_cache_dtype")
    if name not in CACHES:
        raise ValueError(f"no cache of '{name}'")
    return CACHES[name]


def attention(row, system):
    phase, q, kv = lengths(row)
    heads = number(row, "num_heads")
    return [system, phase, first(row, "kernel_source"), number(row, "batch_size"), q, kv, heads,
            number(row, "num_key_value_heads") or heads, number(row, "head_dim"), first(row, "attn_dtype"),
            cache_of(row), number(row, "window_size") if first(row, "window_size") else 0, latency_us(row)]


def mla(row, system):
    phase, q, kv = lengths(row)
    tp = number(row, "tp_size") if first(row, "tp_size") else 1
    level = "module" if "module" in first(row, "op_name") or first(row, "gemm_type") else "kernel"
    return [system, level, phase, engine_of(row), first(row, "kernel_source"), number(row, "batch_size"), q, kv,
            number(row, "num_heads") if first(row, "num_heads") else 128 // tp, tp,
            first(row, "gemm_type") or "bfloat16", cache_of(row), latency_us(row)]


KINDS = [({"gemm_dtype", "m", "n", "k", "latency"}, gemm, ["system", "dtype", "m", "n", "k", "latency_us"]),
         ({"nccl_dtype", "num_gpus", "message_size", "latency"}, collective,
          ["system", "collective", "dtype", "num_gpus", "bytes", "latency_us"]),
         ({"moe_dtype", "num_tokens", "moe_ep_size", "latency"}, moe,
          ["system", "engine", "kernel", "layout", "dtype", "hidden", "inter", "topk", "num_experts", "num_slots",
           "tp", "ep", "tokens_per_rank", "distribution", "latency_us"]),
         ({"attn_dtype", "num_key_value_heads", "isl", "step", "latency"}, attention,
          ["system", "phase", "kernel", "batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim", "dtype",
           "kv_dtype", "window", "latency_us"]),
         ({"mla_dtype", "isl", "step", "latency"}, mla,
          ["system", "level", "phase", "engine", "kernel", "batch", "q_len", "kv_len", "heads", "tp", "gemm_dtype",
           "kv_dtype", "latency_us"])]


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
