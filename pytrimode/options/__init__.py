"""What a request may ask for: the modes, sampling, and all other options of a generation; the default of threads."""
