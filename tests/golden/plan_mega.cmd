peosim plan configs/dsv4_b300_ep8.yaml --set policies=mega --set batch=512
