"""Finds the types that fit a size (`--target-size`): sensitivity of each tensor, then a knapsack."""
