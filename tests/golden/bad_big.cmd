cd $OUT; head -c 10485760 /dev/zero | tr "\0" "x" > a.yaml; peosim run a.yaml 2>&1
