"""Chooses the corpus that `corpus.name` in params.yaml asks for."""

from __future__ import annotations

from audionas.data.corpora.base import ClipLists
from audionas.settings.corpora import AudiosetCorpus, Esc50Corpus, FolderCorpus, SoundfontCorpus


def open_corpus(
    section: SoundfontCorpus | FolderCorpus | Esc50Corpus | AudiosetCorpus, clip_seconds: float
) -> ClipLists:
    """The corpus that a section of the configuration describes: a `Corpus`, but for AudioSet.

    `clip_seconds` is for a corpus that makes its clips.
    Raises UserError when its lists are missing or bad.
    """
    # Imported here, so that a corpus needs only its own libraries.
    match section:
        case SoundfontCorpus():
            from audionas.data.corpora.soundfont import Soundfont

            return Soundfont(section, clip_seconds)
        case FolderCorpus():
            from audionas.data.corpora.folder import Folder

            return Folder(section)
        case Esc50Corpus():
            from audionas.data.corpora.esc50 import Esc50

            return Esc50(section)
        case AudiosetCorpus():
            from audionas.data.corpora.audioset import Audioset

            return Audioset(section)
    raise TypeError(f"no corpus for {type(section).__name__}")
