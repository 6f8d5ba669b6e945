peosim plan configs/dsv3_prefill_ep32_h800.yaml --set policies=dbo --set batch=1024
