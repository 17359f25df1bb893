"""AudioSet's lists (Gemmeke et al., ICASSP 2017): 527 classes of ten-second YouTube segments."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, compress, islice, pairwise
from pathlib import Path

import numpy as np

from audionas.data.corpora.audioset_lists import CLASS_LIST, TEST, TRAIN, UNBALANCED, checksums
from audionas.data.corpora.base import Clip, Corpus, FetchError, Reread, inside
from audionas.data.corpora.draw import draw
from audionas.data.corpora.segments import lines_of, parse_segments, segment_id
from audionas.data.hashing import key, keys, within
from audionas.data.ledger import CLASSES, iter_numbered
from audionas.runtime.errors import UserError
from audionas.settings.corpora import AudiosetCorpus
from audionas.settings.values import SPLITS

_GENUINE = 11  # characters of a YouTube id
_CHUNK = 256  # clips compared at a time
_SPAN = np.dtype([("video", np.uint64), ("start", np.float64), ("end", np.float64)])


class Audioset(Corpus):
    """Train is the balanced list, test the evaluation list, validation a seeded draw from the unbalanced one.

    The draw (see `draw`) is disjoint from both others by video, as section 3.1 of the paper asks of train.
    No list is held, whatever its length: of each given one some 90 bytes a clip while it is checked, then 8
    a video (see `audionas.data.hashing`). With `stratified` every class first gets `valid_clips / classes` clips of
    validation, or all that the list has.

    `train_list`, `valid_list` and `test_list` are names of other lists in the folder. `only_classes` (ids or
    display names) leaves only those labels, and only clips that have one; the draw is then made among them.
    `clips` cuts splits down to a number, drawn so that every class keeps a clip; it never changes which
    clips the validation list is drawn from.

    Spans of one video that overlap are refused, within a list as among the clips that are drawn: the same
    sound would count twice. So is a segment that stands twice, and a video in two splits.

    Raises:
        UserError: a list is missing or bad, or a label is not among the classes; naming file and line.
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
            split: Reread(partial(self._narrowed, self._given(name))) for split, name in names.items()
        }
        if "valid" not in splits:
            splits["valid"] = self._draw_valid(np.unique(np.concatenate(list(videos.values()))))
        for split, number in (self.section.clips or {}).items():
            if number is not None:
                where = f"params.yaml: corpus.clips.{split}"
                splits[split] = draw(splits[split], number, self.section.seed, 1, where)
        return {split: splits[split] for split in SPLITS}

    def fetch(self, clip: Clip) -> bytes:
        """Not from here: the stage `download` asks the sources (`audionas.data.sources`). Raises FetchError."""
        raise FetchError("not there")

    def read(self, name: str) -> list[Clip]:
        """The clips of one list, with all their labels, in its order. Raises UserError as `streams`."""
        clips = list(self._stream(name))
        self._require_apart(name, clips)
        return clips

    def _given(self, name: str) -> Reread[Clip]:
        return Reread(partial(self._stream, name))

    def _stream(self, name: str) -> Iterator[Clip]:
        path = inside(self.folder, name, "params.yaml: the lists of corpus")
        official = name in (TRAIN, TEST, UNBALANCED)
        for line, ytid, start, end, labels in parse_segments(path):
            if official and len(ytid) != _GENUINE:
                raise UserError(
                    f"{path}, line {line}, column YTID: {ytid!r} has {len(ytid)} characters and a YouTube id "
                    f"{_GENUINE}; take the original file (spreadsheets drop leading zeros)"
                )
            for label in labels:
                if label not in self._known:
                    raise UserError(
                        f"{path}, line {line}, column positive_labels: {label!r} is not in {CLASS_LIST}; "
                        "mend either"
                    )
            labels = tuple(self._known[label] for label in labels)  # one text for all the clips that have it
            yield Clip(segment_id(ytid, start), ytid, ytid, labels, start, end)

    def _narrowed(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        for clip in clips:
            labels = tuple(label for label in clip.labels if label in self._kept)
            if labels:
                yield clip if labels == clip.labels else replace(clip, labels=labels)

    def _free(self, taken: np.ndarray) -> Iterator[Clip]:
        """Clips of the unbalanced list whose videos' keys are not among the ordered ones."""
        clips = self._stream(UNBALANCED)
        while some := list(islice(clips, _CHUNK)):
            yield from compress(some, ~within(keys(clip.source for clip in some), taken))

    def _draw_valid(self, taken: np.ndarray) -> list[Clip]:
        path, wanted = self.folder / UNBALANCED, self.section.valid_clips
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; validation clips are drawn from this official list: put it there, or "
                "name a list of your own as corpus.valid_list"
            )
        least = max(1, wanted // len(self._classes)) if self.section.stratified else 0
        where = "params.yaml: corpus.valid_clips"
        drawn = draw(self._narrowed(self._free(taken)), wanted, self.section.seed, least, where)
        if len(drawn) < wanted:
            raise UserError(
                f"{path}: {len(drawn)} segments are free for validation, and corpus.valid_clips asks for "
                f"{wanted}; lower it"
            )
        self._require_apart(UNBALANCED, drawn)
        return drawn

    def _require_apart(self, name: str, clips: Iterable[Clip]) -> np.ndarray:
        """Refuses spans that overlap; gives the keys of the videos, each once and ordered."""
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
                    f"are the same or overlap in lines {', '.join(map(str, lines))}; keep one"
                )

    def _require_none_shared(self, suspects: set[int], name: str, other: str) -> None:
        """Refuses the first video of a list that stands in another, among those whose keys are suspect."""
        there = {clip.source for clip in self._stream(other) if key(clip.source) in suspects}
        for ytid in (clip.source for clip in self._stream(name) if clip.source in there):
            line, at = (lines_of(self.folder / each, ytid)[0] for each in (name, other))
            raise UserError(
                f"{self.folder / name}, line {line}: the video {ytid!r} stands in {other}, line {at}, "
                "too, and each is a split of its own; keep it in one"
            )


def read_classes(path: Path) -> list[tuple[str, str]]:
    """(mid, display name) of every class of a list in the form of `class_labels_indices.csv`.

    Raises UserError naming file and line: indices that do not count from 0, a mid that stands twice.
    """
    classes: dict[str, str] = {}
    for line, row in iter_numbered(path, CLASSES):
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


def choose_classes(classes: list[tuple[str, str]], only: Sequence[str] | None) -> list[tuple[str, str]]:
    """The classes that `only` names by id or display name, in their own order; all for None.

    Raises UserError for a name that no class has, or several have.
    """
    if only is None:
        return classes
    kept = set()
    for name in only:
        found = [mid for mid, display_name in classes if name in (mid, display_name)]
        if len(found) != 1:
            near = difflib.get_close_matches(name, [display_name for _, display_name in classes], 3)
            mend = f"write its id, one of {found}" if found else f"near are {near or 'none'}"
            raise UserError(
                f"params.yaml: corpus.only_classes: {name!r} names {len(found)} classes of "
                f"{CLASS_LIST}; {mend}"
            )
        kept.add(found[0])
    return [each for each in classes if each[0] in kept]
