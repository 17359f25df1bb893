"""Kinds of input files, with their damage and their readers."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import random
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import imageio_ffmpeg
import made
import numpy as np
import soundfile
import tiny
import torch
import yaml
from mutations import TEXTS, damage_bytes, damage_table, damage_tree, damage_zip

from audionas import cli
from audionas.audio.decode import decode
from audionas.audio.reading import DecodeError
from audionas.data import paths as data_paths
from audionas.data.corpora.base import Clip, FetchError
from audionas.data.corpora.esc50 import Esc50
from audionas.data.ledger import DOWNLOAD, RESAMPLE, write_rows
from audionas.data.shards import read_shard, write_shard
from audionas.data.sources.base import SourceError
from audionas.data.sources.local import Local
from audionas.data.store import ClipStore, write_store
from audionas.models.cnn10 import Cnn10
from audionas.models.files import load_model, load_supernet, save_model
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import Cnn10Architecture
from audionas.settings.corpora import Esc50Corpus, FolderCorpus
from audionas.supernet.cnn10 import Cnn10Supernet
from audionas.systems.once_for_all import figures
from audionas.systems.once_for_all.stages import tables
from audionas.training.checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "audio": {"sample_rate": 32000, "clip_seconds": 1.0, "min_seconds": 0.1},
    "features": {"n_fft": 1024, "hop": 1000, "mels": 16, "fmin": 50.0, "fmax": 14000.0},
}


class Wrong(Exception):
    """An unexpected result or message."""


class Kind:
    """A kind of file: `make` damages a file in the working directory, `read` reads it like the project.

    Attributes:
        made: description of the damage.
        file: the damaged file.
        refused: the error message.
    """

    made, refused = "", ""
    file: Path

    def __init__(self, folder: Path):
        self.folder = folder
        logging.disable(logging.CRITICAL)

    def make(self, chance: random.Random) -> None:
        """Damage a file."""
        raise NotImplementedError

    def read(self) -> str:
        """Read the file; return a problem of the error message, or "". Undefined errors are raised."""
        self.refused = ""
        try:
            self.use()
        except UserError as error:
            self.refused = str(error)
        except (DecodeError, FetchError, SourceError) as error:
            self.refused = f"{self.file.name}: {error}"
        return wrong_message(self.refused, self.file) if self.refused else ""

    def whole(self) -> Iterator[None]:
        """Restore every original in turn; `read` must accept it."""
        yield

    def use(self) -> None:
        """Read the file."""
        raise NotImplementedError

    def put(self, content: bytes, made: str) -> None:
        """Write the damaged file."""
        self.file.write_bytes(content)
        self.made = made


class Originals(Kind):
    """Intact files of a project. One is damaged at a time, and the previous one is restored."""

    def keep(self, files: dict[str, bytes]) -> None:
        """Write the files, and store their content."""
        self.originals = files
        for name, content in files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(content)
        self.file = Path(next(iter(files)))

    def choose(self, chance: random.Random, names: list[str] | None = None) -> bytes:
        """Choose the next file to damage, and return its content."""
        self.file.write_bytes(self.originals[self.file.as_posix()])
        name = chance.choice(names or sorted(self.originals))
        self.file = Path(name)
        return self.originals[name]

    def whole(self):
        """See Kind."""
        for name, content in self.originals.items():
            self.file = Path(name)
            self.put(content, "nothing")
            yield


def wrong_message(message: str, file: Path) -> str:
    """Return a problem of a message. It must name the file, be short, and contain no control characters."""
    if file.name not in message:
        return f"the message does not name {file.name}: {message:.200}"
    if any(not (letter.isprintable() or letter in "\n\t") for letter in message):
        return f"the message holds control characters: {message[:300]!r}"
    if len(message) > 5_000:
        return f"the message has {len(message)} characters: {message[:100]!r}"
    return ""


def command(*arguments: str) -> None:
    """Run `audionas`. Raises UserError with its message if the exit code is 1."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        code = cli.main(list(arguments))
    if code not in (0, 1):
        raise Wrong(f"exit code {code}: {told.getvalue():.200}")
    if code and not told.getvalue().startswith(f"audionas {arguments[0]}: "):
        raise Wrong(f"no message: {told.getvalue():.200}")
    if code:
        raise UserError(told.getvalue())


class Audio(Kind):
    """Audio in every format that libsndfile writes, and in formats of ffmpeg."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        rng, self.seeds = np.random.default_rng(0), {}
        wave = np.sin(np.arange(9_600) / 9) * 0.4 + rng.normal(0, 0.05, 9_600)
        for kind, subtypes in (
            (kind, soundfile.available_subtypes(kind)) for kind in soundfile.available_formats()
        ):
            for subtype in subtypes:
                for channels, rate in ((1, 8_000), (2, 48_000)):
                    file = io.BytesIO()
                    sound = np.stack([wave, wave[::-1]][:channels], axis=1)
                    with contextlib.suppress(Exception):  # libsndfile does not support this combination
                        soundfile.write(file, sound, rate, format=kind, subtype=subtype)
                        self.seeds[f"{kind}-{subtype}-{channels}"] = file.getvalue()
        Path("a.wav").write_bytes(self.seeds["WAV-PCM_16-1"])
        for name in ("m4a", "webm", "aac", "mka", "mp3"):
            run = [
                imageio_ffmpeg.get_ffmpeg_exe(),
                "-v",
                "error",
                "-y",
                "-i",
                "a.wav",
                "-bitexact",
                f"a.{name}",
            ]
            subprocess.run(run, check=True, stdin=subprocess.DEVNULL)
            self.seeds[name] = Path(f"a.{name}").read_bytes()
        self.file = Path("damaged")

    def make(self, chance):
        name = chance.choice(sorted(self.seeds))
        others = [self.seeds[other] for other in chance.sample(sorted(self.seeds), 3)]
        self.put(damage_bytes(chance, self.seeds[name], others), name)

    def whole(self):
        for name in (
            "WAV-PCM_16-1",
            "FLAC-PCM_24-2",
            "OGG-VORBIS-1",
            "MP3-MPEG_LAYER_III-2",
            "AIFF-PCM_16-1",
        ):
            self.put(self.seeds[name], name)
            yield

    def use(self):
        clip = decode(self.file.read_bytes(), 32_000, 32_000, 0.1)
        wave = clip.waveform
        if wave.shape != (32_000,) or not np.isfinite(wave).all() or np.abs(wave).max() > 1:
            raise Wrong(f"a waveform of shape {wave.shape}, at most {np.abs(wave).max()}")


class Stores(Kind):
    """HDF5 clip stores: damaged bytes, and datasets with unexpected types, shapes and layouts."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.file = Path("store.h5")
        ids, labels = [f"clip{i}" for i in range(6)], np.eye(3, dtype=np.uint8)[np.arange(6) % 3]
        data = np.random.default_rng(0).normal(0, 1, (6, 20, 8)).astype(np.float16)
        write_store(self.file, ids, labels, data, classes=["a", "b", "c"], settings=SETTINGS)
        self.good = self.file.read_bytes()
        Path("secret").write_bytes(b"secret" * 1_000)
        Path("other.h5").write_bytes(self.good)

    def make(self, chance):
        if chance.random() < 0.6:
            self.put(damage_bytes(chance, self.good), "bytes")
            return
        self.put(self.good, "")
        with h5py.File(self.file, "r+", libver="latest") as file:
            name = chance.choice(("data", "labels", "clip_ids"))
            if chance.random() < 0.3:
                attribute = chance.choice(("version", "classes", "settings"))
                value = chance.choice(
                    (
                        *(
                            json.dumps(damage_tree(chance, SETTINGS)),
                            json.dumps(["a", "\x1b[31m", "c"]),
                            "{",
                            "[1]",
                            5,
                        ),
                        *(
                            b"\xff",
                            np.arange(5),
                            "x",
                            "[" * 10_000,
                            h5py.Empty("f4"),
                            np.bytes_(b"x" * 60_000),
                            -1,
                            2.5,
                        ),
                    )
                )
                file.attrs[attribute] = value
                self.made = f"attribute {attribute}: {value!r:.60}"
            else:
                shape = tuple(file[name].shape)
                del file[name]
                self.made = f"{name}: {self._other(file, name, shape, chance)}"

    def _other(self, file: h5py.File, name: str, shape: tuple[int, ...], chance: random.Random) -> str:
        what = chance.choice(
            ("type", "shape", "chunks", "compact", "external", "link", "soft", "virtual", "group", "none")
        )
        kinds = (
            "f2",
            "f4",
            "f8",
            "i2",
            ">i2",
            "u1",
            "i8",
            "c8",
            "?",
            "S1",
            "S64",
            "V8",
            "O",
            "ref",
            "region",
            "enum",
            "struct",
        )
        kind = chance.choice(kinds) if what in ("type", "shape") or name != "data" else "f2"
        types = {
            "O": h5py.string_dtype(),
            "ref": h5py.ref_dtype,
            "region": h5py.regionref_dtype,
            "enum": h5py.enum_dtype({"a": 0}, basetype="i1"),
            "struct": np.dtype([("a", "f4"), ("b", h5py.string_dtype())]),
        }
        of = types.get(kind, np.dtype(kind) if kind not in types else None)
        if what == "shape":
            shape = chance.choice(
                ((), (6,), (6, 2), (5, *shape[1:]), (0, *shape[1:]), (6, 20, 8, 2), (10**12,), (7, 3), (6, 0))
            )
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        match what:
            case "type" | "shape":
                with contextlib.suppress(Exception):  # no layout has this size
                    if np.prod(shape, dtype=float) > 1e6:
                        file.create_dataset(name, shape, of, chunks=(1000,))
                    else:
                        layout.set_layout(h5py.h5d.CONTIGUOUS)
                        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                        file.create_dataset(name, shape, of, dcpl=layout)
            case "chunks":
                file.create_dataset(name, shape, of, chunks=True, compression=chance.choice((None, "gzip")))
            case "compact":
                layout.set_layout(h5py.h5d.COMPACT)
                file.create_dataset(name, shape, of, dcpl=layout)
            case "external" if of.kind != "O":
                file.create_dataset(name, shape, of, external=[(str(Path("secret").absolute()), 0, 1 << 20)])
            case "link":
                file[name] = h5py.ExternalLink("other.h5", name)
            case "soft":
                file[name] = h5py.SoftLink(chance.choice(("/nowhere", f"/{name}", "/labels")))
            case "virtual":
                virtual = h5py.VirtualLayout(shape, "f2")
                virtual[...] = h5py.VirtualSource("other.h5", "data", shape)
                file.create_virtual_dataset(name, virtual)
            case "group":
                file.create_group(name)
        return f"{what} {kind} {shape}"

    def whole(self):
        for words in ("bytes", "even"):
            self.put(self.good, words)
            yield

    def use(self):
        store = ClipStore(self.file, chance_settings(self.made))
        if len(store) != len(store.clip_ids) or len(store) != len(store.data):
            raise Wrong(f"{len(store)} clips, {len(store.clip_ids)} ids, {len(store.data)} rows")
        if store.data.dtype.kind not in "fi" or store.labels.dtype != np.uint8:
            raise Wrong(f"rows of {store.data.dtype}, labels of {store.labels.dtype}")
        store.data[:].astype(np.float32).sum()
        store.labels[:].sum()
        if len(store.classes) != store.labels.shape[1]:
            raise Wrong(f"{len(store.classes)} classes, {store.labels.shape[1]} columns")


def chance_settings(made: str) -> dict | None:
    """Open every second store with settings."""
    return SETTINGS if len(made) % 2 else None


class Models(Kind):
    """Networks and supernets: damaged bytes, archive members and values."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        torch.manual_seed(0)
        torch.set_num_threads(1)
        self.file = Path("network.pt")
        about = {"kind": "found", "corpus": "x", "train_clips": 24, "iterations": 12, "settings": SETTINGS}
        about |= {"classes": ["a", "b", "c", "d"], "space": "2-2-x", "seed": 0}
        save_model(self.file, Cnn10(4, 4, mels=16), about)
        save_model("supernet.pt", Cnn10Supernet(Cnn10Architecture(4, 4, 16)), about)
        names = ("network.pt", "supernet.pt")
        self.content = {name: torch.load(name, weights_only=True) for name in names}
        self.bytes = {name: Path(name).read_bytes() for name in names}
        soundfile.write("a.wav", np.random.default_rng(0).normal(0, 0.1, 32_000), 32_000)

    def make(self, chance):
        name = chance.choice(("network.pt", "network.pt", "supernet.pt"))
        self.load = load_supernet if name == "supernet.pt" else load_model
        match chance.randrange(5):
            case 0:
                self.put(damage_bytes(chance, self.bytes[name]), f"{name}: bytes")
            case 1:
                self.put(damage_zip(chance, self.bytes[name]), f"{name}: archive")
            case 2:
                content = dict(self.content[name])
                state = dict(content["state"])
                key = chance.choice(sorted(state))
                value = state[key]
                how, change = chance.choice(sorted(_TENSORS.items()))
                state[key] = change(value)
                self._save({**content, "state": state}, f"{name}: {key} {how}")
            case _:
                content = dict(self.content[name])
                plain = {key: value for key, value in content.items() if key != "state"}
                self._save(damage_tree(chance, plain) | {"state": content["state"]}, f"{name}: values")

    def _save(self, content: dict, made: str) -> None:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self.put(buffer.getvalue(), made)

    def whole(self):
        for name, self.load in (("network.pt", load_model), ("supernet.pt", load_supernet)):
            self.put(self.bytes[name], name)
            yield

    def use(self):
        self.load(self.file)
        if self.load is load_model:
            command("classify", str(self.file), "a.wav")


_TENSORS = {
    "int8": lambda t: t.to(torch.int8),
    "double": lambda t: t.double(),
    "complex": lambda t: t.to(torch.complex64),
    "nan": lambda t: t * float("nan") if t.is_floating_point() else t,
    "longer": lambda t: torch.zeros(5),
    "expanded": lambda t: torch.zeros(()).expand(t.shape),
    "strided": lambda t: torch.zeros(t.numel() * 2)[::2].reshape(t.shape),
    "sparse": lambda t: torch.zeros(t.shape or (1,)).to_sparse(),
    "meta": lambda t: torch.zeros(t.shape, device="meta"),
    "huge on meta": lambda t: torch.zeros(10**12, device="meta"),
    "text": lambda t: "x",
    "none": lambda t: None,
    "list": lambda t: [1.0],
    "quantised": lambda t: torch.quantize_per_tensor(torch.zeros(t.shape or (1,)), 0.1, 0, torch.qint8),
    "gradient": lambda t: torch.nn.Parameter(t.float()),
}


class Checkpoints(Kind):
    """Checkpoints: damaged bytes and archive members. The previous checkpoint replaces a damaged one."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.checkpoint = Checkpoint("run", "key", Path("state"))
        state = {"iteration": 3, "network": Cnn10(4, 4, mels=16).state_dict(), "best": {"mAP": 0.5}}
        self.checkpoint.save(state)
        self.checkpoint.save(state)
        self.file, self.good = self.checkpoint.path, self.checkpoint.path.read_bytes()

    def make(self, chance):
        how = chance.choice((damage_bytes, damage_zip))
        self.put(how(chance, self.good), how.__name__)

    def whole(self):
        self.put(self.good, "nothing")
        yield

    def use(self):
        state = self.checkpoint.load()
        if state is None:
            raise Wrong("the checkpoint before is not taken")


class Params(Kind):
    """params.yaml and the profiles, read by `audionas check`."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.file = Path("params.yaml")
        files = [ROOT / "params.yaml", *sorted((ROOT / "profiles").glob("*.yaml"))]
        self.texts = {path.name: path.read_text() for path in files}
        self.texts["tiny"] = yaml.safe_dump(tiny.PARAMS)

    def make(self, chance):
        name = chance.choice(sorted(self.texts))
        text = self.texts[name]
        match chance.randrange(4):
            case 0:
                self.put(damage_bytes(chance, text.encode()), f"{name}: bytes")
            case 1:
                lines = text.splitlines()
                at = chance.randrange(len(lines))
                key = lines[at].partition(":")[0]
                value = chance.choice(TEXTS)
                lines[at] = f"{key}: {value}"
                self.put("\n".join(lines).encode("utf-8", "replace"), f"{name}: {key}: {value!r:.40}")
            case _:
                tree = damage_tree(chance, yaml.safe_load(text))
                dumped = yaml.safe_dump(_encodable(tree), allow_unicode=chance.random() < 0.5)
                self.put(dumped.encode("utf-8", "replace"), f"{name}: values")

    def whole(self):
        for name in ("params.yaml", "tiny"):
            self.put(self.texts[name].encode(), name)
            yield

    def use(self):
        command("check", str(self.file))


def _encodable(tree):
    """Remove lone surrogates, which YAML cannot contain."""
    if isinstance(tree, dict):
        return {_encodable(key): _encodable(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_encodable(value) for value in tree]
    return tree.encode("utf-8", "replace").decode() if isinstance(tree, str) else tree


class Lists(Originals):
    """Both kinds of recording lists, read by `audionas segments`."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        Path("audio").mkdir()
        rows = [(f"{i:02}.wav", "ab,cd"[i % 2 * 3 :][:2], f"tape{i}", i % 3) for i in range(12)]
        listed = "file,labels,source,fold\n" + "".join("{},{},{},{}\n".format(*row) for row in rows)
        segments = "# YTID, start_seconds, end_seconds, positive_labels\n"
        segments += "".join(
            f'video{i:06}, {i}.000, {i + 10}.000, "{("ab", "cd", "ab,cd")[i % 3]}"\n' for i in range(40)
        )
        self.keep({"clips.csv": listed.encode(), "segments.csv": segments.encode()})
        self.splits = ({"train": [0], "valid": [1], "test": [2]}, {"train": 0.5, "valid": 0.25, "test": 0.25})

    def make(self, chance):
        content = self.choose(chance)
        self._ask(self.splits[1] if self.file.name == "segments.csv" else chance.choice(self.splits))
        self.put(damage_table(chance, content.decode()), "rows")

    def whole(self):
        for _ in super().whole():
            self._ask(self.splits[1])
            yield

    def _ask(self, split: dict) -> None:
        """Write params.yaml for the list."""
        corpus = {"name": "folder", "lists": str(self.file), "audio": "audio", "labels_column": "labels"}
        corpus |= {"split": split, "least_coverage": 0.9}
        corpus = FolderCorpus(**corpus).model_dump(mode="json", exclude_none=False)
        values = tiny.PARAMS | {"corpus": corpus, "network": {**tiny.PARAMS["network"], "num_classes": 2}}
        Path("params.yaml").write_text(yaml.safe_dump(values))

    def use(self):
        try:
            command("segments")
        except UserError as error:
            if "network.num_classes" not in str(
                error
            ):  # the list has other classes, which params.yaml must contain
                raise


class Study(Originals):
    """Results of a completed study, from which tables are created."""

    patterns: tuple[str, ...]
    damages = (damage_bytes,)

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.config = made.make(
            folder, seeds=[0], spaces=["2-2-x"], chosen_space="2-2-x", draws=20, ranked=[0, 1]
        )
        files = sorted(path for pattern in self.patterns for path in Path().glob(pattern))
        self.keep({path.as_posix(): path.read_bytes() for path in files})
        tables.save = figures.figure3 = figures.figure4 = lambda *_: None  # plotting is the slowest part

    def make(self, chance):
        content = self.choose(chance)
        how = chance.choice(self.damages)
        self.put(how(chance, content), f"{self.file}: {how.__name__}")

    def use(self):
        tables.run(self.config)


class Predictions(Study):
    """Predictions of the test split: NumPy archives."""

    patterns = ("results/eval/**/*.npz",)
    damages = (damage_bytes, damage_zip, lambda chance, content: damage_arrays(chance, content))


class Results(Study):
    """Evaluation results: JSON."""

    patterns = ("results/eval/**/*.json", "results/scores/ranked/*.json")
    damages = (
        damage_bytes,
        lambda chance, content: json.dumps(damage_tree(chance, json.loads(content)), default=str).encode(),
    )


class Scores(Study):
    """Scores of all sub-networks: CSV."""

    patterns = ("results/scores/*.csv",)
    damages = (lambda chance, content: damage_table(chance, content.decode()),)


class Tables(Study):
    """Lists that the tables read: CSV."""

    patterns = ("data/segments/*.csv",)
    damages = (lambda chance, content: damage_table(chance, content.decode()),)


def damage_arrays(chance: random.Random, content: bytes) -> bytes:
    """Replace an array in an archive by one with another type, shape or values."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    name = chance.choice(sorted(arrays))
    array = arrays[name]
    match chance.randrange(7):
        case 0:
            arrays[name] = (
                array.astype(
                    chance.choice(("S4", "U4", "f2", "c8", "?", "i1", "O")), casting="unsafe", copy=True
                )
                if array.dtype.kind != "U"
                else array.astype("O")
            )
        case 1:
            arrays[name] = array[:0]
        case 2:
            arrays[name] = array.reshape(-1)
        case 3:
            arrays[name] = array[..., None]
        case 4 if array.dtype.kind == "f":
            arrays[name] = np.where(
                np.arange(array.size).reshape(array.shape) % 7,
                array,
                np.float32(chance.choice((np.nan, np.inf, -1, 2))),
            )
        case 5:
            del arrays[name]
        case _:
            arrays[name] = array[::-1]
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


class Shards(Kind):
    """Tar files of original clips."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.file = Path("0000.tar")
        chance = random.Random(0)
        write_shard(self.file, [(f"clip{i}", b"fLaC" + chance.randbytes(900)) for i in range(6)])
        self.good = self.file.read_bytes()

    def make(self, chance):
        damaged = bytearray(damage_bytes(chance, self.good) if chance.random() < 0.5 else self.good)
        made = "bytes"
        if chance.random() < 0.7 and len(damaged) >= 512:  # a header field, with a corrected checksum
            at = 512 * chance.randrange(len(damaged) // 512)
            field, size = chance.choice(
                ((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8))
            )
            value = chance.choice(
                (*TEXTS, "7" * 12, "0", "1", "2", "3", "5", "6", "L", "x", "g", "S", "K", "../../a.flac")
            )
            damaged[at + field : at + field + size] = value.encode("utf-8", "replace")[:size].ljust(
                size, b"\0"
            )
            damaged[at + 148 : at + 156] = b" " * 8
            damaged[at + 148 : at + 156] = b"%06o\0 " % (sum(damaged[at : at + 512]) & 0o777777)
            made = f"header at {at}, field {field}: {value!r:.30}"
        self.put(bytes(damaged), made)

    def whole(self):
        self.put(self.good, "nothing")
        yield

    def use(self):
        for clip_id, data in read_shard(self.file):
            if not clip_id.replace("-", "").replace("_", "").isalnum() or len(data) > 1 << 20:
                raise Wrong(f"a clip {clip_id!r} of {len(data)} bytes")


class Ledgers(Originals):
    """Lists and ledgers of stages, and download journals, read by `audionas coverage`."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        tiny.make(folder)
        for split in ("train", "valid", "test"):
            ids = [f"{split}{i}" for i in range(12)]
            path = data_paths.segments(split)
            rows = "".join(f"{i},{i},{i}.wav,,,{tiny.CLASSES[n % 4]}\n" for n, i in enumerate(ids))
            path.write_text("clip_id,source,origin,start,end,labels\n" + rows)
            (data_paths.raw(split)).mkdir(parents=True)
            got = {
                "status": "ok",
                "source": "local",
                "attempts": 1,
                "bytes": 9,
                "sha256": "0" * 64,
                "seconds": 1.0,
                "rate": 8000,
            }
            write_rows(data_paths.raw(split) / "ledger.csv", DOWNLOAD, [{"clip_id": i, **got} for i in ids])
            data_paths.audio_ledger(split).parent.mkdir(parents=True, exist_ok=True)
            got = {"status": "ok", "original_rate": 8000, "channels": 1, "seconds": 1.0}
            write_rows(data_paths.audio_ledger(split), RESAMPLE, [{"clip_id": i, **got} for i in ids])
        journal = data_paths.DOWNLOADS / "train" / "list" / "0000" / "journal.csv"
        journal.parent.mkdir(parents=True)
        journal.write_text(
            "clip_id,source,reason,seconds,rate,detail\ntrain0,local,,1.000,8000,\ntrain1,hub,network,,,gone\n"
        )
        files = [*Path("data").rglob("*.csv"), *Path(".state").rglob("*.csv")]
        self.keep({path.as_posix(): path.read_bytes() for path in sorted(files)})

    def make(self, chance):
        content = self.choose(chance)
        self.put(damage_table(chance, content.decode()), str(self.file))

    def use(self):
        command("coverage")


class Archives(Kind):
    """Zip and tar files of recordings: a local copy of AudioSet, and the published ESC-50."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        wave, file = np.random.default_rng(0).normal(0, 0.1, 800), io.BytesIO()
        soundfile.write(file, wave, 8_000, format="FLAC")
        names = [f"{fold}-{i}-A-{i % 2}" for i, fold in enumerate((1, 2, 3, 4, 5, 1))]
        rows = "".join(f"{name}.flac,{name[0]},{name[-1]},class{name[-1]},True,x,A\n" for name in names)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr(
                "ESC-50-master/meta/esc50.csv", "filename,fold,target,category,esc10,src_file,take\n" + rows
            )
            for name in names:
                zipped.writestr(f"ESC-50-master/audio/{name}.flac", file.getvalue())
        tarred = io.BytesIO()
        with tarfile.open(fileobj=tarred, mode="w") as tar:
            for name in names:
                member = tarfile.TarInfo(f"audio/{name}.flac")
                member.size = len(file.getvalue())
                tar.addfile(member, io.BytesIO(file.getvalue()))
        self.good = {
            "esc50.zip": archive.getvalue(),
            "local.zip": archive.getvalue(),
            "local.tar": tarred.getvalue(),
        }
        self.clips = [Clip(name, name, name, ("a",), None, None) for name in names]

    def make(self, chance):
        name = chance.choice(sorted(self.good))
        self.file = Path(name)
        how = damage_zip if name.endswith("zip") and chance.random() < 0.5 else damage_bytes
        self.put(how(chance, self.good[name]), f"{name}: {how.__name__}")

    def whole(self):
        for name, content in self.good.items():
            self.file = Path(name)
            self.put(content, name)
            yield

    def use(self):
        if self.file.name == "esc50.zip":
            split = {"train": [1, 2, 3], "valid": [4], "test": [5]}
            section = {"name": "esc50", "lists": str(self.file), "audio": str(self.file), "split": split}
            corpus = Esc50(Esc50Corpus(**section, least_coverage=0.0))
            for clips in corpus.streams().values():
                for clip in clips:
                    with contextlib.suppress(FetchError):
                        corpus.fetch(clip)
        else:
            with Local(self.file) as source:
                for clip in self.clips:
                    with contextlib.suppress(SourceError):
                        source.get(clip)


KINDS = {
    kind.__name__.lower(): kind
    for kind in (
        *(
            Audio,
            Stores,
            Models,
            Checkpoints,
            Params,
            Lists,
            Predictions,
            Results,
            Scores,
            Tables,
            Shards,
            Ledgers,
        ),
        Archives,
    )
}
