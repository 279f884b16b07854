"""`python -m shapestore` is the program `shapestore`."""

from shapestore.cli import main

main()
