peosim plan configs/dpsk_ep64.yaml --set policies=none --set batch=4 --set split_phases=true
