# The smallest search for a deployment, on one GPU, in every format.
for f in text json csv; do
    peosim capacity configs/capacity/dsv3.yaml --set gpus=h200 --set decode.ep=8 --set decode.batch=32 \
        --set prefill.ep=8 --set prefill.tokens=8192 --set policies=none,sbo --quiet --no-plots --format $f \
        --output-dir $OUT/c
done | grep -v "^results:"
