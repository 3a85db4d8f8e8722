"""What a generation becomes: text pieces, reasoning, logprobs and timings, for the Python API and the server."""
