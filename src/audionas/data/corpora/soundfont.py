"""Clips rendered from the sampled instruments of a General MIDI soundfont: the embedded default.

The soundfont is TimGM6mb.sf2, part of the package pretty_midi. A clip contains a few different instruments,
each with its own seeded line. Its labels are AudioSet classes with their ancestors in the ontology, so the
task is multi-label. `Music` and `Musical instrument` are omitted: every clip has them, and a constant class
carries no information. Stereo placement, effects and performers are missing. This corpus is a substitute for
real recordings; name it beside every number computed from it.
"""

from __future__ import annotations

import importlib.util
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from audionas.data.corpora.base import Clip, Corpus
from audionas.data.corpora.sf2 import Note, SoundFont
from audionas.data.ledger import iter_numbered
from audionas.runtime.errors import UserError
from audionas.runtime.extras import require
from audionas.settings.corpora import SoundfontCorpus
from audionas.settings.values import SPLITS

SAMPLE_RATE = 44_100  # Hz; not the pipeline's 32 kHz, so that the default includes resampling
COLUMNS = ("instrument", "programs", "drum", "low", "high", "style", "mids", "names")
STYLES = ("melody", "chords", "arpeggio", "drums")
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 2, 3, 5, 7, 9, 10))
_BEATS = (0.25, 0.5, 0.5, 0.5, 1.0, 1.0, 1.5, 2.0)
_KICKS, _SNARES, _TOMS = (35, 36), (38, 40), (41, 45, 48)
_CLOSED_HAT, _OPEN_HAT, _CRASH, _RIDE = 42, 46, 49, 51


@dataclass(frozen=True)
class Instrument:
    """A row of the list: General MIDI programs (from 0), MIDI key range, style, and label ids."""

    name: str
    programs: tuple[int, ...]
    drum: bool
    low: int
    high: int
    style: str
    mids: tuple[str, ...]


class Soundfont(Corpus):
    """The embedded corpus; see the module.

    Each clip has its own random generator, seeded with (corpus.seed, split, index), so adding clips does not
    change earlier ones. In each block of n clips, for n instruments, every instrument leads once, so that
    small corpora contain all classes.

    Raises:
        UserError: an invalid list of instruments; names file, line and column.
    """

    def __init__(self, section: SoundfontCorpus, clip_seconds: float):
        self.section = section
        self.clip_seconds = clip_seconds
        self.instruments, self._classes = read_instruments(section.lists)
        if section.instruments_per_clip[1] > len(self.instruments):
            raise UserError(
                f"corpus.instruments_per_clip asks for {section.instruments_per_clip[1]} instruments and "
                f"{section.lists} has {len(self.instruments)}; lower it or list more"
            )

    def classes(self) -> list[tuple[str, str]]:
        """See Corpus; in the order of the list of instruments."""
        return list(self._classes)

    def streams(self) -> dict[str, list[Clip]]:
        """See Corpus; each clip is its own source."""
        return {
            split: [self._clip(split, index) for index in range(getattr(self.section.clips, split))]
            for split in SPLITS
        }

    def fetch(self, clip: Clip) -> bytes:
        """Return the clip as FLAC: 16 bit, mono, 44.1 kHz; the same bytes in every process."""
        split, index = clip.clip_id.split("-")
        samples = self.render(split, int(index))
        file = io.BytesIO()
        soundfile.write(file, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        return file.getvalue()

    def render(self, split: str, index: int) -> np.ndarray:
        """Return the mixed clip: int16 [clip_seconds * 44,100]."""
        chosen, rng = self._draw(split, index)
        tempo, tonic, scale = rng.uniform(70, 150), int(rng.integers(12)), _SCALES[rng.integers(len(_SCALES))]
        mix = np.zeros(round(self.clip_seconds * SAMPLE_RATE), np.float32)
        for instrument in chosen:
            notes = compose(rng, instrument, self.clip_seconds, tempo, tonic, scale)
            program = int(rng.choice(instrument.programs))
            line = self._player.render(program, notes, self.clip_seconds, drum=instrument.drum)
            # Presets differ by 20 dB: normalise their active parts, then add a random level.
            loudness = np.sqrt(np.mean(line[np.abs(line) > 1e-4] ** 2, dtype=np.float64))
            mix += line * np.float32(10 ** (rng.uniform(-10, 0) / 20) / max(loudness, 1e-6))
        peak = 10 ** (rng.uniform(-15, -1) / 20)
        return np.round(mix * np.float32(peak * 32_767 / np.abs(mix).max())).astype(np.int16)

    @cached_property
    def _player(self) -> SoundFont:
        require("pretty_midi", "corpus soundfont, rendered from a file of this package")
        spec = importlib.util.find_spec("pretty_midi")  # only its data are needed, so it is not imported
        return SoundFont(Path(spec.submodule_search_locations[0]) / "TimGM6mb.sf2", SAMPLE_RATE)

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key != "_player"}

    def _draw(self, split: str, index: int) -> tuple[list[Instrument], np.random.Generator]:
        seed, number, n = self.section.seed, SPLITS.index(split), len(self.instruments)
        turn = np.random.default_rng([seed, number, 1, index // n]).permutation(n)
        lead = int(turn[index % n])
        rng = np.random.default_rng([seed, number, 0, index])
        low, high = self.section.instruments_per_clip
        count = int(rng.integers(low, high + 1))
        others = rng.permutation([i for i in range(n) if i != lead])[: count - 1]
        return [self.instruments[i] for i in (lead, *others)], rng

    def _clip(self, split: str, index: int) -> Clip:
        chosen, _ = self._draw(split, index)
        heard = {mid for instrument in chosen for mid in instrument.mids}
        labels = tuple(mid for mid, _ in self._classes if mid in heard)
        name = f"{split}-{index:06d}"
        return Clip(name, name, "TimGM6mb.sf2", labels, 0.0, self.clip_seconds)


def read_instruments(path: str | Path) -> tuple[list[Instrument], list[tuple[str, str]]]:
    """Read the list of instruments, and its classes as (mid, display name).

    Columns: instrument; programs (space-separated numbers); drum (0 or 1); low, high (MIDI keys); style; mids
    (comma-separated); names (of the mids, separated by `|`).

    Raises UserError naming file, line and column of an invalid value.
    """
    instruments, classes = [], {}
    for line, row in iter_numbered(path, COLUMNS):
        column = ""
        try:
            column = "programs"
            programs = tuple(int(text) for text in row[column].split())
            if not programs or not all(0 <= program <= 127 for program in programs):
                raise ValueError("give numbers of 0 to 127")
            column = "drum"
            drum = {"0": False, "1": True}[row[column]]
            column = "low"
            low = int(row[column])
            column = "high"
            high = int(row[column])
            if not (0 <= low <= high - 11 and high <= 127):
                raise ValueError("low and high are MIDI keys at least an octave apart")
            column = "style"
            if row[column] not in STYLES or (row[column] == "drums") != drum:
                raise ValueError(f"one of {', '.join(STYLES)}; drums where drum is 1")
            column = "mids"
            mids, names = row["mids"].split(","), row["names"].split("|")
            if len(mids) != len(names) or not all(mids) or not all(names):
                raise ValueError("give as many mids (comma-separated) as names (separated by |)")
            for mid, name in zip(mids, names, strict=True):
                if classes.setdefault(mid, name) != name:
                    raise ValueError(f"{mid} is called {classes[mid]!r} and {name!r}")
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{path}, line {line}, column {column}: {row[column]!r}: fix it ({error})"
            ) from None
        instruments.append(
            Instrument(row["instrument"], programs, drum, low, high, row["style"], tuple(mids))
        )
    if not instruments:
        raise UserError(f"{path}: no instruments; list at least one")
    return instruments, list(classes.items())


def compose(
    rng: np.random.Generator,
    instrument: Instrument,
    seconds: float,
    tempo: float,
    tonic: int,
    scale: tuple[int, ...],
) -> list[Note]:
    """Compose a line for one instrument: phrases separated by rests, in its register and style.

    Args:
        rng: the clip's random generator.
        instrument: gives register and style.
        seconds: length of the line.
        tempo: beats a minute.
        tonic: pitch class, 0 for C.
        scale: semitones above the tonic.
    """
    beat = 60 / tempo
    if instrument.drum:
        return _drum_pattern(rng, seconds, beat)
    keys = [k for k in range(instrument.low, instrument.high + 1) if (k - tonic) % 12 in scale]
    at = int(rng.integers(len(keys) // 4, max(len(keys) * 3 // 4, len(keys) // 4 + 1)))
    time, notes, held = rng.uniform(0, 1) * beat, [], rng.uniform(0.6, 1.05)
    phrase = rng.uniform(3, 8) * beat + time
    loud = int(rng.integers(65, 105))
    while time < seconds - 0.05:
        length = float(rng.choice(_BEATS)) * beat
        at = int(np.clip(at + rng.integers(-3, 4), 0, len(keys) - 1))
        velocity = int(np.clip(loud + rng.integers(-15, 16), 30, 127))
        chord = [at]
        if instrument.style == "chords" and rng.random() < 0.5:
            chord = [at, at + 2, at + 4]
        if instrument.style == "arpeggio" and rng.random() < 0.6:
            run = [at, at + 2, at + 4, at + 2]
            part = max(length / 2, 0.1)
            for i, step in enumerate(run):
                notes.append(Note(time + i * part, part * held, keys[min(step, len(keys) - 1)], velocity))
            time += part * len(run)
        else:
            for step in chord:
                notes.append(Note(time, length * held, keys[min(step, len(keys) - 1)], velocity))
            time += length
        if time > phrase:
            time += rng.uniform(0.5, 2.5) * beat
            phrase = time + rng.uniform(3, 8) * beat
    return notes


def _drum_pattern(rng: np.random.Generator, seconds: float, beat: float) -> list[Note]:
    """Compose one random bar of sixteenths, repeated with fills."""
    kick, snare = int(rng.choice(_KICKS)), int(rng.choice(_SNARES))
    ride = int(rng.choice((_CLOSED_HAT, _CLOSED_HAT, _RIDE)))
    every = int(rng.choice((1, 2, 2, 4)))
    kicks = {0, 8} | {i for i in range(16) if rng.random() < 0.12}
    snares = {4, 12} | {i for i in range(16) if rng.random() < 0.06}
    notes, sixteenth, step = [], beat / 4, 0
    while step * sixteenth < seconds - 0.05:
        place, fill = step % 16, step % 64 >= 60
        hits = [kick] if place in kicks else []
        if place in snares:
            hits.append(snare)
        if fill:
            hits.append(int(rng.choice(_TOMS)))
        elif place % every == 0:
            hits.append(_OPEN_HAT if rng.random() < 0.05 else ride)
        if step % 64 == 0 and rng.random() < 0.5:
            hits.append(_CRASH)
        notes += [Note(step * sixteenth, 0.2, key, int(rng.integers(70, 120))) for key in hits]
        step += 1
    return notes
