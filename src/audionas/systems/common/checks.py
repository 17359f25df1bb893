"""What the parameters of every system promise, checked before anything runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from audionas.runtime.errors import UserError
from audionas.runtime.state import STATE
from audionas.settings.experiment import Experiment

#: Folders in which stages, DVC, Snakemake and git write, and delete.
OWN = (*map(Path, ("data", "models", "results", "logs", ".dvc", ".snakemake", ".git")), STATE)


def require_own_folders(config: Experiment, path: str | Path) -> None:
    """Raise UserError where the corpus overlaps a folder that stages write; `path` is the file to name."""
    for key in ("lists", "audio"):
        if own := _overlapping(given := getattr(config.corpus, key)):
            raise UserError(
                f"{path}: corpus.{key}: {given} overlaps {own}/, where files are written and deleted; "
                "move it to a folder of its own, such as recordings/, and name that"
            )


def notes(config: Experiment) -> Iterator[str]:
    """What may be missing on this machine and yet be no mistake, since the stages may run elsewhere."""
    for key in ("lists", "audio"):
        given = Path(getattr(config.corpus, key))
        if not given.exists():
            yield f"corpus.{key}: {given}: no such file or folder here; the stages that read it need it"
        elif not given.is_absolute() and not _in_git(given):
            yield (
                f"corpus.{key}: {given} is not in git: `dvc exp run` with --temp or --queue runs a copy of "
                f"the project, and needs the absolute path, {given.resolve()}"
            )
    cookies = config.corpus.youtube.cookies if config.corpus.name == "audioset" else None
    if cookies and not Path(cookies).is_file():
        yield f"corpus.youtube.cookies: {cookies}: no such file here"
    if config.training.device == "cuda" and not any(map(Path.exists, map(Path, _DRIVERS))):
        yield "training.device: cuda: no driver of a GPU is found on this machine"


_DRIVERS = "/dev/nvidiactl", "/dev/dxg"  # of Linux, and of Linux on Windows


def _in_git(path: Path) -> bool:
    """Whether git has this path, or files in it, as far as git is there to be asked."""
    if not path.resolve().is_relative_to(Path.cwd()):
        return False
    try:
        command = ["git", "ls-files", "--error-unmatch", "--", path]
        return subprocess.run(command, capture_output=True).returncode != 1
    except OSError:
        return True


def _overlapping(given: str) -> Path | None:
    """The folder that a path lies in, or that lies in it, by name or through links."""
    for own in OWN:
        for one, other in (
            (Path(given).absolute(), own.absolute()),
            (Path(given).resolve(), own.resolve()),
        ):
            if one.is_relative_to(other) or other.is_relative_to(one):
                return own
    return None
