"""GGUF -> GGUF: quantizes, calibrates, evaluates, and writes model cards.

from pytrimode.quantize import quantize
quantize("model-f16.gguf", "model-q4_k_m.gguf", "q4_k_m")
"""

from pytrimode.quantize.importance.calibration import calibrate
from pytrimode.quantize.quantization import quantize

__all__ = ["calibrate", "quantize"]
