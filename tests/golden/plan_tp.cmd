peosim plan configs/qwen_ep16.yaml --set policies=tp --set batch=16 --set moe_tp=0,2 --set tp_collective=all_reduce,reduce_scatter --attention.include=on
