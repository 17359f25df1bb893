"""Files that an export writes, and their comparison with PyTorch."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from audionas.deploy.targets.programs import Source
from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write
from audionas.runtime.text import line

FORMAT = 1


def compare(
    path: str | Path,
    expected: np.ndarray,
    found: np.ndarray,
    largest: float = np.inf,
    mean: float = np.inf,
) -> dict[str, Any]:
    """Return the differences between PyTorch's probabilities and those of an exported file.

    Args:
        path: of the file, for the message.
        expected, found: probabilities [clips, classes].
        largest, mean: limits.

    Raises:
        UserError: the shapes differ, a value is not finite, or a difference is above its limit.
    """
    if expected.shape != found.shape or not np.isfinite(found).all():
        raise UserError(
            f"{path}: not written: the exported network gives {found.shape} values instead of "
            f"{expected.shape}, or some that are not finite; report this with the model file"
        )
    difference = np.abs(expected.astype(np.float64) - found)
    result = {"clips": len(found), "largest": float(difference.max()), "mean": float(difference.mean())}
    for name, limit in (("largest", largest), ("mean", mean)):
        if result[name] > limit:
            raise UserError(
                f"{path}: not written: the {name} difference of a probability from PyTorch is "
                f"{result[name]:.2g}, above the tolerance {limit:g}; for int8, calibrate on more clips like "
                "those of the training, or export in float"
            )
        result[f"{name}_allowed"] = limit if np.isfinite(limit) else None
    return result


def parity_text(parity: dict[str, Any]) -> str:
    """Return the differences as part of a sentence."""
    return (
        f"probabilities differ from PyTorch's by at most {parity['largest']:.2g} (mean {parity['mean']:.2g}, "
        f"{parity['clips']} clips)"
    )


def write(path: str | Path, content: bytes, source: Source, report: dict[str, Any]) -> dict[str, Any]:
    """Write an exported file, its labels (`PATH.labels.txt`, one a line) and its metadata (`PATH.json`).

    Returns:
        The metadata.
    """
    path = Path(path)
    about = source.about
    names = about.get("names") or source.described.classes
    metadata = {
        "format": FORMAT,
        "about": about,
        "input": source.input,
        "sample_rate": source.rate,
        "samples": source.samples,
        "made": {"by": f"audionas {version('audionas')}", "versions": report.pop("versions", {})},
        **report,
    }
    labels = "".join(f"{line(name)}\n" for name in names)
    text = json.dumps(metadata, indent=1, sort_keys=True) + "\n"
    for target, data in (
        (path.with_name(f"{path.name}.labels.txt"), labels.encode()),
        (path.with_name(f"{path.name}.json"), text.encode()),
        (path, content),  # last: a file is complete once it exists
    ):
        with atomic_write(target) as temporary:
            temporary.write_bytes(data)
    return metadata
