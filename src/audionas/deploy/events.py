"""Windows of a waveform, and the events that their probabilities make."""

from __future__ import annotations

import difflib
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from audionas.runtime.errors import UserError
from audionas.runtime.text import line

#: Threshold of a class for which the model file has none.
DEFAULT_THRESHOLD = 0.5
#: Fewest frames that a network is given, four after the pooling of CNN10; a shorter window is repeated.
LEAST_FRAMES = 64


def window_and_hop(
    window: float | None,
    hop: float | None,
    lengths: tuple[float, float],
    shortest_hop: float,
    option: str = "",
) -> tuple[float, float]:
    """Return the length of a window and the time between windows in seconds, checked.

    Args:
        window: seconds; None for the longest.
        hop: seconds; None for half a window.
        lengths: shortest and longest window.
        shortest_hop: the least time between windows, where a window is longer.
        option: what stands before `window` and `hop` in messages.

    Raises:
        UserError: a value is out of range.
    """
    least, most = lengths
    window = most if window is None else window
    if not least <= window <= most or window <= 0:
        raise UserError(
            f"{option}window {window:g}: not a number of seconds from {least:g} to {most:g}, the length of a "
            f"training clip; give {most:g}"
        )
    hop = window / 2 if hop is None else hop
    shortest = min(shortest_hop, window)
    if not shortest <= hop <= window:
        raise UserError(
            f"{option}hop {hop:g}: not a number of seconds from {shortest:g} to the window of {window:g}, so "
            f"that all sound is in a window; give {window / 2:g}"
        )
    return window, hop


@dataclass(frozen=True)
class Window:
    """A window of a recording.

    Attributes:
        start, end: seconds from the beginning of the recording.
        probabilities: probability per class, float32 [classes].
    """

    start: float
    end: float
    probabilities: np.ndarray


@dataclass(frozen=True)
class Event:
    """A class that is heard for some time.

    Attributes:
        start, end: seconds from the beginning of the recording.
        label: class id.
        name: display name of the class.
        probability: the largest of the windows of the event.
    """

    start: float
    end: float
    label: str
    name: str
    probability: float


def cut(blocks: Iterable[np.ndarray], size: int, hop: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Cut a waveform into windows; hold little more than a window and a block.

    Windows start at 0, hop, 2 hop, ... . If they do not reach the end of the waveform, one more window ends
    there, so every sample is in a window. A waveform shorter than a window is padded with zeros.

    Args:
        blocks: the waveform [n] in pieces of any lengths.
        size: length of a window in samples.
        hop: samples between the starts of windows, at most `size`.

    Yields:
        First sample, end (of the sound, without padding), and the window float32 [size].
    """
    held, first = np.zeros(0, np.float32), 0  # samples from `first` on
    start = 0  # of the next window
    for block in blocks:
        # Samples from the previous window on are kept, for the window that ends with the waveform.
        drop = min(max(start - hop - first, 0), len(held))
        held, first = np.concatenate([held[drop:], block]), first + drop
        while first + len(held) >= start + size:
            yield start, start + size, held[start - first : start - first + size]
            start += hop
    end = first + len(held)
    if end == 0:
        return
    if end < size:
        yield 0, end, np.pad(held, (0, size - end))
    elif start - hop + size < end:
        yield end - size, end, held[len(held) - size :]


def smoothed(windows: Iterable[Window], count: int) -> Iterator[Window]:
    """Replace the probabilities by their median over the `count` windows around each one.

    Fewer windows are used at the beginning and the end.

    Args:
        windows: in order.
        count: an odd number; 1 changes nothing.
    """
    half = count // 2
    near: deque[Window] = deque()  # at most `count`, with the middle at `place`
    place = 0

    def middle() -> Window:
        median = np.median([window.probabilities for window in near], axis=0)
        return Window(near[place].start, near[place].end, median.astype(np.float32))

    for window in windows:
        near.append(window)
        if len(near) - place > half:
            yield middle()
            if place < half:
                place += 1
            else:
                near.popleft()
    while place < len(near):
        yield middle()
        if place < half:
            place += 1
        else:
            near.popleft()


def merge(
    windows: Iterable[Window], thresholds: np.ndarray, labels: Sequence[str], names: Sequence[str]
) -> Iterator[Event]:
    """Yield the events of windows, each as soon as it is over.

    Windows in which a class reaches its threshold make one event if they follow each other or overlap.

    Args:
        windows: in order of their starts.
        thresholds: probability per class, [classes].
        labels, names: id and display name per class.
    """
    going: dict[int, tuple[float, float, float]] = {}  # start, end, probability by class

    def over(which: Iterable[int]) -> Iterator[Event]:
        for of in sorted(which, key=lambda of: (going[of][1], of)):
            start, end, probability = going.pop(of)
            yield Event(start, end, labels[of], names[of], probability)

    before: set[int] = set()  # classes of the previous window
    for window in windows:
        heard = (window.probabilities >= thresholds) & (window.probabilities > 0)  # 0 is silence
        now = set(np.flatnonzero(heard).tolist())
        yield from over(
            [of for of, (_, end, _) in going.items() if window.start >= end and of not in now & before]
        )
        for of in now:
            start, _, highest = going.get(of, (window.start, window.end, 0.0))
            going[of] = (start, window.end, max(highest, float(window.probabilities[of])))
        before = now
    yield from over(list(going))


def parse_thresholds(
    given: Iterable[float | str], default: np.ndarray, labels: Sequence[str], names: Sequence[str]
) -> np.ndarray:
    """Return the threshold per class, [classes].

    Args:
        given: numbers, or text `0.6` for all classes, or `CLASS=0.6` for one; later ones take precedence.
        default: thresholds of the model, [classes].
        labels, names: id and display name per class; either names a class.

    Raises:
        UserError: not a number from 0 to 1, or no such class.
    """
    thresholds = np.array(default, dtype=np.float32)
    for one in given:
        of, sign, number = str(one).rpartition("=")
        if sign and not of:
            raise UserError(
                f"threshold {line(one)}: no class before the =; give 0.6 for all classes, or CLASS=0.6"
            )
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise UserError(
                f"threshold {line(one)}: {line(number) or 'nothing'} is not a number from 0 to 1; give 0.6 "
                "for all classes, or CLASS=0.6"
            )
        places = [i for i, own in enumerate(zip(labels, names, strict=True)) if of in own]
        if sign and not places:
            near = difflib.get_close_matches(of, {*labels, *names}, cutoff=0.5)
            which = f"did you mean {line(near[0])}?" if near else f"there are {'; '.join(map(line, names))}"
            raise UserError(f"threshold {line(one)}: the model has no class {line(of)}; {line(which, 2000)}")
        thresholds[places if sign else slice(None)] = value
    return thresholds
