peosim info policy peo
