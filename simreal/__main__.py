"""``python -m simreal`` is the command `simreal`."""

from simreal.cli import main

main()
