"""Registry of the systems. The parameters of a project name its system."""

from __future__ import annotations

from contextlib import chdir
from importlib import import_module
from pathlib import Path
from types import ModuleType

from audionas.runtime.errors import UserError
from audionas.settings.experiment import Experiment
from audionas.settings.file import PARAMS, read_yaml, validated

SYSTEMS = ("once_for_all",)  # the first is the default


def load_config(path: str | Path = PARAMS) -> Experiment:
    """Read a parameters file, and validate it with the configuration of its system.

    Raises:
        UserError: the file is missing or invalid; the message gives the file, the key and the fix.
    """
    path = Path(path)
    raw = read_yaml(path)
    if not isinstance(raw, dict) or not raw:
        raise UserError(f"{path}: contains no keys; copy a profile over it, or restore it with git")
    return validated(raw, path, system_module(raw.get("system") or SYSTEMS[0], path, "config").Config)


def check(config: Experiment, path: str | Path = PARAMS) -> None:
    """Check the parameters with the rules of their system, without reading data.

    Paths in the parameters are relative to the folder of their pipeline.

    Raises:
        UserError: a parameter is invalid; the message gives `path`, the key and the fix.
    """
    with chdir(pipeline_folder(path)):
        _module_of(config, "study").check(config, path)


def summary(config: Experiment) -> str:
    """Return a one-line summary of the experiment."""
    return _module_of(config, "study").summary(config)


def commands_of_project() -> ModuleType:
    """Return the commands of the system that `params.yaml` of this folder names.

    If no `params.yaml` can be read, the default system is used, so that help works in any folder. A stage
    reads the file again and raises its errors.
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
    """Import a module of the system `name`.

    Args:
        name: name of the system, as read from `path`.
        path: parameters file, for the error message.
        module: name of the module.

    Raises:
        UserError: there is no such system.
    """
    if name not in SYSTEMS:
        raise UserError(
            f"{path}: system: {name!r:.60} is not a system; set it to one of {', '.join(SYSTEMS)}"
        )
    return import_module(f"audionas.systems.{name}.{module}")


def parameter_files() -> list[Path]:
    """Return `params.yaml` of this folder, and of each pipeline in `pipelines/` that runs this package."""
    ours = [path for path in sorted(Path("pipelines").glob(f"*/{PARAMS}")) if runs_audionas(path.parent)]
    return [PARAMS, *ours]


def runs_audionas(folder: Path) -> bool:
    """Return whether a stage of the `dvc.yaml` in this folder calls this package."""
    pipeline = folder / "dvc.yaml"
    return not pipeline.is_file() or "cmd: audionas" in pipeline.read_text(encoding="utf-8")


def pipeline_folder(path: str | Path) -> Path:
    """Return the folder of the stages: that of `path` if it contains a `dvc.yaml`, else this folder."""
    folder = Path(path).parent
    return folder if (folder / "dvc.yaml").exists() else Path()
