"""Files that are read or written: models, saved conversations, cache states, and the shipped model."""
