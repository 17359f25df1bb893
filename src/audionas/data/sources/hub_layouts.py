"""Locate clips in a mirror's parquet and tar files without reading the audio."""

from __future__ import annotations

import logging
import re
import tarfile
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from audionas.data.corpora.base import escapes
from audionas.data.sources.base import SourceError
from audionas.data.sources.hub_files import Ranges, RemoteFile

log = logging.getLogger(__name__)

#: A video id: eleven of these characters on YouTube.
YTID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_AUDIO = frozenset({".flac", ".wav", ".ogg", ".opus", ".mp3"})
_HEADER = 4096  # bytes read for a tar header: 512, or a few blocks more for a long name

Places = tuple[list[tuple[str, int, int]], bool]


def parquet_places(file: RemoteFile) -> Places:
    """Return (id, row group, row) of every row, and whether the file is valid; read only `video_id`.

    Raises what `RemoteFile.read` raises.
    """
    rows: list[tuple[str, int, int]] = []
    try:
        table = _open_parquet(file)
        for group in range(table.num_row_groups):
            ids = table.read_row_group(group, columns=["video_id"], use_threads=False)["video_id"]
            found = ((ytid, group, row) for row, ytid in enumerate(ids.to_pylist()))
            rows += [place for place in found if YTID.fullmatch(place[0] or "")]
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        log.warning("hub: %s: damaged after %d clips: %s", file.path, len(rows), error)
        return rows, False
    return rows, True


def read_group(file: RemoteFile, group: int) -> pa.Table:
    """Return the columns `video_id` and `audio.bytes` of a row group.

    Raises SourceError (`decode`) if it is damaged, and the errors of `RemoteFile.read`.
    """
    try:
        table = _open_parquet(file)
        return table.read_row_group(group, columns=["video_id", "audio.bytes"], use_threads=False)
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise SourceError("decode", f"{file.path}, row group {group}: {error}") from None


def _open_parquet(file: RemoteFile) -> pq.ParquetFile:
    # Pre-buffering would read the audio between two nearby columns.
    table = pq.ParquetFile(Ranges(file), pre_buffer=False, page_checksum_verification=True)
    schema = table.schema_arrow
    ids, audio = schema.field("video_id").type, schema.field("audio").type
    if not (pa.types.is_string(ids) or pa.types.is_large_string(ids)):
        raise TypeError(f"the column video_id is {ids}, not text")
    if not (pa.types.is_struct(audio) and audio.get_field_index("bytes") >= 0):
        raise TypeError(f"the column audio is {audio}, not a struct with bytes")
    return table


def tar_places(file: RemoteFile) -> Places:
    """Return (id, offset, size) of every clip, and whether the file is valid; read only headers.

    Raises what `RemoteFile.read` raises.
    """
    rows = []
    source = Ranges(file, ahead=_HEADER)
    try:
        with tarfile.open(fileobj=source, mode="r:") as tar:
            for member in tar:
                ytid = _member_id(member)
                if ytid and member.offset_data + member.size <= file.size:
                    rows.append((ytid, member.offset_data, member.size))
            end = tar.offset
    except (tarfile.TarError, ValueError, EOFError) as error:
        log.warning("hub: %s: damaged after %d clips: %s", file.path, len(rows), error)
        return rows, False
    # tarfile treats a damaged header as the end; the real end is a block of zeros.
    source.seek(end)
    ending = source.read(tarfile.BLOCKSIZE)
    whole = len(ending) == tarfile.BLOCKSIZE and not any(ending)
    if not whole:
        log.warning("hub: %s: damaged after %d clips: no end mark", file.path, len(rows))
    return rows, whole


def _member_id(member: tarfile.TarInfo) -> str | None:
    """Return the video id of a regular file `…/{ytid}.flac`; None for links and unsafe names."""
    path = PurePosixPath(member.name)
    if not member.isreg() or member.issparse() or not member.size:
        return None
    if escapes(member.name) or path.suffix.lower() not in _AUDIO:
        return None
    return path.stem if YTID.fullmatch(path.stem) else None
