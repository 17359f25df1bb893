"""The report of a study: one HTML file that contains its data, its charts and the plotting library."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from audionas.reporting.captions import budget_text, gain_over_kd, measured_on
from audionas.reporting.markup import from_markdown
from audionas.reporting.plotting import COLOURS
from audionas.reporting.table_files import read_csv, shown
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import Cnn10Subnetwork
from audionas.settings.search import Search
from audionas.settings.values import parse_constraint, parse_size
from audionas.systems.once_for_all.config import Study
from audionas.systems.once_for_all.paths import released

#: Tables of the page, in order, with their headings.
SECTIONS = {
    "findings": "Findings of the paper on this corpus",
    "table1": "Accuracy by size (table 1)",
    "table2": "Fine-tuning (table 2)",
    "windows": "Sub-networks near each budget, and the regret of random search",
    "costs": "Training cost: once for all devices, or one training per device",
    "ranking": "Rank correlation of supernet scores and individual training",
    "classes": "Average precision by class",
    "pairs": "All paired comparisons",
}
FILES = "files"
_DATA = ("ship", "networks", "figure3", "figure4", "models")
_OTHERS = {"KD, one by one": "#777777", "Baseline, one by one": "#aaaaaa"}


@dataclass(frozen=True)
class Table:
    """A table of the page: name of its file, heading, caption, and displayed cells."""

    name: str
    heading: str
    caption: str
    columns: list[str]
    rows: list[list[str]]


def page(folder: Path, released: Path, title: str, study: Study, search: Search) -> str:
    """Return the report as HTML.

    The page contains its data and libraries. Its content security policy forbids network requests.

    Args:
        folder: the tables of the study.
        released: the folder of the released files, with the table `files`.
        title: name of the corpus.
        study, search: sections of the configuration.

    Raises:
        UserError: a table is missing or damaged.
    """
    data = {name: read_csv(folder / f"{name}.csv") for name in _DATA}
    if data["ship"].empty:
        raise _damaged(folder / "ship.csv", "no rows")
    try:
        cards, networks, figure3, figure4 = (
            _cards(data["ship"], search.released_tolerance),
            _networks(_formed(data["networks"]), study),
            _figure3(data["figure3"]),
            _figure4(data["figure4"], study),
        )
        shipped, tested, validated = _shipped(data["ship"]), *_bases(data["models"])
    except KeyError as error:
        raise _damaged(folder, f"made for another study: no {error}") from None
    except (ValueError, IndexError) as error:
        raise _damaged(folder, error) from None
    single = [str(text) for text in study.constraints if None in parse_constraint(text)]
    opens = min(single, key=lambda text: text.endswith("macs"), default="")
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    content = dict(
        title=title,
        study=study,
        cards=cards,
        opens=opens.removesuffix("macs"),
        opens_macs=opens.endswith("macs"),
        tolerance=parse_size(search.tolerance),
        released_tolerance=search.released_tolerance,
        networks=networks,
        shipped=shipped,
        tested=tested,
        validated=validated,
        colours=COLOURS,
        figure3=figure3.to_plotly_json(),
        figure4=figure4.to_plotly_json(),
        tables=[
            _table(released, FILES, "Released files: size and accuracy by format"),
            *(_table(folder, name, heading) for name, heading in SECTIONS.items()),
        ],
        downloads={
            FILES: _address(released / f"{FILES}.csv"),
            **{name: _address(folder / f"{name}.csv") for name in (*_DATA, *SECTIONS)},
        },
        plotly=get_plotlyjs(),
    )
    try:
        return environment.get_template("page.html").render(content)
    except jinja2.UndefinedError as error:
        raise _damaged(folder, f"made for another study: {error}") from None


def _cards(ship: pd.DataFrame, tolerance: str | None) -> list[dict]:
    """Return the rows of the table `ship`, with the texts of their cards."""
    return [
        row | {"budget": budget_text(row["Budget"], tolerance), "over": gain_over_kd(row)}
        for row in ship.to_dict("records")
    ]


def _shipped(ship: pd.DataFrame) -> list[dict]:
    """Return the released files, with the data that the page shows."""
    names = {"Model": "model", "Space": "space", "Network": "form", "valid mAP": "score", "mAP": "mAP"}
    names |= {"#Params": "params", "Multiply-adds": "macs"}
    files = ship[[*names]].rename(columns=names)
    # Rounded like the scores of sub-networks, because the page compares them.
    files["score"] = files.score.round(4)
    files["file"] = [released(text).as_posix() for text in ship.Budget]
    files["budget"] = [parse_constraint(text)._asdict() for text in ship.Budget]
    return files.to_dict("records")


def _bases(models: pd.DataFrame) -> tuple[str, str]:
    """Describe what test and validation mAP are computed over, which is the same for every model."""
    first = models.iloc[0]
    of = int(first.classes + first.classes_left_out)
    return (
        measured_on(int(first.classes), of, int(first.test_clips)),
        measured_on(int(first.valid_classes), of, int(first.valid_clips)),
    )


def _formed(networks: pd.DataFrame) -> pd.DataFrame:
    """Add a column `form`: the architecture as text."""
    ratios, depths = (networks[[f"{of}{i}" for i in (2, 3, 4)]].to_numpy() for of in "rd")
    return networks.assign(form=[str(Cnn10Subnetwork(*pair)) for pair in zip(ratios, depths, strict=True)])


def _networks(table: pd.DataFrame, study: Study) -> list[dict]:
    """Return the sub-networks of each space as columns, for the hover text of the chart."""
    spaces = []
    for name in study.spaces:
        rows = table[table.space == name]
        spaces.append(
            {
                "space": name,
                "form": rows.form.tolist(),
                "params": rows.params.tolist(),
                "macs": rows.macs.tolist(),
                "score": rows["valid mAP"].round(4).tolist(),
                "seeds": [rows[f"valid mAP {seed}"].round(1).tolist() for seed in study.seeds],
            }
        )
    return spaces


def _figure3(points: pd.DataFrame) -> go.Figure:
    figure = go.Figure()
    for curve, rows in points.groupby("Curve", sort=False):
        rows = rows.sort_values("#Params")
        space = curve.removeprefix("OFA ")
        figure.add_scatter(
            x=(rows["#Params"] / 1e3).tolist(),
            y=rows["mAP"].tolist(),
            error_y={
                "array": (rows["high mAP"] - rows["mAP"]).tolist(),
                "arrayminus": (rows["mAP"] - rows["low mAP"]).tolist(),
                "thickness": 1,
                "width": 3,
            },
            name=curve,
            text=rows["Budget"].fillna("").tolist(),
            mode="markers" if curve == "teacher" else "lines+markers",
            line={"color": COLOURS.get(space) or _OTHERS.get(curve, "#b03060")},
            hovertemplate="%{text}<br>%{x:.1f} k parameters<br>test mAP × 100: %{y:.1f}",
        )
    figure.update_layout(xaxis_title="parameters (thousands)", yaxis_title="test mAP × 100")
    return figure


def _figure4(near: pd.DataFrame, study: Study) -> go.Figure:
    figure = go.Figure()
    for space in study.spaces:
        rows = near[near.space == space]
        figure.add_box(
            x=rows.constraint.tolist(),
            y=rows["valid mAP"].round(2).tolist(),
            name=space,
            marker_color=COLOURS[space],
        )
    figure.update_layout(boxmode="group", xaxis_title="budget", yaxis_title="validation mAP × 100")
    figure.update_xaxes(type="category")
    return figure


def _table(folder: Path, name: str, heading: str) -> Table:
    path = folder / f"{name}.csv"
    try:
        table = shown(read_csv(path))
    except (KeyError, ValueError, IndexError) as error:
        raise _damaged(path, f"made for another study: {error}") from None
    path = folder / f"{name}.md"
    try:
        caption = from_markdown(path.read_text(encoding="utf-8").splitlines()[0])
    except (OSError, ValueError, IndexError) as error:
        raise _damaged(path, error) from None
    return Table(name, heading, caption, list(table.columns), table.to_numpy().tolist())


def _damaged(path: Path, error: Exception | str) -> UserError:
    return UserError(f"{path}: missing or damaged ({error}); run `audionas tables`, or `dvc repro`")


def _address(path: Path) -> str:
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
