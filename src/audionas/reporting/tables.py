"""The study's tables, as CSV for machines, Markdown for people and LaTeX for papers.

A column `x` may be followed by `sd x` (over seeds), `low x` and `high x` (95 % interval over test clips);
people see them in one cell. Differences and mAP are x 100.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from audionas.config import Study
from audionas.files import atomic_write
from audionas.reporting import paper
from audionas.reporting.results import Estimate, Model

STAND_IN = "soundfont (a rendered stand-in, no recordings)"
_NAMES = {"baseline": "Baseline", "kd": "KD"}
_PAPER = "AudioSet: "  # before the name of a column that quotes the paper


def title(corpus) -> str:
    """What tables call a corpus; the stand-in says loudly what it is."""
    return STAND_IN if corpus.name == "soundfont" else getattr(corpus, "title", None) or corpus.name


class Models:
    """The models of a study, looked up by what they are."""

    def __init__(self, models: list[Model], study: Study):
        self.all, self.study = models, study

    @property
    def teacher(self) -> Model:
        """CNN10."""
        return next(m for m in self.all if m.kind == "teacher")

    def of(self, kind: str, **what) -> list[Model]:
        """Models of a kind with these attributes, in the order of the study's lists."""
        return [m for m in self.all if m.kind == kind and all(getattr(m, k) == v for k, v in what.items())]

    def found(self, constraint: str, space: str | None = None) -> Model:
        """The sub-network found for a constraint, in the chosen space by default."""
        return self.of("found", constraint=constraint, space=space or self.study.chosen_space)[0]

    def tuned(self, constraint: str, iterations: int) -> Model:
        """It, fine-tuned."""
        return self.of("finetuned", constraint=constraint, iterations=iterations)[0]

    def init(self, constraint: str) -> Model:
        """Its architecture, from fresh weights."""
        return self.of("init", constraint=constraint)[0]

    def nearest(self, model: Model) -> Model:
        """Of the networks found in the chosen space the one nearest in size."""
        found = self.of("found", space=self.study.chosen_space)
        return min(found, key=lambda m: abs(m.params - model.params))


def spread(name: str, estimate: Estimate) -> dict[str, float]:
    """The columns of an estimate of mAP, or of a difference, x 100."""
    low, high = estimate.interval.low, estimate.interval.high
    return {
        name: 100 * estimate.mean,
        f"sd {name}": 100 * estimate.sd,
        f"low {name}": 100 * low,
        f"high {name}": 100 * high,
    }


def table1(models: Models, corpus: str) -> pd.DataFrame:
    """Teacher, baseline and KD of each size, OFA of each constraint in the chosen space; the paper's beside.

    Returns:
        Parameters in thousands and as % of the teacher's, mAP x 100 and as % of the teacher's.
    """
    study, teacher = models.study, models.teacher
    alone = sorted(models.of("individual"), key=lambda m: m.params)
    found = models.of("found", space=study.chosen_space)
    rows = []
    for model in [teacher, *alone, *found]:
        share = model.params / teacher.params
        quoted = ("", "")
        if model is teacher:
            name, budget, quoted = "CNN10 (teacher)", "", paper.TEACHER
        elif model.kind == "individual":
            name, budget = _NAMES[model.recipe], model.size
            quoted = paper.INDIVIDUAL.get((model.recipe, model.size), quoted)
        else:
            name, budget = f"OFA {model.space}", model.constraint
            if at := paper.found_at(share):
                quoted = (at, paper.FOUND[at][0])
        rows.append(
            {
                "Model": name,
                "Budget": budget,
                "#Params (k)": model.params / 1e3,
                "M multiply-adds": model.macs / 1e6,
                "% params": 100 * share,
                **spread("mAP", model.mAP),
                "% teacher": 100 * model.mAP.mean / teacher.mAP.mean,
                **_provenance(model, corpus),
                f"{_PAPER}#Params (M)": quoted[0],
                f"{_PAPER}mAP": quoted[1],
            }
        )
    return pd.DataFrame(rows)


def table2(models: Models, corpus: str) -> pd.DataFrame:
    """The found sub-networks before and after fine-tuning, and from fresh weights; the paper's beside."""
    study, rows = models.study, []
    for constraint in study.constraints:
        found, init = models.found(constraint), models.init(constraint)
        columns = {"OFA": found}
        for n in study.finetune_iterations:
            columns[f"+{n:,}"] = models.tuned(constraint, n)
        columns[f"Init+{init.iterations:,}"] = init
        row = {"Budget": constraint, "#Params (k)": found.params / 1e3}
        for name, model in columns.items():
            row |= spread(name, model.mAP)
        row |= _provenance(found, corpus)
        at = paper.found_at(found.params / models.teacher.params)
        quoted = [at, *paper.FOUND[at]] if at else [""] * 5
        names = ("#Params (M)", "OFA", "+10 K", "+100 K", "Init+100 K")
        rows.append(row | {_PAPER + n: q for n, q in zip(names, quoted, strict=True)})
    return pd.DataFrame(rows)


def classes(models: Models, names: list[str]) -> pd.DataFrame:
    """Per class: average precision x 100 of the teacher, OFA and KD at the smallest size, and OFA less KD."""
    study = models.study
    kd = min((m for m in models.of("individual", recipe="kd")), key=lambda m: m.params)
    found = models.nearest(kd)
    table = pd.DataFrame(
        {
            "Class": names,
            "Teacher": 100 * models.teacher.precisions.mean(axis=0),
            f"OFA {found.constraint}": 100 * found.precisions.mean(axis=0),
            f"KD {kd.size}": 100 * kd.precisions.mean(axis=0),
        }
    )
    estimates = found.class_by_class(kd)
    columns = pd.DataFrame([spread("OFA - KD", e) for e in estimates])
    columns["certain"] = ["yes" if e.certain else "no" for e in estimates]
    if len(study.seeds) == 1:
        columns["sd OFA - KD"] = np.nan
    return pd.concat([table, columns], axis=1).sort_values("OFA - KD", ascending=False, kind="stable")


def metrics(models: Models) -> dict:
    """The few numbers that tell the story, mAP x 100: what `dvc metrics show` and `dvc exp show` print."""
    study = models.study
    smallest = min(models.of("individual", recipe="kd"), key=lambda m: m.params)
    numbers = {"teacher": models.teacher, "KD": smallest}
    numbers |= {f"OFA {constraint}": models.found(constraint) for constraint in study.constraints}
    shown = {name: round(100 * model.mAP.mean, 2) for name, model in numbers.items()}
    shown["OFA-KD"] = round(100 * models.nearest(smallest).over(smallest).mean, 2)
    return shown


def _provenance(model: Model, corpus: str) -> dict:
    first = model.rows.iloc[0]
    return {
        "Corpus": corpus,
        "Train clips": first.train_clips,
        "Test clips": first.test_clips,
        "Iterations": model.iterations,
        "Seeds": " ".join(str(seed) for seed in model.rows.seed),
    }


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """What people see: rounded numbers, and an estimate with its spread and interval in one cell."""
    result = pd.DataFrame(index=table.index)
    for column in table:
        if column.startswith(("sd ", "low ", "high ")):
            continue
        texts = [_number(value) for value in table[column]]
        if f"sd {column}" in table and table[f"sd {column}"].notna().any():
            texts = [f"{t} ± {sd:.1f}" for t, sd in zip(texts, table[f"sd {column}"], strict=True)]
        if f"low {column}" in table:
            ends = zip(texts, table[f"low {column}"], table[f"high {column}"], strict=True)
            texts = [f"{t} [{low:.1f}, {high:.1f}]" for t, low, high in ends]
        result[column] = texts
    return result


def _number(value) -> str:
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            return ""
        return f"{value:.1f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
    return str(value)


def write(table: pd.DataFrame, folder: Path, name: str, caption: str) -> None:
    """{name}.csv with every column; {name}.md and {name}.tex with what people see, under the caption."""
    with atomic_write(folder / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.7g")
    seen = shown(table)
    text = f"{caption}\n\n{seen.to_markdown(index=False, disable_numparse=True)}\n"
    with atomic_write(folder / f"{name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    rows = tabulate(seen.to_numpy(), list(seen.columns), tablefmt="latex_booktabs", disable_numparse=True)
    for sign, command in (("±", r"$\pm$"), ("×", r"$\times$"), ("−", "$-$")):
        rows, caption = rows.replace(sign, command), caption.replace(sign, command)
    caption = caption.replace("%", r"\%").replace("#", r"\#")
    text = (
        "% needs \\usepackage{booktabs}\n\\begin{table}\n\\caption{"
        + caption
        + "}\n"
        + rows
        + "\n\\end{table}\n"
    )
    with atomic_write(folder / f"{name}.tex") as temporary:
        temporary.write_text(text, encoding="utf-8")
