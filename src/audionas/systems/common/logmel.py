"""Stage `logmel@split`: log-mel spectrograms of a split, in HDF5 as float16."""

from __future__ import annotations

import shutil
from contextlib import closing, nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from audionas.audio.logmel import LogMel
from audionas.data import paths
from audionas.data.store import VERSION, ClipStore, ClipStoreWriter
from audionas.runtime.files import atomic_write
from audionas.runtime.parallel import background, threaded_map
from audionas.runtime.ranks import current
from audionas.runtime.state import UNFINISHED, basis_of, declared_code, only_one, store_folder
from audionas.settings.experiment import Experiment

_BLOCK = 1_000  # clips per block; a file marks each finished block


def run(config: Experiment, split: str) -> None:
    """Compute data/logmel/{split}.h5 from data/audio/{split}.h5, in parallel over threads and ranks.

    Each clip is transformed on its own, so the result does not depend on the number of threads. A killed run
    resumes from .state/.

    Raises:
        UserError: another process computes this split, the audio has other settings, or a file is damaged.
    """
    with only_one(f"logmel-{split}") if current().first else nullcontext():
        _pack(config, split)


def _pack(config: Experiment, split: str) -> None:
    settings = config.feature_settings()
    waveforms = ClipStore(paths.audio(split), {"audio": settings["audio"]})
    frontend = LogMel(config.audio.sample_rate, **config.features.model_dump())
    made = paths.audio(split).stat()
    seen = {"data/audio": [made.st_size, made.st_mtime_ns], "torch": torch.__version__, "store": VERSION}
    basis = basis_of({**settings, **seen}, declared_code("logmel"))
    ranks = current()
    with ranks.in_turn():  # the first rank creates the files that the others open
        state = store_folder("logmel", split, basis)
        writer = ClipStoreWriter(
            state / UNFINISHED,
            zip(waveforms.clip_ids, waveforms.labels, strict=True),
            len(waveforms),
            row_shape=(config.frames, config.features.mels),
            dtype=np.float16,
            classes=waveforms.classes,
            settings=settings,
        )

    def transform(row: int) -> None:
        waveform = np.divide(waveforms.data[row], np.float32(32_767), dtype=np.float32)
        writer[row] = frontend(torch.from_numpy(waveform)[None])[0].half().numpy()

    def finish(mark: Path) -> None:
        writer.flush()
        with atomic_write(mark):
            pass

    blocks = [range(start, min(start + _BLOCK, len(waveforms))) for start in range(0, len(waveforms), _BLOCK)]
    marks = {block: state / f"{block.start:09d}.done" for block in blocks}
    done_before = [block for block in blocks if marks[block].exists()]
    ranks.wait()  # before the first new mark
    left = [*ranks.share([block for block in blocks if block not in done_before])]
    rows = (row for block in left for row in block)
    with writer:
        with (
            background() as disk,
            closing(threaded_map(transform, rows, initializer=_one_thread)) as done,
            tqdm(
                total=sum(map(len, done_before + left)),
                initial=sum(map(len, done_before)),
                desc=f"logmel {split}",
                unit="clips",
                disable=not ranks.first,
            ) as bar,
        ):
            for block in left:
                for _ in islice(done, len(block)):
                    bar.update()
                disk(finish, marks[block])  # in parallel with the next block
        ranks.wait()
        if ranks.first:
            writer.publish(paths.logmel(split))
            shutil.rmtree(state)
        ranks.wait()


def _one_thread() -> None:
    torch.set_num_threads(1)  # the map already uses all threads
