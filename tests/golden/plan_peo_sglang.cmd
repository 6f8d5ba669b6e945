peosim plan configs/qwen_ep16.yaml --set policies=peo --set batch=4 --set overlap_method=2 --set num_rounds=2 --set peo.num_sms=16 --set launch_order=sglang
