# What is answered about one point, as text, JSON and CSV; the profile and the phase in the name.
c=configs/qwen_ep16.yaml
s='--set cluster.profile=b200 --set model=qwen3-30b --set cluster.nodes=1 --set cluster.gpus_per_node=8 --set batch=64'
for f in text json csv; do
    echo "== recommend $f" && peosim recommend $c $s --draws 8 --quiet --no-plots --format $f --output-dir $OUT/r
    echo "== why $f" && peosim why $c $s --batch 64 --quiet --no-plots --format $f --output-dir $OUT/w
    echo "== run $f" && peosim run $c $s --set policies=none,sbo --confidence 8 --quiet --no-plots --format $f --output-dir $OUT/c
    echo "== pass $f" && peosim pass $c $s --set policies=none,sbo --quiet --no-plots --format $f --output-dir $OUT/p
    echo "== sweep $f" && peosim sweep $c $s --set policies=none,sbo --quiet --no-plots --restart --format $f --output-dir $OUT/s
done | grep -v "^results:"
peosim run $c $s --set policies=none --quiet --no-plots --output-dir $OUT/n >$OUT/none.txt
echo "== diff" && peosim diff $OUT/n/spans.csv $OUT/c/spans.csv --names none,best --output-dir $OUT/d | sed "s|$OUT/||g"
