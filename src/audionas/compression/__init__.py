"""Quantization, pruning and branch fusion."""
