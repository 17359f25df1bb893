"""Is what DVC keeps still what it was? Disks rot and copies break off; DVC trusts what it has hashed once."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml
from tqdm import tqdm

from audionas.errors import UserError
from audionas.parallel import threaded_map

LOCK = Path("dvc.lock")
_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
_DIGEST = re.compile(r"[0-9a-f]{32}")


class Kept(NamedTuple):
    """A file whose MD5 is known: an object of the cache, or one of an output in the project's folder."""

    path: Path
    md5: str
    of: frozenset[str]  # the outputs that need it, as `STAGE: PATH`


@dataclass
class Verdict:
    """What `verify` found."""

    files: int = 0
    size: int = 0  # bytes read
    objects: list[Kept] = field(default_factory=list)  # damaged ones of the cache
    outputs: list[Kept] = field(default_factory=list)  # files in place that are not what dvc.lock says
    absent: list[str] = field(default_factory=list)  # outputs that the cache has not, or not wholly
    leftover: list[Path] = field(default_factory=list)  # of writes that were cut short; never read by DVC


def verify(cache: Path, project: Path = Path(), progress: bool = True) -> Verdict:
    """Hash again every object of a DVC cache, and every output of `dvc.lock` that is in place.

    Args:
        cache: folder of the objects, such as .dvc/cache/files/md5.
        project: folder of dvc.lock; where there is none, only the objects are checked.
        progress: show a bar, in bytes.

    Raises:
        UserError: there is neither a cache nor a dvc.lock, or dvc.lock is damaged.
    """
    if not cache.is_dir() and not (project / LOCK).exists():
        raise UserError(f"{cache}: no such folder, and no {LOCK} here; run it in the project's folder")
    there = [path for path in sorted(cache.glob("*/*")) if path.is_file()]
    names = {path: path.parent.name + path.name for path in there}
    outputs = _outputs(project / LOCK)
    users, in_place, absent = defaultdict(set), [], []
    for output, (path, oid) in outputs.items():
        parts = dict(_parts(cache, path, oid))
        for part, md5 in parts.items():
            users[md5].add(output)
            if (project / part).is_file():
                in_place.append(Kept(project / part, md5, frozenset({output})))
        users[oid].add(output)
        if not parts or not all(_at(cache, md5).is_file() for md5 in (oid, *parts.values())):
            absent.append(output)
    objects = [
        Kept(path, name, frozenset(users[name])) for path, name in names.items() if _OBJECT.fullmatch(name)
    ]
    verdict = Verdict(absent=absent, leftover=[path for path in there if not _OBJECT.fullmatch(names[path])])
    everything = [*objects, *in_place]
    total = sum(kept.path.stat().st_size for kept in everything)
    with tqdm(total=total, unit="B", unit_scale=True, desc="verify", disable=not progress) as bar:
        for place, (kept, found) in enumerate(
            zip(everything, threaded_map(_digest, [kept.path for kept in everything]), strict=True)
        ):
            md5, size = found
            bar.update(size)
            verdict.files, verdict.size = verdict.files + 1, verdict.size + size
            if md5 != kept.md5.removesuffix(".dir"):
                (verdict.objects if place < len(objects) else verdict.outputs).append(kept)
    return verdict


def _outputs(lock: Path) -> dict[str, tuple[str, str]]:
    """Of each output that DVC caches, as `STAGE: PATH`, its path and the name of its object."""
    if not lock.exists():
        return {}
    try:
        stages = yaml.load(lock.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)["stages"]
        found = {
            f"{name}: {out['path']}": (str(out["path"]), str(out["md5"]))
            for name, stage in stages.items()
            for out in stage.get("outs", ())
        }
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise UserError(f"{lock}: damaged ({error}); bring it back with `git checkout {lock.name}`") from None
    return found


def _parts(cache: Path, path: str, oid: str) -> Iterator[tuple[str, str]]:
    """The files of an output and their MD5s; none where it is a folder whose list is not here, or damaged."""
    if not oid.endswith(".dir"):
        yield path, oid
        return
    try:
        for entry in json.loads(_at(cache, oid).read_bytes()):
            part = Path(path) / entry["relpath"]
            if _DIGEST.fullmatch(entry["md5"]) and ".." not in part.parts and not part.is_absolute():
                yield part.as_posix(), entry["md5"]
    except (OSError, ValueError, KeyError, TypeError):
        return


def _at(cache: Path, oid: str) -> Path:
    return cache / oid[:2] / oid[2:]


def _digest(path: Path) -> tuple[str, int]:
    """MD5 and size of a file; no MD5 where it can't be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            return digest, file.tell()
    except OSError:
        return "", 0
