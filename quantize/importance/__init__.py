"""Importance matrices: which weights count, measured in both attention patterns."""
