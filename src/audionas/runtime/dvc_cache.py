"""Verification of DVC's cache and outputs.

DVC does not hash a file again after it has stored it, so it does not detect disk errors and partial copies.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml
from tqdm import tqdm

from audionas.runtime.errors import UserError
from audionas.runtime.parallel import threaded_map

LOCK = Path("dvc.lock")
_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
_DIGEST = re.compile(r"[0-9a-f]{32}")


class Kept(NamedTuple):
    """A file with a recorded MD5: an object of the cache, or a file of an output in the workspace."""

    path: Path
    md5: str
    of: frozenset[str]  # outputs that contain it, as `STAGE: PATH`


@dataclass
class Verdict:
    """The result of `verify`."""

    files: int = 0
    size: int = 0  # bytes read
    objects: list[Kept] = field(default_factory=list)  # damaged objects of the cache
    outputs: list[Kept] = field(default_factory=list)  # files in the workspace that differ from dvc.lock
    unread: dict[Path, str] = field(default_factory=dict)  # unreadable paths, and the reason
    unlisted: list[str] = field(
        default_factory=list
    )  # folders in the workspace whose list is not in the cache
    absent: list[str] = field(default_factory=list)  # outputs that are not completely in the cache
    leftover: list[Path] = field(default_factory=list)  # files of interrupted writes; DVC does not read them

    @property
    def sound(self) -> bool:
        """Whether all files are readable and have their recorded MD5."""
        return not (self.objects or self.outputs or self.unread or self.unlisted)


def verify(cache: Path, project: Path = Path(), progress: bool = True) -> Verdict:
    """Hash every object of a DVC cache and every output in the workspace.

    The outputs are those of `dvc.lock` in the project's folder and of each `pipelines/NAME/dvc.lock`. No
    stage should run at the same time, because an output that is being written is reported as changed.

    Args:
        cache: folder of the objects, such as .dvc/cache/files/md5.
        project: folder of the project; without a dvc.lock, only the objects are checked.
        progress: show a progress bar, in bytes.

    Raises:
        UserError: there is neither a cache nor a dvc.lock, or a dvc.lock is damaged.
    """
    locks = [path for path in (project / LOCK, *sorted(project.glob(f"pipelines/*/{LOCK}"))) if path.exists()]
    if not cache.is_dir() and not locks:
        raise UserError(f"{cache}: no such folder, and no {LOCK} here; run it in the project's folder")
    unread: dict[Path, str] = {}
    there = sorted(path for folder in _listed(cache, unread) for path in _listed(folder, unread))
    names = {path: path.parent.name + path.name for path in there if _is_file(path)}
    leftover = [path for path, name in names.items() if not _OBJECT.fullmatch(name)]
    verdict = Verdict(leftover=leftover, unread=unread)
    users, in_place = defaultdict(set), []
    outputs = {output: found for lock in locks for output, found in _outputs(lock, project).items()}
    for output, (path, oid) in outputs.items():
        users[oid].add(output)
        parts = _parts(cache, path, oid)
        if parts is None and (project / path).exists():
            verdict.unlisted.append(output)
        for part, md5 in (parts or {}).items():
            users[md5].add(output)
            if _is_file(project / part):
                in_place.append(Kept(project / part, md5, frozenset({output})))
        if parts is None or not all(_is_file(_at(cache, md5)) for md5 in (oid, *parts.values())):
            verdict.absent.append(output)
    objects = [
        Kept(path, name, frozenset(users[name])) for path, name in names.items() if _OBJECT.fullmatch(name)
    ]
    everything = [*objects, *in_place]
    total = sum(kept.path.stat().st_size for kept in everything if kept.path.exists())
    with tqdm(total=total, unit="B", unit_scale=True, desc="verify", disable=not progress) as bar:
        digests = threaded_map(_digest, [kept.path for kept in everything])
        for place, (kept, (md5, size, why)) in enumerate(zip(everything, digests, strict=True)):
            bar.update(size)
            verdict.files, verdict.size = verdict.files + 1, verdict.size + size
            if why:
                verdict.unread[kept.path] = why
            elif md5 != kept.md5.removesuffix(".dir"):
                (verdict.objects if place < len(objects) else verdict.outputs).append(kept)
    return verdict


def _listed(folder: Path, unread: dict[Path, str]) -> list[Path]:
    """Return the content of a folder; record it in `unread` if it cannot be read."""
    try:
        return list(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        unread[folder] = error.strerror or str(error)
        return []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the folder is not accessible
        return False


def _outputs(lock: Path, project: Path) -> dict[str, tuple[str, str]]:
    """Return path and object name of each output in a lock file, by `STAGE: PATH`."""
    folder = lock.parent.relative_to(project)
    remedy = f"git checkout {lock.relative_to(project)}"
    pipeline = "" if lock.parent == project else f"{(folder / 'dvc.yaml').as_posix()}:"
    try:
        stages = yaml.load(lock.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)["stages"]
        found = {
            f"{pipeline}{name}: {out['path']}": (posixpath.normpath(folder / out["path"]), str(out["md5"]))
            for name, stage in stages.items()
            for out in stage.get("outs", ())
        }
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise UserError(f"{lock}: damaged ({error}); restore it with `{remedy}`") from None
    for output, (path, oid) in found.items():
        if not _inside(path) or not _OBJECT.fullmatch(oid):
            raise UserError(
                f"{lock}: {output}: the path is outside this folder, or the MD5 is invalid; restore the file "
                f"with `{remedy}`"
            )
    return found


def _parts(cache: Path, path: str, oid: str) -> dict[str, str] | None:
    """Return the files of an output and their MD5s; None if the list of a folder is missing or damaged."""
    if not oid.endswith(".dir"):
        return {path: oid}
    try:
        listed = json.loads(_at(cache, oid).read_bytes())
        parts = {(Path(path) / entry["relpath"]).as_posix(): str(entry["md5"]) for entry in listed}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return parts if all(_inside(p) and _DIGEST.fullmatch(md5) for p, md5 in parts.items()) else None


def _inside(path: str) -> bool:
    return not Path(path).is_absolute() and ".." not in Path(path).parts


def _at(cache: Path, oid: str) -> Path:
    return cache / oid[:2] / oid[2:]


def _digest(path: Path) -> tuple[str, int, str]:
    """Return MD5 and size of a file, and the reason if it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            return digest, file.tell(), ""
    except OSError as error:
        return "", 0, error.strerror or str(error)
