"""Clips for calibration and comparison: from a store, a folder or recordings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from audionas.audio.decode import decode
from audionas.audio.reading import DecodeError
from audionas.deploy.waveform import Described
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.extras import optional
from audionas.runtime.files import UnfitFileError, read_bounded
from audionas.runtime.text import line

log = logging.getLogger(__name__)

STORE = ".h5"
_MANY = 10  # files; more show a progress bar on a terminal


def load_clips(path: Path, about: dict[str, Any], option: str, limit: int) -> np.ndarray:
    """Return clips of a store or a folder, drawn with a fixed seed if there are more than `limit`.

    Args:
        path: a store of waveforms or log-mel, a folder with recordings, or a recording.
        about: metadata of the model that the clips are for.
        option: of the command line, for messages.
        limit: most clips.

    Returns:
        Waveforms float32 [clips, samples] as long as a training clip, or log-mel [clips, frames, mels].

    Raises:
        UserError: the store is of another study, or no file is a usable recording.
    """
    if path.suffix != STORE:
        return load_recordings([path], about, option, limit)
    with optional(f"{option} {path}"):
        from audionas.data.store import ClipStore
        from audionas.deploy.evaluation import require_same
        from audionas.evaluation.prediction import batches

    store = ClipStore(path)
    require_same(about, store, "the model")
    rows = _drawn(len(store), limit)
    return next(batches(store, len(rows), rows)).numpy()


def load_recordings(paths: Sequence[Path], about: dict[str, Any], option: str, limit: int) -> np.ndarray:
    """Return recordings as waveforms, float32 [clips, samples], at the rate and length of training clips.

    Args:
        paths: recordings, and folders, which are searched with their subfolders. A file of a folder that is
            no usable recording is skipped with a warning.
        about, option, limit: as `load_clips`.

    Raises:
        UserError: a recording that `paths` names cannot be used, or no file of the folders can.
    """
    audio = Described.of(about, option).audio
    files: list[tuple[Path, bool]] = []
    for path in paths:
        if path.is_dir():
            files += [(file, False) for file in sorted(path.rglob("*")) if file.is_file()]
        else:
            files.append((path, True))
    files = [files[i] for i in _drawn(len(files), limit)]
    clips, skipped = [], ""
    quiet = None if len(files) > _MANY else True
    for file, named in tqdm(files, desc=option.lstrip("-"), unit="files", disable=quiet, leave=False):
        try:
            content = read_bounded(file)
            clips.append(decode(content, audio.sample_rate, audio.clip_samples, audio.min_seconds).waveform)
        except (DecodeError, UnfitFileError, OSError) as error:
            if named:
                raise _unusable(error, file, option) from None
            skipped = f"{line(file)}: {error}"
    if not clips:
        reason = (
            f"none of {len(files)} files is a usable recording; the last is {skipped}"
            if skipped
            else "no file"
        )
        raise UserError(f"{option}: {reason}; give recordings with sound, or a folder with them")
    if len(clips) < len(files):
        log.warning(
            "%s: %d of %d files skipped, such as %s", option, len(files) - len(clips), len(files), skipped
        )
    return np.stack(clips)


def _unusable(error: Exception, file: Path, option: str) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{option}: {line(file)}: no such file; fix the path")
    if isinstance(error, OSError):
        return os_error(error, file)
    return UserError(f"{option}: {line(file)}: {error}; give a recording with sound")


def _drawn(count: int, limit: int) -> np.ndarray:
    """Return at most `limit` of `count` places, in order, drawn with a fixed seed."""
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])
