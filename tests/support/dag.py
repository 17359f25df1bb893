"""What each stage declares in dvc.yaml, and what it imports and reads, found in its source."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import yaml

from audionas.settings.training import Training
from audionas.systems.once_for_all.commands import STAGES

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PACKAGE = "src/audionas/"
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
#: The command of each stage, and the module that computes it.
COMMANDS = {name: STAGES.get(name) or STAGES[name.split("-")[0]] for name in PIPELINE}
MODULES = {name: f"audionas.systems.{stage.module}" for name, stage in COMMANDS.items()}
_TRAINING = re.compile(r"\b(?:settings|config\.training)\.([a-z_]+)")

#: Modules that carry, check or place a result and do not change it. What a configuration computes (frames,
#: samples of a clip, sizes from text) follows from the parameters, which are declared.
INERT = re.compile(
    r"audionas\.(settings\..*|runtime\.(?!device$|ranks$).*|data\.paths|systems\.(registry|\w+\.(config|paths)))"
)
#: Configuration that is arithmetic on other sections.
DERIVED = {
    "num_classes": {"network"},
    "frames": {"audio", "features"},
    "feature_settings": {"audio", "features"},
}


def code(stage: str) -> set[str]:
    """Rooms and single files of the package that a stage declares."""
    return {dep for dep in PIPELINE[stage]["deps"] if dep.startswith(PACKAGE)}


def parameters(stage: str) -> list[str]:
    """Keys of params.yaml that a stage declares, those behind an anchor as well."""
    listed = PIPELINE[stage]["params"]
    return [key for one in listed for key in (one["params.yaml"] if isinstance(one, dict) else [one])]


def covers(declared: str, file: str) -> bool:
    """Whether a declared room or file holds a file."""
    return file == declared or file.startswith(f"{declared}/")


def restarted(file: str) -> set[str]:
    """Stages that an edit of a file of the package restarts."""
    return {stage for stage in PIPELINE if any(covers(dep, PACKAGE + file) for dep in code(stage))}


def _file(module: str) -> Path | None:
    path = SOURCE / (module.replace(".", "/") + ".py")
    return path if path.exists() else None


def _text(module: str) -> str:
    """A module's source without docstrings."""
    return re.sub(r'""".*?"""', "", _file(module).read_text(encoding="utf-8"), flags=re.DOTALL)


@cache
def closure(module: str) -> frozenset[str]:
    """The module and all of this package that it imports, at any level; packages' __init__ hold no logic."""
    seen: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        path = _file(name)
        if path is None or name in seen or INERT.fullmatch(name):
            continue
        seen.add(name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("audionas"):
                queue += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                queue += [alias.name for alias in node.names]
    return frozenset(seen)


def sources(module: str) -> set[str]:
    """`closure` as paths from the project's folder, with the template beside a module that fills one."""
    files = {_file(name) for name in closure(module)}
    files |= {file.with_suffix(".html") for file in files if file.with_suffix(".html").exists()}
    return {file.relative_to(ROOT).as_posix() for file in files}


def sections(module: str) -> set[str]:
    """Keys of params.yaml that a stage, and the helpers and reports that it imports, read."""
    names: set[str] = set()
    for each in closure(module):
        if not each.startswith(("audionas.systems", "audionas.reporting", "audionas.training")):
            continue
        text = _text(each)
        names |= set(re.findall(r"\bconfig\.([a-z_]+)", text))
        for group in re.findall(r"sections=\(([^)]*)\)", text):
            names |= set(re.findall(r'"([a-z_]+)"', group))
        if "architecture_of(config)" in text:
            names |= {"network", "features"}
    for name, meaning in DERIVED.items():
        if name in names:
            names = names - {name} | meaning
    return names


def training_keys(module: str) -> set[str]:
    """Keys of the section `training` that bear on a stage's result or on what a scheduler reserves."""
    texts = {each: _text(each) for each in closure(module)}
    computing = (
        text for name, text in texts.items() if name.startswith(("audionas.systems", "audionas.training"))
    )
    if not any("prepare(" in text for text in computing):
        texts = {
            name: text
            for name, text in texts.items()
            if name.startswith("audionas.systems.once_for_all") and ".stages." not in name
        }
    read = {name for text in texts.values() for name in _TRAINING.findall(text)}
    if "audionas.training.loop" in texts:
        read.add("gpus")  # each rank draws its own dropout
    return read & set(Training.model_fields) - {"checkpoint_seconds"}
