"""Self-contained wheels: built, made portable, and tried where nothing can be compiled."""
