#!/bin/sh
# One @ROLE@ instance of @INSTANCES@: @GPUS@ GPUs, each instance on machines of its own. Written by
# peosim from configs/launch/sglang.sh; edit that file and every launch file follows.
set -eu
exec python3 -m sglang.launch_server \
    --model-path "${MODEL_PATH:-@MODEL@}" \
    --tp-size @GPUS@ --dp-size @DP@ --ep-size @EP@ \
    --max-running-requests @MAX_REQUESTS@ --chunked-prefill-size @STEP_TOKENS@ \
    --cuda-graph-max-bs @MAX_REQUESTS@ \
    --host 0.0.0.0 --port "${PORT:-30000}" @DP_FLAG@ @ROLE_FLAGS@
