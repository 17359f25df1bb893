"""Style of all figures, and deterministic output: equal figures give equal bytes."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from audionas.runtime.files import atomic_write

# Okabe and Ito's palette, suitable for colour-blind readers
COLOURS = {"2-2-x": "#D55E00", "2-x-x": "#E69F00", "x-x-x": "#009E73", "ew": "#0072B2"}
plt.rcParams.update(
    {"svg.hashsalt": "audionas", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    | {"text.parse_math": False}  # a `$` in a name is text
)


def save(figure: plt.Figure, folder: Path, name: str) -> None:
    """Write {name}.png and {name}.svg and close the figure. Equal figures give equal bytes."""
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        with atomic_write(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, dpi=160, metadata=metadata)
    plt.close(figure)
