"""From a GGUF back to a safetensors checkpoint."""
