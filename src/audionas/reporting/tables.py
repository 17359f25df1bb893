"""Tables 1 and 2 of the paper, as CSV for machines and Markdown for people."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from audionas.config import Study
from audionas.files import atomic_write

STAND_IN = "soundfont (a rendered stand-in, no recordings)"


def table1(models: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Teacher, baseline and KD of each size, OFA of each constraint in the chosen space.

    Args:
        models: as `over_seeds` gives them.

    Returns:
        Parameters in thousands and as % of the teacher's, mAP x 100 and as % of the teacher's.
    """
    teacher = models[models.kind == "teacher"].iloc[0]
    individual = models[models.kind == "individual"]
    found = models[(models.kind == "found") & (models.space == study.chosen_space)]
    rows = pd.concat(
        [models[models.kind == "teacher"], individual.sort_values("params", kind="stable"), found]
    )
    name = {
        "teacher": "CNN10 (teacher)",
        "baseline": "Baseline",
        "kd": "KD",
        "OFA": f"OFA {study.chosen_space}",
    }
    return pd.DataFrame(
        {
            "Model": [name["teacher"] if r.kind == "teacher" else name[r.recipe] for r in rows.itertuples()],
            "Budget": rows["size"].fillna(rows.constraint).fillna(""),
            "#Params (k)": rows.params / 1e3,
            "% params": 100 * rows.params / teacher.params,
            "mAP": 100 * rows.mAP,
            "sd": 100 * rows.sd,
            "% teacher": 100 * rows.mAP / teacher.mAP,
            **_provenance(rows),
        }
    )


def table2(models: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The found sub-networks before and after fine-tuning, and from fresh weights; mAP x 100.

    Columns: OFA, one for each number of iterations, and Init+N, each followed by its standard deviation.
    """
    found = models[(models.kind == "found") & (models.space == study.chosen_space)].set_index("constraint")
    init = models[models.kind == "init"].set_index("constraint")
    columns = {"OFA": found}
    for n in study.finetune_iterations:
        tuned = models[(models.kind == "finetuned") & (models.iterations == n)]
        columns[f"+{n:,}"] = tuned.set_index("constraint")
    columns[f"Init+{init.iterations.iloc[0]:,}"] = init
    order = list(study.constraints)
    table = pd.DataFrame({"Budget": order, "#Params (k)": [found.params[c] / 1e3 for c in order]})
    for name, rows in columns.items():
        table[name] = [100 * rows.mAP[c] for c in order]
        table[f"sd {name}"] = [100 * rows.sd[c] for c in order]
    for name, values in _provenance(found.loc[order]).items():
        table[name] = list(values)
    return table


def _provenance(rows: pd.DataFrame) -> dict:
    return {
        "Corpus": rows.corpus.replace("soundfont", STAND_IN),
        "Train clips": rows.train_clips,
        "Test clips": rows.test_clips,
        "Iterations": rows.iterations,
        "Seeds": rows.seeds,
    }


def write(table: pd.DataFrame, folder: Path, name: str, caption: str) -> None:
    """Write {name}.csv with every column, and {name}.md with rounded numbers and mean +- sd in one cell."""
    with atomic_write(folder / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.4f")
    shown = pd.DataFrame(index=table.index)
    for column in table:
        spread = "sd" if column == "mAP" else f"sd {column}"
        if column == "sd" or column.startswith("sd "):
            continue
        if spread in table and table[spread].notna().any():
            shown[column] = [f"{m:.1f} ± {s:.1f}" for m, s in zip(table[column], table[spread], strict=True)]
        elif table[column].dtype.kind == "f":
            shown[column] = [f"{v:.1f}" for v in table[column]]
        else:
            shown[column] = table[column].astype(str)
    text = f"{caption}\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n"
    with atomic_write(folder / f"{name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
