"""Which systems there are; the parameters of a project name theirs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from audionas.runtime.errors import UserError
from audionas.settings.experiment import Experiment
from audionas.settings.file import PARAMS, read_yaml, validated

SYSTEMS = ("once_for_all",)  # the first is that of parameters which name none


def load_config(path: str | Path = PARAMS) -> Experiment:
    """Read and check a parameters file by the configuration of the system that it names.

    Raises UserError naming the file, the key and the fix.
    """
    path = Path(path)
    raw = read_yaml(path)
    if not isinstance(raw, dict) or not raw:
        raise UserError(f"{path}: holds no keys; copy a profile over it, or restore it with git")
    return validated(raw, path, system_module(raw.get("system") or SYSTEMS[0], path, "config").Config)


def system_module(name: object, path: Path, module: str) -> ModuleType:
    """A module of the system `name`, as `path` gives it.

    Raises UserError: there is no such system.
    """
    if name not in SYSTEMS:
        raise UserError(f"{path}: system: {name!r:.60} is none; write one of {', '.join(SYSTEMS)}")
    return import_module(f"audionas.systems.{name}.{module}")
