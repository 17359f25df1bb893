"""The report in a real browser: what it says, how its chart answers, and that it asks nobody for anything."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import made
import pandas as pd
import projects
import pytest

from audionas.cli import main
from audionas.runtime.errors import UserError
from audionas.search.budget import near, within
from audionas.settings.values import Constraint, parse_constraint, parse_size
from audionas.systems.once_for_all.architecture import space_of
from audionas.systems.registry import load_config

playwright = pytest.importorskip("playwright.sync_api", reason="needs the development tools: make install")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
    pytest.mark.browser,
    pytest.mark.slow,
]
ASKED, EXACT = "At most: your budget, such as 1M", "Budget: at most, such as 1M"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made.make(folder, seeds=[0, 1, 2], constraints=["5k", "12k", "200kmacs", "12k_270kmacs"])
        assert main(["tables"]) == 0 and main(["report"]) == 0
    return folder / "results" / "report.html"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        yield engine.chromium.launch(executable_path=CHROMIUM, args=QUIET)


@contextmanager
def opened(browser, file: Path, within: Path) -> Iterator:
    """A page in the browser; fails where it asked for anything outside `within`, or complained."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    yield page
    assert [url for url in asked if not url.startswith((within.as_uri(), "data:", "blob:"))] == []
    assert complaints == []
    context.close()


@pytest.fixture
def page(browser, report):
    """The report, opened."""
    with opened(browser, report, within=report) as page:
        page.wait_for_selector("#explorer .main-svg")
        yield page


def eventually(page, condition: str) -> None:
    """Until a JavaScript condition holds; `wait_for_function` would need what the page's policy forbids."""
    deadline = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def networks(report: Path) -> pd.DataFrame:
    return pd.read_csv(report.parent / "tables" / "networks.csv")


def shipped(report: Path) -> pd.DataFrame:
    return pd.read_csv(report.parent / "tables" / "ship.csv", dtype={"Budget": str})


def best(table: pd.DataFrame, cost: str, budget: float) -> pd.Series | None:
    within = table[table[cost] <= budget].round({"valid mAP": 4})
    order = {"valid mAP": False, cost: True}
    within = within.sort_values([*order], ascending=[*order.values()])
    return within.iloc[0] if len(within) else None


UNITS = {"params": "#Params", "macs": "Multiply-adds"}


def answer(report: Path, cost: str, budget: float) -> tuple[str, str, pd.Series | None]:
    """What the page has to call the best, in two lines, and the released file that it is, if it is one."""
    net, file = best(networks(report), cost, budget), best(shipped(report), UNITS[cost], budget)
    if file is not None and (net is None or file["valid mAP"] >= net["valid mAP"]):
        head = f"Best: {file.Model} {file.Space}, {file.Network}"
        sizes, score, of = (file["#Params"], file["Multiply-adds"]), file["valid mAP"], " (of its seed)"
    elif net is not None:
        form = " ".join(f"{net[f'r{i}']:g}x{net[f'd{i}']}" for i in (2, 3, 4))
        head, sizes, score, file = (
            f"Best: {net.space}, {form}",
            (net.params, net.macs),
            net["valid mAP"],
            None,
        )
        of = ", mean over seeds"
    else:
        return f"No sub-network has so few {'parameters' if cost == 'params' else 'multiply-adds'}", "", None
    told = f"{sizes[0]:,} parameters, {sizes[1] / 1e6:.1f} M multiply-adds, validation mAP {score:.1f}{of}"
    return head, told, file


def test_the_answer_stands_first(page, report):
    ship = pd.read_csv(report.parent / "tables" / "ship.csv")
    cards = page.locator("main section").first.locator(".card")
    headings = ["At most 5k parameters", "At most 12k parameters", "At most 200k multiply-adds"]
    headings += ["At most 12k parameters and 270k multiply-adds"]
    assert cards.locator("h3").all_inner_texts() == headings and cards.count() == len(ship)
    for i, row in ship.iterrows():
        text = cards.nth(i).inner_text()
        assert f"{row.mAP:.1f}" in text and row.File in text and f"models/release/{row.Budget}.pt" in text
        assert f"{row['#Params']:,} parameters" in text and row.Network in text and row.Model in text
        limits = parse_constraint(row.Budget)
        assert row["Multiply-adds"] <= (limits.macs or float("inf"))
        assert row["#Params"] <= (limits.params or float("inf"))
    said = page.locator("#study").inner_text()
    assert "stand-in" in said
    assert "on test over 4 classes, 60 clips; on validation over 4 classes, 12 clips" in " ".join(
        said.split()
    )


def test_for_a_budget_of_the_study_the_page_gives_the_file_that_is_released_for_it(page, report):
    for row in shipped(report).to_dict("records"):
        limits = parse_constraint(row["Budget"])
        if None not in limits:
            continue
        page.get_by_label("multiply-adds" if limits.macs else "parameters", exact=True).check()
        page.get_by_label(EXACT, exact=True).fill(str(limits.macs or limits.params))
        said = page.locator("#best").inner_text()
        assert said.startswith(f"Best: {row['Model']} {row['Space']}, {row['Network']}\n")
        file = re.match(
            r"Its file: models/release/(\S+)\.pt, (.*)\.", page.locator(".file").first.inner_text()
        )
        same = shipped(report).set_index("Budget").loc[file[1]]
        assert same.File == row["File"] and file[2] == scored(same)


def test_what_a_card_is_over_kd_is_over_seeds_and_says_what_that_is_worth(page, report):
    ship = pd.read_csv(report.parent / "tables" / "ship.csv")
    models = pd.read_csv(report.parent / "tables" / "models.csv", dtype={"size": str})
    for i, row in ship.iterrows():
        file = models[models.model == row.File].iloc[0]
        alike = ["kind", "space", "constraint", "size", "recipe", "iterations"]
        found = models[(models[alike].fillna("") == file[alike].fillna("")).all(axis=1)]
        kd = models[(models.recipe == "kd") & (models["size"] == row["KD of size"])]
        difference = found.set_index("seed").mAP - kd.set_index("seed").mAP
        assert len(difference) == 3 and row["over KD"] == pytest.approx(100 * difference.mean(), abs=1e-3)
        margin = row["± by seeds and clips"]
        worth = "significant" if abs(row["over KD"]) > margin else "not significant"
        assert f": {row['over KD']:+.1f} ± {margin:.1f}, {worth}" in page.locator(".card").nth(i).inner_text()
        assert row.significant == {"significant": "yes", "not significant": "no"}[worth]


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_of_fewer_than_three_seeds_a_card_claims_nothing(seeds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made.make(tmp_path, seeds=seeds)
    assert main(["tables"]) == 0 and main(["report"]) == 0
    text = Path("results/report.html").read_text()
    assert text.count("not significant: fewer than three seeds") == 2
    assert (
        "nan" not in text[text.index("Released networks for the budgets") : text.index("Every sub-network")]
    )


@pytest.mark.parametrize("field", [ASKED, EXACT])
@pytest.mark.parametrize("typed", ["9k", "0.012M", "12,000"])
def test_a_typed_budget_names_the_best_network_within_it(page, report, typed, field):
    budget = {"9k": 9_000}.get(typed, 12_000)
    page.get_by_label(field, exact=True).fill(typed)
    head, told, _ = answer(report, "params", budget)
    assert page.locator("output.best").all_inner_texts() == [f"{head}\n{told}"] * 2
    said = page.locator(".file").all_inner_texts()
    assert said == [kept(report, "params", budget, said[0])] * 2


def scored(row: pd.Series) -> str:
    return f"validation mAP {row['valid mAP']:.1f} (of its seed), test mAP {row.mAP:.1f}"


def kept(report: Path, cost: str, budget: int, said: str) -> str:
    """What the page has to say of the files, if it names the right one and offers what the study takes."""
    head, _, file = answer(report, cost, budget)
    ship, unit = shipped(report), UNITS[cost]
    if head.startswith("No "):
        assert said == ""
        return said
    own = ship[ship.Model.eq("OFA") & ("Best: " + ship.Space + ", " + ship.Network).eq(head)]
    if file is not None or len(own):
        row = file if file is not None else own.iloc[0]
        assert re.match(rf"Its file: models/release/\S+\.pt, {re.escape(scored(row))}\.", said), said
    else:
        row = best(ship, unit, budget)
        keeps = (
            "No file is within your budget; the smallest" if row is None else "Best file within your budget"
        )
        row = ship.loc[ship[unit].idxmin()] if row is None else row
        sizes = f"{row['#Params']:,} parameters, {row['Multiply-adds'] / 1e6:.1f} M multiply-adds"
        told = f"{row.Model} {row.Space}, {row.Network}, {sizes}, {scored(row)}."
        assert re.match(
            rf"This network has no file yet\. {keeps}: models/release/\S+\.pt, {re.escape(told)}", said
        ), (
            said,
            told,
        )
    asked = Constraint(**{cost: budget})
    adding = re.search(r"add (\S+) to study\.constraints in params\.yaml", said)
    assert bool(adding) == (searched(report, asked) and asked not in map(parse_constraint, ship.Budget))
    assert not adding or parse_constraint(adding[1]) == asked
    return said


def test_the_best_networks_own_file_is_named_or_how_to_get_one(page, report):
    table = networks(report)
    asked, said = page.get_by_label(ASKED, exact=True), page.locator(".file").first
    seen = {
        "Its file": 0,
        "This network has no file yet. Best": 0,
        "This network has no file yet. No": 0,
        "": 0,
    }
    for label, cost, ours in (
        ("parameters", "params", [5_000, 12_000]),
        ("multiply-adds", "macs", [200_000]),
    ):
        page.get_by_label(label, exact=True).check()
        for budget in [*ours, *table[cost][::20], table[cost].min() - 1, 2 * table[cost].max()]:
            asked.fill(str(budget))
            text = kept(report, cost, int(budget), said.inner_text())
            seen[next(kind for kind in seen if text.startswith(kind))] += 1
    assert all(seen.values()), seen


def searched(report: Path, constraint: Constraint) -> bool:
    """Whether the study takes that budget."""
    config = load_config(report.parents[1] / "params.yaml")
    tolerance = parse_size(config.search.tolerance)
    try:
        for space in config.study.spaces:
            searched = space_of(config, space)
            near(searched, constraint, tolerance)
            within(searched, constraint)
    except UserError:
        return False
    return True


def test_a_budget_that_was_typed_stays_when_it_is_of_another_unit(page):
    asked, other = page.get_by_label(ASKED, exact=True), page.get_by_label("multiply-adds", exact=True)
    other.check()
    assert asked.input_value() != "5k"  # which was the study's, for parameters
    asked.fill("200k")
    page.get_by_label("parameters", exact=True).check()
    assert asked.input_value() == "200k" and "Best: " in page.locator("output.best").first.inner_text()


@pytest.mark.parametrize("budgets, opens", [(["200kmacs", "12k"], "12k"), (["200kmacs"], "200k")])
def test_it_opens_with_a_budget_of_the_study(browser, budgets, opens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made.make(tmp_path, seeds=[0], constraints=budgets)
    assert main(["tables"]) == 0 and main(["report"]) == 0
    with opened(browser, Path("results/report.html").resolve(), within=tmp_path) as page:
        assert page.get_by_label(ASKED, exact=True).input_value() == opens
        cost = "parameters" if "12k" in budgets else "multiply-adds"
        assert page.get_by_label(cost, exact=True).is_checked()
        assert "Best: " in page.locator("output.best").first.inner_text()
        said = page.locator(".file").first.inner_text()
        assert said.startswith(("Its file: ", "The study's file for this budget"))


def test_a_round_budget_is_one_click(page, report):
    for label, cost in (("parameters", "params"), ("multiply-adds", "macs")):
        page.get_by_label(label, exact=True).check()
        sizes = page.locator("#rounds button").all_inner_texts()
        within = networks(report)[cost].agg(["min", "max"])
        assert sizes and all(within["min"] <= parse_size(size) <= within["max"] for size in sizes)
        for size in sizes:
            page.get_by_role("button", name=size, exact=True).click()
            expected = answer(report, cost, parse_size(size))[:2]
            assert page.locator("#best").inner_text() == "\n".join(expected)
            assert page.get_by_label(ASKED, exact=True).input_value() == size
            assert page.locator("#rounds [aria-pressed=true]").all_inner_texts() == [size]


def test_a_newcomer_would_have_the_best_network_in_ten_seconds(page):
    """By the keystroke-level model (Card, Moran and Newell, 1980) and 238 words a minute (Brysbaert, 2019).

    A model's seconds, not a clock's: all words up to the answer are read, the field clicked and typed into.
    """
    decide, point, click, home, key = 1.35, 1.1, 0.2, 0.4, 0.28
    asked, button = page.get_by_label(ASKED, exact=True), page.locator("#rounds button").first
    said = page.locator("output.best strong").first
    button.click()
    pressed, size = said.inner_text(), button.inner_text()
    asked.fill("")
    asked.click()
    page.keyboard.type(size)
    assert pressed == said.inner_text()
    shown = page.evaluate("""() => {
        const range = document.createRange();
        range.setStart(document.body, 0);
        range.setEndAfter(document.querySelector("output.best strong"));
        return range.toString();
    }""")
    assert "Best: " in shown and page.locator("output.best strong").first.inner_text() in shown
    reading = (len(shown.split()) + page.locator("#rounds button").count()) * 60 / 238
    typing = home + point + click + home + 3 * key  # 1, and M with its shift
    pressing = point + click  # a phone's as well
    assert reading > 2 and decide + max(typing, pressing) + reading < 10, reading


def test_one_types_into_the_first_screen_and_what_is_no_budget_is_said(page):
    """A click and a few keys, on a small laptop as on a phone; the chart stays as it is."""
    asked, said = page.get_by_label(ASKED, exact=True), page.locator("output.best").first
    drawn = "document.querySelector('#explorer').layout.xaxis.range.join()"
    for width, height in ((1280, 720), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate("scrollTo(0, 0)")
        before = page.evaluate(drawn)
        asked.click()
        page.keyboard.type("12k")
        assert asked.input_value() == "12k" and said.inner_text().startswith("Best: ")
        assert said.bounding_box()["y"] + said.bounding_box()["height"] < height
        page.keyboard.type("x")
        assert said.inner_text() == "Not a budget\nWrite 900k, 1.2M or 900000."
        asked.fill("")
        assert said.inner_text().startswith("Not a budget") and not page.locator(".file").first.inner_text()
        asked.fill("1.")
        assert "No sub-network has so few" in said.inner_text() and page.evaluate(drawn) == before
        asked.fill("12,345")
        page.emulate_media(color_scheme="dark" if width > 1000 else "light")
        eventually(
            page, f"matchMedia('(prefers-color-scheme: dark)').matches === {str(width > 1000).lower()}"
        )
        assert page.evaluate("[...inputs.map(input => input.value), budget].join()") == "12,345,12,345,12345"
        page.evaluate("document.activeElement.blur()")


def test_the_slider_moves_the_budget_and_its_end_takes_all(page, report):
    slider, said = page.get_by_label("budget", exact=True), set()
    low, high = networks(report).params.min(), networks(report).params.max()
    costs = {value: low * (high / low) ** (value / 1000) for value in (200, 500, 800)}
    for value in ("200", "500", "800"):
        slider.fill(value)
        said.add(page.locator("#best").inner_text())
        typed = page.get_by_label(EXACT, exact=True).input_value()
        assert page.evaluate(f"parse('{typed}')") == pytest.approx(costs[int(value)], rel=0.006)
    assert len(said) == 3
    slider.fill("1000")
    assert page.locator("#best").inner_text() == "\n".join(answer(report, "params", high)[:2])
    slider.press("ArrowLeft")
    left = page.evaluate("budget")
    assert left < high and page.locator("#best").inner_text() == "\n".join(answer(report, "params", left)[:2])
    page.get_by_label(EXACT, exact=True).fill("10")
    assert "No sub-network has so few parameters" in page.locator("#best").inner_text()


def test_sizes_are_written_as_they_are_read(page):
    wrong = page.evaluate("""() => {
        const wrong = [];
        for (let n = 7; n < 2e10; n = Math.ceil(n * 1.013))
            if (Math.abs(parse(short(n)) / n - 1) > 0.006) wrong.push([n, short(n)]);
        return wrong;
    }""")
    assert wrong == []
    assert page.evaluate("[999999, 120000, 1e9, 950].map(short)") == ["1M", "120k", "1G", "950"]
    read = ["1,234", "1.5 m", "1e6", "4.1M", "1.005M"]
    assert page.evaluate("texts => texts.map(parse)", read) == [1234, 1.5e6, 1e6, 4.1e6, 1.005e6]
    assert page.evaluate("['1,5M', '1.5.2M', '', 'x', '1e'].map(parse).every(isNaN)")


def test_the_budget_can_be_of_multiply_adds(page, report):
    page.get_by_label("multiply-adds", exact=True).check()
    table = networks(report)
    budget = int(table.macs.median())
    page.get_by_label(EXACT, exact=True).fill(str(budget))
    assert page.locator("#best").inner_text() == "\n".join(answer(report, "macs", budget)[:2])
    for limit in (budget, int(shipped(report)["Multiply-adds"].min()) - 1):
        page.get_by_label(ASKED, exact=True).fill(str(limit))
        kept(report, "macs", limit, page.locator(".file").first.inner_text())


def test_pointing_at_a_network_tells_what_it_is(page, report):
    chart = page.locator("#explorer")
    chart.scroll_into_view_if_needed()
    point = chart.locator(".scatterlayer .trace").first.locator(".point").nth(40).bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    page.wait_for_selector("#explorer .hovertext")
    text = "\n".join(chart.locator(".hovertext tspan.line").all_text_contents())
    params = int(re.search(r"([\d,]+) parameters", text)[1].replace(",", ""))
    table = networks(report)
    known = table[table.params == params]
    assert len(known) and "multiply-adds" in text and "seed 1:" in text
    score = float(re.search(r"mAP ([\d.]+)", text)[1])
    assert (known["valid mAP"] - score).abs().min() < 0.06


def test_tables_are_downloads_too(page, report, tmp_path):
    with page.expect_download() as waiting:
        page.get_by_role("link", name="networks.csv").click()
    waiting.value.save_as(tmp_path / "networks.csv")
    given = report.parent / "tables" / "networks.csv"
    assert (tmp_path / "networks.csv").read_bytes() == given.read_bytes()


@pytest.mark.parametrize("width", [360, 768, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen_in_light_and_dark(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    eventually(page, f"document.documentElement.scrollWidth <= {width}")
    back, text = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    channels = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (back, text)]
    assert (channels[0] > channels[1]) == (scheme == "light")
    eventually(
        page,
        "getComputedStyle(document.querySelector('#figure3 .xtick text')).fill"
        " === getComputedStyle(document.body).color",
    )


def test_names_from_the_data_are_text(report, browser, tmp_path, monkeypatch):
    """A corpus' or class' name that looks like HTML stays a name."""
    monkeypatch.chdir(tmp_path)
    made.make(tmp_path, seeds=[0], ranked=[])
    names = ["<img src=x onerror=alert(1)>", "a|b", "d", "</script>"]
    rows = "".join(f"{i},{i},{name}\n" for i, name in enumerate(names))
    Path("data/segments/classes.csv").write_text("index,mid,display_name\n" + rows)
    assert main(["tables"]) == 0 and main(["report"]) == 0
    page = browser.new_page()
    page.goto(Path("results/report.html").resolve().as_uri())
    page.wait_for_selector("#explorer .main-svg")
    cells = page.locator("#classes td:first-child").all_text_contents()
    assert set(cells) == set(names)
    page.close()


def test_a_missing_table_is_named(report, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    made.make(tmp_path, seeds=[0])
    assert main(["report"]) == 1
    assert "results/tables/ship.csv: missing or damaged" in capsys.readouterr().err
    assert main(["tables"]) == 0
    made.make(tmp_path, seeds=[0, 1])
    assert main(["report"]) == 1
    assert "made for another study" in capsys.readouterr().err


def test_what_dvc_shows_of_a_study_is_there_and_works_offline(report, browser):
    folder = projects.project(report.parents[1])
    shutil.copy(projects.ROOT / "dvc.yaml", folder)
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    shown = json.loads(projects.run(folder, "dvc", "metrics", "show", "--json"))
    assert shown[""]["data"]["results/metrics.json"]["data"] == metrics
    experiments = StringIO(projects.run(folder, "dvc", "exp", "show", "--csv"))
    workspace = pd.read_csv(experiments).iloc[0]
    assert dict(workspace[list(metrics)]) == metrics and workspace["supernet.sampled_iterations"] == 8
    projects.run(folder, "dvc", "plots", "show")
    plots = folder / "dvc_plots"
    with opened(browser, plots / "index.html", within=plots) as page:
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 2 and min(widths) > 400
