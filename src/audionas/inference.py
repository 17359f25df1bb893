"""Inference: classify recordings, and find events in recordings of any length, with a model file."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch

from audionas.audio.decode import Decoded, fit
from audionas.audio.logmel import LogMel
from audionas.audio.measure import Measure, measure
from audionas.audio.reading import AUDIBLE, DecodeError, Recording, from_samples, read
from audionas.audio.streaming import LARGEST, Stream, open_stream, sample_stream, spooled, waveform
from audionas.data import paths as data_paths
from audionas.data.ledger import CLASSES, read_rows
from audionas.deploy.events import (
    DEFAULT_THRESHOLD,
    LEAST_FRAMES,
    Event,
    Window,
    cut,
    merge,
    parse_thresholds,
    smoothed,
    window_and_hop,
)
from audionas.models.files import load_model
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import LARGEST_RECORDING, UnfitFileError, open_regular, read_bounded
from audionas.tasks import MULTI_LABEL, TASKS

log = logging.getLogger(__name__)

T = TypeVar("T")
#: A recording: path, file opened in binary mode, samples, or blocks of samples.
Source = str | os.PathLike | BinaryIO | np.ndarray | Iterable[np.ndarray]

Run = Callable[[np.ndarray], np.ndarray]

_WIDER, _LOUDER = (
    1.25,
    20.0,
)  # factor and dB beyond the training clips; recordings that exceed them cause a warning
_BATCH_SECONDS = 20.0  # windows of so many seconds go through the network at once
_MEASURED = 32  # windows with sound, compared with the training clips
_SHORTEST_HOP = 0.01  # seconds
_REMEDIES = {
    "not audio": "give WAV, FLAC, Ogg, MP3, M4A, AAC, WebM or WMA, or convert it with ffmpeg",
    "needs ffmpeg": "run pip install 'audionas[ffmpeg]', set AUDIONAS_FFMPEG to an ffmpeg, or convert the "
    "file to WAV",
    "truncated": "record or copy it again",
    "damaged": "record or copy it again",
    "silent in its first": "cut it where the sound begins",
    "no length": "convert it to FLAC, or to a WAV file that states its length",
    "no samples": "record it again",
    "empty": "record or copy it again",
    "too short": "give a longer recording",
    "silent": "give a recording with sound, or use --events, where silence is an answer",
    "channels cancel": "the channels are in antiphase: provide one channel",
}


@dataclass(frozen=True)
class Prediction:
    """The prediction for a recording.

    Attributes:
        probabilities: probability per class, float32 [classes].
        seconds: length of the recording in seconds; the network uses only the first `clip_seconds`.
        warnings: differences between the recording and the training clips, one sentence each.
    """

    probabilities: np.ndarray
    seconds: float
    warnings: tuple[str, ...]


class Classifier:
    """A network with its front end, loaded from a model file.

    Args:
        path: the model file, `.pt`, or `.onnx` from `audionas export`.

    Attributes:
        classes: class ids: those of AudioSet, or the labels of a folder.
        names: display name per class: of the model file, else of classes.csv beside it, else the id.
        thresholds: probability per class from which it is an event, float32 [classes]; 0.5 if the model file
            has none.
        own_thresholds: whether the model file has thresholds.
        rate: Hz of the waveforms that the network takes; recordings are resampled to it.
        clip_seconds: length of a training clip. `predict` uses so many seconds of a recording.

    Raises:
        UserError: the file is missing, damaged, a supernet, or has no settings; or it is an ONNX file, and
            ONNX Runtime is not installed.
    """

    def __init__(self, path: str | Path):
        self._path = Path(path)
        about, self._network = _load_onnx(path) if self._path.suffix.lower() == ".onnx" else _load(path)
        try:
            audio = about["settings"]["audio"]
            self.classes: list[str] = list(about["classes"])
            self.clip_seconds: float = audio["clip_seconds"]
            self.rate, self._min_seconds = audio["sample_rate"], audio["min_seconds"]
            features = about["settings"].get("features")
            self._hop: int | None = features["hop"] if features else None
        except (AttributeError, KeyError, TypeError):
            raise _incomplete(path) from None
        self._samples = round(self.rate * self.clip_seconds)
        self._heard = _heard(about.get("heard"), path)
        self._names = _checked_names(about.get("names"), self.classes, path)
        self.thresholds = _thresholds(about.get("thresholds"), len(self.classes), path)
        self.own_thresholds = about.get("thresholds") is not None

    @cached_property
    def names(self) -> list[str]:
        """Display name per class. Raises UserError if classes.csv beside the model file is damaged."""
        if self._names:
            return self._names
        beside = self._path.with_name(data_paths.CLASSES.name)
        listed = read_rows(beside, CLASSES) if beside.exists() else []
        names = {row["mid"]: row["display_name"] for row in listed}
        return [names.get(label, label) for label in self.classes]

    def __call__(
        self, recording: str | os.PathLike | BinaryIO | np.ndarray, rate: int | None = None
    ) -> np.ndarray:
        """Return the probability per class for the first `clip_seconds` of a recording.

        Differences between the recording and the training clips are logged as warnings; see `predict`.

        Args:
            recording: path of an audio file, a file opened in binary mode (read from its position), or
                samples [n] or [n, channels]: floats in -1..1, or int16, int32 or uint8 in their full range.
                Samples give the same result as a WAV file with them.
            rate: sample rate in Hz; required for samples, and not allowed for files.

        Returns:
            float32 [classes].

        Raises:
            UserError: the file is missing, or the file or samples cannot be used.
        """
        heard = self.predict(recording, rate)
        for warning in heard.warnings:
            log.warning("%s: %s", _name(recording), warning)
        return heard.probabilities

    def predict(
        self, recording: str | os.PathLike | BinaryIO | np.ndarray, rate: int | None = None
    ) -> Prediction:
        """Classify a recording, and return its length and warnings as well.

        Args:
            recording, rate: see `__call__`.

        Raises:
            UserError: the file is missing, or the file or samples cannot be used.
        """
        with _named_errors(_name(recording)):
            clip = fit(self._read(recording, rate), self.rate, self._samples)
        probabilities = self._network(clip.waveform[None])[0]
        return Prediction(probabilities, clip.seconds, self._warnings(clip))

    def _read(self, recording: str | os.PathLike | BinaryIO | np.ndarray, rate: int | None) -> Recording:
        if isinstance(recording, str | os.PathLike):
            if rate is not None:
                raise ValueError("a file states its own rate; omit `rate`")
            return read(read_bounded(recording), self.clip_seconds, self._min_seconds)
        if hasattr(recording, "read"):
            data = recording.read(LARGEST_RECORDING + 1)
            if not isinstance(data, bytes):
                raise ValueError("opened as text; open it in binary mode")
            if len(data) > LARGEST_RECORDING:
                raise ValueError(f"too large (more than {LARGEST_RECORDING:,} bytes)")
            return read(data, self.clip_seconds, self._min_seconds)
        if rate is None:
            raise ValueError("samples have no rate; pass `rate` in Hz")
        return from_samples(recording, rate, self.clip_seconds, self._min_seconds)

    def events(
        self,
        recording: Source,
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        thresholds: Iterable[float | str] = (),
        smooth: int = 1,
    ) -> Iterator[Event]:
        """Yield the events of a recording of any length, each as soon as it is over.

        A class is an event where the probability of a window reaches the threshold of the class. Windows
        that touch or overlap make one event. Memory does not grow with the length of the recording.
        Differences between the recording and the training clips are logged as warnings.

        Args:
            recording: as `__call__`, or an iterable of blocks of samples, such as those of a microphone.
            rate: sample rate in Hz; required for samples and blocks, and not allowed for files.
            window: seconds of a window, at most `clip_seconds`, the default. A window of fewer than 64
                frames is repeated until it has so many, or the length of a training clip.
            hop: seconds between the starts of windows; by default half of `window`.
            thresholds: numbers, or text `0.6` for all classes, or `CLASS=0.6` for one, by id or name; later
                ones take precedence over earlier ones, and over the thresholds of the model.
            smooth: replace probabilities by their median over so many windows, an odd number.

        Raises:
            UserError: an argument is out of range, the file is missing, or the recording cannot be used.
                Damage in the middle of a file is raised where it is, after the events before it.
        """
        finder = self.finder(window, hop, thresholds, smooth)
        scan = finder.scan(recording, rate)
        return _logged(scan, finder.events(scan))

    def windows(
        self,
        recording: Source,
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
    ) -> Iterator[Window]:
        """Yield the windows of a recording of any length, with their probabilities.

        Args:
            recording, rate, window, hop: see `events`.

        Raises:
            UserError: as `events`.
        """
        scan = self.finder(window, hop).scan(recording, rate)
        return _logged(scan, iter(scan))

    def finder(
        self,
        window: float | None = None,
        hop: float | None = None,
        thresholds: Iterable[float | str] = (),
        smooth: int = 1,
    ) -> Finder:
        """Return what finds events with these settings; see `events`.

        Raises:
            UserError: an argument is out of range.
        """
        lengths = self._min_seconds, self.clip_seconds
        window, hop = window_and_hop(window, hop, lengths, _SHORTEST_HOP)
        if smooth < 1 or smooth % 2 == 0:
            raise UserError(f"smooth {smooth}: not an odd number from 1; give 3 or 5")
        size = max(1, round(window * self.rate))
        limits = parse_thresholds(thresholds, self.thresholds, self.classes, self.names)
        return Finder(self, size, min(max(1, round(hop * self.rate)), size), limits, smooth)

    def _probabilities(self, windows: np.ndarray) -> np.ndarray:
        """Return probabilities [batch, classes] of windows [batch, samples].

        A short window is repeated until it has `_fed` samples: too few frames, or padding with silence, cost
        much accuracy (docs/classify.md). The probabilities of silence are 0, because no training clip is
        silent.
        """
        probabilities = np.zeros((len(windows), len(self.classes)), np.float32)
        audible = np.abs(windows).max(axis=1) >= AUDIBLE
        if audible.any():
            fed = max(self._fed, windows.shape[1])
            repeated = np.tile(windows[audible], (1, -(-fed // windows.shape[1])))
            probabilities[audible] = self._network(np.ascontiguousarray(repeated[:, :fed]))
        return probabilities

    @cached_property
    def _fed(self) -> int:
        """Fewest samples that the network is given: `LEAST_FRAMES` frames, at most a training clip."""
        if self._hop is None or (fed := self._hop * (LEAST_FRAMES - 1)) >= self._samples:
            return self._samples
        try:
            self._network(np.zeros((1, fed), np.float32))
        except Exception:  # a network of one length; ONNX Runtime has errors of its own
            return self._samples
        return fed

    def _warnings(self, clip: Decoded) -> tuple[str, ...]:
        return self._differences([measure(clip.waveform, self.rate)]) if self._heard else ()

    def _differences(self, measured: list[Measure]) -> tuple[str, ...]:
        """Return a warning for each difference between the training clips and the median of `measured`."""
        if not self._heard or not measured:
            return ()
        bandwidth = float(np.median([one.bandwidth for one in measured]))
        level = float(np.median([one.level for one in measured]))
        widest = self._heard["bandwidth"][-1]
        quietest, loudest = self._heard["level"][0], self._heard["level"][-1]
        found = []
        if bandwidth > _WIDER * widest:
            found.append(
                f"sound up to {bandwidth / 1000:.1f} kHz, but the training clips have sound up to "
                f"{widest / 1000:.1f} kHz: predictions may be wrong; low-pass the recording to that, or "
                "train on similar clips"
            )
        if not quietest - _LOUDER <= level <= loudest + _LOUDER:
            found.append(
                f"a level of {level:.0f} dBFS, but the training clips have {quietest:.0f} to "
                f"{loudest:.0f} dBFS: predictions may be wrong; adjust the gain, or train on similar clips"
            )
        return tuple(found)


@dataclass(frozen=True)
class Finder:
    """A classifier with the settings of events, checked.

    Attributes:
        classifier: the network.
        size, hop: samples of a window, and between the starts of windows, at the rate of the network.
        thresholds: probability per class, float32 [classes].
        smooth: windows of the median.
    """

    classifier: Classifier
    size: int
    hop: int
    thresholds: np.ndarray
    smooth: int

    def scan(self, recording: Source | Stream, rate: int | None = None, name: str = "") -> Scan:
        """Return the windows of a recording; `name` is for messages."""
        return Scan(self, recording, rate, name or _name(recording))

    def events(self, windows: Iterable[Window]) -> Iterator[Event]:
        """Yield the events of windows, each as soon as it is over."""
        classifier = self.classifier
        return merge(smoothed(windows, self.smooth), self.thresholds, classifier.classes, classifier.names)


class Scan:
    """The windows of a recording, which is read once, from its beginning to its end.

    The iteration raises UserError where the recording cannot be used.

    Attributes:
        name: of the recording.
        seconds: length of the recording; None while it is unknown.
        done: seconds that are classified.
        warnings: differences between the recording and the training clips, after the last window.
    """

    def __init__(self, finder: Finder, recording: Source | Stream, rate: int | None, name: str):
        self.name, self.seconds, self.done = name, None, 0.0
        self.warnings: tuple[str, ...] = ()
        self._finder, self._recording, self._rate = finder, recording, rate

    def __iter__(self) -> Iterator[Window]:
        classifier, rate = self._finder.classifier, self._finder.classifier.rate
        measured: list[Measure] = []
        with _named_errors(self.name), ExitStack() as opened:
            stream, live = self._open(opened)
            self.seconds = stream.seconds
            fed = max(self._finder.size, classifier._fed)
            count = 1 if live else max(1, int(_BATCH_SECONDS * rate / fed))
            windows = cut(waveform(stream, rate), self._finder.size, self._finder.hop)
            while batch := list(itertools.islice(windows, count)):
                if batch[-1][1] < classifier._min_seconds * rate:
                    raise DecodeError("too short")
                probabilities = classifier._probabilities(np.stack([wave for _, _, wave in batch]))
                for (start, end, wave), row in zip(batch, probabilities, strict=True):
                    if classifier._heard and len(measured) < _MEASURED and np.abs(wave).max() >= AUDIBLE:
                        measured.append(measure(wave, rate))
                    self.done = end / rate
                    yield Window(start / rate, end / rate, row)
        self.seconds = self.done
        self.warnings = classifier._differences(measured)

    def _open(self, opened: ExitStack) -> tuple[Stream, bool]:
        """Return the stream, and whether its windows are wanted at once."""
        recording, rate = self._recording, self._rate
        if isinstance(recording, Stream):
            return recording, True
        if isinstance(recording, str | os.PathLike) or hasattr(recording, "read"):
            if rate is not None:
                raise ValueError("a file states its own rate; omit `rate`")
            file = (
                spooled(recording) if hasattr(recording, "read") else open_regular(recording, limit=LARGEST)
            )
            return opened.enter_context(open_stream(opened.enter_context(file))), False
        if rate is None:
            raise ValueError("samples have no rate; pass `rate` in Hz")
        return sample_stream(recording, rate), not isinstance(recording, np.ndarray)


def _logged(scan: Scan, items: Iterator[T]) -> Iterator[T]:
    """Yield the items that a scan makes, then log its warnings."""
    yield from items
    for warning in scan.warnings:
        log.warning("%s: %s", scan.name, warning)


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Raise UserError, with the name of the recording and the fix, for all that can be wrong with it."""
    try:
        yield
    except DecodeError as error:
        remedy = next((text for reason, text in _REMEDIES.items() if str(error).startswith(reason)), None)
        raise UserError(f"{name}: {error}" + (f"; {remedy}" if remedy else "")) from None
    except (UnfitFileError, ValueError) as error:
        raise UserError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise UserError(f"{name}: no such file; fix the path") from None
    except OSError as error:
        raise os_error(error, name) from None


def _incomplete(path: str | Path) -> UserError:
    return UserError(f"{path}: settings, classes or task are missing or unknown; make it with `dvc repro`")


def _load(path: str | Path) -> tuple[dict[str, Any], Run]:
    """Return the metadata, and a function that maps waveforms [batch, samples] to probabilities."""
    network, about = load_model(path)
    try:
        task = TASKS[about.get("task", MULTI_LABEL.name)]
        front_end = _front_end(about, path)
    except (AttributeError, KeyError, TypeError):
        raise _incomplete(path) from None

    @torch.inference_mode()
    def run(waves: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(waves)
        return task.activation(network(front_end(given) if front_end else given)).numpy()

    return about, run


def _load_onnx(path: str | Path) -> tuple[dict[str, Any], Run]:
    """Do as `_load` with an ONNX file."""
    from audionas.deploy.onnx_files import OnnxModel

    model = OnnxModel(path)
    if model.input == "waveform":
        return model.about, model.probabilities
    try:
        front_end = _front_end(model.about, path)
    except (AttributeError, KeyError, TypeError):
        raise _incomplete(path) from None
    if front_end is None:
        raise UserError(f"{path}: the settings of the log-mel features are missing; export it again")

    @torch.inference_mode()
    def run(waves: np.ndarray) -> np.ndarray:
        return model.probabilities(front_end(torch.from_numpy(waves)).numpy())

    return model.about, run


def _front_end(about: dict[str, Any], path: str | Path) -> LogMel | None:
    features = about["settings"].get("features")
    try:
        return LogMel(sample_rate=about["settings"]["audio"]["sample_rate"], **features) if features else None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _checked_names(given: Any, classes: list[str], path: str | Path) -> list[str] | None:
    """Return the display names of a model file; None if the file has none."""
    if given is None:
        return None
    if not isinstance(given, list) or [type(name) for name in given] != [str] * len(classes):
        raise UserError(f"{path}: about.names does not have a name per class; make it with `dvc repro`")
    return given


def _thresholds(given: Any, classes: int, path: str | Path) -> np.ndarray:
    """Return the thresholds of a model file, float32 [classes]; the default if the file has none."""
    if given is None:
        return np.full(classes, DEFAULT_THRESHOLD, np.float32)
    numbers = isinstance(given, list) and all(
        type(value) in (int, float) and 0 <= value <= 1 for value in given
    )
    if not numbers or len(given) != classes:
        raise UserError(
            f"{path}: about.thresholds does not have a number from 0 to 1 per class; make it with `dvc repro`"
        )
    return np.array(given, np.float32)


def _heard(given: Any, path: str | Path) -> dict[str, list[float]]:
    """Return the bandwidth and level of the training clips from a model file; empty if the file has none."""
    if given is None or given == {}:
        return {}
    kinds = [given.get(kind) for kind in ("bandwidth", "level")] if isinstance(given, dict) else [None]
    for values in kinds:
        if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, float) for v in values):
            raise UserError(f"{path}: about.heard does not have three numbers each; make it with `dvc repro`")
    return {kind: given[kind] for kind in ("bandwidth", "level")}


def _name(recording: object) -> str:
    if isinstance(recording, str | os.PathLike):
        return os.fspath(recording)
    return str(getattr(recording, "name", "recording"))
