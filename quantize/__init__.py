"""GGUF -> GGUF: quantization, calibration and evaluation."""
