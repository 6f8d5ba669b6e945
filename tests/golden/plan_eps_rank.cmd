peosim plan configs/eps_dsv2_8xh800.yaml --set policies=eps --set attention.prompt_len=1024 --set pipeline_num=2 --set comm=nccl_rank
