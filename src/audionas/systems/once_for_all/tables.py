"""The study's tables. Differences and mAP are x 100.

A column `x` may be followed by `sd x` (over seeds), `low x` and `high x` (95 % interval over test clips).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from audionas.reporting.captions import basis
from audionas.reporting.table_files import QUOTED
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import LARGEST, Cnn10Subnetwork
from audionas.settings.values import parse_constraint
from audionas.systems.once_for_all import paper
from audionas.systems.once_for_all.config import Study
from audionas.systems.once_for_all.results import Estimate, Model, keeps

_NAMES = {"baseline": "Baseline", "kd": "KD"}


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

    @property
    def measured(self) -> np.ndarray:
        """Which classes test mAP is the mean of, bool [classes]: the same for every model."""
        return np.isfinite(self.teacher.precisions[0])

    @property
    def tested(self) -> str:
        """What test mAP is the mean over, in words."""
        clips = int(self.teacher.rows.test_clips.iloc[0])
        return basis(int(self.measured.sum()), len(self.measured), clips)

    @property
    def validated(self) -> str:
        """What validation mAP is the mean over, in words."""
        first = self.teacher.rows.iloc[0]
        return basis(int(first.valid_classes), len(self.measured), int(first.valid_clips))

    @property
    def other_spaces(self) -> list[str]:
        """The study's spaces but the chosen one."""
        return [space for space in self.study.spaces if space != self.study.chosen_space]

    @property
    def smallest_kd(self) -> Model:
        """Of the networks distilled on their own the smallest."""
        return min(self.of("individual", recipe="kd"), key=lambda m: m.params)

    def found(self, constraint: str, space: str | None = None) -> Model:
        """The sub-network found for a constraint, in the chosen space by default."""
        return self.of("found", constraint=constraint, space=space or self.study.chosen_space)[0]

    def tuned(self, constraint: str, iterations: int) -> Model:
        """It, fine-tuned."""
        return self.of("finetuned", constraint=constraint, iterations=iterations)[0]

    def init(self, constraint: str) -> Model:
        """Its architecture, from fresh weights."""
        return self.of("init", constraint=constraint)[0]

    def alone(self, recipe: str, size: str) -> Model:
        """A uniform network that was trained on its own."""
        return self.of("individual", recipe=recipe, size=size)[0]

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


def difference(estimate: Estimate) -> dict[str, float]:
    """The columns of a difference: as `spread`, and half the interval over seeds and clips both."""
    return {**spread("difference", estimate), "± by seeds and clips": 100 * estimate.margin}


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
        if model is teacher:
            name, budget, quoted = "CNN10 (teacher)", "", paper.TEACHER
        elif model.kind == "individual":
            name, budget = _NAMES[model.recipe], model.size
            quoted = paper.individual(model.recipe, model.size)
        else:
            name, budget = f"OFA {model.space}", model.constraint
            quoted = paper.found(share)
        quotes = quoted or [None] * 4
        names = ("#Params (M)", "% params", "mAP", "% teacher")
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
                **{QUOTED + n: q for n, q in zip(names, quotes, strict=True)},
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
        quoted = [at, *paper.FOUND[at]] if at else [None] * 5
        names = ("#Params (M)", "OFA", "+10 K", "+100 K", "Init+100 K")
        rows.append(row | {QUOTED + n: q for n, q in zip(names, quoted, strict=True)})
    return pd.DataFrame(rows)


def ship(models: Models, tolerance: str | None = None) -> pd.DataFrame:
    """What to ship for each budget: of all files that keep it the best by validation, which is then measured.

    A file may be of any kind, space and seed, and made for another budget. Of equals the smaller one.

    Args:
        tolerance: of the budgets on parameters, as of `keeps`.

    Columns: the budget, the network's kind, form, costs and scores; over seeds the mean of what was made so,
    and what that is over KD of nearest size, and whether that is `certain`; the file.

    Raises:
        UserError: no file keeps a budget.
    """
    files = [(row, model) for model in models.all for row in model.rows.itertuples()]
    rows = []
    for constraint in models.study.constraints:
        limits = parse_constraint(constraint)
        kept = [(row, model) for row, model in files if keeps(limits, row._asdict(), tolerance)]
        if not kept:
            raise UserError(
                f"params.yaml: study.constraints: {constraint}: no network of the study is at or under it; "
                "raise the budget, or run `dvc repro`"
            )
        row, best = min(kept, key=lambda file: (-file[0].valid_mAP, file[0].params, file[0].macs))
        kd = min(models.of("individual", recipe="kd"), key=lambda m: abs(m.params - row.params))
        over = best.over(kd)
        certain = "yes" if over.certain else "no" if len(over.seeds) >= 3 else "too few seeds"
        rows.append(
            {
                "Budget": constraint,
                "Model": named(best),
                "Space": best.space or "",
                "Network": str(Cnn10Subnetwork(row.ratios, row.depths) if row.ratios else LARGEST),
                "#Params": int(row.params),
                "Multiply-adds": int(row.macs),
                "valid mAP": 100 * row.valid_mAP,
                **spread("mAP", best.seed(row.seed).mAP),
                "mean over seeds": 100 * best.mAP.mean,
                "sd mean over seeds": 100 * best.mAP.sd,
                "KD of size": kd.size,
                "KD's #Params": int(kd.params),
                "over KD": 100 * over.mean,
                "± by seeds and clips": 100 * over.margin,
                "certain": certain,
                "File": row.model,
            }
        )
    return pd.DataFrame(rows)


def named(model: Model) -> str:
    """What tables call a model, without its space and budget."""
    if model.kind == "individual":
        return f"{_NAMES[model.recipe]} {model.size}"
    names = {"teacher": "CNN10 (teacher)", "finetuned": f"OFA +{model.iterations:,}"}
    return names.get(model.kind, f"Init+{model.iterations:,}" if model.kind == "init" else "OFA")


def figure3(models: Models) -> pd.DataFrame:
    """What figure 3 draws: every found network, those trained one by one, and the teacher."""
    rows = []
    for model in [models.teacher, *models.of("individual"), *models.of("found")]:
        names = {"teacher": "teacher", "found": f"OFA {model.space}"}
        curve = names.get(model.kind) or f"{_NAMES[model.recipe]}, one by one"
        budget = model.constraint or model.size or ""
        rows.append({"Curve": curve, "Budget": budget, "#Params": model.params, **spread("mAP", model.mAP)})
    return pd.DataFrame(rows)


def classes(models: Models, names: list[str]) -> pd.DataFrame:
    """Per class: average precision x 100 of the teacher, OFA and KD at the smallest size, and OFA less KD."""
    kd = models.smallest_kd
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
    columns.loc[~models.measured, "certain"] = ""
    return pd.concat([table, columns], axis=1).sort_values("OFA - KD", ascending=False, kind="stable")


def metrics(models: Models) -> dict:
    """The few numbers that tell the story, mAP x 100, and over how many classes and clips.

    What `dvc metrics show` and `dvc exp show` print.
    """
    study = models.study
    smallest = models.smallest_kd
    numbers = {"teacher": models.teacher, "KD": smallest}
    numbers |= {f"OFA {constraint}": models.found(constraint) for constraint in study.constraints}
    shown = {name: round(100 * model.mAP.mean, 2) for name, model in numbers.items()}
    shown["OFA-KD"] = round(100 * models.nearest(smallest).over(smallest).mean, 2)
    return shown | {
        "classes": int(models.measured.sum()),
        "test clips": int(models.teacher.rows.test_clips.iloc[0]),
    }


def _provenance(model: Model, corpus: str) -> dict:
    first = model.rows.iloc[0]
    return {
        "Corpus": corpus,
        "Train clips": first.train_clips,
        "Test clips": first.test_clips,
        "Iterations": model.iterations,
        "Seeds": " ".join(str(seed) for seed in model.rows.seed),
    }
