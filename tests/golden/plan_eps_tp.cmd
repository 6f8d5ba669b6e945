peosim plan configs/eps_mixtral_4xh800.yaml --set attention.prompt_len=1024 --set policies=eps --set batch=512 --set pipeline_num=2 --set attention.tp=4
