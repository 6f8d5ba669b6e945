printf "model: dbrx\nclutser:\n  nodes: 2\n" > $OUT/a.yaml; cd $OUT; peosim run a.yaml 2>&1
