printf "model: qwen3-coder-480b\ncluster:\n  nodes: 8\n" > $OUT/a.yaml; cd $OUT; peosim run a.yaml 2>&1
