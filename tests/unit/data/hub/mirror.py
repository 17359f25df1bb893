"""A made mirror of AudioSet in both layouts, and what of it was asked for."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from audionas.data.corpora.base import Clip
from audionas.data.sources.base import SourceError
from audionas.data.sources.hub import Hub

PARTS = {"bal_train": range(20), "eval": range(20, 40), "unbal_train": range(40, 60)}
GROUP = 5  # clips in a row group
SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("labels", pa.list_(pa.string())),
        ("human_labels", pa.list_(pa.string())),
    ]
)


def flac(number: int, seconds: float = 2.0) -> bytes:
    file = io.BytesIO()
    wave = np.random.default_rng(number).normal(0, 0.1, round(16_000 * seconds))
    soundfile.write(file, wave, 16_000, format="FLAC")
    return file.getvalue()


def ytid(number: int) -> str:
    return f"{('--', '-', '_')[number % 3]}{number:x}PJHxphWEs"[:11].ljust(11, "x")


SOUNDS = {ytid(number): flac(number) for number in range(60)}


def clip(name: str) -> Clip:
    return Clip(f"Y{name}_30", name, name, ("/m/09x0r",), 30.0, 40.0)


def parquet(sounds: dict[str, bytes | None]) -> bytes:
    audio = [{"bytes": data, "path": f"audio/x/{name}.flac"} for name, data in sounds.items()]
    columns = [list(sounds), audio, [["/m/09x0r"]] * len(sounds), [["Speech"]] * len(sounds)]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=GROUP, write_page_checksum=True)
    return file.getvalue()


def tar(members: list[tuple[str | tarfile.TarInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if data:
                member.size = len(data)
            archive.addfile(member, io.BytesIO(data) if data else None)
    return file.getvalue()


def part(numbers) -> dict[str, bytes]:
    return {ytid(number): SOUNDS[ytid(number)] for number in numbers}


PARQUET = {f"data/{name}/00.parquet": parquet(part(numbers)) for name, numbers in PARTS.items()}
TAR = {
    f"data/{name}00.tar": tar([(f"audio/{name}/{i}.flac", s) for i, s in part(numbers).items()])
    for name, numbers in PARTS.items()
}
OTHERS = {"README.md": b"# AudioSet", "data/eval_segments.csv": b"# YTID\n"}


def opened(server, cache, **options) -> Hub:
    return Hub(server.name, cache, **{"endpoint": server.endpoint, "timeout": 5.0} | options)


def chunks(path: str) -> list[tuple[int, int]]:
    """Where the audio bytes of every row group stand in a parquet file."""
    metadata = pq.ParquetFile(io.BytesIO(PARQUET[path])).metadata
    places = []
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        columns = [row_group.column(i) for i in range(row_group.num_columns)]
        audio = next(column for column in columns if column.path_in_schema == "audio.bytes")
        start = min(audio.data_page_offset, audio.dictionary_page_offset or audio.data_page_offset)
        places.append((start, start + audio.total_compressed_size))
    return places


def groups_read(server, path: str) -> list[int]:
    """Row groups of which audio was asked, in order. The end of the file, which holds its index, apart."""
    end = len(PARQUET[path])
    return [
        group
        for begin, stop in server.ranges(path)
        for group, (start, last) in enumerate(chunks(path))
        if stop != end and begin < last and stop > start
    ]


def reason(hub: Hub, name: str) -> str:
    with pytest.raises(SourceError) as caught:
        hub.get(clip(name))
    return caught.value.reason
