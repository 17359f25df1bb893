"""Read `params.yaml` like DVC; every error names the file, the key and the fix."""

from __future__ import annotations

import difflib
import json
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent

from audionas.runtime.errors import UserError
from audionas.settings.corpora import SPLIT_FORMS, CorpusName
from audionas.settings.values import Section

PARAMS = Path("params.yaml")
SectionType = TypeVar("SectionType", bound=Section)

_LARGEST = 1 << 18  # bytes; the profiles have 3,000
_DEEPEST = 20  # nesting depth of lists and mappings; the profiles have 4
_MOST_NODES = 20_000  # keys and values, including those of each alias
_MOST_LINES = 20  # problems that are shown
_LONGEST = 300  # characters of one

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 60
_repr.maxlevel = 2


def validated(raw: dict[str, Any], path: Path, form: type[SectionType]) -> SectionType:
    """Validate the values of a parameters file as `form`, a system's configuration.

    Raises UserError naming the file, the key and the fix.
    """
    try:
        config = form.model_validate(raw)
    except ValidationError as error:
        raise UserError(_listed(path, [*_explain(error, form)])) from None
    # DVC compares the values in the file, so it would miss a change of a default in the code.
    if missing := [*_left_out(config, "")]:
        raise UserError(_listed(path, missing))
    return config


def read_yaml(path: Path) -> Any:
    """Return a YAML file's values as DVC reads them (YAML 1.2, by ruamel.yaml), in bounded time and memory.

    Raises UserError naming the file and the line: no such file, not YAML in UTF-8, or too large.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not readable: not a file; give a parameters file")
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise UserError(f"{path}: larger than {_LARGEST:,} bytes; this is not a parameters file")
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; run in the project's folder, or: cp profiles/esc10.yaml {path}"
        ) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not readable as UTF-8; save the file as UTF-8") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable: {_cut(error)}; fix the path or its permissions") from None
    try:
        _bound(text, path)
        return YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else path
        raise UserError(f"{where}: not readable as YAML: {_cut(error.problem)}; fix it there") from None
    except UserError:
        raise
    except Exception as error:  # exceptions of the constructors of numbers, dates and keys are not documented
        raise UserError(f"{path}: not readable as YAML: {_cut(error)}; fix it") from None


def _bound(text: str, path: Path) -> None:
    """Refuse values that take long to construct, before constructing any."""
    opened: list[
        tuple[str | None, int]
    ] = []  # anchors of the enclosing collections, and the number of nodes before them
    behind: dict[str, int] = {}  # number of nodes of an anchor
    nodes = 0
    for event in YAML(typ="safe").parse(text):
        where = f"{path}, line {event.start_mark.line + 1}"
        if isinstance(event, AliasEvent):
            if event.anchor in (anchor for anchor, _ in opened):
                raise UserError(f"{where}: the alias *{_cut(event.anchor)} contains itself; write it out")
            nodes += behind.get(event.anchor, 1)
        elif isinstance(event, NodeEvent):
            nodes += 1
            if isinstance(event, CollectionStartEvent):
                opened.append((event.anchor, nodes))
            elif event.anchor:
                behind[event.anchor] = 1
        elif isinstance(event, CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                behind[anchor] = nodes - before + 1
        if len(opened) > _DEEPEST:
            raise UserError(f"{where}: more than {_DEEPEST} levels of nesting; write it flat")
        if nodes > _MOST_NODES:
            raise UserError(f"{where}: more than {_MOST_NODES:,} values; shorten the lists before this line")


def _left_out(section: BaseModel, above: str) -> Iterator[str]:
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if key not in section.model_fields_set:
            if value is None:  # a missing key means the same
                continue
            suggested = field.examples[0] if field.examples else value
            yield f"{above}{key}: missing; add it, for example with its default: {key}: {_flow(suggested)}"
        elif isinstance(value, Section):
            yield from _left_out(value, f"{above}{key}.")


def _flow(value: Any) -> str:
    """Return a value as YAML in flow style."""
    return json.dumps(value.model_dump(mode="json") if isinstance(value, Section) else value)


#: Names that pydantic inserts between the keys if a section has several forms.
_FORMS = {*get_args(CorpusName), *SPLIT_FORMS}


def _explain(error: ValidationError, form: type[Section]) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        place = [part for part in problem["loc"] if part not in _FORMS]
        key = ".".join(map(_cut, place)) or "(whole file)"
        text = problem["msg"].removeprefix("Value error, ")
        match problem["type"]:
            case "extra_forbidden":
                *section, given = problem["loc"]
                meant = difflib.get_close_matches(str(given)[:_LONGEST], _keys(form, section), n=1)
                remedy = f"did you mean {meant[0]}?" if meant else "remove it or fix its spelling"
                text = f"no such key; {remedy}"
            case "missing":
                text = "missing; add it (the profiles show every key)"
            case _ if problem["loc"] and not isinstance(problem["input"], dict):
                text = f"{_cut(text)} (found {_shown(problem['input'])})"
        yield f"{key}: {text}"


def _keys(form: type[Section], place: list[int | str]) -> list[str]:
    """Return the keys of the section at pydantic's location `place` in a configuration."""
    forms = [form]
    for part in place:
        if any(part in one.model_fields for one in forms):
            fields = [one.model_fields[part] for one in forms if part in one.model_fields]
            forms = [section for field in fields for section in _sections(field.annotation)]
        else:  # a corpus's name, which selects one of several forms
            named = [one for one in forms if "name" in one.model_fields]
            forms = [one for one in named if part in get_args(one.model_fields["name"].annotation)] or forms
    return [key for one in forms for key in one.model_fields]


def _sections(kind: Any) -> Iterator[type[Section]]:
    """Yield the sections that a type allows."""
    if isinstance(kind, type) and issubclass(kind, Section):
        yield kind
    for part in get_args(kind):
        yield from _sections(part)


def _shown(value: Any) -> str:
    try:
        return _repr.repr(value)
    except ValueError:  # an integer with more digits than Python prints
        return "a number of very many digits"


def _cut(text: object) -> str:
    """Return one line of limited length, with control characters escaped."""
    line = " ".join(str(text)[: 2 * _LONGEST].split())
    line = "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in line)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _listed(path: Path, problems: list[str]) -> str:
    lines = [f"{path}: {len(problems)} problem(s); nothing was run"]
    lines += [f"  {_cut(problem)}" for problem in problems[:_MOST_LINES]]
    if more := len(problems) - _MOST_LINES:
        lines += [f"  and {more:,} more"] if more > 0 else []
    return "\n".join(lines)
