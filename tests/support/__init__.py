"""What tests, benchmarks and tools share: checkpoints, references, servers under test."""
