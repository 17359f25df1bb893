"""Checks of the parameters of every system before any stage runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from audionas.runtime.errors import UserError
from audionas.runtime.state import STATE
from audionas.settings.experiment import Experiment

#: Folders in which stages, DVC, Snakemake and git write and delete files.
OWN = (*map(Path, ("data", "models", "results", "logs", ".dvc", ".snakemake", ".git")), STATE)


def require_own_folders(config: Experiment, path: str | Path) -> None:
    """Reject a corpus in a folder that stages write to.

    Args:
        config: the configuration.
        path: the file that the error message names.

    Raises:
        UserError: the corpus overlaps such a folder.
    """
    for key in ("lists", "audio"):
        if own := _overlapping(given := getattr(config.corpus, key)):
            raise UserError(
                f"{path}: corpus.{key}: {given} overlaps {own}/, where stages write and delete files; "
                "move the corpus to its own folder, such as recordings/, and set the key to that folder"
            )


def notes(config: Experiment) -> Iterator[str]:
    """Yield notes on missing files and devices, which are no errors because stages may run elsewhere."""
    for key in ("lists", "audio"):
        given = Path(getattr(config.corpus, key))
        try:
            exists = given.exists()
        except OSError as error:  # such as a name that is too long
            yield f"corpus.{key}: {str(given)[:100]}: {error.strerror}; fix the path"
            continue
        if not exists:
            yield f"corpus.{key}: {given}: no such file or folder on this machine; some stages read it"
        elif not given.is_absolute() and not _in_git(given):
            yield (
                f"corpus.{key}: {given} is not in git: `dvc exp run` with --temp or --queue runs in a copy "
                f"of the project and needs the absolute path, {given.resolve()}"
            )
    cookies = config.corpus.youtube.cookies if config.corpus.name == "audioset" else None
    if cookies and not Path(cookies).is_file():
        yield f"corpus.youtube.cookies: {cookies}: no such file on this machine"
    if config.training.device == "cuda" and not any(map(Path.exists, map(Path, _DRIVERS))):
        yield "training.device: cuda: no GPU driver found on this machine"


_DRIVERS = "/dev/nvidiactl", "/dev/dxg"  # Linux, and Windows Subsystem for Linux


def _in_git(path: Path) -> bool:
    """Return whether git tracks this path or files in it; True if git is not available."""
    if not path.resolve().is_relative_to(Path.cwd()):
        return False
    try:
        command = ["git", "ls-files", "--error-unmatch", "--", path]
        return subprocess.run(command, capture_output=True).returncode != 1
    except OSError:
        return True


def _overlapping(given: str) -> Path | None:
    """Return the folder that contains a path or is inside it, by name or through links, or None."""
    for own in OWN:
        for one, other in (
            (Path(given).absolute(), own.absolute()),
            (Path(given).resolve(), own.resolve()),
        ):
            if one.is_relative_to(other) or other.is_relative_to(one):
                return own
    return None
