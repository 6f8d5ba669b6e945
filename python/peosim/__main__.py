from peosim import main

main()
