peosim plan configs/qwen_ep16.yaml --set policies=mega --set batch=32 --set cluster.nodes=1 --set comm=auto
