"""llama-server's own completions."""
