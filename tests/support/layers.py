"""The packages of each dependency layer, and a Python that can import only these."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OWN = PROJECT["project"]["name"]
# Hides the modules in `HIDDEN` from the import system.
_HIDE = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


def requirements(extras: Iterable[str] = ()) -> list[Requirement]:
    """Return the requirements in pyproject.toml of the core and these extras, including nested extras."""
    optional = PROJECT["project"]["optional-dependencies"]
    queue, found = [*PROJECT["project"]["dependencies"], f"{OWN}[{','.join(extras)}]"], []
    while queue:
        one = Requirement(queue.pop())
        if one.name == OWN:
            queue += [name for extra in one.extras for name in optional[extra]]
        else:
            found.append(one)
    return found


def closure(extras: Iterable[str] = (), without: Iterable[str] = ()) -> set[str]:
    """Return the installed packages that the core and these extras need, except those in `without`."""
    queue, seen = [(one, "") for one in requirements(extras)], set()
    while queue:
        one, extra = queue.pop()
        name = canonicalize_name(one.name)
        if name in without or (one.marker is not None and not one.marker.evaluate({"extra": extra})):
            continue
        for wanted in ("", *one.extras):
            if (name, wanted) in seen:
                continue
            try:
                needed = distribution(name).requires or ()
            except PackageNotFoundError:
                continue
            seen.add((name, wanted))
            queue += [(Requirement(text), wanted) for text in needed]
    return {name for name, _ in seen}


def run(code: str, packages: set[str], *arguments: object, **options) -> subprocess.CompletedProcess:
    """Run Python code that can import only these packages and this project."""
    allowed = {*packages, OWN}
    hidden = {
        module
        for module, names in packages_distributions().items()
        if allowed.isdisjoint(map(canonicalize_name, names)) and not module.startswith("_")
    }
    command = [sys.executable, "-c", f"HIDDEN = {hidden!r}\n{_HIDE}\n{code}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
