peosim pass configs/dsv3_decode_ep128_h800.yaml --set attention.context_len=100000 --no-plots --output-dir $OUT 2>&1
