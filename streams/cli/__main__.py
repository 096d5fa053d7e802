"""`python -m pointsman.streams.cli` is `pointsman`."""

from pointsman.streams.cli import main

main()
