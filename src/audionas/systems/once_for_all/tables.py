"""Tables of the study. mAP and differences are x 100.

A column `x` may have the columns `sd x` (standard deviation over seeds), `low x` and `high x` (95 % interval
over test clips).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from audionas.reporting.captions import measured_on
from audionas.reporting.table_files import QUOTED
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import LARGEST, Cnn10Subnetwork
from audionas.settings.values import parse_constraint
from audionas.systems.once_for_all import paper
from audionas.systems.once_for_all.config import Study
from audionas.systems.once_for_all.results import Estimate, Model, within_budget

_NAMES = {"baseline": "Baseline", "kd": "KD"}


class Models:
    """The models of a study, with look-up by kind and attributes."""

    def __init__(self, models: list[Model], study: Study):
        self.all, self.study = models, study

    @property
    def teacher(self) -> Model:
        """The teacher, CNN10."""
        return next(m for m in self.all if m.kind == "teacher")

    def of(self, kind: str, **what) -> list[Model]:
        """Return the models of a kind with these attributes, in the order of the lists of the study."""
        return [m for m in self.all if m.kind == kind and all(getattr(m, k) == v for k, v in what.items())]

    @property
    def measured(self) -> np.ndarray:
        """The classes that test mAP averages, bool [classes]; the same for every model."""
        return np.isfinite(self.teacher.precisions[0])

    @property
    def tested(self) -> str:
        """Description of what test mAP is computed over."""
        clips = int(self.teacher.rows.test_clips.iloc[0])
        return measured_on(int(self.measured.sum()), len(self.measured), clips)

    @property
    def validated(self) -> str:
        """Description of what validation mAP is computed over."""
        first = self.teacher.rows.iloc[0]
        return measured_on(int(first.valid_classes), len(self.measured), int(first.valid_clips))

    @property
    def other_spaces(self) -> list[str]:
        """The spaces of the study except the chosen one."""
        return [space for space in self.study.spaces if space != self.study.chosen_space]

    @property
    def smallest_kd(self) -> Model:
        """The smallest individual network trained by distillation."""
        return min(self.of("individual", recipe="kd"), key=lambda m: m.params)

    def found(self, constraint: str, space: str | None = None) -> Model:
        """Return the sub-network found for a constraint, by default in the chosen space."""
        return self.of("found", constraint=constraint, space=space or self.study.chosen_space)[0]

    def finetuned(self, constraint: str, iterations: int) -> Model:
        """Return the found sub-network after fine-tuning."""
        return self.of("finetuned", constraint=constraint, iterations=iterations)[0]

    def init(self, constraint: str) -> Model:
        """Return the found architecture, trained from random initialization."""
        return self.of("init", constraint=constraint)[0]

    def individual(self, recipe: str, size: str) -> Model:
        """Return a uniform network, trained individually."""
        return self.of("individual", recipe=recipe, size=size)[0]

    def nearest(self, model: Model) -> Model:
        """Return the network found in the chosen space that is nearest in size."""
        found = self.of("found", space=self.study.chosen_space)
        return min(found, key=lambda m: abs(m.params - model.params))


def spread(name: str, estimate: Estimate) -> dict[str, float]:
    """Return the columns of an estimate of mAP or of a difference, x 100."""
    low, high = estimate.interval.low, estimate.interval.high
    return {
        name: 100 * estimate.mean,
        f"sd {name}": 100 * estimate.sd,
        f"low {name}": 100 * low,
        f"high {name}": 100 * high,
    }


def difference(estimate: Estimate) -> dict[str, float]:
    """Return the columns of a difference: those of `spread`, and the margin over seeds and clips."""
    return {**spread("difference", estimate), "± by seeds and clips": 100 * estimate.margin}


def table1(models: Models, corpus: str) -> pd.DataFrame:
    """Return table 1: the teacher, individual networks by size, and OFA by constraint in the chosen space.

    Returns:
        Parameters in thousands and in % of the teacher, mAP x 100 and in % of the teacher, and the numbers of
        the paper in columns of their own.
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
    """Return table 2: found sub-networks as found, fine-tuned, and from random initialization."""
    study, rows = models.study, []
    for constraint in study.constraints:
        found, init = models.found(constraint), models.init(constraint)
        columns = {"OFA": found}
        for n in study.finetune_iterations:
            columns[f"+{n:,}"] = models.finetuned(constraint, n)
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
    """Return the network to release for each budget: the best by validation among all files within it.

    A file may be of any kind, space and seed, and may be made for another budget. Ties go to the smaller one.

    Args:
        models: the evaluated models.
        tolerance: tolerance of budgets on parameters, see `within_budget`.

    Returns:
        One row per budget: kind, architecture, costs and scores of the network, its file, the mean of the
        model over seeds, its difference to KD of nearest size, and whether that is `significant`.

    Raises:
        UserError: no file is within a budget.
    """
    files = [(row, model) for model in models.all for row in model.rows.itertuples()]
    rows = []
    for constraint in models.study.constraints:
        limits = parse_constraint(constraint)
        kept = [(row, model) for row, model in files if within_budget(limits, row._asdict(), tolerance)]
        if not kept:
            raise UserError(
                f"params.yaml: study.constraints: {constraint}: no network of the study is at or under it; "
                "raise the budget, or run `dvc repro`"
            )
        row, best = min(kept, key=lambda file: (-file[0].valid_mAP, file[0].params, file[0].macs))
        kd = min(models.of("individual", recipe="kd"), key=lambda m: abs(m.params - row.params))
        over = best.over(kd)
        significant = "yes" if over.significant else "no" if len(over.seeds) >= 3 else "too few seeds"
        rows.append(
            {
                "Budget": constraint,
                "Model": model_name(best),
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
                "significant": significant,
                "File": row.model,
            }
        )
    return pd.DataFrame(rows)


def model_name(model: Model) -> str:
    """Return the name of a model in tables, without its space and budget."""
    if model.kind == "individual":
        return f"{_NAMES[model.recipe]} {model.size}"
    names = {"teacher": "CNN10 (teacher)", "finetuned": f"OFA +{model.iterations:,}"}
    return names.get(model.kind, f"Init+{model.iterations:,}" if model.kind == "init" else "OFA")


def figure3(models: Models) -> pd.DataFrame:
    """Return the points of figure 3: found networks, individual networks, and the teacher."""
    rows = []
    for model in [models.teacher, *models.of("individual"), *models.of("found")]:
        names = {"teacher": "teacher", "found": f"OFA {model.space}"}
        curve = names.get(model.kind) or f"{_NAMES[model.recipe]}, one by one"
        budget = model.constraint or model.size or ""
        rows.append({"Curve": curve, "Budget": budget, "#Params": model.params, **spread("mAP", model.mAP)})
    return pd.DataFrame(rows)


def classes(models: Models, names: list[str]) -> pd.DataFrame:
    """Return average precision x 100 per class: teacher, OFA and KD at the smallest size, and OFA - KD."""
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
    columns["significant"] = ["yes" if e.significant else "no" for e in estimates]
    columns.loc[~models.measured, "significant"] = ""
    return pd.concat([table, columns], axis=1).sort_values("OFA - KD", ascending=False, kind="stable")


def metrics(models: Models) -> dict:
    """Return the main results for `dvc metrics show` and `dvc exp show`: mAP x 100, classes and clips."""
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
