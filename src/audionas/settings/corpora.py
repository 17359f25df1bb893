"""Section `corpus` of `params.yaml`: clips and the sources of their audio."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from audionas.settings.values import (
    Address,
    Folds,
    LocalPath,
    Positive,
    Seconds,
    Section,
    Seed,
    Text,
    unique,
    video_address,
)

CorpusName = Literal["soundfont", "folder", "esc50", "esc10", "audioset"]


class SplitCounts(Section):
    """Number of clips of each split."""

    train: Positive
    valid: Positive
    test: Positive


class SplitFolds(Section):
    """Folds of each split; a fold belongs to one split only."""

    train: Folds
    valid: Folds
    test: Folds

    @model_validator(mode="after")
    def _disjoint(self):
        unique([*self.train, *self.valid, *self.test])
        return self


class SplitShare(Section):
    """Folds for training and test; a share of the training folds' sources is for validation."""

    train: Folds
    valid: Annotated[float, Field(gt=0, lt=1)]
    test: Folds

    @model_validator(mode="after")
    def _disjoint(self):
        unique([*self.train, *self.test])
        return self


class SplitFractions(Section):
    """Shares of the source recordings of each split; they must add up to 1."""

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
    """Return the form of a split, so that errors refer to that form only."""
    values = split if isinstance(split, dict) else dict(split) if isinstance(split, Section) else {}
    if isinstance(values.get("valid"), list):
        return SPLIT_FORMS[0]
    return SPLIT_FORMS[1] if isinstance(values.get("train"), list) else SPLIT_FORMS[2]


class _Corpus(Section):
    # Minimum share of each split's clips that must be available and decoded; below it, the DAG stops.
    least_coverage: Annotated[float, Field(ge=0, le=1, examples=[1.0])] = 0.0


class SoundfontCorpus(_Corpus):
    """Clips rendered from a General MIDI soundfont: the embedded default."""

    name: Literal["soundfont"]
    lists: LocalPath  # CSV of instruments: programs, range, AudioSet labels
    audio: LocalPath  # the same file
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

    The CSV has the columns `file` and `labels_column`, or AudioSet's `YTID, start_seconds, end_seconds,
    positive_labels`. Optional columns: `source` (the recording a clip was cut from), `fold`, and the span to
    cut out of the file in seconds (`start,end`; `onset,offset`). Fractions are stratified by class.
    """

    name: Literal["folder"]
    lists: LocalPath  # the CSV
    audio: LocalPath  # the folder that holds the files
    labels_column: Text = "positive_labels"
    title: Text | None = None  # name of the corpus in tables
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
    """Requests to the sources of AudioSet's audio: parallelism, retries and pauses."""

    workers: Annotated[int, Field(gt=0, le=256)] = 4  # requests at a time
    attempts: Annotated[int, Field(gt=0, le=1_000)] = 3  # for a clip at a source when the network fails
    pause_seconds: Seconds = 30.0  # after a rate limit; doubles each time
    longest_pause_seconds: Seconds = 1800.0
    pauses: Positive = 6  # consecutive rate limits, without a clip between, before the run stops
    failures: Positive = 50  # consecutive network failures before the run stops
    round: Positive = 1  # raise it to retry clips with temporary failures


class HubSource(Section):
    """A mirror of AudioSet on the Hugging Face hub, in parquet or tar files."""

    repository: Text = "agkphysics/AudioSet"
    revision: Text = "main"  # a branch, a tag, or a commit; only a commit is fixed
    # patterns of the files to index
    files: Annotated[list[Text], Field(min_length=1, max_length=1_000)] = ["*"]
    endpoint: Address | None = None  # by default HF_ENDPOINT, else the public hub
    timeout: Annotated[Seconds, Field(gt=0)] = 30.0  # seconds


class YoutubeSource(Section):
    """YouTube, by yt-dlp."""

    address: Annotated[Text, AfterValidator(video_address)] = "https://www.youtube.com/watch?v={ytid}"
    cookies: LocalPath | None = None  # a cookies file in Netscape's format
    proxy: Text | None = None
    pause_seconds: Seconds = 1.0  # between requests
    socket_seconds: Annotated[Seconds, Field(gt=0)] = 20.0  # without a response
    total_seconds: Annotated[Seconds, Field(gt=0)] = 300.0  # for one clip
    least_share: Annotated[float, Field(gt=0, le=1)] = 0.9  # of the span; a shorter clip is too short
    client: dict[Text, dict[Text, list[Text]]] = {}  # yt-dlp's extractor arguments, by extractor


class AudiosetCorpus(_Corpus):
    """AudioSet's official lists (Gemmeke et al., 2017), and the sources of its audio."""

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
    stratified: bool = False  # every class first gets its share of the validation clips
    # ids or display names; None for all
    only_classes: Annotated[list[Text], Field(max_length=10_000)] | None = None
    clips: dict[Literal["train", "valid", "test"], Positive | None] | None = (
        None  # maximum number of each split
    )
    seed: Seed = 0
    sources: Annotated[
        list[Literal["local", "hub", "youtube"]], Field(min_length=1), AfterValidator(unique)
    ] = ["local", "hub", "youtube"]
    hub: HubSource = HubSource()
    youtube: YoutubeSource = YoutubeSource()
    download: Download = Download()
