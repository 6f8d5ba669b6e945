peosim run configs/qwen_ep16.yaml --set model=dbrx --set cluster.nodes=4 --set policies=tp --set batch=4 --no-plots --output-dir "$OUT" 2>&1
