"""Audio: decoding, resampling, and the log-mel front end."""

from __future__ import annotations

from typing import Any

__all__ = ["LogMel"]


def __getattr__(name: str) -> Any:
    """Import `LogMel` on first access, so that decoding does not need PyTorch (PEP 562)."""
    if name == "LogMel":
        from audionas.audio.logmel import LogMel

        return LogMel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
