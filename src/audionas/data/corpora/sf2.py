"""A small SoundFont 2 player in NumPy: notes in, mono waveform out.

It implements the part of the SoundFont 2.04 specification (E-mu, 2006) that recorded instruments need: key
and velocity zones, root keys and tuning, loops, attenuation and the volume envelope. It omits filters, LFOs,
modulation envelopes, effects and stereo placement. It is written by hand because no maintained package does
this (December 2026): pyFluidSynth needs a system library, whose version changes the samples; tinysoundfont
needs PyAudio, which has no Linux wheel, and had its last release in June 2025; symusic ignores root keys and
volume envelopes, so a piano neither decays nor has its pitch.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from audionas.runtime.errors import UserError
from audionas.runtime.files import UnfitFileError, read_bounded

# Generator numbers of the specification, section 8.1.2.
_START, _END, _LOOP_START, _LOOP_END = 0, 1, 2, 3
_START_COARSE, _END_COARSE, _LOOP_START_COARSE, _LOOP_END_COARSE = 4, 12, 45, 50
_ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE, _KEY_TO_DECAY = 34, 35, 36, 37, 38, 40
_INSTRUMENT, _KEYS, _VELOCITIES, _ATTENUATION = 41, 43, 44, 48
_COARSE_TUNE, _FINE_TUNE, _SAMPLE, _MODES, _SCALE, _ROOT = 51, 52, 53, 54, 56, 58
_DEFAULTS = {_ATTACK: -12_000, _HOLD: -12_000, _DECAY: -12_000, _RELEASE: -12_000, _SCALE: 100, _ROOT: -1}
_RANGES = (_KEYS, _VELOCITIES)
_ADDITIVE = {_ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE, _ATTENUATION, _COARSE_TUNE, _FINE_TUNE}
_DRUM_BANK = 128
_LARGEST = 1 << 32  # bytes of a file
_MAX_RELEASE = 1.5  # seconds; longer releases are inaudible and slow to compute


@dataclass(frozen=True)
class Note:
    """A note: `start` and `seconds` (its length) in seconds, MIDI `key` and `velocity` (1-127)."""

    start: float
    seconds: float
    key: int
    velocity: int


@dataclass(frozen=True)
class _Zone:
    keys: tuple[int, int]
    velocities: tuple[int, int]
    values: tuple[tuple[int, int], ...]  # generators, hashable so that samples can be cached

    def __getitem__(self, generator: int) -> int:
        return dict(self.values).get(generator, _DEFAULTS.get(generator, 0))


class SoundFont:
    """An `.sf2` file, read once.

    Args:
        path: the file.
        sample_rate: sample rate of the rendered waveforms, in Hz.

    Raises:
        UserError: the file is missing or not a SoundFont 2.
    """

    def __init__(self, path: str | Path, sample_rate: int):
        self.sample_rate = sample_rate
        try:
            chunks = dict(_chunks(read_bounded(path, _LARGEST)))
            self._samples = np.frombuffer(chunks[b"smpl"], "<i2")
            self._headers = list(struct.iter_unpack("<20s5IBbHH", chunks[b"shdr"]))[:-1]
            instruments = _zones(chunks, b"inst", "<20sH", b"ibag", b"igen", bag_field=1)
            self._presets: dict[tuple[int, int], list[_Zone]] = {}
            presets = _zones(chunks, b"phdr", "<20sHHH3I", b"pbag", b"pgen", bag_field=3)
            for (_, program, bank, *_), zones in presets:
                self._presets[bank, program] = [
                    merged
                    for outer in zones
                    if _INSTRUMENT in outer
                    for inner in instruments[outer[_INSTRUMENT]][1]
                    if _SAMPLE in inner and (merged := _merge(outer, inner))
                ]
        except UnfitFileError as error:
            raise UserError(f"{path}: {error}; give a SoundFont 2 file") from None
        except FileNotFoundError:
            raise UserError(f"{path}: no such soundfont; install the package pretty_midi again") from None
        except (KeyError, IndexError, struct.error) as error:
            raise UserError(f"{path}: not a SoundFont 2 file ({error!r}); give another") from None
        self._unrolled = lru_cache(maxsize=64)(self._unroll)

    def render(self, program: int, notes: list[Note], seconds: float, *, drum: bool = False) -> np.ndarray:
        """Render notes on one instrument: float32 [round(seconds * sample_rate)], not normalised.

        Notes are cut at the end. Raises UserError if the soundfont has no such program.
        """
        bank = _DRUM_BANK if drum else 0
        if (bank, program) not in self._presets:
            raise UserError(
                f"the soundfont has no program {program} in bank {bank}; fix the list of instruments"
            )
        total = round(seconds * self.sample_rate)
        out = np.zeros(total, np.float32)
        for note in notes:
            first = round(note.start * self.sample_rate)
            if first >= total:
                continue
            for zone in self._presets[bank, program]:
                if (
                    zone.keys[0] <= note.key <= zone.keys[1]
                    and zone.velocities[0] <= note.velocity <= zone.velocities[1]
                ):
                    sound = self._note(zone, note, total - first)
                    out[first : first + len(sound)] += sound
        return out

    def _note(self, zone: _Zone, note: Note, limit: int) -> np.ndarray:
        header = self._headers[zone[_SAMPLE]]
        rate, root, correction = header[5], header[6], header[7]
        root = zone[_ROOT] if zone[_ROOT] >= 0 else (root if root <= 127 else 60)
        cents = (note.key - root) * zone[_SCALE] + 100 * zone[_COARSE_TUNE] + zone[_FINE_TUNE] + correction
        step = 2 ** (cents / 1200) * rate / self.sample_rate
        release = min(_seconds(zone[_RELEASE]), _MAX_RELEASE)
        n = min(limit, int((note.seconds + release) * self.sample_rate) + 1)
        table = self._unrolled(zone, 1 << int(n * step + 2).bit_length())
        n = min(n, int((len(table) - 2) / step))
        if n <= 0:
            return np.zeros(0, np.float32)
        at = np.arange(n) * step
        index = at.astype(np.int64)
        fraction = (at - index).astype(np.float32)
        low = table[index]
        sound = low + (table[index + 1] - low) * fraction
        decibels = -0.04 * zone[_ATTENUATION] + 40 * np.log10(
            note.velocity / 127
        )  # 0.4 of the attenuation, like other players
        return sound * _envelope(zone, note, n, self.sample_rate, release, decibels)

    def _unroll(self, zone: _Zone, length: int) -> np.ndarray:
        """Return the recording of a zone, its loop repeated up to `length` samples: float32."""
        _, start, end, loop, loop_end, *_ = self._headers[zone[_SAMPLE]]
        start += zone[_START] + 32_768 * zone[_START_COARSE]
        end += zone[_END] + 32_768 * zone[_END_COARSE]
        loop += zone[_LOOP_START] + 32_768 * zone[_LOOP_START_COARSE]
        loop_end += zone[_LOOP_END] + 32_768 * zone[_LOOP_END_COARSE]
        if zone[_MODES] in (1, 3) and start <= loop < loop_end:
            head, body = self._samples[start:loop], self._samples[loop:loop_end]
            wave = np.concatenate([head, np.resize(body, max(0, length - len(head)))])
        else:
            wave = self._samples[start:end]
        return wave[:length].astype(np.float32) / 32_768


def _envelope(
    zone: _Zone, note: Note, n: int, sample_rate: int, release: float, decibels: float
) -> np.ndarray:
    """Return the volume envelope (section 9.1.7): linear attack, hold, decay and release linear in dB."""
    t = np.arange(n, dtype=np.float32) / sample_rate
    attack, hold = _seconds(zone[_ATTACK]), _seconds(zone[_HOLD])
    decay = _seconds(zone[_DECAY] + zone[_KEY_TO_DECAY] * (60 - note.key))
    floor = -min(zone[_SUSTAIN], 1000) / 10
    level = np.maximum(np.minimum(attack + hold - t, 0) * np.float32(100 / decay), floor)
    released = t > note.seconds
    level[released] -= (t[released] - np.float32(note.seconds)) * np.float32(100 / release)
    gain = np.exp((level + decibels) * np.float32(np.log(10) / 20))
    return (gain * np.minimum(t / np.float32(attack), 1)).astype(np.float32)


def _seconds(timecents: int) -> float:
    return 2 ** (max(timecents, -12_000) / 1200)


def _chunks(data: bytes):
    """Yield the leaf chunks of a RIFF file as (name, bytes)."""
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        raise KeyError("RIFF sfbk")
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"LIST":
            at += 12  # its children follow
            continue
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _zones(chunks: dict, name: bytes, layout: str, bags: bytes, generators: bytes, bag_field: int):
    """Return headers with their zones; each zone is a dict of generators, merged with the global zone."""
    headers = list(struct.iter_unpack(layout, chunks[name]))
    firsts = [first for first, _ in struct.iter_unpack("<HH", chunks[bags])]
    values = list(struct.iter_unpack("<H2s", chunks[generators]))
    terminal = _SAMPLE if name == b"inst" else _INSTRUMENT
    result = []
    for header, following in itertools.pairwise(headers):
        zones, shared = [], {}
        for bag in range(header[bag_field], following[bag_field]):
            zone = {}
            for generator, amount in values[firsts[bag] : firsts[bag + 1]]:
                signed = generator not in (*_RANGES, _SAMPLE, _INSTRUMENT)
                zone[generator] = (
                    tuple(amount)
                    if generator in _RANGES
                    else struct.unpack("<h" if signed else "<H", amount)[0]
                )
            if terminal not in zone and not zones and bag == header[bag_field]:
                shared = zone
            else:
                zones.append({**shared, **zone})
        result.append((header, zones))
    return result


def _merge(preset: dict, instrument: dict) -> _Zone | None:
    """Combine a preset's zone with an instrument's: ranges intersect, other values add (section 9.4)."""
    ranges = []
    for generator in _RANGES:
        (a, b), (c, d) = preset.get(generator, (0, 127)), instrument.get(generator, (0, 127))
        if max(a, c) > min(b, d):
            return None
        ranges.append((max(a, c), min(b, d)))
    values = {k: v for k, v in instrument.items() if k not in _RANGES}
    for generator, value in preset.items():
        if generator in _ADDITIVE:
            values[generator] = values.get(generator, _DEFAULTS.get(generator, 0)) + value
    return _Zone(*ranges, tuple(sorted(values.items())))
