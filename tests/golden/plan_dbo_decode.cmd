peosim plan configs/dpsk_ep64.yaml --set policies=dbo --set batch=32
