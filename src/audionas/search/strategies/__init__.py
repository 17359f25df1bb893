"""Strategies that search a space for its best configuration, one module each."""
