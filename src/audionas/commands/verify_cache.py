"""`audionas verify-cache`: hash again what DVC keeps, and name what is damaged."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from audionas.runtime.errors import UserError
from audionas.runtime.extras import require


def run(options: argparse.Namespace) -> int:
    """Print what differs from its hash, and how to fix it; returns the exit code.

    Raises UserError: DVC finds no project here.
    """
    from audionas.runtime.dvc_cache import verify

    verdict = verify(Path(_dvc("cache", "dir")) / "files" / "md5", Path(_dvc("root")))
    for kept in verdict.objects:
        needed = f"holds {', '.join(sorted(kept.of))}" if kept.of else "no stage of a dvc.lock here needs it"
        print(f"damaged: {kept.path}: {needed}")
        if options.delete:
            try:
                kept.path.unlink()
            except OSError as error:
                print(f"not deleted: {kept.path}: {error.strerror}; ask whose it is")
    for kept in verdict.outputs:
        print(f"changed: {kept.path}: not what dvc.lock says of {', '.join(kept.of)}")
    for path, why in verdict.unread.items():
        print(f"not read: {path}: {why}")
    for output in verdict.unlisted:
        print(f"not checked: {output}: the list of its files is not in the cache, or damaged")
    print(f"{verdict.files} files of {verdict.size / 1e6:.1f} MB read", end="; ")
    print(f"{len(verdict.objects)} damaged in the cache, {len(verdict.outputs)} changed in place")
    if verdict.absent:
        print(f"{len(verdict.absent)} outputs are not in the cache: `dvc pull` brings what was pushed")
    if verdict.leftover:
        print(*verdict.leftover, sep="\n")
        print(f"{len(verdict.leftover)} files are left over from writes cut short; delete them at will")
    if verdict.objects:
        left = any(kept.path.exists() for kept in verdict.objects)
        gone = "delete them (audionas verify-cache --delete)" if left else "they are deleted"
        print(
            f"To fix the cache: {gone}, then `dvc pull`, or `dvc commit` where the output in place is whole,"
        )
        print("or delete the output and `dvc repro --no-run-cache`, where it was never pushed")
    if verdict.outputs:
        print("To fix what changed: delete the file, then `dvc checkout PATH`, once the cache is sound")
    return int(not verdict.sound)


def _dvc(*command: str) -> str:
    """What one of DVC's commands prints."""
    require("dvc")
    asked = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True)
    if asked.returncode:
        raise UserError(f"{asked.stderr.strip()}; run it in the project's folder")
    return asked.stdout.strip()
