"""Readers of what strangers write, fed with bytes: `python -m tools.fuzz --help`."""
