"""How every figure is drawn and written: the same bytes for the same figure."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from audionas.runtime.files import atomic_write

# Okabe and Ito's colours, told apart by colour-blind readers too
COLOURS = {"2-2-x": "#D55E00", "2-x-x": "#E69F00", "x-x-x": "#009E73", "ew": "#0072B2"}
plt.rcParams.update(
    {"svg.hashsalt": "audionas", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    | {"text.parse_math": False}  # a `$` in a name is one
)


def save(figure: plt.Figure, folder: Path, name: str) -> None:
    """Write {name}.png and {name}.svg, the same bytes for the same figure."""
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        with atomic_write(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, dpi=160, metadata=metadata)
    plt.close(figure)
