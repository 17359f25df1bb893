"""`params.yaml` as typed, validated objects.

Every key of `params.yaml` stands here once, with its unit and the paper's value.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Annotated, Any, Literal, NamedTuple, get_args

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

SPLITS = ("train", "valid", "test")
CorpusName = Literal["soundfont", "folder", "esc50", "esc10", "audioset"]
Space = Literal["x-x-x", "2-x-x", "2-2-x", "ew"]
SPACES: tuple[str, ...] = get_args(Space)

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)([kMG]?)")
_SHAPE = re.compile(r"(0?\.[0-9]{1,15}|1(?:\.0{1,15})?)x([12])")
_ADDRESS = re.compile(r"https?://[^\s{}]+")
_MOST_MODELS = 20_000  # of a study
_LARGEST_CLIP = 100_000_000  # samples, or values of its spectrogram
_LARGEST_TRANSFORM = 1_000_000_000  # values: frames or mels, times samples of the window


def parse_size(text: str | int) -> int:
    """A number of parameters from `900000`, `900k` or `0.9M`.

    Raises ValueError when the text is none of these.
    """
    match = _SIZE.fullmatch(str(text))
    if not match:
        raise ValueError(f"{text!r} is not a number of parameters; write 900000, 900k or 0.9M")
    return round(float(match[1]) * {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}[match[2]])


class Constraint(NamedTuple):
    """A budget: so many parameters, or at most so many multiply-adds a clip, or both."""

    params: int | None = None
    macs: int | None = None


def parse_constraint(text: str | int) -> Constraint:
    """A budget from `900k` (parameters), `1.2Gmacs` (multiply-adds), or both: `900k_1.2Gmacs`.

    Raises ValueError when the text is none of these.
    """
    sizes: dict[str, int] = {}
    for part in str(text).split("_"):
        kind = "macs" if part.endswith("macs") else "params"
        try:
            size = parse_size(part.removesuffix("macs"))
        except ValueError:
            size = 0
        if not size or kind in sizes:
            raise ValueError(
                f"{text!r} is not a budget; write a number of parameters such as 900k or 0.9M, of "
                "multiply-adds such as 1.2Gmacs, or both: 0.9M_1.2Gmacs"
            )
        sizes[kind] = size
    return Constraint(**sizes)


def parse_shape(text: str) -> tuple[float, int]:
    """Width ratio and depth of a uniform network from `0.6x1` (section 3.2 of the paper)."""
    match = _SHAPE.fullmatch(str(text))
    if not match:
        raise ValueError(f"{text!r} is not a uniform network; write RATIOxDEPTH, such as 0.6x1 or 1.0x2")
    return float(match[1]), int(match[2])


_STEP = math.log(6.4) / 27  # of Slaney's mel scale above 1 kHz, which is linear below


def _mel(hertz: float) -> float:
    return hertz * 3 / 200 if hertz < 1_000 else 15 + math.log(hertz / 1_000) / _STEP


def _checked(parse):
    def check(value):
        parse(value)
        return value

    return check


def _text(value: Any) -> Any:
    """A number as text; what is neither is left to the next validator."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _plain(text: str) -> str:
    if not text or not {"Cc", "Cs", "Zl", "Zp"}.isdisjoint(map(unicodedata.category, text)):
        raise ValueError("empty, or with control characters; write plain text on one line")
    return text


def _local(path: str) -> str:
    if "://" in path:
        raise ValueError("an address; write a path on this machine, and copy the files there")
    return path


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError("not an address; write it as https://host/path")
    return text


def _video_address(text: str) -> str:
    if text.count("{ytid}") != 1 or not _ADDRESS.fullmatch(text.replace("{ytid}", "")):
        raise ValueError("not an http(s) address with {ytid} in it once; write it as the profiles do")
    return text


def _unique(values: list, meaning=lambda value: value) -> list:
    if len({meaning(value) for value in values}) != len(values):
        raise ValueError("an entry stands twice; each names a stage of its own, so keep one")
    return values


# Whatever gives a size has a limit, so that a slip of the keyboard fails here and not on a full disk.
Text = Annotated[str, Field(max_length=4_096), AfterValidator(_plain)]
LocalPath = Annotated[Text, AfterValidator(_local)]
Address = Annotated[Text, AfterValidator(_address)]
Size = Annotated[str, BeforeValidator(_text), Field(max_length=40), AfterValidator(_checked(parse_size))]
Budget = Annotated[
    str, BeforeValidator(_text), Field(max_length=40), AfterValidator(_checked(parse_constraint))
]
Shape = Annotated[str, Field(max_length=40), AfterValidator(_checked(parse_shape))]
Positive = Annotated[int, Field(gt=0, le=1_000_000_000)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Seconds = Annotated[float, Field(ge=0, le=10_000_000)]
Rate = Annotated[float, Field(gt=0, le=100)]  # of learning
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and PyTorch both take
Fold = Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)]
Folds = Annotated[list[Fold], Field(min_length=1, max_length=1_000), AfterValidator(_unique)]


class Section(BaseModel):
    """A part of `params.yaml`; unknown keys are errors, values are never coerced silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SplitCounts(Section):
    """How many clips each split holds."""

    train: Positive
    valid: Positive
    test: Positive


class SplitFolds(Section):
    """Which folds of a corpus make each split; a fold serves one split only."""

    train: Folds
    valid: Folds
    test: Folds

    @model_validator(mode="after")
    def _disjoint(self):
        _unique([*self.train, *self.valid, *self.test])
        return self


class SplitShare(Section):
    """Which folds of a corpus are for training and test; a share of the former's sources validates."""

    train: Folds
    valid: Annotated[float, Field(gt=0, lt=1)]
    test: Folds

    @model_validator(mode="after")
    def _disjoint(self):
        _unique([*self.train, *self.test])
        return self


class SplitFractions(Section):
    """Shares of the source recordings for each split; they must add up to 1."""

    train: Annotated[float, Field(gt=0, lt=1)]
    valid: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _whole(self):
        total = self.train + self.valid + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the fractions add up to {total:g}; make them add up to 1")
        return self


SPLIT_FORMS = "folds", "folds and a share", "fractions"


def _split_form(split: Any) -> str:
    """By which form a split is judged, so that errors are of that one alone."""
    values = split if isinstance(split, dict) else dict(split) if isinstance(split, Section) else {}
    if isinstance(values.get("valid"), list):
        return SPLIT_FORMS[0]
    return SPLIT_FORMS[1] if isinstance(values.get("train"), list) else SPLIT_FORMS[2]


class _Corpus(Section):
    # Share of each split's clips that must be got and decoded; with less the DAG stops.
    least_coverage: Annotated[float, Field(ge=0, le=1, examples=[1.0])] = 0.0


class SoundfontCorpus(_Corpus):
    """Clips rendered from a General MIDI soundfont: the embedded default."""

    name: Literal["soundfont"]
    lists: LocalPath  # CSV of instruments: programs, range, AudioSet labels
    audio: LocalPath  # what the audio is made from: the same file
    clips: SplitCounts
    instruments_per_clip: Annotated[
        list[Annotated[int, Field(gt=0, le=128)]], Field(min_length=2, max_length=2)
    ] = [1, 3]
    seed: Seed = 0

    @model_validator(mode="after")
    def _ordered(self):
        low, high = self.instruments_per_clip
        if low > high:
            raise ValueError(f"instruments_per_clip is [{low}, {high}]; write the smaller first")
        return self


class FolderCorpus(_Corpus):
    """A folder of audio files and a CSV that lists them.

    The CSV has a `file` column (or AudioSet's `YTID, start_seconds, end_seconds, positive_labels`),
    the column `labels_column`, and optionally `source` (the recording a clip was cut from), `fold`, and the
    span to cut out of the file in seconds (`start,end`; `onset,offset`). Fractions hold for every class.
    """

    name: Literal["folder"]
    lists: LocalPath  # the CSV
    audio: LocalPath  # the folder that holds the files
    labels_column: Text = "positive_labels"
    title: Text | None = None  # what tables call the corpus
    split: Annotated[
        Annotated[SplitFolds, Tag(SPLIT_FORMS[0])]
        | Annotated[SplitShare, Tag(SPLIT_FORMS[1])]
        | Annotated[SplitFractions, Tag(SPLIT_FORMS[2])],
        Discriminator(_split_form),
    ]
    seed: Seed = 0


class Esc50Corpus(_Corpus):
    """ESC-50 or ESC-10 (Piczak, 2015): the archive, unpacked or zipped, or a copy with `clips.csv`."""

    name: Literal["esc50", "esc10"]
    lists: LocalPath  # the archive or the folder
    audio: LocalPath  # the same
    split: SplitFolds


class Download(Section):
    """How to ask the sources of AudioSet's audio, and how long to bear with them."""

    workers: Annotated[int, Field(gt=0, le=256)] = 4  # requests at a time
    attempts: Annotated[int, Field(gt=0, le=1_000)] = 3  # of one clip at one source when the network fails
    pause_seconds: Seconds = 30.0  # of all, after a rate limit; it doubles
    longest_pause_seconds: Seconds = 1800.0
    pauses: Positive = 6  # rate limits in a row, no clip between, that are borne before the run stops
    failures: Positive = 50  # network failures in a row that are borne before the run stops
    round: Positive = 1  # raise it, and clips that failed for a passing reason are asked for again


class HubSource(Section):
    """A mirror of AudioSet on the Hugging Face hub, in parquet or tar files."""

    repository: Text = "agkphysics/AudioSet"
    revision: Text = "main"  # a branch, a tag, or a commit, which alone is always the same
    # patterns of the files to look into
    files: Annotated[list[Text], Field(min_length=1, max_length=1_000)] = ["*"]
    endpoint: Address | None = None  # another hub's address; else HF_ENDPOINT, else the public one
    timeout: Annotated[Seconds, Field(gt=0)] = 30.0  # seconds


class YoutubeSource(Section):
    """YouTube, by yt-dlp."""

    address: Annotated[Text, AfterValidator(_video_address)] = "https://www.youtube.com/watch?v={ytid}"
    cookies: LocalPath | None = None  # a cookies file in Netscape's format
    proxy: Text | None = None
    pause_seconds: Seconds = 1.0  # between two requests
    socket_seconds: Annotated[Seconds, Field(gt=0)] = 20.0  # without an answer
    total_seconds: Annotated[Seconds, Field(gt=0)] = 300.0  # for one clip
    least_share: Annotated[float, Field(gt=0, le=1)] = 0.9  # of the span, below which a clip is too short
    client: dict[Text, dict[Text, list[Text]]] = {}  # yt-dlp's extractor arguments, by extractor


class AudiosetCorpus(_Corpus):
    """AudioSet's official lists (Gemmeke et al., 2017), and where its audio is asked for."""

    name: Literal["audioset"]
    lists: LocalPath  # folder with the segment CSVs, and the class list
    audio: LocalPath  # folder with a copy of the audio, for the source `local`; may be empty
    # of the official lists
    address: Address = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv"
    ontology: Address = "https://raw.githubusercontent.com/audioset/ontology/master/ontology.json"
    train_list: Text = "balanced_train_segments.csv"
    valid_list: Text | None = None  # None draws from the unbalanced list
    test_list: Text = "eval_segments.csv"
    valid_clips: Positive = 28_339  # section 3.1 of the paper
    stratified: bool = False  # whether every class first gets its share of the validation clips
    # ids or display names; None for all
    only_classes: Annotated[list[Text], Field(max_length=10_000)] | None = None
    clips: dict[Literal["train", "valid", "test"], Positive | None] | None = None  # cut down to so many
    seed: Seed = 0
    sources: Annotated[
        list[Literal["local", "hub", "youtube"]], Field(min_length=1), AfterValidator(_unique)
    ] = ["local", "hub", "youtube"]
    hub: HubSource = HubSource()
    youtube: YoutubeSource = YoutubeSource()
    download: Download = Download()


class Audio(Section):
    """Waveforms: mono, one rate, one length."""

    sample_rate: Annotated[int, Field(gt=0, le=768_000)] = 32_000  # Hz
    clip_seconds: Annotated[Seconds, Field(gt=0)] = 10.0
    min_seconds: Seconds = 0.1  # shorter recordings are left out

    @property
    def clip_samples(self) -> int:
        """Samples of one clip."""
        return round(self.sample_rate * self.clip_seconds)


class Features(Section):
    """The log-mel front end; defaults are PANNs' (Kong et al., 2020)."""

    n_fft: Annotated[int, Field(gt=0, le=1 << 20)] = 1024  # samples; the window is as long
    hop: Positive = 320  # samples
    mels: Annotated[int, Field(gt=0, le=4_096)] = 64
    fmin: Annotated[float, Field(ge=0)] = 50.0  # Hz
    fmax: Annotated[float, Field(gt=0)] = 14_000.0  # Hz

    def empty_filters(self, sample_rate: int) -> int:
        """How many mel filters hold no frequency bin, as `LogMel` would find; it takes seconds to import."""
        bins = np.linspace(0, sample_rate // 2, self.n_fft // 2 + 1, dtype=np.float32)
        ends = np.linspace(_mel(self.fmin), _mel(self.fmax), self.mels + 2, dtype=np.float32)
        rising = 1_000 * np.exp((ends - 15) * np.float32(_STEP))
        ends = np.where(ends < 15, ends * np.float32(200 / 3), rising)
        first = np.searchsorted(bins, ends[:-2], side="right")
        after = np.searchsorted(bins, ends[2:], side="left")
        return int((after <= first).sum())


def check_front_end(audio: Audio, features: Features) -> None:
    """Raise ValueError where clips and log-mel transform do not fit each other, or memory."""
    nyquist = audio.sample_rate / 2
    if features.fmax > nyquist or features.fmin >= features.fmax:
        raise ValueError(
            f"features.fmin {features.fmin:g} and features.fmax {features.fmax:g} must rise and end at or "
            f"below {nyquist:g} Hz, half of audio.sample_rate"
        )
    samples, frames = audio.clip_samples, audio.clip_samples // features.hop + 1
    if max(samples, frames * features.mels) > _LARGEST_CLIP:
        raise ValueError(
            f"a clip of {samples:,} samples and {frames:,} frames x {features.mels:,} mels is too large; "
            "lower audio.clip_seconds, or raise features.hop"
        )
    if features.n_fft // 2 >= samples:
        raise ValueError(
            f"features.n_fft {features.n_fft} does not fit into a clip of {samples} samples; lower it, or "
            "raise audio.clip_seconds"
        )
    if max(frames, features.mels) * features.n_fft > _LARGEST_TRANSFORM:
        raise ValueError(
            f"a transform of {features.n_fft:,} samples for each of {frames:,} frames and "
            f"{features.mels:,} mels is too large; lower features.n_fft, or raise features.hop"
        )
    if empty := features.empty_filters(audio.sample_rate):
        raise ValueError(
            f"features.mels: {empty} of {features.mels} mel filters hold no frequency bin of a transform of "
            f"{features.n_fft} samples; lower features.mels or raise features.n_fft"
        )


class Network(Section):
    """CNN10's size; the paper's is 527 classes and 64 channels in the first block."""

    num_classes: Annotated[int, Field(gt=0, le=100_000)]
    base_channels: Annotated[int, Field(gt=0, le=1_024)] = 64
    block_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    width_rounding: Literal["floor", "nearest"] = "floor"


class Augment(Section):
    """SpecAugment: masks for each clip, filled with 0 after bn0; 2 and 2 stated, widths by convention."""

    time_masks: Annotated[int, Field(ge=0, le=1_000)] = 2
    time_mask_frames: Count = 64
    mel_masks: Annotated[int, Field(ge=0, le=1_000)] = 2
    mel_mask_bins: Count = 8


class Training(Section):
    """What every training run shares (section 3.3)."""

    batch_size: Annotated[int, Field(gt=0, le=65_536)] = 64
    learning_rate: Rate = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_iterations: Count = 0  # of a linear rise, before the schedule
    averaging: Literal["none", "ema", "swa"] = "none"  # of the weights that are measured and written
    averaging_decay: Annotated[float, Field(gt=0, lt=1)] = 0.999  # of ema, an iteration
    threads: Annotated[int, Field(gt=0, le=1_024)] = 2  # changes the bits of float sums, so it is a parameter
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"  # of the network's passes; weights stay float32
    compile: bool = False  # networks trained alone, and the teacher; costs a minute or more at every start
    sampler: Literal["uniform", "balanced"] = "uniform"  # balanced: one clip of every class in turn (PANNs)
    gpus: Annotated[int, Field(ge=0, le=1_024)] = 0  # that a scheduler reserves for a training
    valid_every: Positive = 1_000  # iterations between validations for the curve
    checkpoint_seconds: Seconds = 60.0


class Teacher(Section):
    """CNN10, BCE, mixup and SpecAugment (section 3.2)."""

    iterations: Positive = 400_000
    mixup_alpha: Annotated[float, Field(ge=0, le=1_000)] = 1.0


class Distillation(Section):
    """The loss of equation 2; hard labels are not in the paper, so their weight is 0."""

    teacher_input: Literal["augmented", "clean", "stored"] = "augmented"  # stored: clean, computed once
    hard_label_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    in_place: bool = False  # in supernets the largest learns from the teacher, the others from the largest


class SupernetTraining(Section):
    """Once-for-all training: the largest network first, then sampled ones (sections 2.3 and 3.3)."""

    largest_iterations: Count = 100_000
    sampled_iterations: Positive = 200_000
    networks_per_step: Annotated[int, Field(gt=0, le=1_000)] = 4
    sampling: Literal["uniform", "sandwich"] = "uniform"  # sandwich: both ends in each step
    sort_channels: bool = False  # by importance, when the sampled phase begins

    @model_validator(mode="after")
    def _between(self):
        if self.sampling == "sandwich" and self.networks_per_step < 3:
            raise ValueError(
                f"supernet.networks_per_step {self.networks_per_step} leaves none between the largest and "
                "the smallest, which supernet.sampling sandwich always takes; raise it to 3 or more"
            )
        return self


class Calibration(Section):
    """Batches over which BatchNorm statistics are estimated anew before every score."""

    batches: Annotated[int, Field(gt=0, le=1_000_000)] = 64


class Evolution(Section):
    """Evolutionary search; the defaults are Once-for-all's (Cai et al., 2020)."""

    population: Annotated[int, Field(gt=0, le=100_000)] = 100
    generations: Annotated[int, Field(gt=0, le=100_000)] = 500
    parent_share: Annotated[float, Field(gt=0, le=1)] = 0.25  # of a generation, the best, that have children
    mutated_share: Annotated[float, Field(ge=0, le=1)] = 0.5  # of the children; the others have two parents
    mutation_probability: Annotated[float, Field(gt=0, le=1)] = 0.1  # of each width and depth


class Search(Section):
    """How the best sub-network for a constraint is looked for (sections 2.4 and 3.3)."""

    strategy: Literal["exhaustive", "random", "evolution"] = "exhaustive"  # the paper's is random
    population: Annotated[int, Field(gt=0, le=100_000)] = 25  # of random search
    tolerance: Size = "0.1M"  # parameters, to both sides of a constraint on them
    evolution: Evolution = Evolution()


class Individual(Section):
    """Uniform networks trained one by one: baseline, KD, init+N (sections 3.2 and 4.3)."""

    iterations: Positive = 100_000


class Finetune(Section):
    """Continual fine-tuning by distillation (section 4.3)."""

    learning_rate: Rate = 1e-3


class Study(Section):
    """The lists whose every entry is a stage: add one, and only what is new runs."""

    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1_000), AfterValidator(_unique)] = [0]
    spaces: Annotated[list[Space], Field(min_length=1, max_length=1_000), AfterValidator(_unique)]
    chosen_space: Space = "2-2-x"
    constraints: Annotated[
        list[Budget],
        Field(min_length=1, max_length=1_000),
        AfterValidator(lambda values: _unique(values, parse_constraint)),
    ]
    sizes: Annotated[
        list[Shape],
        Field(min_length=1, max_length=1_000),
        AfterValidator(lambda values: _unique(values, parse_shape)),
    ]
    finetune_iterations: Annotated[
        list[Positive], Field(min_length=1, max_length=1_000), AfterValidator(_unique)
    ]
    # resamples of the test clips, and random searches, behind each interval
    draws: Annotated[int, Field(gt=0, le=100_000)] = 1_000
    # 10^9 operations a second, to state hours: `make bench`
    gflops: Annotated[float, Field(gt=0, le=1e12)] = 50.0
    # Which sub-networks of the chosen space, by their place in a drawn order, are also trained on their own,
    # to see how well the supernet's scores rank them.
    ranked: Annotated[list[Count], Field(max_length=1_000), AfterValidator(_unique)] = []

    @model_validator(mode="after")
    def _chosen(self):
        if self.chosen_space not in self.spaces:
            raise ValueError(
                f"chosen_space {self.chosen_space!r} is not in spaces {self.spaces}; "
                "add it there or choose one of them"
            )
        return self

    @model_validator(mode="after")
    def _bounded(self):
        found = len(self.spaces) * len(self.constraints)
        rest = len(self.constraints) * (len(self.finetune_iterations) + 1) + 2 * len(self.sizes)
        models = len(self.seeds) * (1 + len(self.spaces) + found + rest + len(self.ranked))
        if models > _MOST_MODELS:
            raise ValueError(
                f"the lists ask for {models:,} models, and {_MOST_MODELS:,} is the limit; shorten them, or "
                "run several studies"
            )
        return self


class Config(Section):
    """The whole of `params.yaml`."""

    corpus: Annotated[
        SoundfontCorpus | FolderCorpus | Esc50Corpus | AudiosetCorpus, Field(discriminator="name")
    ]
    audio: Audio
    features: Features
    network: Network
    augment: Augment
    training: Training
    teacher: Teacher
    distillation: Distillation
    supernet: SupernetTraining
    calibration: Calibration
    search: Search
    individual: Individual
    finetune: Finetune
    study: Study

    @property
    def frames(self) -> int:
        """Frames of one clip: 1 + samples // hop, since the transform is centred."""
        return 1 + self.audio.clip_samples // self.features.hop

    @model_validator(mode="after")
    def _consistent(self):
        check_front_end(self.audio, self.features)
        if self.augment.time_mask_frames >= self.frames:
            raise ValueError(
                f"augment.time_mask_frames {self.augment.time_mask_frames} is not shorter than a clip of "
                f"{self.frames} frames; lower it, or raise audio.clip_seconds"
            )
        if self.augment.mel_mask_bins >= self.features.mels:
            raise ValueError(
                f"augment.mel_mask_bins {self.augment.mel_mask_bins} is not narrower than features.mels "
                f"{self.features.mels}; lower it"
            )
        if self.audio.min_seconds > self.audio.clip_seconds:
            raise ValueError("audio.min_seconds is longer than audio.clip_seconds; lower it")
        if min(self.frames, self.features.mels) < 16:
            raise ValueError(
                f"a clip of {self.frames} frames x {self.features.mels} mels does not survive CNN10's four "
                "2x2 poolings; give at least 16 of each (features.hop, features.mels, audio.clip_seconds)"
            )
        return self

    @model_validator(mode="after")
    def _trainable(self):
        if self.distillation.in_place and self.supernet.sampling != "sandwich":
            raise ValueError(
                "distillation.in_place needs the largest network in every step, which supernet.sampling "
                f"{self.supernet.sampling} does not promise; set that to sandwich, or in_place to false"
            )
        shortest = min(
            (self.teacher.iterations, "teacher.iterations"),
            (self.supernet.largest_iterations + self.supernet.sampled_iterations, "the sum of supernet's"),
            (self.individual.iterations, "individual.iterations"),
            (min(self.study.finetune_iterations), "the least of study.finetune_iterations"),
        )
        # Cut short without a word, the warm-up would be another recipe from the one that was asked for.
        if self.training.warmup_iterations >= shortest[0]:
            raise ValueError(
                f"training.warmup_iterations {self.training.warmup_iterations} is not shorter than every "
                f"run: {shortest[1]} is {shortest[0]}; lower the one or raise the other"
            )
        return self

    def feature_settings(self) -> dict[str, Any]:
        """What a packed log-mel file must have been made with, to be read under this configuration."""
        return {"audio": self.audio.model_dump(), "features": self.features.model_dump()}
