"""AudioSet's lists (Gemmeke et al., ICASSP 2017): ten-second YouTube segments of 527 classes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, compress, islice, pairwise
from pathlib import Path

import numpy as np

from audionas.data.corpora.audioset_lists import CLASS_LIST, TEST, TRAIN, UNBALANCED, checksums
from audionas.data.corpora.base import Clip, Corpus, FetchError, Reiterable, inside
from audionas.data.corpora.draw import draw
from audionas.data.corpora.segments import lines_of, parse_segments, segment_id
from audionas.data.hashing import key, keys, within
from audionas.data.ledger import CLASSES, iter_numbered
from audionas.runtime.errors import UserError
from audionas.settings.corpora import AudiosetCorpus
from audionas.settings.values import SPLITS

_GENUINE = 11  # characters of a YouTube id
_CHUNK = 256  # clips compared at once
_SPAN = np.dtype([("video", np.uint64), ("start", np.float64), ("end", np.float64)])


class Audioset(Corpus):
    """AudioSet: the balanced list for training, the evaluation list for test, a seeded validation sample.

    Validation clips are drawn from the unbalanced list (see `draw`), without videos of the other splits, as
    in section 3.1 of the paper. With `stratified` every class first gets `valid_clips / classes` clips, or
    all it has.

    `train_list`, `valid_list` and `test_list` name other lists in the folder. `only_classes` (ids or display
    names) keeps only these labels, and clips that have one; the validation sample is drawn from these clips.
    `clips` reduces splits to a number of clips, drawn so that every class keeps one. It does not change which
    clips validation is drawn from.

    Overlapping spans of one video are refused, within a list and among drawn clips, because the same sound
    would count twice. Repeated segments, and videos in two splits, are refused too.

    No list is held in memory. Checking a list takes some 90 bytes a clip, then 8 bytes a video (see
    `audionas.data.hashing`).

    Raises:
        UserError: a list is missing or invalid, or has an unknown label; names file and line.
    """

    def __init__(self, section: AudiosetCorpus):
        self.section = section
        self.folder = Path(section.lists)
        every = read_classes(self.folder / CLASS_LIST)
        self._known = {mid: mid for mid, _ in every}
        self._classes = choose_classes(every, section.only_classes)
        self._kept = {mid for mid, _ in self._classes}

    def classes(self) -> list[tuple[str, str]]:
        """See Corpus; in the official order."""
        return list(self._classes)

    def streams(self) -> dict[str, Iterable[Clip]]:
        """See Corpus."""
        checksums(self.folder)
        names = {split: getattr(self.section, f"{split}_list") for split in SPLITS}
        names = {split: name for split, name in names.items() if name is not None}
        videos = {split: self._require_apart(name, self._given(name)) for split, name in names.items()}
        for other, split in combinations(names, 2):
            if (common := np.intersect1d(videos[split], videos[other], assume_unique=True)).size:
                self._require_none_shared(set(common.tolist()), names[split], names[other])
        splits: dict[str, Iterable[Clip]] = {
            split: Reiterable(partial(self._narrowed, self._given(name))) for split, name in names.items()
        }
        if "valid" not in splits:
            splits["valid"] = self._draw_valid(np.unique(np.concatenate(list(videos.values()))))
        for split, number in (self.section.clips or {}).items():
            if number is not None:
                where = f"params.yaml: corpus.clips.{split}"
                splits[split] = draw(splits[split], number, self.section.seed, 1, where)
        return {split: splits[split] for split in SPLITS}

    def fetch(self, clip: Clip) -> bytes:
        """Raise FetchError: the stage `download` gets the audio from `audionas.data.sources`."""
        raise FetchError("not there")

    def read(self, name: str) -> list[Clip]:
        """Return the clips of one list, with all their labels, in order. Raises UserError as `streams`."""
        clips = list(self._stream(name))
        self._require_apart(name, clips)
        return clips

    def _given(self, name: str) -> Reiterable[Clip]:
        return Reiterable(partial(self._stream, name))

    def _stream(self, name: str) -> Iterator[Clip]:
        path = inside(self.folder, name, "params.yaml: the lists of corpus")
        official = name in (TRAIN, TEST, UNBALANCED)
        for line, ytid, start, end, labels in parse_segments(path):
            if official and len(ytid) != _GENUINE:
                raise UserError(
                    f"{path}, line {line}, column YTID: {ytid!r} has {len(ytid)} characters, a YouTube id "
                    f"has {_GENUINE}; use the original file (spreadsheets drop leading zeros)"
                )
            for label in labels:
                if label not in self._known:
                    raise UserError(
                        f"{path}, line {line}, column positive_labels: {label!r} is not in {CLASS_LIST}; "
                        "fix either"
                    )
            labels = tuple(self._known[label] for label in labels)  # clips share one string
            yield Clip(segment_id(ytid, start), ytid, ytid, labels, start, end)

    def _narrowed(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        for clip in clips:
            labels = tuple(label for label in clip.labels if label in self._kept)
            if labels:
                yield clip if labels == clip.labels else replace(clip, labels=labels)

    def _free(self, taken: np.ndarray) -> Iterator[Clip]:
        """Yield clips of the unbalanced list whose videos are not in the sorted keys `taken`."""
        clips = self._stream(UNBALANCED)
        while some := list(islice(clips, _CHUNK)):
            yield from compress(some, ~within(keys(clip.source for clip in some), taken))

    def _draw_valid(self, taken: np.ndarray) -> list[Clip]:
        path, wanted = self.folder / UNBALANCED, self.section.valid_clips
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; validation clips are drawn from this official list: put it there, or "
                "name your own list as corpus.valid_list"
            )
        least = max(1, wanted // len(self._classes)) if self.section.stratified else 0
        where = "params.yaml: corpus.valid_clips"
        drawn = draw(self._narrowed(self._free(taken)), wanted, self.section.seed, least, where)
        if len(drawn) < wanted:
            raise UserError(
                f"{path}: {len(drawn)} segments are available for validation, but corpus.valid_clips asks "
                f"for {wanted}; lower it"
            )
        self._require_apart(UNBALANCED, drawn)
        return drawn

    def _require_apart(self, name: str, clips: Iterable[Clip]) -> np.ndarray:
        """Refuse overlapping spans; return the sorted unique keys of the videos."""
        spans = np.fromiter(((key(c.source), c.start, c.end) for c in clips), _SPAN)
        spans = spans[np.lexsort((spans["start"], spans["video"]))]
        videos = spans["video"]
        overlap = (videos[1:] == videos[:-1]) & (spans["start"][1:] < spans["end"][:-1])
        if suspects := set(videos[1:][overlap].tolist()):
            self._require_exactly_apart(name, [clip for clip in clips if key(clip.source) in suspects])
        return np.unique(videos)

    def _require_exactly_apart(self, name: str, clips: list[Clip]) -> None:
        ordered = sorted(clips, key=lambda clip: (clip.source, clip.start))
        for before, clip in pairwise(ordered):
            if before.source == clip.source and clip.start < before.end:
                lines = lines_of(self.folder / name, clip.source)
                raise UserError(
                    f"{self.folder / name}, line {lines[-1]}: the video {clip.source!r} has segments that "
                    f"overlap or repeat in lines {', '.join(map(str, lines))}; keep one"
                )

    def _require_none_shared(self, suspects: set[int], name: str, other: str) -> None:
        """Refuse the first video of list `name` that is also in list `other`, among those with equal keys."""
        there = {clip.source for clip in self._stream(other) if key(clip.source) in suspects}
        for ytid in (clip.source for clip in self._stream(name) if clip.source in there):
            line, at = (lines_of(self.folder / each, ytid)[0] for each in (name, other))
            raise UserError(
                f"{self.folder / name}, line {line}: the video {ytid!r} is also in {other}, line {at}, "
                "which is another split; keep it in one"
            )


def read_classes(path: Path) -> list[tuple[str, str]]:
    """Return (mid, display name) of every class of a list in the form of `class_labels_indices.csv`.

    Raises UserError naming file and line: indices that do not count from 0, an empty or repeated mid.
    """
    classes: dict[str, str] = {}
    for line, row in iter_numbered(path, CLASSES):
        if row["index"] != str(len(classes)):
            raise UserError(
                f"{path}, line {line}, column index: {row['index']!r} instead of {len(classes)}; "
                "indices count from 0"
            )
        if not row["mid"] or row["mid"] in classes:
            raise UserError(f"{path}, line {line}, column mid: {row['mid']!r} is empty or repeated; fix it")
        classes[row["mid"]] = row["display_name"]
    return list(classes.items())


def choose_classes(classes: list[tuple[str, str]], only: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return the classes that `only` names by id or display name, in their own order; all for None.

    Raises UserError for a name that matches no class, or several.
    """
    if only is None:
        return classes
    kept = set()
    for name in only:
        found = [mid for mid, display_name in classes if name in (mid, display_name)]
        if len(found) != 1:
            near = difflib.get_close_matches(name, [display_name for _, display_name in classes], 3)
            fix = f"write its id, one of {found}" if found else f"near are {near or 'none'}"
            raise UserError(
                f"params.yaml: corpus.only_classes: {name!r} names {len(found)} classes of "
                f"{CLASS_LIST}; {fix}"
            )
        kept.add(found[0])
    return [each for each in classes if each[0] in kept]
