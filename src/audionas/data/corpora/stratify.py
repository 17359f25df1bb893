"""Split groups of clips so that each part has its share of every class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def assign(groups: np.ndarray, labels: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Assign each group to a part, greedily, after scikit-learn's StratifiedGroupKFold.

    Groups are assigned one by one, large ones first. Each goes where the squared differences between its
    labels' actual and wanted shares grow least. Every part gets a group of each label with enough groups, as
    far as the combinations of labels allow. A label with fewer groups goes to the first parts.

    Args:
        groups, labels: int [n], one entry for each clip and label: group `groups[i]`, from 0, has a clip with
            label `labels[i]`, from 0. A label that all clips have balances the number of clips.
        shares: of each part, positive; the most important parts first.
        seed: for the order of groups of equal size.

    Returns:
        int8 [groups]: index of the part.
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
    """Return the parts that a group may join so that its labels can still reach each (or the first) part."""
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
