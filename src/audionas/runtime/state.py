"""State in `.state/` that survives a killed process and is not a stage output."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write, naming

log = logging.getLogger(__name__)

STATE = Path(".state")
UNFINISHED = "clips.h5"  # the unfinished store of a stage, in its state folder
_PACKAGE = Path(__file__).parents[1]
_CODE = re.compile(rf"(?:\.\./)*src/{_PACKAGE.name}/(.+)")  # a dependency inside the package
_BASIS = "basis.json"  # in a state folder
_SHOWN = 5  # differences in a message


def declared_code(stage: str, without: tuple[str, ...] = ()) -> list[Path]:
    """Return the modules of this package among the `deps` of a stage in `dvc.yaml`, sorted.

    A folder includes all modules below it. If `dvc.yaml` does not have the stage, as in a run outside of the
    project, all modules but those of `reporting` are included.

    Args:
        stage: name in `dvc.yaml`, without the items of its matrix.
        without: folders and files of the package that do not affect the state.
    """
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        pipeline = yaml.load(Path("dvc.yaml").read_text(encoding="utf-8"), loader)  # noqa: S506 (both are safe)
        inside = [match[1] for dep in pipeline["stages"][stage]["deps"] if (match := _CODE.fullmatch(dep))]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        log.info("dvc.yaml has no stage %s: its state depends on all modules", stage)
        inside, without = ["."], (*without, "reporting")
    modules = {module for path in inside for module in _modules(_PACKAGE / path)}
    return sorted(one for one in modules if not any(one.is_relative_to(_PACKAGE / path) for path in without))


def _modules(path: Path) -> Iterable[Path]:
    return path.rglob("*.py") if path.is_dir() else [path]


def basis_of(settings: Mapping[str, Any], files: Iterable[Path] = ()) -> dict[str, str]:
    """Return the inputs of a state by name: each setting as JSON, each file as its SHA-256.

    Args:
        settings: plain values; keys of nested mappings are joined by dots.
        files: modules of this package are named relative to its parent folder.
    """
    basis = dict(_flat("", settings))
    for path in files:
        name = path.relative_to(_PACKAGE.parent) if path.is_relative_to(_PACKAGE) else path
        with path.open("rb") as file:
            basis[name.as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return basis


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", json.dumps(value, sort_keys=True)


def state_key(basis: Mapping[str, str]) -> str:
    """Return a hash of a state's inputs, so that a changed run never resumes an old one."""
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:16]


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Describe how two bases differ: `teacher.iterations: 12 → 14; audionas/data/store.py changed`."""
    found = []
    for name in sorted(old.keys() | new.keys(), key=lambda name: (_is_file(name, old, new), name)):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is None or after is None:
            found.append(f"{name} {'is new' if before is None else 'is removed'}")
        else:
            found.append(
                f"{name} changed" if _is_file(name, old, new) else f"{name}: {before:.40} → {after:.40}"
            )
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more or "nothing that was recorded"


def _is_file(name: str, *bases: Mapping[str, str]) -> bool:
    """Return whether a name is a file: settings are JSON, which a SHA-256 practically never is."""
    return any(len(basis.get(name, "")) == 64 and basis[name].isalnum() for basis in bases)


def open_folder(stage: str, split: str, basis: Mapping[str, str]) -> Path:
    """Create and return the folder of a stage's state for a split.

    State of this split with another basis is removed; the log reports the differences.
    """
    folder = STATE / stage / f"{split}-{state_key(basis)}"
    for other in sorted((STATE / stage).glob(f"{split}-*")):
        if other != folder:
            try:
                old = json.loads((other / _BASIS).read_text(encoding="utf-8"))
                what = differences(old, basis)
            except (OSError, ValueError, AttributeError, TypeError):
                what = "unknown"
            log.warning("%s: removed and not used; differences: %s", other, what)
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    if not (folder / _BASIS).exists():
        with atomic_write(folder / _BASIS) as temporary:
            temporary.write_text(json.dumps(dict(basis)), encoding="utf-8")
    return folder


def store_folder(stage: str, split: str, basis: Mapping[str, str]) -> Path:
    """Return `open_folder` for a stage that fills a store and marks finished rows.

    Marks without their store are removed, because the marked rows do not exist.
    """
    folder = STATE / stage / f"{split}-{state_key(basis)}"
    if folder.exists() and not (folder / UNFINISHED).exists():
        shutil.rmtree(folder)
    return open_folder(stage, split, basis)


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Lock the state `name` against other processes during the block.

    The lock is the operating system's: it ends with its process, and child processes do not inherit it. It
    holds on all machines that share the folder if the file system supports such locks.

    Raises UserError naming the other process if the state is locked.
    """
    path = STATE / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _locked(path, name)
    holder = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%F %T}"
    try:
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, holder.encode(), 0)
        except OSError as error:
            naming(error, path)
            raise
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _locked(path: Path, name: str) -> int:
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.pread(handle, 300, 0).decode(errors="replace") or "another process"
            os.close(handle)
            raise UserError(
                f"{path}: {holder} already works on {name}; wait for it to finish, or stop it, then run "
                "again. Nothing was changed"
            ) from None
        except OSError as error:  # a file system without locks
            log.warning(
                "%s: no lock (%s); do not run another process on %s at the same time",
                path,
                error.strerror,
                name,
            )
            return handle
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
        os.close(handle)  # the previous holder has removed the file
