"""Figures 3 and 4 of the paper, as PNG and SVG."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from audionas.files import atomic_write

# Okabe and Ito's colours, told apart by colour-blind readers too
COLOURS = {"2-2-x": "#D55E00", "2-x-x": "#E69F00", "x-x-x": "#009E73", "ew": "#0072B2"}
plt.rcParams.update(
    {"svg.hashsalt": "audionas", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
)


def figure3(models: pd.DataFrame) -> plt.Figure:
    """Test mAP of the found sub-networks over their size, a curve for each space; bars are sd over seeds.

    Args:
        models: as `over_seeds` gives them.
    """
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    teacher = models[models.kind == "teacher"].iloc[0]
    axes.axhline(100 * teacher.mAP, color="0.4", linestyle="--", linewidth=1, label="teacher")
    for space, rows in models[models.kind == "found"].groupby("space", sort=False):
        rows = rows.sort_values("params")
        _points(axes, rows, label=f"OFA {space}", color=COLOURS[space], marker="o", linestyle="-")
    for recipe, colour, marker in (("kd", "0.25", "s"), ("baseline", "0.6", "^")):
        rows = models[(models.kind == "individual") & (models.recipe == recipe)].sort_values("params")
        label = {"kd": "KD, trained one by one", "baseline": "baseline, trained one by one"}[recipe]
        _points(axes, rows, label=label, color=colour, marker=marker, linestyle=":")
    axes.set(xlabel="parameters (thousands)", ylabel="test mAP × 100")
    axes.set_title(_title(models, "Found sub-networks"), fontsize=9, loc="left")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _points(axes, rows: pd.DataFrame, **style) -> None:
    spread = None if rows.sd.isna().all() else 100 * rows.sd
    axes.errorbar(rows.params / 1e3, 100 * rows.mAP, yerr=spread, capsize=2, markersize=5, **style)


def figure4(scores: dict[tuple[str, str], np.ndarray], models: pd.DataFrame) -> plt.Figure:
    """Box plots of the validation mAP of all sub-networks near each constraint, for each space.

    Args:
        scores: mAP of the sub-networks near (constraint, space), every seed's.
        models: as `over_seeds` gives them, for the title.
    """
    constraints = list(dict.fromkeys(constraint for constraint, _ in scores))
    spaces = list(dict.fromkeys(space for _, space in scores))
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    step = 0.8 / len(spaces)
    for (constraint, space), values in scores.items():
        place = constraints.index(constraint) + (spaces.index(space) - (len(spaces) - 1) / 2) * step
        axes.boxplot(
            [100 * values],
            positions=[place],
            widths=0.8 * step,
            patch_artist=True,
            boxprops={"facecolor": COLOURS[space], "alpha": 0.6},
            medianprops={"color": "black"},
            flierprops={"markersize": 3},
        )
        axes.annotate(
            f"n={len(values)}", (place, 0.01), xycoords=("data", "axes fraction"), ha="center", fontsize=6
        )
    axes.set_xticks(range(len(constraints)), constraints)
    axes.set(xlabel="constraint (parameters)", ylabel="validation mAP × 100")
    axes.set_title(_title(models, "Sub-networks near each constraint"), fontsize=9, loc="left")
    axes.legend(handles=[Patch(facecolor=COLOURS[s], alpha=0.6, label=s) for s in spaces], frameon=False)
    return figure


def _title(models: pd.DataFrame, text: str) -> str:
    first = models.iloc[0]
    corpus = "soundfont stand-in" if first.corpus == "soundfont" else first.corpus
    return f"{text}: {corpus}, {first.train_clips:,} training clips, seed(s) {first.seeds}"


def save(figure: plt.Figure, folder: Path, name: str) -> None:
    """Write {name}.png and {name}.svg, the same bytes for the same figure."""
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        with atomic_write(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, dpi=160, metadata=metadata)
    plt.close(figure)
