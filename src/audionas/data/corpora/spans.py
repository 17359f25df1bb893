"""Cut spans out of recordings, exact to the sample."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from audionas.audio.containers import Truncated, completed, container
from audionas.audio.reading import NO_LENGTH, open_sound
from audionas.data.corpora.base import FetchError
from audionas.data.names import clean
from audionas.runtime.errors import UserError
from audionas.runtime.files import UnfitFileError, read_bounded

#: Pairs of columns that give a clip's span within its file, in seconds.
SPANS = (
    ("start", "end"),
    ("start_seconds", "end_seconds"),
    ("start_time", "end_time"),
    ("onset", "offset"),
)
LONGEST = 3600.0  # seconds of one span
_BLOCK = 1 << 16  # frames read at a time
_SLACK = 0.05  # seconds by which a list may overshoot the end of a file, from rounding
_MOST_CHANNELS = 8  # of FLAC
_DECODED_IN_ORDER = ("OGG", "MP3")  # libsndfile seeks inexactly near the end of Vorbis
_UNREADABLE = (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError)
_EXACT = {"PCM_S8": 16, "PCM_U8": 16, "PCM_16": 16, "PCM_24": 24}  # bits that store every sample without loss


def span_columns(row: Mapping[str, str], where: str | Path) -> tuple[str, str] | None:
    """Return the pair of SPANS that a list has, or None. Raises UserError for half a pair, or two pairs."""
    there = [span for span in SPANS if row.keys() & set(span)]
    if not there:
        return None
    for column in there[0]:
        if column not in row:
            (other,) = row.keys() & set(there[0])
            raise UserError(
                f"{where}: the column {other!r} needs a column {column!r}: give both, in seconds, to cut "
                f"spans out of the files; or rename {other!r} if it means something else"
            )
    if len(there) > 1:
        names = " and ".join("{},{}".format(*span) for span in there)
        raise UserError(f"{where}: the columns {names} both define spans; keep one pair, or rename the other")
    return there[0]


def read_span(
    row: Mapping[str, str], columns: tuple[str, str], where: str
) -> tuple[float | None, float | None]:
    """Return start and end in seconds: (None, None) for the whole file, end None for the file's end.

    Raises UserError, prefixed by `where`, for an invalid span.
    """
    texts = [clean(row[column]) for column in columns]
    if not any(texts):
        return None, None
    try:
        start, end = (float(text) if text else None for text in texts)
        start = 0.0 if start is None else start
        last = start + LONGEST if end is None else end
        if not (0 <= start < last < 1e6 and last - start <= LONGEST):  # NaN fails too
            raise ValueError
    except ValueError:
        raise UserError(
            f"{where}, columns {columns[0]} and {columns[1]}: {texts[0]!r} to {texts[1]!r} is not a span; "
            f"write increasing seconds from 0, at most {LONGEST:g} apart, with a decimal point (both empty: "
            "the whole file). If the files are already cut, rename the columns"
        ) from None
    return start, end


def cut(path: Path, start: float, end: float | None) -> bytes:
    """Return the samples from `start` to `end` (seconds; None for the file's end) of a recording, as FLAC.

    The span holds samples round(start * rate) to round(end * rate). Integer samples of up to 24 bits are kept
    without loss; other samples are stored with 24 bits. More than 8 channels are mixed to one. The file is
    decoded block by block; only the encoded span is held in memory.

    Raises:
        FetchError: not audio, a format that only ffmpeg reads, a truncated file, a span beyond the end of the
            file, no samples, or values that are not finite.
    """
    try:
        with _open(path) as file:
            return _cut(file, start, end)
    except _UNREADABLE as error:
        raise FetchError(f"not audio (no span can be cut from it: {error})") from None


def _open(path: Path) -> soundfile.SoundFile:
    """Open the file with libsndfile; if that fails, open its bytes as whole recordings are opened."""
    try:
        file = soundfile.SoundFile(path)
        if 0 < file.frames < NO_LENGTH:
            return file
        file.close()
    except _UNREADABLE:
        pass
    try:
        data = completed(read_bounded(path))
    except Truncated:
        raise FetchError("truncated") from None
    except UnfitFileError as error:
        raise FetchError(str(error)) from None
    if file := open_sound(data):
        return file
    kind = container(data)
    raise FetchError(f"no span is cut of this format ({kind.extension})" if kind.demuxer else "not audio")


def _cut(file: soundfile.SoundFile, start: float, end: float | None) -> bytes:
    rate, bits = file.samplerate, _EXACT.get(file.subtype)
    kind = {16: "int16", 24: "int32", None: "float64"}[bits]
    at, longest = round(start * rate), round(LONGEST * rate)
    wanted = longest if end is None else round(end * rate) - at
    mixed = file.channels > _MOST_CHANNELS
    encoded, got = io.BytesIO(), 0
    with soundfile.SoundFile(
        encoded,
        "w",
        rate,
        1 if mixed else file.channels,
        format="FLAC",
        subtype="PCM_16" if bits == 16 else "PCM_24",
    ) as flac:
        if _skip(file, at) == at:
            while got < wanted and len(block := file.read(min(_BLOCK, wanted - got), kind, always_2d=True)):
                if bits is None:
                    if not np.isfinite(block).all():
                        raise FetchError("non-finite")
                    block = block.clip(-1, 1)
                flac.write(block.mean(axis=1).astype(kind) if mixed else block)
                got += len(block)
    if not got or (end is not None and wanted - got > _SLACK * rate):
        last = f"{start:g} s on" if end is None else f"{start:g} to {end:g} s"
        raise FetchError(f"span beyond the end ({last} of {file.tell() / rate:.3f} s)")
    return encoded.getvalue()


def _skip(file: soundfile.SoundFile, frames: int) -> int:
    """Seek to a frame, or to the end of a shorter file; return the position."""
    if file.format not in _DECODED_IN_ORDER:
        return file.seek(min(frames, file.frames))
    at = 0
    while at < frames and (skipped := len(file.read(min(_BLOCK, frames - at), "float32"))):
        at += skipped
    return at
