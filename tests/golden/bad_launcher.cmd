OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=2 peosim validate configs/h200x4.yaml --output-dir $OUT 2>&1
