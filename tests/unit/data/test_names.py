"""Names of classes, corpora and budgets that look like numbers, formulas or markup, through every output."""

import csv
import logging
import re
from html.parser import HTMLParser
from pathlib import Path

import made
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import ANY

from audionas.cli import PlainFormatter, main
from audionas.data import paths as data_paths
from audionas.data.ledger import CLASSES, read_rows, write_rows
from audionas.reporting.captions import corpus_title
from audionas.reporting.table_files import read_csv, write
from audionas.runtime.errors import UserError
from audionas.runtime.text import line
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.cards import network_card
from audionas.systems.once_for_all.results import model_files, read_result

FORMULA = re.compile(r"[=+\-@\t\r＝＋－＠]")
HOSTILE = ["nan", "=cmd()|' /C calc'!A0", "</script>\x1b[31m<b>", "[007]\\"]
MIDS = ["007", "1e5", "None", "-1+1"]


def table_of(names: list[str]) -> pd.DataFrame:
    values = [float(i) for i, _ in enumerate(names)]
    return pd.DataFrame({"Class": names, "mAP": values, "Constraint": ["1e5"] * len(names), "front": True})


def cells(row: str) -> list[str]:
    """The cells of a row of a Markdown table, as GitHub parts them."""
    return [cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", row)[1:-1]]


@settings(max_examples=60, deadline=None)
@given(st.lists(ANY.filter(lambda name: "\ud800" not in name), min_size=1, max_size=5))
def test_a_table_of_any_names_reads_back_and_acts_on_nothing(tmp_path_factory, names):
    folder = tmp_path_factory.getbasetemp()
    write(table_of(names), folder, "names", "Of names.")
    read = read_csv(folder / "names.csv")
    assert read.Class.tolist() == [line(name, 2_000) for name in names]
    assert read.Constraint.tolist() == ["1e5"] * len(names) and read.front.all()
    assert read["mAP"].tolist() == list(range(len(names)))
    with (folder / "names.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            assert not FORMULA.match(row[0]) or re.fullmatch(r"[+-]?[\d.,]+(e[+-]?\d+)?", row[0], re.I), row
    markdown = (folder / "names.md").read_text(encoding="utf-8").splitlines()[2:]
    assert len(markdown) == len(names) + 2
    assert {len(cells(row)) for row in markdown} == {4}
    latex = (folder / "names.tex").read_text(encoding="utf-8")
    rows = latex[latex.index("\\midrule") :].splitlines()[1 : 1 + len(names)]
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == 3 and row.endswith(r"\\"), row
        assert row.lstrip()[0] not in "[*", row


def test_columns_of_numbers_hold_numbers(tmp_path):
    write(table_of(["a", "b"]), tmp_path, "names", "Of names.")
    text = (tmp_path / "names.csv").read_text()
    (tmp_path / "names.csv").write_text(text.replace("0,1e5", "zero,1e5"))
    with pytest.raises(
        UserError, match=r"names\.csv: missing or damaged \(column 'mAP' has a value that is not a number"
    ):
        read_csv(tmp_path / "names.csv")


class Page(HTMLParser):
    """The texts of the table `classes`, and the tags that names could have made."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.cells, self._in, self._cell = [], [], False, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._in |= dict(attributes).get("id") == "classes"
        self._cell = "" if tag == "td" and self._in else None

    def handle_endtag(self, tag):
        if tag == "td" and self._cell is not None:
            self.cells.append(self._cell)
            self._cell = None
        self._in &= tag != "details"

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = made.make(folder, seeds=[0], ranked=[])
        write_rows(
            data_paths.CLASSES,
            CLASSES,
            [dict(zip(CLASSES, row, strict=True)) for row in zip(range(4), MIDS, HOSTILE, strict=True)],
        )
        assert main(["tables"]) == 0 and main(["report"]) == 0
        yield config


def test_the_page_shows_hostile_names_as_they_are(study):
    text = Path("results/report.html").read_text(encoding="utf-8")
    page = Page(text)
    shown = page.cells[:: len(page.cells) // 4]
    assert sorted(shown) == sorted(line(name) for name in HOSTILE)
    assert page.tags.count("script") == 2 and "b" not in page.tags and "\x1b" not in text


def test_the_card_keeps_ids_and_names_as_text(study):
    path = next(iter(model_files(study.study)))
    tested = read_result(paths.evaluation(path), "mAP")
    tested["AP"] = dict(zip(MIDS, [0.5, None, 0.25, 1.0], strict=True))
    settings = {"audio": study.audio.model_dump(), "features": study.features.model_dump()}
    about = {"kind": "teacher", "seed": 0, "iterations": 12, "train_clips": 24, "settings": settings}
    names = {row["mid"]: row["display_name"] for row in read_rows(data_paths.CLASSES, CLASSES)}
    about |= {"classes": MIDS, "names": [names[mid] for mid in MIDS], "thresholds": [0.5] * 4}
    about["thresholds_by"] = "F1 on validation"
    files = pd.DataFrame([{"Budget": "5k", "Format": "pytorch", "File": "5k.pt", "ms": float("nan")}])
    shipped = read_csv(paths.TABLES / "ship.csv").iloc[0]
    card = network_card("0" * 64, shipped, about, tested, "over 1 class", "A <b>|corpus|</b>", files, "")
    rows = [cells(row) for row in card[card.index("## Classes") :].splitlines() if row.startswith("|")][2:]
    assert [row[0] for row in rows] == MIDS and [row[2] for row in rows] == ["50.0", "", "25.0", "100.0"]
    assert rows[0][1] == "nan" and rows[1][1] == r"=cmd()\|' /C calc'!A0"
    assert "over 3 of 4 classes, 60 clips" in card
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(head)["model-index"][0]["results"][0]["dataset"]["name"] == "A <b>|corpus|</b>"
    assert not re.search(r"(?<!\\)<b>", body) and "\x1b" not in card


def test_a_corpus_title_is_no_mathematics(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made.make(tmp_path, seeds=[0], ranked=[])
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["corpus"] = {"name": "folder", "lists": "-", "audio": "-", "title": "R&D $x^{ a|b"}
    params["corpus"] |= {"least_coverage": 1.0, "labels_column": "labels", "seed": 0}
    params["corpus"]["split"] = {"train": 0.8, "valid": 0.1, "test": 0.1}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    plt.close("all")  # of other tests
    assert main(["tables"]) == 0
    assert not plt.get_fignums()
    assert r"corpus R&D $x^{ a\|b, 24 clips" in Path("results/tables/table1.md").read_text()


def test_titles_are_one_line():
    class Corpus:
        name, title = "folder", "two\nlines\u202e"

    assert corpus_title(Corpus) == r"two lines\u202e"


def test_an_error_does_not_write_escape_codes_to_the_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "\x1b]0;title\x07.yaml"]) == 1
    said = capsys.readouterr().err
    assert "\x1b" not in said and "\x07" not in said and r"\x1b]0;title\x07.yaml" in said


def test_a_log_does_not_write_escape_codes_to_the_terminal():
    record = logging.LogRecord("any", logging.INFO, "", 1, "clip %s\nwent", ("\x1b[2J",), None)
    assert PlainFormatter("%(levelname)s %(message)s").format(record) == "INFO clip \\x1b[2J\nwent"
