"""GGUF files: header, metadata, tensor types, parts, and writing. Lies under converter, planner and engine."""
