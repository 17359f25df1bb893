"""Find the recordings in folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from audionas.runtime.errors import UserError, os_error

#: Extensions of the files that are taken from a folder.
EXTENSIONS = frozenset(
    (
        *(
            ".wav",
            ".wave",
            ".bwf",
            ".rf64",
            ".w64",
            ".flac",
            ".ogg",
            ".oga",
            ".opus",
            ".mp3",
            ".aif",
            ".aiff",
        ),
        *(".aifc", ".au", ".snd", ".caf", ".m4a", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".wma", ".amr"),
        *(".3gp", ".wv"),
    )
)


def find_recordings(folder: Path) -> Iterator[Path]:
    """Yield the audio files below a folder, in the order of their names.

    Hidden files and folders are skipped, and so are links to folders, and to files outside of the folder.

    Raises:
        UserError: a folder cannot be read, or there is no audio file.
    """

    def fail(error: OSError) -> None:
        raise os_error(error)

    inside, found = folder.resolve(), False
    for place, folders, files in os.walk(folder, onerror=fail):  # follows no links to folders
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place) / name
            if name.startswith(".") or path.suffix.lower() not in EXTENSIONS or not path.is_file():
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                continue
            found = True
            yield path
    if not found:
        raise UserError(
            f"{folder}: no audio file in this folder; give one with .wav, .flac, .ogg, .mp3 or the like"
        )
