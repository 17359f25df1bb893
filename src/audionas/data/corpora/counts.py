"""Count the clips and recordings of each class of a split."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from audionas.data.corpora.labels import some
from audionas.data.hashing import key

FEW = 5  # recordings: with fewer, a class is learned or measured by chance
_NAMES = 12  # classes named in one line


class ClassCounts:
    """Running counts; memory: some 8 bytes for each label of a clip.

    Attributes:
        clips: number of clips of each class.
        total, unlabelled: number of all clips, and of those without a label.
    """

    def __init__(self, classes: int):
        self.clips = [0] * classes
        self.total = self.unlabelled = 0
        self._sources = [array("Q") for _ in range(classes)]
        self._every = array("Q")

    def add(self, labels: Iterable[int], source: str) -> None:
        """Count a clip: the indices of its classes, and the recording that it was cut from."""
        recording = key(source)
        self.total += 1
        self._every.append(recording)
        none = True
        for label in labels:
            self.clips[label] += 1
            self._sources[label].append(recording)
            none = False
        self.unlabelled += none

    @property
    def recordings(self) -> list[int]:
        """Number of recordings of each class."""
        return [_different(sources) for sources in self._sources]

    @property
    def all_recordings(self) -> int:
        """Number of recordings of all clips."""
        return _different(self._every)

    def warnings(self, split: str, names: Sequence[str]) -> list[str]:
        """Return a sentence about classes without a clip, and one about classes with few recordings."""
        recordings = self.recordings
        without = [name for name, n in zip(names, recordings, strict=True) if not n]
        few = [
            f"{name} ({n}, {clips:,} clips)"
            for name, clips, n in zip(names, self.clips, recordings, strict=True)
            if 0 < n < FEW
        ]
        warnings = []
        if without:
            warnings.append(
                f"{split}: no clip of {some(without, _NAMES)}; what is said of it leaves them out"
            )
        if few:
            warnings.append(
                f"{split}: fewer than {FEW} recordings of {some(few, _NAMES)}; what is said of them rests on "
                "chance"
            )
        return warnings


def _different(keys: array) -> int:
    return len(np.unique(np.frombuffer(keys, np.uint64))) if keys else 0
