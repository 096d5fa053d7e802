"""`python -m pointsman.streams.cli`: the command line where the script is not on the path."""

from pointsman.streams.cli import main

main()
