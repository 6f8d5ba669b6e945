printf "model: deepseek-v3\nbatch: 16\npolicies:\n  - policy: peo\n    num_rounds: [2, 3, 4, 5]\n    num_sms: [16, 200]\n" > $OUT/a.yaml; cd $OUT; peosim run a.yaml --no-plots 2>&1 | grep -i skipped
