"""Stage `segments`: which clips, which labels, which split."""

from __future__ import annotations

from collections.abc import Iterator

from audionas import paths
from audionas.config import SPLITS, Config
from audionas.corpora.opening import open_corpus
from audionas.errors import UserError
from audionas.files import new_folder
from audionas.ledger import CLASSES, SEGMENTS, write_rows


def run(config: Config) -> None:
    """Write data/segments/{train,valid,test}.csv and classes.csv.

    Raises UserError when network.num_classes is not the number of classes, a split is empty, a class has no
    training clip, or all clips of a split to measure on have the same labels.
    """
    corpus = open_corpus(config.corpus, config.audio.clip_seconds)
    classes = corpus.classes()
    if len(classes) != config.network.num_classes:
        raise UserError(
            f"params.yaml: network.num_classes is {config.network.num_classes} and the corpus "
            f"{config.corpus.name} has {len(classes)}; set network.num_classes to {len(classes)}"
        )
    splits = corpus.streams()
    for split in SPLITS:
        if next(iter(splits[split]), None) is None:
            raise UserError(
                f"{config.corpus.lists}: the split {split} is empty; mend the lists or corpus.split"
            )
    untrained = dict(classes)

    def rows(split: str) -> Iterator[dict]:
        sets = set()
        for clip in splits[split]:
            if len(sets) < 2:
                sets.add(frozenset(clip.labels))
            if split == "train":
                for label in clip.labels:
                    untrained.pop(label, None)
            yield {**vars(clip), "labels": ",".join(clip.labels)}
        if untrained:  # known when train was read to its end; its file is not there yet
            raise UserError(
                f"{config.corpus.lists}: no training clip for {', '.join(untrained.values())}; add clips to "
                "train, or take these classes out"
            )
        if split != "train" and len(sets) < 2:
            raise UserError(
                f"{config.corpus.lists}: every clip of the split {split} has the same labels: "
                f"{', '.join(sorted(*sets)) or 'none'}; no average precision can be measured on it: list "
                "clips of other classes, or change corpus.split"
            )

    numbered = [dict(zip(CLASSES, (i, *c), strict=True)) for i, c in enumerate(classes)]
    with new_folder(paths.CLASSES.parent) as folder:
        for split in SPLITS:
            write_rows(folder / paths.segments(split).name, SEGMENTS, rows(split))
        write_rows(folder / paths.CLASSES.name, CLASSES, numbered)
