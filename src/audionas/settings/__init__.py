"""Typed and validated sections of `params.yaml` that systems share."""
