"""Shards of original audio: tar files in WebDataset's naming, reproducible to the byte."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from audionas.audio.containers import container
from audionas.runtime.artifacts import remedy
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import atomic_write

CLIPS = 1_000  # of one shard, including those without audio
_NAME = re.compile(r"(?P<clip>[A-Za-z0-9_-]+)\.(?P<kind>[a-z0-9]+)")


def extension(data: bytes) -> str:
    """Return the file extension of encoded audio by its first bytes; `bin` if they are unknown."""
    return container(data).extension


def write_shard(path: Path, clips: Iterable[tuple[str, bytes]]) -> None:
    """Write (clip id, encoded audio) pairs as `{clip_id}.{extension}`, atomically.

    Members have no dates and no owners, so the bytes depend on the clips alone.
    """
    with atomic_write(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for clip_id, data in clips:
            member = tarfile.TarInfo(f"{clip_id}.{extension(data)}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def read_shard(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (clip id, encoded audio) of every member of a shard, in order, one at a time in memory.

    Raises UserError naming the file if it is missing or damaged, or a member is not a clip.
    """
    try:
        with tarfile.open(path, "r:") as tar:  # a stream ("r|") reads in blocks of 10 kB
            size = path.stat().st_size
            for member in tar:
                match = _NAME.fullmatch(member.name)
                if not match or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse:
                    raise UserError(f"{path}: the member {member.name!r:.60} is not a clip; {remedy(path)}")
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError(f"{member.name} ends after the file")
                yield match["clip"], tar.extractfile(member).read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with `dvc repro`") from None
    except (tarfile.TarError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); {remedy(path)}") from None
    except OSError as error:
        raise os_error(error, path) from None
