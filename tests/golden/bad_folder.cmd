touch $OUT/file; peosim run configs/qwen_ep16.yaml --set policies=none --set batch=4 --output-dir $OUT/file/x 2>&1 | sed "s#$OUT#OUT#g"; ls $OUT
