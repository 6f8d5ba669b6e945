peosim plan configs/qwen_ep16.yaml --set policies=none --set batch=4
