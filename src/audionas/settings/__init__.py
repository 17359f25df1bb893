"""Sections of `params.yaml` that systems share, as typed and validated objects."""
