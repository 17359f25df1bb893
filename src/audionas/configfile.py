"""Reads `params.yaml`; every mistake is an error that names the file, the key and the mend."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from audionas.config import Config, Section
from audionas.errors import UserError

PARAMS = Path("params.yaml")


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that stands twice."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands twice", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep)


def load_config(path: str | Path = PARAMS) -> Config:
    """Read and check a parameters file.

    Raises UserError naming the file, the key and the mend.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        raw = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; run in the project's folder, or: cp profiles/esc10.yaml {path}"
        ) from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML; mend the place named here: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: holds no keys; copy a profile over it, or restore it with git")
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise UserError(_explain(path, error)) from None
    missing = [line for name, section in config if name != "corpus" for line in _left_out(name, section)]
    missing += [line for line in _left_out("corpus", config.corpus) if ".least_coverage:" in line]
    if missing:
        # DVC compares what stands in the file: a value that came from the code would go unnoticed.
        raise UserError(f"{path}: {len(missing)} problem(s); nothing was run\n" + "\n".join(missing))
    return config


def _left_out(name: str, section: Section) -> list[str]:
    return [
        f"  {name}.{key}: missing; add it (the paper's is {field.default!r})"
        for key, field in type(section).model_fields.items()
        if key not in section.model_fields_set
    ]


def _explain(path: Path, error: ValidationError) -> str:
    lines = [f"{path}: {error.error_count()} problem(s); nothing was run"]
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
        match problem["type"]:
            case "extra_forbidden":
                text = "no such key; remove it or mend its spelling"
            case "missing":
                text = "missing; add it (the profiles show every key)"
            case _:
                text = problem["msg"].removeprefix("Value error, ") + f" (found {problem['input']!r:.60})"
                if problem["loc"] == () or isinstance(problem["input"], dict):
                    text = problem["msg"].removeprefix("Value error, ")
        lines.append(f"  {key}: {text}")
    return "\n".join(lines)
