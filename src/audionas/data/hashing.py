"""64-bit hashes of texts, so that two million of them take 16 MB.

Among two million texts the chance of any collision is one in ten million. Where a collision would matter, the
caller reads texts with equal keys again and compares them in full.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable

import numpy as np


def key(text: str) -> int:
    """Return the 64-bit hash of a text, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def keys(texts: Iterable[str]) -> np.ndarray:
    """Return the keys of the texts, uint64 [n], in their order; the texts are read once."""
    return np.frombuffer(array("Q", map(key, texts)), dtype=np.uint64)


def within(wanted: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Return bool [n]: which of the keys `wanted` [n] are in the sorted keys `ordered` [m]."""
    if not ordered.size:
        return np.zeros(wanted.size, dtype=bool)
    return ordered[np.minimum(np.searchsorted(ordered, wanted), ordered.size - 1)] == wanted


def alike(found: np.ndarray) -> set[int]:
    """Return the keys that occur more than once in `found`, uint64 [n]."""
    ordered = np.sort(found)
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def repeated(found: np.ndarray, texts: Iterable[str]) -> set[str]:
    """Return the texts that occur more than once.

    Args:
        found: uint64 [n], the keys of the texts.
        texts: the texts themselves, iterated only if two keys are equal.
    """
    suspects = alike(found)
    seen: set[str] = set()
    again: set[str] = set()
    for text in texts if suspects else ():
        if key(text) in suspects:
            (again if text in seen else seen).add(text)
    return again
