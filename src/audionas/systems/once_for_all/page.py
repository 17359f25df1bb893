"""The study on one page: an HTML file with its data, its charts and the library that draws them inside."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from audionas.reporting.captions import basis, budget, over_kd
from audionas.reporting.markup import from_markdown
from audionas.reporting.plotting import COLOURS
from audionas.reporting.table_files import read_csv, shown
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import Cnn10Subnetwork
from audionas.settings.search import Search
from audionas.settings.values import parse_constraint, parse_size
from audionas.systems.once_for_all.config import Study
from audionas.systems.once_for_all.paths import released

#: Tables of the page after the answer, in its order, with what each is about.
SECTIONS = {
    "findings": "Which of the paper's findings hold here",
    "table1": "Sizes side by side (table 1)",
    "table2": "Fine-tuning (table 2)",
    "windows": "Sub-networks near each budget, and what random search loses",
    "costs": "What it costs: once for all devices, or a training for each",
    "ranking": "Do the supernet's scores rank networks as training them alone does?",
    "classes": "Class by class",
    "pairs": "Every paired comparison",
}
_DATA = ("ship", "networks", "figure3", "figure4", "models")
_OTHERS = {"KD, one by one": "#777777", "Baseline, one by one": "#aaaaaa"}


@dataclass(frozen=True)
class Table:
    """A table of the page: its file's name, a heading, and what people see."""

    name: str
    heading: str
    caption: str
    columns: list[str]
    rows: list[list[str]]


def page(folder: Path, title: str, study: Study, search: Search) -> str:
    """The report as HTML, from the tables that the study left in `folder`.

    It asks for nothing over the network: library and data stand in it, and its policy forbids the rest.

    Raises:
        UserError: a table is missing or damaged; names the file.
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
        tables=[_table(folder, name, heading) for name, heading in SECTIONS.items()],
        downloads={name: _address(folder / f"{name}.csv") for name in (*_DATA, *SECTIONS)},
        plotly=get_plotlyjs(),
    )
    try:
        return environment.get_template("page.html").render(content)
    except jinja2.UndefinedError as error:
        raise _damaged(folder, f"made for another study: {error}") from None


def _cards(ship: pd.DataFrame, tolerance: str | None) -> list[dict]:
    """The rows of the table `ship`, with what their cards say."""
    return [
        row | {"budget": budget(row["Budget"], tolerance), "over": over_kd(row)}
        for row in ship.to_dict("records")
    ]


def _shipped(ship: pd.DataFrame) -> list[dict]:
    """The released files, with what the page says of them."""
    names = {"Model": "model", "Space": "space", "Network": "form", "valid mAP": "score", "mAP": "mAP"}
    names |= {"#Params": "params", "Multiply-adds": "macs"}
    files = ship[[*names]].rename(columns=names)
    # Rounded as the scores of sub-networks are, which these are compared with.
    files["score"] = files.score.round(4)
    files["file"] = [released(text).as_posix() for text in ship.Budget]
    files["budget"] = [parse_constraint(text)._asdict() for text in ship.Budget]
    return files.to_dict("records")


def _bases(models: pd.DataFrame) -> tuple[str, str]:
    """What test and validation mAP are means over, in words: the same for every model."""
    first = models.iloc[0]
    of = int(first.classes + first.classes_left_out)
    return (
        basis(int(first.classes), of, int(first.test_clips)),
        basis(int(first.valid_classes), of, int(first.valid_clips)),
    )


def _formed(networks: pd.DataFrame) -> pd.DataFrame:
    """With a column `form`, as people write it."""
    ratios, depths = (networks[[f"{of}{i}" for i in (2, 3, 4)]].to_numpy() for of in "rd")
    return networks.assign(form=[str(Cnn10Subnetwork(*pair)) for pair in zip(ratios, depths, strict=True)])


def _networks(table: pd.DataFrame, study: Study) -> list[dict]:
    """Each space's sub-networks as columns: what the chart shows where one points."""
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
