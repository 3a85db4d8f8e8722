"""safetensors checkpoint -> GGUF."""
