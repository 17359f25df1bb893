"""`audionas classify`: classify recordings, or find events in recordings of any length."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audionas.deploy.event_files import FORMATS, EventFolder, event_line, head, report
from audionas.deploy.recordings import find_recordings
from audionas.runtime.errors import UserError
from audionas.runtime.files import sha256
from audionas.runtime.text import line, lines
from audionas.systems.common.commands import positive

if TYPE_CHECKING:
    from audionas.deploy.events import Window
    from audionas.inference import Classifier, Scan

log = logging.getLogger(__name__)

_PATH = 4096  # most characters shown of a path
_MANY = 10  # recordings; more than these show a progress bar
_STDIN = "-"
#: Errors of a file that are due to its name.
_OF_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
_SAMPLES = ("s16le", "s32le", "u8", "f32le")  # as `audionas.audio.streaming.RAW`
#: Options that find events.
_OF_EVENTS = ("window", "hop", "threshold", "smooth", "format", "output", "microphone", "rate")


def add_parser(commands: Any) -> None:
    """Add the grammar of the command to the subparsers of argparse."""
    one = commands.add_parser(
        "classify",
        help="classify recordings, or find events in recordings of any length",
        description="Print the most probable classes of each recording, by its first seconds, as many as a "
        "training clip has. With --events, or any option of events, the whole recording is cut into windows: "
        "a class that reaches its threshold is an event, as long as it does. Class names come from the model "
        "file, or from classes.csv in its folder. Recordings that cannot be used are reported and skipped; "
        "the exit code is then 1. A warning reports a recording with a larger bandwidth, or a much higher or "
        "lower level, than the training clips.",
        epilog="Examples: audionas classify models/release/26k.pt kitchen.wav phone.m4a; audionas classify "
        "models/release/26k.pt recordings --window 2 --hop 1 --format csv --output events; audionas classify "
        "models/release/26k.pt --microphone. Formats: WAV, FLAC, Ogg, MP3, AIFF, CAF and AU; with ffmpeg "
        "also M4A, AAC, WebM, WMA and AMR. The ffmpeg is that of imageio-ffmpeg, or the one in "
        "AUDIONAS_FFMPEG.",
    )
    one.add_argument("model", help="a model file, such as models/release/26k.pt, or an exported .onnx file")
    recordings = one.add_argument(
        "recordings",
        nargs="+",
        metavar="RECORDING",
        help="audio files; folders, for all audio files below them; or - for standard input",
    )
    one.add_argument("--top", type=positive, help="number of classes to print, without events (default: 5)")
    one.add_argument(
        "--jobs", type=positive, default=1, help="number of processes for several recordings (default: 1)"
    )
    events = one.add_argument_group("events")
    events.add_argument("--events", action="store_true", help="find events, with the defaults below")
    events.add_argument(
        "--window",
        type=float,
        metavar="SECONDS",
        help="length of a window (default: that of a training clip)",
    )
    events.add_argument(
        "--hop", type=float, metavar="SECONDS", help="between the starts of windows (default: half a window)"
    )
    events.add_argument(
        "--threshold",
        action="append",
        metavar="[CLASS=]X",
        help="probability from which a class, or every class, is an event; can be repeated (default: that of "
        "the model file, else 0.5)",
    )
    events.add_argument(
        "--smooth",
        type=int,
        metavar="WINDOWS",
        help="use the median over so many windows, an odd number (default: 1)",
    )
    events.add_argument(
        "--format",
        choices=tuple(FORMATS),
        help="text; csv with a header; json, one object per event and line; audacity, a label track "
        "(default: text)",
    )
    events.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write a file per recording; those that are finished are skipped when the command runs again",
    )
    live = one.add_argument_group("events of sound as it arrives")
    live.add_argument(
        "--microphone",
        nargs="?",
        const="",
        action=_Microphone,
        recordings=recordings,
        metavar="DEVICE",
        help="listen until Ctrl-C; DEVICE is a number or name of `python -m sounddevice`",
    )
    live.add_argument(
        "--rate", type=positive, metavar="HZ", help="standard input has raw samples of this rate"
    )
    live.add_argument("--channels", type=positive, help="channels of raw samples (default: 1)")
    live.add_argument("--samples", choices=_SAMPLES, help="format of raw samples (default: s16le)")
    one.set_defaults(run=run)


class _Microphone(argparse.Action):
    """Store the device, and make recordings optional.

    If they were optional from the start, argparse (before Python 3.13) would take none when an option follows
    the model.
    """

    def __init__(self, *arguments: Any, recordings: argparse.Action, **more: Any):
        super().__init__(*arguments, **more)
        self._recordings = recordings

    def __call__(
        self, parser: argparse.ArgumentParser, options: argparse.Namespace, device: Any, name: Any = None
    ) -> None:
        setattr(options, self.dest, device)
        self._recordings.nargs = "*"


@dataclass(frozen=True)
class _Plan:
    """What each recording is classified with; it is sent to worker processes."""

    model: str
    events: bool
    top: int
    window: float | None
    hop: float | None
    thresholds: tuple[str, ...]
    smooth: int
    kind: str
    threads: int | None = None  # of each process; PyTorch's default if None


@dataclass(frozen=True)
class _Done:
    """The result for a recording: its text, or why there is none; and warnings."""

    text: str = ""
    failure: str = ""
    warnings: tuple[str, ...] = ()


def run(options: argparse.Namespace) -> int:
    """Print classes or events of each recording, or write files of events, and return the exit code.

    Raises:
        UserError: options do not fit each other, the model file is a recording or cannot be read, or the
            output folder has other events.
    """
    plan = _plan(options)
    _require_model(options.model, options.recordings)
    if options.microphone is not None or options.rate is not None:
        return _listen(plan, options)
    found, failed = _expanded(options.recordings, options.output is not None)
    given = len(found) + failed
    if plan.kind == "audacity" and options.output is None and len(found) > 1:
        raise UserError(
            f"--format audacity: {len(found)} recordings in one label track; give --output FOLDER, for a "
            "file per recording"
        )
    classifier = _classifier(plan)
    folder = _folder(plan, options.output, classifier) if options.output else None
    if folder:
        left = [(name, path) for name, path in found if not folder.finished(name, Path(path))]
        if skipped := len(found) - len(left):
            _say(f"{skipped} of {given} recordings are finished in {options.output}, and skipped")
        found = left
    elif plan.events:
        print(head(plan.kind), end="")
    failed += _all(plan, classifier, found, folder, options.jobs)
    if failed:
        _say(f"{failed} of {given} recordings not classified")
    return int(failed > 0)


def _plan(options: argparse.Namespace) -> _Plan:
    """Return the plan of the options. Raises UserError if they do not fit each other."""
    named = [f"--{name}" for name in _OF_EVENTS if getattr(options, name) is not None]
    live = options.microphone is not None or options.rate is not None
    if _STDIN in options.recordings and sys.stdin is None:
        raise UserError("-: standard input is closed; pipe a recording into the command, or name a file")
    if options.top and (named or options.events):
        raise UserError(f"--top: not for events ({named[0] if named else '--events'}); omit one of them")
    if options.output and live:
        raise UserError("--output: not for sound as it arrives; redirect standard output to a file instead")
    if options.rate is None and (options.channels or options.samples):
        raise UserError("--channels, --samples: for raw samples on standard input; give --rate too")
    if options.microphone is not None and (options.recordings or options.rate is not None):
        raise UserError("--microphone: not together with recordings or --rate; omit them")
    if options.rate is not None and options.recordings != [_STDIN]:
        raise UserError("--rate: for raw samples on standard input; give - as the only recording")
    if _STDIN in options.recordings and (len(options.recordings) > 1 or options.output):
        raise UserError("-: standard input is read alone, and not with --output; omit the others")
    return _Plan(
        options.model,
        bool(named or options.events),
        options.top or 5,
        options.window,
        options.hop,
        tuple(options.threshold or ()),
        1 if options.smooth is None else options.smooth,
        options.format or "text",
    )


def _expanded(recordings: list[str], apart: bool) -> tuple[list[tuple[str, str]], int]:
    """Return name and path of each recording, those of folders as well; and how many arguments failed.

    Args:
        recordings: files, folders, or `-`.
        apart: whether the names, which are relative paths, have to differ.

    Raises:
        UserError: two recordings have the same name, and `apart`.
    """
    found: list[tuple[str, str]] = []
    failed = 0
    for one in recordings:
        folder = Path(one)
        if one == _STDIN or not folder.is_dir():
            found.append((folder.name, one))
            continue
        try:
            found += [(str(path.relative_to(folder)), str(path)) for path in find_recordings(folder)]
        except UserError as error:
            failed += 1
            _say(error)
    if apart:
        names: dict[str, str] = {}
        for name, path in found:
            if names.setdefault(name, path) != path:
                raise UserError(
                    f"{line(path, _PATH)}: its events would be in the same file as those of "
                    f"{line(names[name], _PATH)}; give a folder that holds both, or run once for each"
                )
        found = list(names.items())
    return found, failed


def _classifier(plan: _Plan) -> Classifier:
    """Return the classifier of a plan. Raises UserError if it cannot carry the plan out."""
    import torch

    from audionas.inference import Classifier

    if plan.threads:
        torch.set_num_threads(plan.threads)
    classifier = Classifier(plan.model)
    if plan.events:  # before a recording is read
        classifier.finder(plan.window, plan.hop, plan.thresholds, plan.smooth)
        if not classifier.own_thresholds and not plan.thresholds:
            log.warning(
                "%s has no thresholds of its own, so 0.5 is used for every class; choose others with "
                "--threshold, on recordings that you know",
                line(Path(plan.model).name, _PATH),
            )
    return classifier


def _folder(plan: _Plan, path: Path, classifier: Classifier) -> EventFolder:
    finder = classifier.finder(plan.window, plan.hop, plan.thresholds, plan.smooth)
    settings = {
        "model": Path(plan.model).name,
        "sha256": sha256(plan.model),
        "window": finder.size / classifier.rate,
        "hop": finder.hop / classifier.rate,
        "thresholds": [round(float(value), 6) for value in finder.thresholds],
        "smooth": plan.smooth,
    }
    return EventFolder(path, plan.kind, settings)


def _all(
    plan: _Plan,
    classifier: Classifier,
    found: list[tuple[str, str]],
    folder: EventFolder | None,
    jobs: int,
) -> int:
    """Classify the recordings, print or write the results, and return how many failed."""
    from tqdm import tqdm

    failed = 0
    jobs = min(jobs, len(found))
    # Progress is shown only on a terminal, and for many recordings.
    quiet = None if len(found) > _MANY else True
    with tqdm(total=len(found), desc="classify", unit="files", disable=quiet, leave=False) as bar:
        for (_, path), done in zip(found, _results(plan, classifier, folder, found, jobs), strict=True):
            for warning in done.warnings:
                bar.write(f"audionas classify: {line(path, _PATH)}: warning: {warning}", file=sys.stderr)
            if done.failure:
                failed += 1
                bar.write(f"audionas classify: {lines(done.failure)}", file=sys.stderr)
            elif done.text:
                bar.write(done.text, file=sys.stdout, end="")
            bar.update()
    return failed


def _results(
    plan: _Plan,
    classifier: Classifier,
    folder: EventFolder | None,
    found: list[tuple[str, str]],
    jobs: int,
) -> Iterator[_Done]:
    """Yield the result of each recording, in order."""
    if jobs < 2:
        for one in found:
            yield _one(plan, classifier, folder, *one)
        return
    from audionas.runtime.parallel import ordered_map, workers

    own = replace(plan, threads=max(1, workers() // jobs))
    start = (own, folder)
    yield from ordered_map(_work, found, initializer=_start, initargs=start, lost=_lost, processes=jobs)


_worker: list[Any] = []  # plan, classifier and folder of a worker process


def _start(plan: _Plan, folder: EventFolder | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C and ends this one
    _worker[:] = (plan, _classifier(plan), folder)


def _work(recording: tuple[str, str]) -> _Done:
    return _one(*_worker, *recording, shown=False)


def _lost(recording: tuple[str, str]) -> _Done:
    return _Done(failure=f"{recording[1]}: its process was killed, perhaps for its memory; lower --jobs")


def _one(
    plan: _Plan,
    classifier: Classifier,
    folder: EventFolder | None,
    name: str,
    path: str,
    shown: bool = True,
) -> _Done:
    """Return the result for a recording, or write it to the folder; `shown` shows the progress."""
    source: Any = sys.stdin.buffer if path == _STDIN else path
    try:
        if not plan.events:
            return _classes(plan, classifier, path, source)
        done = _events(plan, classifier, path, source, shown)
    except UserError as error:
        return _Done(failure=str(error))
    if not folder:
        return done
    try:
        folder.write(name, done.text)
    except OSError as error:
        if error.errno not in _OF_NAME:
            raise  # of the folder, so the next recording would fail as well
        said = f"{folder.file(name)}: {os.strerror(error.errno)}; rename the recording"
        return replace(done, text="", failure=f"{path}: its events cannot be written to {said}")
    return replace(done, text="")


def _classes(plan: _Plan, classifier: Classifier, path: str, source: Any) -> _Done:
    heard = classifier.predict(source)
    rest = f" (first {classifier.clip_seconds:g} s of {heard.seconds:.1f} s)"
    said = [line(path, _PATH) + rest * (round(heard.seconds, 1) > classifier.clip_seconds)]
    for place in (-heard.probabilities).argsort()[: plan.top]:
        said.append(f"  {heard.probabilities[place]:.3f}  {line(classifier.names[place])}")
    return _Done("\n".join(said) + "\n", warnings=heard.warnings)


def _events(plan: _Plan, classifier: Classifier, path: str, source: Any, shown: bool) -> _Done:
    finder = classifier.finder(plan.window, plan.hop, plan.thresholds, plan.smooth)
    scan = finder.scan(source)
    with _progress(scan, shown) as watch:
        events = list(finder.events(watch(scan)))
    return _Done(report(events, path, plan.kind, scan.done), warnings=scan.warnings)


@contextmanager
def _progress(scan: Scan, shown: bool) -> Iterator[Callable[[Iterable[Window]], Iterator[Window]]]:
    """Yield a function that passes windows on and shows the seconds that are done."""
    from tqdm import tqdm

    with tqdm(desc="  seconds", unit="s", disable=None if shown else True, leave=False, delay=2) as bar:

        def watch(windows: Iterable[Window]) -> Iterator[Window]:
            for window in windows:
                bar.total = scan.seconds and round(scan.seconds)
                bar.update(int(scan.done) - bar.n)
                yield window

        yield watch


def _listen(plan: _Plan, options: argparse.Namespace) -> int:
    """Print the events of the microphone, or of raw samples on standard input, as soon as each is over.

    Ctrl-C ends the sound: the events that last are printed, and the exit code is 0.

    Raises:
        UserError: the microphone or the samples cannot be used.
    """
    from tqdm import tqdm

    from audionas.audio.microphone import open_microphone
    from audionas.audio.reading import DecodeError
    from audionas.audio.streaming import raw_stream

    classifier = _classifier(plan)
    finder = classifier.finder(plan.window, plan.hop, plan.thresholds, plan.smooth)
    stop = threading.Event()
    name = "microphone" if options.rate is None else _STDIN
    if options.rate is None:
        stream = open_microphone(options.microphone, stop)
        _say(f"listening at {stream.rate} Hz; Ctrl-C ends it")
    else:
        try:
            stream = raw_stream(
                sys.stdin.buffer, options.rate, options.channels or 1, options.samples or "s16le", stop
            )
        except (DecodeError, ValueError) as error:
            raise UserError(f"standard input: {error}") from None
    scan = finder.scan(stream, name=name)
    with _ended_by_ctrl_c(stop), tqdm(disable=None, leave=False, bar_format="{n_fmt} s  {desc}") as bar:

        def watch() -> Iterator[Window]:
            for window in scan:
                highest = [of for of in (-window.probabilities).argsort()[:3] if window.probabilities[of] > 0]
                shown = [f"{line(classifier.names[of], 40)} {window.probabilities[of]:.2f}" for of in highest]
                bar.set_description_str("; ".join(shown) or "silence")
                bar.update(int(scan.done) - bar.n)
                yield window

        bar.write(head(plan.kind), file=sys.stdout, end="")
        for event in finder.events(watch()):
            bar.write(event_line(event, name, plan.kind), file=sys.stdout, end="")
            sys.stdout.flush()
    for warning in scan.warnings:
        _say(f"{name}: warning: {warning}")
    return 0


@contextmanager
def _ended_by_ctrl_c(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on the first Ctrl-C; the second interrupts as usual."""

    def handle(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _require_model(model: str, recordings: list[str]) -> None:
    """Reject a recording in place of the model, before PyTorch is imported."""
    from audionas.audio.containers import container

    try:
        with Path(model).open("rb") if Path(model).is_file() else io.BytesIO() as file:
            start = file.read(64)
    except OSError:
        return  # the model reader reports it
    if container(start).extension != "bin":
        given = " ".join(line(name, _PATH) for name in (model, *recordings[:2]))
        raise UserError(
            f"{line(model, _PATH)}: a recording, not a model file; pass the model file first, for "
            f"example: audionas classify models/release/26k.pt {given}" + " …" * (len(recordings) > 2)
        )


def _say(message: object) -> None:
    print(f"audionas classify: {lines(message)}", file=sys.stderr)
