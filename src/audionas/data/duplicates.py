"""Find clips whose audio is equal to the byte under several names."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from audionas.data.hashing import alike, key

Rows = Callable[[str], Iterable[Mapping[str, str]]]  # of a split
_SHOWN = 5  # groups named in one line


def duplicates(splits: Sequence[str], ledger: Rows, segments: Rows) -> list[str]:
    """Return warnings about audio that is equal to the byte, across splits or within one.

    Args:
        ledger: returns the rows of a split's download ledger. Read once, and again if two hashes are equal.
        segments: returns the rows of a split's list, for names. Read only if two hashes are equal. Memory: 8
            bytes a clip.
    """
    found = array("Q")
    for split in splits:
        found.extend(key(row["sha256"]) for row in ledger(split) if row["status"] == "ok" and row["sha256"])
    suspects = alike(np.frombuffer(found, np.uint64))
    clips: dict[str, list[tuple[str, str]]] = {}
    for split in splits if suspects else ():
        for row in ledger(split):
            if row["status"] == "ok" and row["sha256"] and key(row["sha256"]) in suspects:
                clips.setdefault(row["sha256"], []).append((split, row["clip_id"]))
    same = [group for group in clips.values() if len(group) > 1]
    wanted = {clip for group in same for clip in group}
    names = {
        (split, row["clip_id"]): row["origin"]
        for split in (splits if same else ())
        for row in segments(split)
        if (split, row["clip_id"]) in wanted
    }
    same = [listed for group in same if len(listed := [clip for clip in group if clip in names]) > 1]
    across = [group for group in same if len({split for split, _ in group}) > 1]
    warnings = []
    if across:
        first = [{split: (split, clip_id) for split, clip_id in reversed(group)} for group in across[:_SHOWN]]
        shown = "; ".join(
            " = ".join(f"{names[clip]} ({clip[0]})" for clip in group.values()) for group in first
        )
        warnings.append(
            f"{len(across):,} recordings lie in more than one split, the same to the byte under other names, "
            f"so what is measured on them was learned: {shown}{'; …' * (len(across) > _SHOWN)}. Give them "
            "one source, or keep one of them"
        )
    for split in splits:
        within = [[clip for clip in group if clip[0] == split] for group in same]
        within = [group for group in within if len(group) > 1]
        if within:
            shown = "; ".join(" = ".join(names[clip] for clip in group[:3]) for group in within[:_SHOWN])
            warnings.append(
                f"{split}: {len(within):,} recordings stand under more than one name, the same to the byte: "
                f"{shown}{'; …' * (len(within) > _SHOWN)}"
            )
    return warnings
