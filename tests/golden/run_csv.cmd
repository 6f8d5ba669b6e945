peosim run configs/qwen_ep16.yaml --csv --no-plots --quiet --output-dir "$OUT" --set batch=4 --set policies=none | cut -c1-24
