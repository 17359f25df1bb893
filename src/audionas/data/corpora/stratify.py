"""Groups of clips shared out so that each part has its share of every class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def assign(groups: np.ndarray, labels: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """The part of each group: a greedy choice, after scikit-learn's StratifiedGroupKFold.

    Groups come one by one, large ones first. Each goes where the squared differences between the shares of
    its labels' clips and those wanted grow least. Every part gets a group of each label that has enough of
    them, as far as the labels that stand together allow; of a label that has fewer, the first parts.

    Args:
        groups, labels: int [n], one entry a clip and label: label `labels[i]`, from 0, stands on a clip of
            group `groups[i]`, from 0. A label of every clip balances the number of clips.
        shares: of each part, positive; those that matter most first.
        seed: of the order of groups of one size.

    Returns:
        int8 [groups]: number of the part.
    """
    number, kinds = int(groups.max()) + 1, int(labels.max()) + 1
    pairs, clips = np.unique(groups.astype(np.int64) * kinds + labels, return_counts=True)
    group, label = pairs // kinds, pairs % kinds
    begins = np.searchsorted(group, np.arange(number + 1))
    order = np.lexsort(
        (np.random.default_rng(seed).permutation(number), -np.bincount(group, clips**2, number))
    )
    totals = np.bincount(label, clips, kinds)
    weight = 1 / np.maximum(totals, 1) ** 2
    there = [[0] * kinds for _ in shares]  # clips of each label in each part
    left = np.bincount(label, minlength=kinds).tolist()  # groups of each label that have no part yet
    home = np.empty(number, np.int8)
    for one in order.tolist():
        own = slice(begins[one], begins[one + 1])
        counts = list(zip(label[own].tolist(), clips[own].tolist(), strict=True))

        def cost(part: int, counts=counts) -> float:
            has = there[part]
            return sum(n * (has[k] + n / 2) * weight[k] for k, n in counts) / shares[part]

        home[one] = part = min(_parts(counts, there, left), key=cost)
        for k, n in counts:
            there[part][k] += n
            left[k] -= 1
    return home


def _parts(counts: list[tuple[int, int]], there: list[list[int]], left: list[int]) -> list[int]:
    """Where a group may go, so that every label of it still reaches each part, or at least the first ones."""
    parts = list(range(len(there)))
    needs = []
    for k, _ in sorted(counts, key=lambda pair: left[pair[0]]):
        lacking = [part for part in parts if not there[part][k]]
        if left[k] <= len(lacking):
            needs.append(lacking[: left[k]])
    if [0] in needs:
        return [0]
    for need in needs:
        parts = [part for part in parts if part in need] or parts
    return parts
