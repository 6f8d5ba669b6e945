peosim plan configs/dpsk_ep64.yaml --set policies=tbo --set batch=8
