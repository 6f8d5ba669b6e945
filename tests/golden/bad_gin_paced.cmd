peosim validate configs/h200x4.yaml --experimental-gin --pace-GBps 47 --output-dir $OUT 2>&1
