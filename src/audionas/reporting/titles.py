"""What tables and pages call a corpus."""

from __future__ import annotations

STAND_IN = "soundfont, a rendered stand-in (no recordings)"


def title(corpus) -> str:
    """What tables call a corpus; the stand-in says loudly what it is."""
    return STAND_IN if corpus.name == "soundfont" else getattr(corpus, "title", None) or corpus.name
