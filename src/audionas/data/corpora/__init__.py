"""Corpora: clips with labels and splits."""
