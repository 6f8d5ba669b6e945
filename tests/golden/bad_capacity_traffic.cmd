printf "model: qwen3-30b\ntraffic:\n  requests_s: 0\ngpus: h800\nusd_per_hour: 2\ndecode: {ep: 4, batch: 32}\nprefill: {ep: 4, tokens: 2048}\n" > $OUT/a.yaml; cd $OUT; peosim capacity a.yaml 2>&1
