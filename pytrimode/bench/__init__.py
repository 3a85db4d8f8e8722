"""Measuring a model: modes, block lengths, prompts and load. `pytrimode bench` is the command."""
