"""The vision tower and projector of a vision and language model: the file beside the text model, OUT-mmproj.gguf."""
