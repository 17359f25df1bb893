"""Check labels for mistakes that would create extra classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from audionas.data.names import comparable
from audionas.runtime.errors import UserError

_PARTED = re.compile(r"[;|\t]")
_LISTED = re.compile(r"[\[{]|.*[\]}]$")  # how pandas writes a list: ['dog', 'cat']


def require_plain_labels(labels: Mapping[str, int], where: str) -> list[str]:
    """Return warnings about labels that may be several labels with a separator other than a comma.

    Args:
        labels: each label with the line of its first use.
        where: prefix of errors and warnings.

    Raises:
        UserError: labels that differ only in case, Unicode form or blanks, or a label that is several: its
            parts are labels elsewhere, or it is written as a Python list.
    """
    first: dict[str, str] = {}
    for label, line in labels.items():
        other = first.setdefault(comparable(label), label)
        if other != label:
            raise UserError(
                f"{where}, line {line}: the labels {label!r} and {other!r} (line {labels[other]}) differ "
                "only in case, Unicode form or blanks, and each would be its own class; spell them the same"
            )
    odd = {label: [part for part in map(comparable, _PARTED.split(label)) if part] for label in labels}
    odd = {label: parts for label, parts in odd.items() if len(parts) > 1 or _LISTED.match(label)}
    counts = Counter(part for parts in odd.values() for part in {*parts})
    several = [
        f"{label!r} (line {labels[label]})"
        for label, parts in odd.items()
        if _LISTED.match(label) or any(part in first or counts[part] > 1 for part in parts)
    ]
    if several:
        raise UserError(
            f"{where}: {some(several)} look like several labels each; separate labels by commas: "
            'write "dog,cat", in quotes'
        )
    single = [f"{label!r} (line {labels[label]})" for label in odd]
    if single:
        return [f"{where}: taken as one label each: {some(single)}; labels are parted by commas"]
    return []


def some(items: Sequence[str], most: int = 5) -> str:
    """Return the first `most` items as text, and the number of the others."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
