"""GGUF -> GGUF: quantization, calibration and evaluation.

from pytrimode.quantize import quantize
quantize("model-f16.gguf", "model-q4_k_m.gguf", "q4_k_m")
"""

from .quantization import quantize

__all__ = ["quantize"]
