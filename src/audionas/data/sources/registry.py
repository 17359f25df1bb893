"""Open the sources that `corpus.sources` in params.yaml names, in order."""

from __future__ import annotations

import shutil
from pathlib import Path

from audionas.data.sources.base import Source, SourceError
from audionas.runtime.errors import UserError
from audionas.runtime.extras import optional
from audionas.runtime.state import STATE
from audionas.settings.corpora import AudiosetCorpus


def open_sources(corpus: AudiosetCorpus) -> list[Source]:
    """Return the sources of an AudioSet experiment.

    Raises UserError if a source cannot be used: no such folder, no such mirror, no network.
    """
    sources = []
    for name in corpus.sources:
        if name == "local" and Path(corpus.audio).is_dir() and not any(Path(corpus.audio).iterdir()):
            continue  # an empty folder is an unused source
        try:
            with optional(f"corpus.sources: {name}"):
                sources.append(_open(name, corpus))
        except SourceError as error:
            raise UserError(
                f"corpus.{name}: not reachable ({error}); start again later, or remove {name} from "
                "corpus.sources"
            ) from None
    return sources


def _open(name: str, corpus: AudiosetCorpus) -> Source:
    # Imported here, so that a source needs only its own libraries.
    match name:
        case "local":
            from audionas.data.sources.local import Local

            return Local(corpus.audio)
        case "hub":
            from audionas.data.sources.hub import Hub

            return Hub(cache=STATE / "hub", **corpus.hub.model_dump())
        case "youtube":
            from audionas.data.sources.youtube import Youtube

            temporary = STATE / "youtube"
            shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
            temporary.mkdir(parents=True)
            return Youtube(temporary=temporary, **corpus.youtube.model_dump())
    raise ValueError(f"no source is called {name!r}")
