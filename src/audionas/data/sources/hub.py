"""Audio from a mirror of AudioSet on the Hugging Face hub; only wanted rows are transferred.

A mirror is a dataset repository in one of the two layouts of `agkphysics/AudioSet`:

- `data/bal_train/00.parquet` … with the columns `video_id` and `audio` (a struct of `bytes` and `path`);
- `data/bal_train00.tar` … with members `audio/bal_train/{ytid}.flac`, used until October 2025.

An index of clip locations is read once (from the column `video_id`, or the tar headers) and cached: one file
for each file of the mirror, named by a hash of its content. Nothing else is written or unpacked.
"""

from __future__ import annotations

import logging
import threading
import zipfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile

from audionas.audio.reading import open_sound
from audionas.data.corpora.base import Clip
from audionas.data.sources.base import Source, SourceError
from audionas.data.sources.hub_files import RemoteFile, Repository
from audionas.data.sources.hub_layouts import YTID, parquet_places, read_group, tar_places
from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write

log = logging.getLogger(__name__)

_INDEXERS = 4  # files indexed at once
_READERS = 2  # row groups read at once: 100 clips are about 140 MB, twice that during decoding
_KEPT = 2  # row groups kept for neighbouring clips


class Hub(Source):
    """A mirror on the hub; see the module.

    Args:
        repository: `owner/name` of a dataset on the hub.
        cache: folder of the index, shared by runs; read again only if the mirror changes.
        revision: branch, tag or commit. The attribute `revision` is the resolved commit.
        endpoint: address of the hub; by default HF_ENDPOINT, else https://huggingface.co.
        token: to read private or gated repositories. By default that of the environment (HF_TOKEN, `hf auth
            login`), which is sent only to https://huggingface.co and to the address in HF_ENDPOINT.
        timeout: seconds without a byte after which a request fails.
        files: patterns such as `data/bal_train*`; only matching files are indexed.

    Raises:
        UserError: no such repository or revision, no access, no AudioSet files. `get` and `order` raise it
            too if access ends. Names the parameter and the fix.
        SourceError: the hub is not available (`rate-limited` or `network`); also from `order`.
    """

    name = "hub"

    def __init__(
        self,
        repository: str,
        cache: str | Path,
        *,
        revision: str = "main",
        endpoint: str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
        files: Sequence[str] = ("*",),
    ):
        self._cache = Path(cache)
        self._repository = Repository(repository, revision, endpoint, token, timeout)
        self.revision, self._files = self._repository.files((".parquet", ".tar"), files)
        self._files[0].locate()  # a gated repository lists its files for everyone but serves them to few
        self._indexing, self._lock = threading.Lock(), threading.Lock()
        self._reading = threading.Semaphore(_READERS)
        self._index: _Index | None = None
        self._groups: dict[tuple[int, int], Future[pa.Table]] = {}

    def get(self, clip: Clip) -> bytes:
        """See Source; returns the clip as stored in the mirror, already cut: mostly 48 kHz, 24-bit FLAC.

        The clip is decoded to its end first, so a damaged one raises SourceError (`decode`).
        """
        place = self._known().find(clip.source)
        if place is None:
            raise SourceError("not there", f"not in the mirror at {self.revision[:12]}")
        number, first, second = place
        file = self._files[number]
        if file.path.endswith(".tar"):
            data = bytes(file.read(first, second))
        else:
            data = self._row(number, first, second, clip.source)
        _require_audio(data, f"{file.path}: {clip.source}")
        return data

    def order(self, clips: Sequence[Clip]) -> Sequence[Clip]:
        """See Source; groups clips by file and row group; clips that the mirror does not have come last."""
        places = [self._known().find(clip.source) for clip in clips]
        ranks = sorted(range(len(clips)), key=lambda i: (places[i] is None, places[i] or ()))
        return [clips[i] for i in ranks]

    def close(self) -> None:
        """See Source."""
        with self._lock:
            self._groups.clear()

    def _known(self) -> _Index:
        with self._indexing:
            if self._index is None:
                log.info("hub: reading the index of %d files", len(self._files))
                with ThreadPoolExecutor(_INDEXERS, thread_name_prefix="hub-index") as pool:
                    index = _Index(list(pool.map(self._places, self._files)))
                if not len(index):
                    raise UserError(
                        f"corpus.hub.repository: {self._repository.name}: none of its {len(self._files)} "
                        "parquet or tar files contains a clip; name a mirror of AudioSet"
                    )
                self._index = index
            return self._index

    def _places(self, file: RemoteFile) -> tuple[np.ndarray, np.ndarray]:
        """Return ids (bytes [n]) and places (int64 [n, 2]) of a file's clips, from the cache or the hub."""
        path = self._cache / f"{file.key}.npz"
        try:
            with np.load(path, allow_pickle=False) as saved:
                return saved["ids"], saved["at"]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            log.warning("%s: not readable; reading the index of %s again", path, file.path)
        rows, whole = (tar_places if file.path.endswith(".tar") else parquet_places)(file)
        ids = np.array([ytid.encode() for ytid, _, _ in rows], dtype=np.bytes_)
        at = np.array([place for _, *place in rows], dtype=np.int64).reshape(-1, 2)
        if whole:  # the damage may be in the transfer, so the next run reads the file again
            with atomic_write(path) as temporary, temporary.open("wb") as out:
                np.savez(out, ids=ids, at=at)
        return ids, at

    def _row(self, number: int, group: int, row: int, ytid: str) -> bytes:
        table = self._group(number, group)
        if row >= table.num_rows or table["video_id"][row].as_py() != ytid:
            where = f"{self._files[number].path}, row group {group}, row {row}"
            raise SourceError("decode", f"{where}: differs from the index in {self._cache}; remove the index")
        return (table["audio"][row].as_py() or {}).get("bytes") or b""

    def _group(self, number: int, group: int) -> pa.Table:
        """Return a row group, read once for all threads that need it at about the same time."""
        key = (number, group)
        with self._lock:
            future = self._groups.pop(key, None)
            mine = future is None
            if mine:
                future = Future()
            self._groups[key] = future  # at the end, as the most recently used
            done = [old for old, reading in self._groups.items() if reading.done()]
            for old in done[: max(0, len(done) - _KEPT)]:
                del self._groups[old]
        if mine:
            try:
                with self._reading:
                    future.set_result(read_group(self._files[number], group))
            except BaseException as error:
                with self._lock:
                    if self._groups.get(key) is future:
                        del self._groups[key]
                future.set_exception(error)
        return future.result()


class _Index:
    """Location of each clip: (file number, row group, row) or (file number, offset, size).

    Stored as arrays: the 1.8 million clips of the full mirror take 70 MB.
    """

    def __init__(self, parts: Sequence[tuple[np.ndarray, np.ndarray]]):
        ids = np.concatenate([ids for ids, _ in parts])
        numbers = np.repeat(np.arange(len(parts)), [len(ids) for ids, _ in parts])
        order = np.argsort(ids, kind="stable")  # stable: the first of repeated clips is used
        self._ids = ids[order]
        self._at = np.column_stack([numbers, np.concatenate([at for _, at in parts])])[order]

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, ytid: str) -> tuple[int, int, int] | None:
        """Return the clip's place, or None."""
        if not YTID.fullmatch(ytid) or len(ytid) > self._ids.itemsize:
            return None
        wanted = np.array(ytid.encode(), dtype=self._ids.dtype)
        i = int(np.searchsorted(self._ids, wanted))
        if i == len(self._ids) or self._ids[i] != wanted:
            return None
        number, first, second = self._at[i].tolist()
        return number, first, second


def _require_audio(data: bytes, where: str) -> None:
    """Raise SourceError (`decode`) unless the bytes are a complete audio file."""
    try:
        if (sound := open_sound(data)) is None:
            raise ValueError("no format that libsndfile knows")
        with sound:
            frames = 0
            while block := len(sound.read(1 << 16, dtype="int16")):
                frames += block
            if frames and frames == sound.frames:
                return
            problem = f"{frames} of {sound.frames} frames"
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        problem = str(error)
    raise SourceError("decode", f"{where}: {len(data)} bytes that are not a complete audio file ({problem})")
