"""Which systems there are; the parameters of a project name theirs."""

from __future__ import annotations

from contextlib import chdir
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


def check(config: Experiment, path: str | Path = PARAMS) -> None:
    """Check what the parameters promise, as far as it can be known from them, by the rules of their system.

    Paths among them are relative to the folder of their pipeline.

    Raises UserError naming `path`, the key and the fix.
    """
    with chdir(pipeline_folder(path)):
        _module_of(config, "study").check(config, path)


def summary(config: Experiment) -> str:
    """What the parameters ask for, in one line."""
    return _module_of(config, "study").summary(config)


def commands_of_project() -> ModuleType:
    """The commands of the system that `params.yaml` of this folder names.

    They are those of the main system where no `params.yaml` can be read, so that help is there anywhere. A
    stage reads the file again and raises its errors.
    """
    try:
        raw = read_yaml(PARAMS)
    except UserError:
        raw = None
    name = raw.get("system") if isinstance(raw, dict) else None
    return system_module(name if name in SYSTEMS else SYSTEMS[0], PARAMS, "commands")


def _module_of(config: Experiment, module: str) -> ModuleType:
    return system_module(config.system or SYSTEMS[0], PARAMS, module)


def system_module(name: object, path: Path, module: str) -> ModuleType:
    """A module of the system `name`, as `path` gives it.

    Raises UserError: there is no such system.
    """
    if name not in SYSTEMS:
        raise UserError(f"{path}: system: {name!r:.60} is none; write one of {', '.join(SYSTEMS)}")
    return import_module(f"audionas.systems.{name}.{module}")


def parameter_files() -> list[Path]:
    """`params.yaml` of this folder, and of each pipeline below `pipelines/`."""
    return [PARAMS, *sorted(Path("pipelines").glob(f"*/{PARAMS}"))]


def pipeline_folder(path: str | Path) -> Path:
    """The folder in which stages with these parameters run: that of a `dvc.yaml` beside them, or this one."""
    folder = Path(path).parent
    return folder if (folder / "dvc.yaml").exists() else Path()
