peosim plan configs/eps_dsv2_8xh800.yaml --set attention.prompt_len=1024 --set attention.tp=1 --set policies=eps --set batch=512 --set pipeline_num=4
