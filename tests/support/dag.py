"""What each stage imports and which parameters it reads, found in its source."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from audionas.settings.training import Training

ROOT = Path(__file__).parents[2]
_TRAINING = re.compile(r"\b(?:settings|config\.training)\.([a-z_]+)")
SOURCE = ROOT / "src"

#: Modules that carry, check or place a result. What config.py computes (frames, samples of a clip, sizes from
#: text) follows from the parameters, which are declared.
INERT = {
    *(
        f"audionas.runtime.{name}"
        for name in "artifacts environment errors files interruption leftovers".split()
    ),
    *(f"audionas.runtime.{name}" for name in "parallel state".split()),
    *(f"audionas.settings.{name}" for name in "audio corpora experiment file search training values".split()),
    "audionas.systems.once_for_all.config",
    "audionas.systems.once_for_all.paths",
    "audionas.data.paths",
    "audionas.systems.registry",
    "audionas.training.checkpoint",
}
#: Configuration that is arithmetic on other sections.
DERIVED = {
    "num_classes": {"network"},
    "frames": {"audio", "features"},
    "feature_settings": {"audio", "features"},
}


def _file(module: str) -> Path | None:
    path = SOURCE / (module.replace(".", "/") + ".py")
    return path if path.exists() else None


@cache
def closure(module: str) -> frozenset[str]:
    """The module and all of this package that it imports, at any level; packages' __init__ hold no logic."""
    seen: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        path = _file(name)
        if path is None or name in seen or name in INERT:
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
        if not each.startswith(("audionas.systems", "audionas.reporting")):
            continue
        text = _file(each).read_text(encoding="utf-8")
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
    texts = {each: _file(each).read_text(encoding="utf-8") for each in closure(module)}
    if not any("prepare(" in text for name, text in texts.items() if name.startswith("audionas.systems")):
        texts = {
            name: text
            for name, text in texts.items()
            if name.startswith("audionas.systems.once_for_all") and ".stages." not in name
        }
    read = {name for text in texts.values() for name in _TRAINING.findall(text)}
    if "audionas.training.loop" in texts:
        read.add("gpus")  # each rank draws its own dropout
    return read & set(Training.model_fields) - {"checkpoint_seconds"}
