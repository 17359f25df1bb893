"""Stage `coverage`: how much of the listed audio is present, and why clips are missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from audionas.data import paths
from audionas.data.coverage import count
from audionas.data.duplicates import duplicates
from audionas.data.ledger import CLASSES, DOWNLOAD, RESAMPLE, SEGMENTS, iter_ledger, read_rows
from audionas.data.sources.journal import partial_ledger
from audionas.reporting.coverage_report import markdown, write
from audionas.runtime.files import new_folder
from audionas.settings.experiment import Experiment
from audionas.settings.values import SPLITS


def run(config: Experiment, to_results: bool = False) -> None:
    """Print the coverage report. It also works while a download runs.

    Args:
        config: the configuration.
        to_results: also write the report to results/coverage/, as the DAG does.

    Raises:
        UserError: the lists are missing.
    """
    classes = [(row["mid"], row["display_name"]) for row in read_rows(paths.CLASSES, CLASSES)]
    splits = []
    for split in SPLITS:
        resampled = paths.audio_ledger(split)
        decoded = iter_ledger(resampled, RESAMPLE[:3]) if resampled.exists() else []
        clips = iter_ledger(paths.segments(split), SEGMENTS)
        splits.append(count(split, clips, classes, _downloaded(split), decoded, config.audio.clip_seconds))
    warnings = paths.WARNINGS.read_text(encoding="utf-8").splitlines() if paths.WARNINGS.exists() else []
    warnings += duplicates(SPLITS, _published, lambda split: iter_ledger(paths.segments(split), SEGMENTS))
    warnings += [warning for split in splits for warning in split.warnings()]
    print(markdown(splits, config.corpus.name, warnings))
    if to_results:
        with new_folder(paths.COVERAGE) as folder:
            write(splits, config.corpus.name, folder, warnings)


def _published(split: str) -> Iterable[dict[str, str]]:
    """Return the ledger of the last complete download of a split."""
    ledger = paths.raw(split) / "ledger.csv"
    return iter_ledger(ledger, DOWNLOAD) if ledger.exists() else ()


def _downloaded(split: str) -> Iterator[dict[str, str]]:
    """Yield the rows of the last complete download of a split, and of unfinished ones."""
    ledger = paths.raw(split) / "ledger.csv"
    if ledger.exists():
        yield from iter_ledger(ledger, DOWNLOAD)
    for folder in sorted((paths.DOWNLOADS / split).glob("*")):
        yield from partial_ledger(folder)
