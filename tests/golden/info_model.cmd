peosim info model deepseek-v3 | sed 's#(.*configs#(configs#'
