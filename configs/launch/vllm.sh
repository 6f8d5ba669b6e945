#!/bin/sh
# One @ROLE@ instance of @INSTANCES@: @GPUS@ GPUs, each instance on machines of its own. Written by
# peosim from configs/launch/vllm.sh; edit that file and every launch file follows.
set -eu
exec vllm serve "${MODEL_PATH:-@MODEL@}" \
    --tensor-parallel-size @TP@ --data-parallel-size @DP@ \
    --max-num-seqs @MAX_REQUESTS@ --max-num-batched-tokens @STEP_TOKENS@ \
    --host 0.0.0.0 --port "${PORT:-8000}" @EP_FLAG@ @ROLE_FLAGS@
