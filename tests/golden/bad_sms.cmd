printf "model: deepseek-v3\npolicies:\n  - policy: peo\n    num_sms: 200\n" > $OUT/a.yaml; cd $OUT; peosim run a.yaml 2>&1
