"""Seeded sampling from lists of any length, in one pass; memory depends on the sample size only."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable

from audionas.data.corpora.base import Clip
from audionas.data.hashing import key as key_of
from audionas.runtime.errors import UserError


def draw(clips: Iterable[Clip], number: int, seed: int, least: int = 0, where: str = "") -> list[Clip]:
    """Sample `number` clips, or all if there are fewer, in the order of the list.

    Each clip has a key, a hash of the seed and its id; the smallest keys are drawn. The sample does not
    depend on the list's order, and a larger sample contains each smaller one.

    Args:
        clips: any iterable; read once and not held in memory.
        number: sample size.
        seed: of the hash.
        least: number of clips that every class gets first, or all it has. The rarest class chooses first, by
            its smallest keys; clips chosen for rarer classes count.
        where: prefix of the error.

    Raises:
        UserError: `number` is too small for `least` clips of every class.
    """
    drawn = _Smallest(number)
    of_class: defaultdict[str, _Smallest] = defaultdict(lambda: _Smallest(least))
    counts: Counter[str] = Counter()
    for position, clip in enumerate(clips):
        key = key_of(f"{seed}:{clip.clip_id}")
        drawn.offer(key, position, clip)
        if least:
            counts.update(clip.labels)
            for label in clip.labels:
                of_class[label].offer(key, position, clip)
    chosen = _of_every_class(of_class, counts, least)
    if len(chosen) > number:
        raise UserError(
            f"{where}: {number} clips are too few for {least} of each of {len(counts)} classes; "
            f"give at least {len(chosen)}"
        )
    for position, clip in drawn.ascending():
        if len(chosen) == number:
            break
        chosen[position] = clip
    return [clip for _, clip in sorted(chosen.items())]


def _of_every_class(of_class: dict[str, _Smallest], counts: Counter[str], least: int) -> dict[int, Clip]:
    chosen: dict[int, Clip] = {}
    has: Counter[str] = Counter()
    for label in sorted(counts, key=lambda label: (counts[label], label)):
        for position, clip in of_class[label].ascending():
            if has[label] >= least:
                break
            if position not in chosen:
                chosen[position] = clip
                has.update(clip.labels)
    return chosen


class _Smallest:
    """The clips with the smallest keys among those offered."""

    def __init__(self, size: int):
        self.size = size
        self._heap: list[tuple[int, int, Clip]] = []  # negative keys, so that the largest is on top

    def offer(self, key: int, position: int, clip: Clip) -> None:
        entry = (-key, -position, clip)
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, entry)
        elif entry[:2] > self._heap[0][:2]:
            heapq.heapreplace(self._heap, entry)

    def ascending(self) -> list[tuple[int, Clip]]:
        """Return (position, clip) in ascending order of the keys."""
        return [(-position, clip) for _, position, clip in sorted(self._heap, reverse=True)]
