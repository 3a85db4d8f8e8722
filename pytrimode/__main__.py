"""`python -m pytrimode` is the command `pytrimode`."""

from pytrimode.cli import main

main()
