"""``python -m simreal.cli`` is the command `simreal`."""

from simreal.cli import main

main()
