"""`python -m vlm` is `vlm`."""

from vlm.main import main

main(prog_name="vlm")
