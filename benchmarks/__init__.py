"""Scripts that measure, each for itself: `python -m benchmarks.NAME --help`, from the root of the repository."""
