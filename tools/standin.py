"""Substitute audio for AudioSet's lists: other recordings, with seeded random faults.

Every clip has a kind (`KINDS`). It defines the file on the hub, the response of the video server, and the
expected entry in the ledger. The id of a video selects one of a few recordings, which is repeated.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import soxr
from hub_server import Asked, Fault, HubServer
from loopback import Loopback, Reply

RATE = 8000  # sample rate of all audio, in Hz
PERIOD = 10  # period of the repeated recordings, in seconds
_VIDEO = 620  # length of a video in seconds; the last segment of the lists ends at 600
_FILE, _GROUP = 1000, 100  # rows per parquet file and per row group, as in the real mirror

Rows = Sequence[Mapping[str, str]]  # rows of data/segments/{split}.csv


@dataclass(frozen=True)
class Kind:
    """The availability of a clip.

    Attributes:
        per_mille: frequency of the kind, in clips per 1,000; there is at least one clip of every kind.
        hub: file on the hub: `whole`, `damaged`, `silent`, `short`, or empty for none.
        video: response of the video server: as `hub`, `flaky` (succeeds at the second request), an HTTP
            status, or an error message of YouTube.
        reasons: expected reasons in the ledger, by source. A source without a reason provides the clip.
    """

    per_mille: int
    hub: str
    video: str | int
    reasons: Mapping[str, str]

    @property
    def source(self) -> str:
        """The source that provides the clip; empty if there is none."""
        return next((source for source in ("hub", "youtube") if source not in self.reasons), "")

    @property
    def reason(self) -> str:
        """The expected reason in the ledger; empty if the clip is available."""
        return "" if self.source else self.reasons["youtube"]


def _unavailable(per_mille: int, video: str | int, reason: str) -> Kind:
    return Kind(per_mille, "", video, {"hub": "not there", "youtube": reason})


def _damaged_everywhere(hub: str, reason: str) -> Kind:
    return Kind(2, hub, hub, {"hub": reason, "youtube": reason})


#: About 7 % of the clips are not on the hub. A third of these is available as a video.
KINDS = {
    "whole": Kind(0, "whole", "whole", {}),  # all remaining clips
    "elsewhere": Kind(20, "", "whole", {"hub": "not there"}),
    "elsewhere, at the second try": Kind(2, "", "flaky", {"hub": "not there"}),
    "gone": _unavailable(22, 404, "removed"),
    "gone for good": _unavailable(4, 410, "removed"),
    "account closed": _unavailable(
        4,
        "Video unavailable. This video is no longer available because the YouTube account associated with "
        "this video has been terminated.",
        "removed",
    ),
    "private": _unavailable(
        7, "Private video. Sign in if you've been granted access to this video", "private"
    ),
    "sign-in wanted": _unavailable(1, 401, "private"),
    "for adults": _unavailable(
        5,
        "Sign in to confirm your age. This video may be inappropriate for some users.",
        "age-restricted",
    ),
    "blocked here": _unavailable(
        3,
        "Video unavailable. The uploader has not made this video available in your country",
        "geo-blocked",
    ),
    "blocked by law": _unavailable(2, 451, "geo-blocked"),
    "damaged": _damaged_everywhere("damaged", "decode"),
    "silent": _damaged_everywhere("silent", "silent"),
    "too short": _damaged_everywhere("short", "too short"),
}


def plan(clip_ids: Sequence[str], seed: int) -> dict[str, str]:
    """Draw the kind of every clip; return kinds by clip id."""
    counts = {name: max(1, round(kind.per_mille * len(clip_ids) / 1000)) for name, kind in KINDS.items()}
    counts["whole"] = 0
    counts["whole"] = len(clip_ids) - sum(counts.values())
    kinds = [name for name, count in counts.items() for _ in range(count)]
    random.Random(seed).shuffle(kinds)
    return dict(zip(clip_ids, kinds, strict=True))


class Recordings:
    """Videos made of a few recordings. PERIOD seconds at RATE are repeated without end.

    Args:
        files: audio files of any sample rate, 3 s or longer.
    """

    def __init__(self, files: Sequence[Path]):
        self.waves = []
        for file in files:
            samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
            wave = np.resize(soxr.resample(samples.mean(axis=1), rate, RATE), PERIOD * RATE)
            self.waves.append(np.round(wave / np.abs(wave).max() * 30_000).astype(np.int16))
        self._clip = lru_cache(maxsize=4096)(self._encoded_clip)
        self._video = lru_cache(maxsize=None)(self._encoded_video)

    def number(self, ytid: str) -> int:
        """Return the index of the recording of a video."""
        return int.from_bytes(hashlib.blake2b(ytid.encode(), digest_size=8).digest()) % len(self.waves)

    def samples(self, clip: Mapping[str, str]) -> np.ndarray:
        """Return the samples of a clip, int16 [n]."""
        return self._samples(self.number(clip["source"]), *_span(clip))

    def clip(self, clip: Mapping[str, str]) -> bytes:
        """Return the encoded clip: FLAC, or Ogg Vorbis for every second recording."""
        first, last = _span(clip)
        period = PERIOD * RATE
        return self._clip(self.number(clip["source"]), first % period, first % period + last - first)

    def video(self, clip: Mapping[str, str]) -> bytes:
        """Return the whole video as FLAC."""
        return self._video(self.number(clip["source"]))

    def _samples(self, number: int, first: int, last: int) -> np.ndarray:
        return np.take(self.waves[number], np.arange(first, last), mode="wrap")

    def _encoded_clip(self, number: int, first: int, last: int) -> bytes:
        kind = {"format": "OGG", "subtype": "VORBIS"} if number % 2 else {"format": "FLAC"}
        return encode(self._samples(number, first, last), **kind)

    def _encoded_video(self, number: int) -> bytes:
        return encode(self._samples(number, 0, _VIDEO * RATE))


def _span(clip: Mapping[str, str]) -> tuple[int, int]:
    return round(float(clip["start"]) * RATE), round(float(clip["end"]) * RATE)


def encode(samples: np.ndarray, **options: str) -> bytes:
    """Encode int16 samples at RATE as an audio file, by default FLAC."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, **({"format": "FLAC"} | options))
    return file.getvalue()


class Hub(HubServer):
    """A hub with the clips of the plan, stored in parquet files.

    Some connections end early, some requests fail, and one response asks the client to retry later. All
    faults are temporary.

    Args:
        folder: folder of the parquet files.
        seed: seed of the faults.
    """

    def __init__(self, folder: Path, seed: int):
        super().__init__({})
        self._folder, self._random, self._open = folder, random.Random(seed), ExitStack()
        self.fault = self._fault
        self._requests = 0

    def hold(self, splits: Mapping[str, Rows], kinds: Mapping[str, str], recordings: Recordings) -> None:
        """Write the parquet files and serve them."""
        files = {}
        for split, part in (("train", "bal_train"), ("valid", "unbal_train"), ("test", "eval")):
            held = [row for row in splits[split] if KINDS[kinds[row["clip_id"]]].hub]
            for at in range(0, len(held), _FILE):
                path = self._folder / "data" / part / f"{at // _FILE:02d}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                self._write_file(path, held[at : at + _FILE], kinds, recordings)
                file = self._open.enter_context(path.open("rb"))
                content = self._open.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
                files[path.relative_to(self._folder).as_posix()] = content
        self.commit(files)

    @staticmethod
    def audio(clip: Mapping[str, str], kind: Kind, recordings: Recordings) -> bytes:
        """Return the content of a clip on the hub."""
        whole = recordings.clip(clip)
        return whole if kind.hub == "whole" else _damaged_clip(kind.hub, whole)

    def _write_file(self, path: Path, rows: Rows, kinds: Mapping[str, str], recordings: Recordings) -> None:
        audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        schema = pa.schema([("video_id", pa.string()), ("audio", audio), ("labels", pa.list_(pa.string()))])
        # Compression would shrink the repeated recordings to almost nothing.
        options = {"use_dictionary": False, "compression": "none", "write_page_checksum": True}
        with pq.ParquetWriter(path, schema, **options) as writer:
            for at in range(0, len(rows), _GROUP):
                group = [
                    {
                        "video_id": row["source"],
                        "audio": {
                            "bytes": self.audio(row, KINDS[kinds[row["clip_id"]]], recordings),
                            "path": f"{row['source']}.flac",
                        },
                        "labels": row["labels"].split(","),
                    }
                    for row in rows[at : at + _GROUP]
                ]
                writer.write_table(pa.Table.from_pylist(group, schema))

    def _fault(self, asked: Asked) -> Fault | None:
        if asked.part != "storage":
            return None
        self._requests += 1
        if self._requests == 30:
            return Fault(status=429, headers=(("Retry-After", "1"),))
        chance = self._random.random()
        return Fault(status=503) if chance < 0.01 else Fault(cut=5000) if chance < 0.03 else None

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.files = {}
        self._open.close()


class Videos(Loopback):
    """Server for the pages and media of all videos that yt-dlp requests; see the plugin in tests/support."""

    def hold(self, splits: Mapping[str, Rows], kinds: Mapping[str, str], recordings: Recordings) -> None:
        """Serve the videos of all clips that the hub does not provide."""
        for row in (row for rows in splits.values() for row in rows):
            kind, ytid = KINDS[kinds[row["clip_id"]]], row["source"]
            if kind.hub == "whole":
                continue  # never requested
            replies = [_json({"media": self.url(f"/media/{ytid}")})]
            if isinstance(kind.video, int):
                replies = [Reply(status=kind.video)]
            elif " " in kind.video:
                replies = [_json({"said": kind.video})]
            else:
                media = (
                    recordings.video(row) if kind.video in ("whole", "flaky") else _damaged_video(kind.video)
                )
                self.serve(f"/media/{ytid}", Reply(media, "audio/flac"))
            if kind.video == "flaky":
                replies.insert(0, Reply(status=503))
            self.serve(f"/video/{ytid}", *replies)


@cache
def _damaged_video(how: str) -> bytes:
    return b"no audio" * 5000 if how == "damaged" else encode(_too_quiet(how, _VIDEO))


def _damaged_clip(how: str, whole: bytes) -> bytes:
    return whole[: len(whole) // 2] if how == "damaged" else encode(_too_quiet(how, PERIOD))


def _too_quiet(how: str, seconds: int) -> np.ndarray:
    """Return `seconds` of silence, or 0.05 s of sound."""
    return np.zeros(seconds * RATE, np.int16) if how == "silent" else np.full(RATE // 20, 1000, np.int16)


def _json(content: dict[str, str]) -> Reply:
    return Reply(json.dumps(content).encode(), "application/json")
