"""Where the clips of AudioSet stand in a mirror's parquet and tar files, found without the audio between."""

from __future__ import annotations

import logging
import re
import tarfile
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from audionas.data.corpora.base import leaves
from audionas.data.sources.base import SourceError
from audionas.data.sources.hub_files import Ranges, RemoteFile

log = logging.getLogger(__name__)

#: What a video id can be: eleven of these on YouTube.
YTID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_AUDIO = frozenset({".flac", ".wav", ".ogg", ".opus", ".mp3"})
_HEADER = 4096  # bytes read for a tar header: 512, or a few blocks more where the name is long

Places = tuple[list[tuple[str, int, int]], bool]


def parquet_places(file: RemoteFile) -> Places:
    """(id, row group, row) of every row, and whether the file is sound. Reads the column `video_id` alone.

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
        log.warning("hub: %s: taken for damaged after %d clips: %s", file.path, len(rows), error)
        return rows, False
    return rows, True


def read_group(file: RemoteFile, group: int) -> pa.Table:
    """`video_id` and `audio` (the bytes alone) of a row group.

    Raises SourceError (`decode`) where it is damaged, and what `RemoteFile.read` raises.
    """
    try:
        table = _open_parquet(file)
        return table.read_row_group(group, columns=["video_id", "audio.bytes"], use_threads=False)
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise SourceError("decode", f"{file.path}, row group {group}: {error}") from None


def _open_parquet(file: RemoteFile) -> pq.ParquetFile:
    # No pre-buffering: it would read the audio between two columns that stand near each other.
    table = pq.ParquetFile(Ranges(file), pre_buffer=False, page_checksum_verification=True)
    schema = table.schema_arrow
    ids, audio = schema.field("video_id").type, schema.field("audio").type
    if not (pa.types.is_string(ids) or pa.types.is_large_string(ids)):
        raise TypeError(f"the column video_id is {ids}, not text")
    if not (pa.types.is_struct(audio) and audio.get_field_index("bytes") >= 0):
        raise TypeError(f"the column audio is {audio}, not a struct with bytes")
    return table


def tar_places(file: RemoteFile) -> Places:
    """(id, offset, size) of every member that is a clip, and whether the file is sound. Reads headers alone.

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
        log.warning("hub: %s: taken for damaged after %d clips: %s", file.path, len(rows), error)
        return rows, False
    # tarfile takes a damaged header for the end; the true end is a block of zeros.
    source.seek(end)
    ending = source.read(tarfile.BLOCKSIZE)
    whole = len(ending) == tarfile.BLOCKSIZE and not any(ending)
    if not whole:
        log.warning("hub: %s: taken for damaged after %d clips: no end mark", file.path, len(rows))
    return rows, whole


def _member_id(member: tarfile.TarInfo) -> str | None:
    """The video id of a regular file `…/{ytid}.flac`; None for links and for names that leave a folder."""
    path = PurePosixPath(member.name)
    if not member.isreg() or member.issparse() or not member.size:
        return None
    if leaves(member.name) or path.suffix.lower() not in _AUDIO:
        return None
    return path.stem if YTID.fullmatch(path.stem) else None
