"""Open the corpus that `corpus.name` in params.yaml names."""

from __future__ import annotations

from audionas.data.corpora.base import ClipLists
from audionas.settings.corpora import AudiosetCorpus, Esc50Corpus, FolderCorpus, SoundfontCorpus


def open_corpus(
    section: SoundfontCorpus | FolderCorpus | Esc50Corpus | AudiosetCorpus, clip_seconds: float
) -> ClipLists:
    """Return the corpus that a section of the configuration describes.

    Args:
        section: the section `corpus`.
        clip_seconds: clip length in seconds, for a corpus that renders its clips.

    Raises:
        UserError: the corpus's lists are missing or invalid.
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
