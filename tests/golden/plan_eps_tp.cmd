peosim plan configs/mixtral_prefill_4xh800.yaml --set policies=eps --set batch=512 --set pipeline_num=2 --set attention.tp=4
