"""Measures a GPU, or what stands for one, with one command: correctness, passes, throughput, memory. See main.py."""
