"""Corpora: which clips there are, their labels and their splits."""
