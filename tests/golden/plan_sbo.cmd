peosim plan configs/dpsk_ep64.yaml --set policies=sbo --set batch=4
