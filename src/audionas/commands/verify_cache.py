"""`audionas verify-cache`: verify the hashes of DVC's cache and outputs."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from audionas.runtime.errors import UserError
from audionas.runtime.extras import require


def run(options: argparse.Namespace) -> int:
    """Print files that differ from their hash and how to fix them, and return the exit code.

    Raises:
        UserError: the folder is not in a DVC project.
    """
    from audionas.runtime.dvc_cache import verify

    verdict = verify(Path(_dvc("cache", "dir")) / "files" / "md5", Path(_dvc("root")))
    for kept in verdict.objects:
        needed = f"part of {', '.join(sorted(kept.of))}" if kept.of else "not used by any dvc.lock here"
        print(f"damaged: {kept.path}: {needed}")
        if options.delete:
            try:
                kept.path.unlink()
            except OSError as error:
                print(f"not deleted: {kept.path}: {error.strerror}; ask the owner of the file")
    for kept in verdict.outputs:
        print(f"changed: {kept.path}: does not match dvc.lock in {', '.join(kept.of)}")
    for path, why in verdict.unread.items():
        print(f"not read: {path}: {why}")
    for output in verdict.unlisted:
        print(f"not checked: {output}: the list of its files is missing from the cache or damaged")
    print(f"{verdict.files} files of {verdict.size / 1e6:.1f} MB read", end="; ")
    print(f"{len(verdict.objects)} damaged in the cache, {len(verdict.outputs)} changed in place")
    if verdict.absent:
        print(
            f"{len(verdict.absent)} outputs are missing from the cache; `dvc pull` downloads pushed outputs"
        )
    if verdict.leftover:
        print(*verdict.leftover, sep="\n")
        print(f"{len(verdict.leftover)} files are left over from interrupted writes; they can be deleted")
    if verdict.objects:
        left = any(kept.path.exists() for kept in verdict.objects)
        step = "delete the damaged files (audionas verify-cache --delete), then run" if left else "run"
        print(f"To fix the cache: {step} `dvc pull`, or `dvc commit` if the output in the project is intact.")
        print("If the output was never pushed, delete it and run `dvc repro --no-run-cache`.")
    if verdict.outputs:
        print("To fix changed files: fix the cache first, then delete the file and run `dvc checkout PATH`.")
    return int(not verdict.sound)


def _dvc(*command: str) -> str:
    """Return the output of a DVC command."""
    require("dvc")
    asked = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True)
    if asked.returncode:
        raise UserError(f"{asked.stderr.strip()}; run it in the project's folder")
    return asked.stdout.strip()
