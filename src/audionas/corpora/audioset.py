"""AudioSet's official lists (Gemmeke et al., ICASSP 2017): 527 classes of ten-second YouTube segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from audionas.config import AudiosetCorpus
from audionas.corpora.base import Clip, Corpus, require_disjoint
from audionas.corpora.folder import parse_segments, segment_id
from audionas.errors import UserError
from audionas.ledger import CLASSES, read_rows

CLASS_LIST = "class_labels_indices.csv"
TRAIN, UNBALANCED, TEST = (f"{name}_segments.csv" for name in ("balanced_train", "unbalanced_train", "eval"))


class Audioset(Corpus):
    """Train is the balanced list, test the evaluation list, validation a seeded draw from the unbalanced one.

    The draw is disjoint from both others by video, as section 3.1 of the paper asks of train.

    Raises:
        UserError: a list is missing or bad, or a label is not among the classes; naming file and line.
    """

    def __init__(self, section: AudiosetCorpus):
        self.section = section
        self.folder = Path(section.lists)
        self._classes = read_classes(self.folder / CLASS_LIST)

    def classes(self) -> list[tuple[str, str]]:
        """See Corpus; in the official order."""
        return list(self._classes)

    def splits(self) -> dict[str, list[Clip]]:
        """See Corpus."""
        train, test = self.read(TRAIN), self.read(TEST)
        if not (self.folder / UNBALANCED).is_file():
            raise UserError(
                f"{self.folder / UNBALANCED}: no such file; validation clips are drawn from this "
                f"official list, so put it beside {TRAIN}"
            )
        taken = {clip.source for clip in (*train, *test)}
        pool = [clip for clip in self.read(UNBALANCED) if clip.source not in taken]
        if len(pool) < self.section.valid_clips:
            raise UserError(
                f"{self.folder / UNBALANCED}: {len(pool)} segments are free for validation, and "
                f"corpus.valid_clips asks for {self.section.valid_clips}; lower it"
            )
        drawn = np.random.default_rng(self.section.seed).permutation(len(pool))[: self.section.valid_clips]
        splits = {"train": train, "valid": [pool[i] for i in sorted(drawn)], "test": test}
        return require_disjoint(splits, str(self.folder))

    def fetch(self, clip: Clip) -> bytes:
        """Raises UserError: getting the audio is not built yet."""
        raise UserError(
            "getting AudioSet's audio is not built yet; where a local copy is, use corpus.name: folder with "
            "lists: one of the segment CSVs and audio: the folder of the files"
        )

    def read(self, name: str) -> list[Clip]:
        """The clips of one official list, in its order. Raises UserError naming file and line."""
        path, known = self.folder / name, {mid for mid, _ in self._classes}
        clips = []
        for line, ytid, start, end, labels in parse_segments(path):
            for label in labels:
                if label not in known:
                    raise UserError(
                        f"{path}, line {line}, column positive_labels: {label!r} is not in {CLASS_LIST}; "
                        "mend either"
                    )
            clips.append(Clip(segment_id(ytid, start), ytid, ytid, labels, start, end))
        return clips


def read_classes(path: Path) -> list[tuple[str, str]]:
    """(mid, display name) of every class of a list in the form of `class_labels_indices.csv`.

    Raises UserError naming file and line: indices that do not count from 0, a mid that stands twice.
    """
    classes: dict[str, str] = {}
    for line, row in enumerate(read_rows(path, CLASSES), start=2):
        if row["index"] != str(len(classes)):
            raise UserError(
                f"{path}, line {line}, column index: {row['index']!r} where {len(classes)} is next; "
                "indices count from 0"
            )
        if not row["mid"] or row["mid"] in classes:
            raise UserError(
                f"{path}, line {line}, column mid: {row['mid']!r} is empty or stands twice; mend it"
            )
        classes[row["mid"]] = row["display_name"]
    return list(classes.items())
