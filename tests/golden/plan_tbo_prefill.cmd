peosim plan configs/dpsk_ep64_h800.yaml --set policies=tbo --set batch=4096 --set phase=prefill
