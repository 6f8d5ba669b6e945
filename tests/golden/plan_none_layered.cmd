peosim plan configs/dpsk_ep64.yaml --set policies=none --set batch=4 --set comm=layered_ll
