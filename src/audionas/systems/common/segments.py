"""Stage `segments`: the clips, labels and splits of the corpus."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from audionas.data import paths
from audionas.data.corpora.counts import ClassCounts
from audionas.data.corpora.labels import some
from audionas.data.corpora.registry import open_corpus
from audionas.data.ledger import CLASSES, SEGMENTS, write_rows
from audionas.runtime.errors import UserError
from audionas.runtime.files import new_folder
from audionas.runtime.text import line
from audionas.settings.experiment import Experiment
from audionas.settings.values import SPLITS

log = logging.getLogger(__name__)
_SHOWN = 50  # most classes that are listed individually
_LONGEST = 2000  # most characters of a warning


def run(config: Experiment) -> None:
    """Write data/segments/{train,valid,test}.csv, classes.csv, and warnings.txt if the corpus has warnings.

    The stage prints the number of clips and recordings per class and split. It warns about classes that are
    missing from a split or have few recordings.

    Raises:
        UserError: network.num_classes is not the number of classes, a split is empty, a class has no training
            clip, or all clips of a split have the same labels.
    """
    corpus = open_corpus(config.corpus, config.audio.clip_seconds)
    classes = corpus.classes()
    names = [line(name) for _, name in classes]
    if len(classes) != config.num_classes:
        raise UserError(
            f"params.yaml: network.num_classes is {config.num_classes}, but the corpus "
            f"{config.corpus.name} has {len(classes)} ({some(names, 12)}); set network.num_classes to "
            f"{len(classes)}, or fix the lists"
        )
    splits = corpus.streams()
    for split in SPLITS:
        if next(iter(splits[split]), None) is None:
            raise UserError(
                f"{config.corpus.lists}: the split {split} is empty; fix the lists or corpus.split"
            )
    number = {mid: i for i, (mid, _) in enumerate(classes)}
    counts = {split: ClassCounts(len(classes)) for split in SPLITS}

    def rows(split: str) -> Iterator[dict]:
        for clip in splits[split]:
            counts[split].add(map(number.__getitem__, clip.labels), clip.source)
            yield {**vars(clip), "labels": ",".join(clip.labels)}
        if split == "train":  # raises before the file of the split is published
            _require_trainable(config.corpus.lists, names, counts[split])
        else:
            _require_measurable(config.corpus.lists, split, names, counts[split])

    told = [line(warning, _LONGEST) for warning in corpus.warnings()]
    numbered = [dict(zip(CLASSES, (i, *c), strict=True)) for i, c in enumerate(classes)]
    with new_folder(paths.CLASSES.parent) as folder:
        for split in SPLITS:
            write_rows(folder / paths.segments(split).name, SEGMENTS, rows(split))
        write_rows(folder / paths.CLASSES.name, CLASSES, numbered)
        if told:
            (folder / paths.WARNINGS.name).write_text("".join(f"{each}\n" for each in told), encoding="utf-8")
    _tell(names, counts)
    for warning in [*told, *(w for split in SPLITS for w in counts[split].warnings(split, names))]:
        log.warning("%s", warning)


def _require_trainable(where: str, names: Sequence[str], train: ClassCounts) -> None:
    if untrained := [name for name, n in zip(names, train.clips, strict=True) if not n]:
        raise UserError(
            f"{where}: no training clip for {some(untrained, 12)}; add a fold with them to "
            "corpus.split.train, add training clips, or remove these classes"
        )
    if all(n == train.total for n in train.clips):
        raise UserError(
            f"{where}: every training clip has every class ({some(names, 12)}), so there is nothing to "
            "learn; add clips of other classes, or clips without a label"
        )


def _require_measurable(where: str, split: str, names: Sequence[str], count: ClassCounts) -> None:
    """Raise UserError if no class of a split has an average precision: all clips have it, or none."""
    if all(n in (0, count.total) for n in count.clips):
        same = [name for name, n in zip(names, count.clips, strict=True) if n]
        raise UserError(
            f"{where}: every clip of the split {split} has the same labels: {some(same, 12) or 'none'}; the "
            "average precision is undefined: list clips of other classes, or change corpus.split"
        )


def _tell(names: Sequence[str], counts: dict[str, ClassCounts]) -> None:
    for split, count in counts.items():
        none = f", {count.unlabelled:,} without a label" if count.unlabelled else ""
        print(f"{split}: {count.total:,} clips of {count.all_recordings:,} recordings{none}")
    if len(names) > _SHOWN:
        return
    print("clips/recordings of each class:")
    recordings = [count.recordings for count in counts.values()]
    width = max(map(len, names))
    for i, name in enumerate(names):
        each = zip(counts, counts.values(), recordings, strict=True)
        print(f"  {name:<{width}}", *(f"{split} {c.clips[i]:,}/{r[i]:,}" for split, c, r in each), sep="  ")
