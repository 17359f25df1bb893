"""Labels as lists give them, held against mistakes that would make classes of their own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from audionas.data.names import likeness
from audionas.runtime.errors import UserError

_PARTED = re.compile(r"[;|\t]")
_LISTED = re.compile(r"[\[{]|.*[\]}]$")  # what pandas writes of a list: ['dog', 'cat']


def require_plain_labels(labels: Mapping[str, int], where: str) -> list[str]:
    """Warnings about labels that may hold several, parted by other marks than commas.

    Args:
        labels: with the line where each stands first. where: leads errors and warnings.

    Raises:
        UserError: labels that differ only in case, Unicode form or blanks, and those that do hold several:
            parts of them stand elsewhere as labels, or they are written as a Python list.
    """
    first: dict[str, str] = {}
    for label, line in labels.items():
        other = first.setdefault(likeness(label), label)
        if other != label:
            raise UserError(
                f"{where}, line {line}: the labels {label!r} and {other!r} (line {labels[other]}) differ "
                "only in case, Unicode form or blanks, and each would be a class; write them alike"
            )
    odd = {label: [part for part in map(likeness, _PARTED.split(label)) if part] for label in labels}
    odd = {label: parts for label, parts in odd.items() if len(parts) > 1 or _LISTED.match(label)}
    counts = Counter(part for parts in odd.values() for part in {*parts})
    several = [
        f"{label!r} (line {labels[label]})"
        for label, parts in odd.items()
        if _LISTED.match(label) or any(part in first or counts[part] > 1 for part in parts)
    ]
    if several:
        raise UserError(
            f"{where}: {some(several)} look like several labels each; labels are parted by commas: "
            'write "dog,cat", in quotes'
        )
    single = [f"{label!r} (line {labels[label]})" for label in odd]
    if single:
        return [f"{where}: taken as one label each: {some(single)}; labels are parted by commas"]
    return []


def some(items: Sequence[str], most: int = 5) -> str:
    """The first few, and how many more."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
