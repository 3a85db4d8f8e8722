"""Measures what a file lost: perplexity, divergence, acceptance and answers (`trimode-quantize eval`)."""
