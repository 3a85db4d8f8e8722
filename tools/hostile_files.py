#!/usr/bin/env python3
"""Run every command on every hostile file of the tests: `python -m tools.hostile_files --help`. Takes ten minutes."""

from tests.support.hostile_run import main

if __name__ == "__main__":
    main()
