"""Quantization, pruning and branch fusion. Empty until a system needs them."""
