peosim plan configs/dsv2_prefill_8xh800.yaml --set policies=eps --set batch=512 --set pipeline_num=4
