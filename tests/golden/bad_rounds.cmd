printf "model: deepseek-v3\npolicies:\n  - policy: peo\n    num_rounds: 3\n" > $OUT/a.yaml; cd $OUT; peosim run a.yaml 2>&1
