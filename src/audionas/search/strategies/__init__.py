"""Search strategies, one module each."""
