"""Figures 3 and 4 of the paper."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from audionas.reporting.plotting import COLOURS, plt
from audionas.systems.once_for_all.config import Study
from audionas.systems.once_for_all.results import Model
from audionas.systems.once_for_all.tables import Models


def figure3(models: Models, title: str) -> plt.Figure:
    """Plot test mAP of the found sub-networks over their size, one curve per space.

    Error bars are the 95 % interval over test clips. The teacher and individual networks are shown as well.
    """
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    axes.axhline(100 * models.teacher.mAP.mean, color="0.4", linestyle="--", linewidth=1, label="teacher")
    for space in models.study.spaces:
        chosen = models.of("found", space=space)
        _points(axes, chosen, label=f"OFA {space}", color=COLOURS[space], marker="o", linestyle="-")
    for recipe, colour, marker in (("kd", "0.25", "s"), ("baseline", "0.6", "^")):
        label = {"kd": "KD, trained one by one", "baseline": "baseline, trained one by one"}[recipe]
        chosen = models.of("individual", recipe=recipe)
        _points(axes, chosen, label=label, color=colour, marker=marker, linestyle=":")
    axes.set(xlabel="parameters (thousands)", ylabel="test mAP × 100")
    axes.set_title(_headline("Found sub-networks", title, models.study), fontsize=9, loc="left")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _points(axes, models: list[Model], **style) -> None:
    models = sorted(models, key=lambda m: m.params)
    middle = np.array([100 * m.mAP.mean for m in models])
    ends = np.array([[100 * end for end in m.mAP.interval[1:]] for m in models]).T
    axes.errorbar(
        [m.params / 1e3 for m in models],
        middle,
        yerr=np.abs(ends - middle),
        capsize=2,
        markersize=5,
        **style,
    )


def figure4(near: pd.DataFrame, title: str, study: Study) -> plt.Figure:
    """Draw box plots of the validation mAP of all sub-networks near each constraint, per space.

    Args:
        near: the table of `over_seeds`; a score is the mean over seeds.
    """
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    step = 0.8 / len(study.spaces)
    for (constraint, space), rows in near.groupby(["constraint", "space"], sort=False):
        middle = (len(study.spaces) - 1) / 2
        place = study.constraints.index(constraint) + (study.spaces.index(space) - middle) * step
        axes.boxplot(
            [rows["valid mAP"].to_numpy()],
            positions=[place],
            widths=0.8 * step,
            patch_artist=True,
            boxprops={"facecolor": COLOURS[space], "alpha": 0.6},
            medianprops={"color": "black"},
            flierprops={"markersize": 3},
        )
        axes.annotate(
            f"n={len(rows)}", (place, 0.01), xycoords=("data", "axes fraction"), ha="center", fontsize=6
        )
    axes.set_xticks(range(len(study.constraints)), study.constraints)
    axes.set(xlabel="constraint", ylabel="validation mAP × 100")
    axes.set_title(_headline("Sub-networks near each constraint", title, study), fontsize=9, loc="left")
    axes.legend(
        handles=[Patch(facecolor=COLOURS[s], alpha=0.6, label=s) for s in study.spaces], frameon=False
    )
    return figure


def _headline(text: str, title: str, study: Study) -> str:
    return f"{text}: {title.partition(' (')[0]}, seed(s) {' '.join(map(str, study.seeds))}"
