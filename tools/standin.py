"""Substitute audio for AudioSet's lists: other recordings, with a seeded share of faults.

Every clip has a kind (`KINDS`): what the hub holds of it, what the video server answers, and so what the
ledger must contain. The content of a video follows from its id: one of a few recordings, repeated.
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

RATE = 8000  # Hz, of all that is served
PERIOD = 10  # seconds after which a video sounds the same again
_VIDEO = 620  # seconds; the last span of the lists ends at 600
_FILE, _GROUP = 1000, 100  # rows of a parquet file and of a row group, as in the mirror

Rows = Sequence[Mapping[str, str]]  # of data/segments/{split}.csv


@dataclass(frozen=True)
class Kind:
    """What happens to a clip.

    Attributes:
        per_mille: of all clips; at least one clip is of every kind.
        hub: what the hub holds: `whole`, `damaged`, `silent`, `short`, or nothing.
        video: what the video's server answers: as `hub`, `flaky` (whole, at the second try), a status, or
            YouTube's words.
        reasons: what the ledger must contain, by source; the source that is not among them has the clip.
    """

    per_mille: int
    hub: str
    video: str | int
    reasons: Mapping[str, str]

    @property
    def source(self) -> str:
        """The source that has the clip; empty if none does."""
        return next((source for source in ("hub", "youtube") if source not in self.reasons), "")

    @property
    def reason(self) -> str:
        """The ledger's reason; empty if the clip is available."""
        return "" if self.source else self.reasons["youtube"]


def _lost(per_mille: int, video: str | int, reason: str) -> Kind:
    return Kind(per_mille, "", video, {"hub": "not there", "youtube": reason})


def _spoilt(hub: str, reason: str) -> Kind:
    return Kind(2, hub, hub, {"hub": reason, "youtube": reason})


#: Some 7 % of the clips are not on the hub; of these a third can still be seen.
KINDS = {
    "whole": Kind(0, "whole", "whole", {}),  # all the rest
    "elsewhere": Kind(20, "", "whole", {"hub": "not there"}),
    "elsewhere, at the second try": Kind(2, "", "flaky", {"hub": "not there"}),
    "gone": _lost(22, 404, "removed"),
    "gone for good": _lost(4, 410, "removed"),
    "account closed": _lost(
        4,
        "Video unavailable. This video is no longer available because the YouTube account associated with "
        "this video has been terminated.",
        "removed",
    ),
    "private": _lost(7, "Private video. Sign in if you've been granted access to this video", "private"),
    "sign-in wanted": _lost(1, 401, "private"),
    "for adults": _lost(
        5,
        "Sign in to confirm your age. This video may be inappropriate for some users.",
        "age-restricted",
    ),
    "blocked here": _lost(
        3,
        "Video unavailable. The uploader has not made this video available in your country",
        "geo-blocked",
    ),
    "blocked by law": _lost(2, 451, "geo-blocked"),
    "damaged": _spoilt("damaged", "decode"),
    "silent": _spoilt("silent", "silent"),
    "too short": _spoilt("short", "too short"),
}


def plan(clip_ids: Sequence[str], seed: int) -> dict[str, str]:
    """The kind of every clip, drawn with a seed."""
    counts = {name: max(1, round(kind.per_mille * len(clip_ids) / 1000)) for name, kind in KINDS.items()}
    counts["whole"] = 0
    counts["whole"] = len(clip_ids) - sum(counts.values())
    kinds = [name for name, count in counts.items() for _ in range(count)]
    random.Random(seed).shuffle(kinds)
    return dict(zip(clip_ids, kinds, strict=True))


class Recordings:
    """A few recordings as endless videos: PERIOD seconds at RATE, repeated.

    Args:
        files: audio files of any rate, 3 s or longer.
    """

    def __init__(self, files: Sequence[Path]):
        self.waves = []
        for file in files:
            samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
            wave = np.resize(soxr.resample(samples.mean(axis=1), rate, RATE), PERIOD * RATE)
            self.waves.append(np.round(wave / np.abs(wave).max() * 30_000).astype(np.int16))
        self._clip = lru_cache(maxsize=4096)(self._encoded)
        self._video = lru_cache(maxsize=None)(self._whole)

    def number(self, ytid: str) -> int:
        """Which recording a video is."""
        return int.from_bytes(hashlib.blake2b(ytid.encode(), digest_size=8).digest()) % len(self.waves)

    def samples(self, clip: Mapping[str, str]) -> np.ndarray:
        """int16 [n]: the samples of a clip."""
        return self._heard(self.number(clip["source"]), *_span(clip))

    def clip(self, clip: Mapping[str, str]) -> bytes:
        """The clip encoded: FLAC, or Ogg Vorbis for every other recording."""
        first, last = _span(clip)
        period = PERIOD * RATE
        return self._clip(self.number(clip["source"]), first % period, first % period + last - first)

    def video(self, clip: Mapping[str, str]) -> bytes:
        """The whole video, as FLAC."""
        return self._video(self.number(clip["source"]))

    def _heard(self, number: int, first: int, last: int) -> np.ndarray:
        return np.take(self.waves[number], np.arange(first, last), mode="wrap")

    def _encoded(self, number: int, first: int, last: int) -> bytes:
        kind = {"format": "OGG", "subtype": "VORBIS"} if number % 2 else {"format": "FLAC"}
        return encode(self._heard(number, first, last), **kind)

    def _whole(self, number: int) -> bytes:
        return encode(self._heard(number, 0, _VIDEO * RATE))


def _span(clip: Mapping[str, str]) -> tuple[int, int]:
    return round(float(clip["start"]) * RATE), round(float(clip["end"]) * RATE)


def encode(samples: np.ndarray, **options: str) -> bytes:
    """int16 samples at RATE as an audio file; FLAC by default."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, **({"format": "FLAC"} | options))
    return file.getvalue()


class Hub(HubServer):
    """A mirror of the clips that the plan puts there, in parquet files that lie in a folder.

    Now and then a connection ends early, a request fails, and once it asks for patience: all of it passes.
    """

    def __init__(self, folder: Path, seed: int):
        super().__init__({})
        self._folder, self._random, self._open = folder, random.Random(seed), ExitStack()
        self.fault = self._fault
        self._requests = 0

    def hold(self, splits: Mapping[str, Rows], kinds: Mapping[str, str], recordings: Recordings) -> None:
        """Write the files and serve them."""
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
        """What the hub holds of a clip."""
        whole = recordings.clip(clip)
        return whole if kind.hub == "whole" else _spoilt_clip(kind.hub, whole)

    def _write_file(self, path: Path, rows: Rows, kinds: Mapping[str, str], recordings: Recordings) -> None:
        audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        schema = pa.schema([("video_id", pa.string()), ("audio", audio), ("labels", pa.list_(pa.string()))])
        # No dictionary and no compression: else the repeated recordings would shrink to almost nothing.
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
    """Pages and media of the videos that the plan lets yt-dlp ask for; see the plugin beside."""

    def hold(self, splits: Mapping[str, Rows], kinds: Mapping[str, str], recordings: Recordings) -> None:
        """Serve them."""
        for row in (row for rows in splits.values() for row in rows):
            kind, ytid = KINDS[kinds[row["clip_id"]]], row["source"]
            if kind.hub == "whole":
                continue  # never asked for
            replies = [_json({"media": self.url(f"/media/{ytid}")})]
            if isinstance(kind.video, int):
                replies = [Reply(status=kind.video)]
            elif " " in kind.video:
                replies = [_json({"said": kind.video})]
            else:
                media = (
                    recordings.video(row) if kind.video in ("whole", "flaky") else _spoilt_video(kind.video)
                )
                self.serve(f"/media/{ytid}", Reply(media, "audio/flac"))
            if kind.video == "flaky":
                replies.insert(0, Reply(status=503))
            self.serve(f"/video/{ytid}", *replies)


@cache
def _spoilt_video(how: str) -> bytes:
    return b"no audio" * 5000 if how == "damaged" else encode(_faint(how, _VIDEO))


def _spoilt_clip(how: str, whole: bytes) -> bytes:
    return whole[: len(whole) // 2] if how == "damaged" else encode(_faint(how, PERIOD))


def _faint(how: str, seconds: int) -> np.ndarray:
    """Silence for so long, or a twentieth of a second of sound."""
    return np.zeros(seconds * RATE, np.int16) if how == "silent" else np.full(RATE // 20, 1000, np.int16)


def _json(content: dict[str, str]) -> Reply:
    return Reply(json.dumps(content).encode(), "application/json")
