peosim plan configs/qwen_ep16.yaml --set policies=peo --set batch=4 --set overlap_method=4 --set num_rounds=5 --set peo.num_sms=16
