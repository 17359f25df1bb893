"""The head of a model card: metadata and measured results, in the format of the Hugging Face hub.

The format is the YAML block of https://github.com/huggingface/hub-docs/blob/main/modelcard.md. The hub reads
it as YAML 1.2, PyYAML writes 1.1, so every text that the two could read differently is quoted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import yaml

from audionas.runtime.text import line

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_ -]*")
_IDENTIFIER = re.compile(r"(?:[A-Za-z0-9_-]+/)?[A-Za-z0-9_.-]+")
_HEAD = re.compile(r"---\n(.*?)\n---\n", re.DOTALL)
_LONGEST = 300  # characters of a name
_TASK = "audio-classification"


class Metric(NamedTuple):
    """A measured value.

    Attributes:
        split: of the dataset: `test`, `validation`.
        type: short name of the metric, such as `mAP`.
        value: the number. A metric that is not finite was not measured and is left out.
        name: description with unit and what it was measured over.
    """

    split: str
    type: str
    value: float
    name: str


class _Dumper(yaml.SafeDumper):
    """Quotes all texts but plain words, and repeats lists instead of referring to them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if _PLAIN.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def front_matter(
    name: str,
    *,
    tags: Sequence[str],
    dataset: str,
    metrics: Iterable[Metric],
    dataset_id: str | None = None,
    license: str | None = None,
) -> str:
    """Return the YAML block at the start of a model card, with its fences and an empty line.

    Args:
        name: of the model. Names are written on one line, with hidden characters escaped.
        tags: of the model, for the hub's search.
        dataset: name of the dataset of the results.
        metrics: measured results, in order; those of one split are listed together.
        dataset_id: identifier of the dataset; by default made from its name.
        license: identifier of the model's license, such as `mit`.
    """
    splits: dict[str, list[Metric]] = {}
    for metric in metrics:
        if math.isfinite(metric.value):
            splits.setdefault(metric.split, []).append(metric)
    results = [_result(dataset_id or dataset, dataset, split, them) for split, them in splits.items()]
    return _head(name, tags, results, license)


def combined(name: str, cards: dict[str, str], tags: Sequence[str]) -> str:
    """Return the YAML block for a folder of models, with the results of all their cards.

    Args:
        name: of the collection.
        cards: content of the model cards, by name of the model; it precedes the name of each metric.
        tags: as in `front_matter`, with those of the cards.

    Raises:
        ValueError: the head of a card is not of this format; names the card.
    """
    tags, results = list(tags), []
    for model, card in cards.items():
        try:
            head = yaml.safe_load(match[1]) if (match := _HEAD.match(card)) else {}
            tags += [tag for tag in _list(head.get("tags")) if tag not in tags]
            for result in [one for entry in _list(head.get("model-index")) for one in entry["results"]]:
                data, split = result["dataset"], result["dataset"].get("split", "test")
                metrics = [
                    Metric(split, one["type"], float(one["value"]), f"{model}: {one.get('name', '')}")
                    for one in result["metrics"]
                ]
                results.append(_result(data["type"], data["name"], split, metrics))
        except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{model}.md: its head is not of the hub's format ({error!r:.200})") from None
    return _head(name, tags, results)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | None):
        raise TypeError(f"{value!r:.50} is not a list")
    return value or []


def _result(dataset_id: str, dataset: str, split: str, metrics: Iterable[Metric]) -> dict[str, Any]:
    return {
        "task": {"type": _TASK},
        "dataset": {"type": identifier(dataset_id), "name": _name(dataset), "split": _name(split)},
        "metrics": [
            {"type": _name(one.type), "value": float(one.value), "name": _name(one.name)} for one in metrics
        ],
    }


def identifier(text: str) -> str:
    """Return a text as an identifier of a dataset that the hub accepts: `NAME` or `OWNER/NAME`."""
    if _IDENTIFIER.fullmatch(text):
        return text
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.").lower()[:96] or "audio"


def _head(name: str, tags: Sequence[str], results: list[dict[str, Any]], license: str | None = None) -> str:
    head: dict[str, Any] = {"license": _name(license)} if license else {}
    head |= {"library_name": "audionas", "pipeline_tag": _TASK, "tags": [_name(tag) for tag in tags]}
    if results:
        head["model-index"] = [{"name": _name(name), "results": results}]
    text = yaml.dump(head, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=math.inf)
    return f"---\n{text}---\n\n"


def _name(text: str) -> str:
    return line(text, _LONGEST)
