"""Texts as numbers of 64 bits, so that two million of them are compared in 16 MB.

Among two million the chance that any two different texts have one key is one in ten million; where it would
matter, those that look alike are read again and compared as they are.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable

import numpy as np


def key(text: str) -> int:
    """The text's key, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def keys(texts: Iterable[str]) -> np.ndarray:
    """uint64 [n], in the order of the texts, which are read once."""
    return np.frombuffer(array("Q", map(key, texts)), dtype=np.uint64)


def within(wanted: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """bool [n]: which of the keys `wanted` [n] are among `ordered` [m], keys in rising order."""
    if not ordered.size:
        return np.zeros(wanted.size, dtype=bool)
    return ordered[np.minimum(np.searchsorted(ordered, wanted), ordered.size - 1)] == wanted


def alike(found: np.ndarray) -> set[int]:
    """Keys that stand more than once among `found`, uint64 [n]."""
    ordered = np.sort(found)
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def repeated(found: np.ndarray, texts: Iterable[str]) -> set[str]:
    """Texts that stand more than once.

    Args:
        found: uint64 [n], the keys of the texts.
        texts: the same, gone through only if two keys are alike.
    """
    suspects = alike(found)
    seen: set[str] = set()
    again: set[str] = set()
    for text in texts if suspects else ():
        if key(text) in suspects:
            (again if text in seen else seen).add(text)
    return again
