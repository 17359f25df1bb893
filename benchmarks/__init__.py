"""Benchmarks of this package against references that are measured in the same run."""
