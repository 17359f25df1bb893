"""Predictions, their metrics, and intervals."""
