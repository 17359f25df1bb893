"""What the study says of the paper's findings, on made scores and predictions with planted differences."""

import json
import re
from pathlib import Path

import made
import numpy as np
import pandas as pd
import pytest

from audionas.cli import main
from audionas.search.cnn10 import Cnn10Space
from audionas.systems.once_for_all import paper, paths
from audionas.systems.once_for_all.architecture import space_of
from audionas.systems.once_for_all.config import Study
from audionas.systems.once_for_all.findings import deviation_difference

STUDY = Study(
    spaces=["2-2-x", "x-x-x"],
    constraints=["26k", "61k", "112k"],
    sizes=["0.6x1"],
    finetune_iterations=[1],
    seeds=[0, 1, 2],
    draws=60,
)


def near(rng, spread: float = 1.0, alike: float = 0.3) -> pd.DataFrame:
    """Scores near three constraints, much the same with every seed; x-x-x deviates `spread` times as much."""
    rows = []
    for space, counts, scale in (("2-2-x", (6, 16, 2), 1.0), ("x-x-x", (37, 42, 9), spread)):
        for constraint, count in zip(STUDY.constraints, counts, strict=True):
            of_all = rng.normal(0, 1, count)
            for seed in STUDY.seeds:
                scores = 60 + scale * (of_all + rng.normal(0, alike, count))
                rows += [(space, constraint, seed, str(i), score) for i, score in enumerate(scores)]
    return pd.DataFrame(rows, columns=["space", "constraint", "seed", "network", "valid mAP"])


@pytest.mark.slow
def test_spaces_of_one_spread_are_seldom_called_steadier():
    rng, trials = np.random.default_rng(0), 250
    wrong = sum(deviation_difference(near(rng), "x-x-x", STUDY)[0].significant for _ in range(trials))
    assert wrong / trials <= 0.07


def test_a_space_that_deviates_more_is_found_by_the_constraints_that_hold_enough():
    table = near(np.random.default_rng(0), spread=3.0)
    by, constraints = deviation_difference(table, "x-x-x", STUDY)
    assert constraints == ["26k", "61k"] and by.significant
    groups = table[table.constraint != "112k"].groupby(["constraint", "seed", "space"])["valid mAP"]
    deviations = groups.agg(lambda s: (s - s.median()).abs().mean()).unstack()
    each = (deviations["x-x-x"] - deviations["2-2-x"]).groupby("seed").mean() / 100
    assert by.seeds == pytest.approx(each.tolist())
    shuffled, _ = deviation_difference(table.sample(frac=1, random_state=0), "x-x-x", STUDY)
    assert shuffled.seeds == by.seeds and shuffled.margin == by.margin  # whatever the rows' order
    other, _ = deviation_difference(near(np.random.default_rng(0), spread=1 / 3), "x-x-x", STUDY)
    assert other.mean < 0 and other.significant


def test_constraints_with_few_sub_networks_are_not_compared():
    table = near(np.random.default_rng(0))
    assert deviation_difference(table[table.network.astype(int) < 4], "x-x-x", STUDY) is None


SMALL, LARGE = "3.4k", "13.7k"  # of a network of 19,784 parameters: 17 and 69 %, as the paper's 0.9 and 3.6 M
OFA, NONE, STRONG = [3, 3, 3, 0], 0, 6  # by class
PLANTED = {
    f"found/2-2-x-{SMALL}": OFA,
    "individual/kd-0.6x1": [0, 0, 0, 3],
    "individual/baseline-0.6x1": 3,
    f"init/{SMALL}": OFA,
    f"found/x-x-x-{SMALL}": NONE,
    f"found/ew-{SMALL}": STRONG,
    f"finetuned/{SMALL}-3": NONE,
    f"finetuned/{SMALL}-6": OFA,
    f"found/2-2-x-{LARGE}": 1,
    f"found/x-x-x-{LARGE}": 1,
    f"finetuned/{LARGE}-6": STRONG,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        wanted = {"seeds": [0, 1, 2], "spaces": ["2-2-x", "x-x-x", "ew"], "ranked": list(range(8))}
        config = made.make(
            folder,
            PLANTED,
            {"tolerance": "0.6k"},
            constraints=[SMALL, LARGE],
            sizes=["0.6x1", "0.8x2"],
            draws=300,
            **wanted,
        )
        chance = np.random.default_rng(0)
        for name, scale in (("2-2-x", 0.005), ("x-x-x", 0.02), ("ew", 0.005)):
            worth = chance.normal(0, scale, len(Cnn10Space(name)))
            for seed in config.study.seeds:
                table = pd.read_csv(paths.scores(name, seed))
                table["mAP"] = 0.5 + worth + chance.normal(0, 0.1 * scale, len(table))
                table.to_csv(paths.scores(name, seed), index=False)
        _rank(config)
        assert main(["tables"]) == 0
    return folder


def _rank(config) -> None:
    """On their own the networks stand as in the supernet (seed 0), but for two (1), or all reversed (2)."""
    space = space_of(config, "2-2-x")
    places = [space.index(s) for s in space.shuffled()[:8]]
    for seed in config.study.seeds:
        scores = pd.read_csv(paths.scores("2-2-x", seed)).mAP[places].to_numpy()
        alone = scores.argsort().argsort()
        if seed == 1:
            alone[scores.argsort()[:2]] = 1, 0
        for index, value in enumerate(7 - alone if seed == 2 else alone):
            paths.ranking(index, seed).write_text(json.dumps({"valid_mAP": value / 10}))


@pytest.fixture
def inside(study, monkeypatch):
    monkeypatch.chdir(study)
    return lambda name, **more: pd.read_csv(f"results/tables/{name}.csv", keep_default_na=False, **more)


def measured(name: str, key: str = "mAP") -> np.ndarray:
    """x 100, of each seed."""
    results = [json.loads(Path(f"results/eval/{name}-{seed}.json").read_text()) for seed in range(3)]
    return 100 * np.array([r["mAP"] if key == "mAP" else r["AP"][key] for r in results])


@pytest.mark.slow
def test_planted_differences_come_out_with_their_sign_verdict_and_the_papers_number(inside):
    ofa, kd, large = f"found/2-2-x-{SMALL}", "individual/kd-0.6x1", f"found/2-2-x-{LARGE}"
    gain = measured(f"finetuned/{LARGE}-6") - measured(large)
    gain -= measured(f"finetuned/{SMALL}-6") - measured(ofa)
    expected = {
        "OFA over KD at the smallest size": ("holds", measured(ofa) - measured(kd), "1.8"),
        "OFA over KD in one architecture": (
            "not significant",
            measured(ofa) - measured(f"init/{SMALL}"),
            "1.8",
        ),
        "KD over baseline at the smallest size": (
            "reversed",
            measured(kd) - measured("individual/baseline-0.6x1"),
            "3.6",
        ),
        "Fine-tuning helps large sizes more": ("holds", gain, "0.5"),
        "Elastic depth in early blocks hurts": (
            "holds",
            measured(ofa) - measured(f"found/x-x-x-{SMALL}"),
            "",
        ),
        "Elastic width alone is poor at the smallest size": (
            "reversed",
            measured(ofa) - measured(f"found/ew-{SMALL}"),
            "3.8",
        ),
    }
    table = inside("findings")
    assert list(dict.fromkeys(table.Finding)) == [*expected, "2-2-x has the lowest variance"]
    for finding, (verdict, seeds, quoted) in expected.items():
        row = table[table.Finding == finding].iloc[0]
        assert row.Verdict == verdict and row["AudioSet: difference"] == quoted
        assert float(row.difference) == pytest.approx(seeds.mean(), abs=1e-3)
        assert float(row["sd difference"]) == pytest.approx(seeds.std(ddof=1), abs=1e-3)
        assert (abs(row.difference) > row["± by seeds and clips"]) == (verdict != "not significant")
    assert table[table.Measured == f"2-2-x - x-x-x at {LARGE}"].Verdict.tolist() == ["not significant"]
    steady = table[table.Finding == "2-2-x has the lowest variance"].set_index("Measured").Verdict
    start = f"deviation from the median near {SMALL}, {LARGE} (validation), "
    assert steady.to_dict() == {f"{start}x-x-x - 2-2-x": "holds", f"{start}ew - 2-2-x": "not significant"}


@pytest.mark.slow
def test_paired_comparisons_quote_the_papers_differences(inside):
    table = inside("pairs").set_index("Question")
    quoted = table["AudioSet: difference"]
    assert quoted[quoted != ""].to_dict() == {
        "OFA over KD 0.6x1": "1.8",
        "OFA over baseline 0.6x1": "5.4",
        "KD over baseline 0.6x1": "3.6",
        "OFA over KD 0.8x2": "-0.4",
        "OFA over baseline 0.8x2": "3.1",
        "KD over baseline 0.8x2": "3.5",
        f"OFA {SMALL} over its architecture by KD alone": "1.8",
        f"OFA {SMALL} +3 over OFA": "0.1",
        f"OFA {SMALL} +6 over OFA": "0.1",
        f"OFA {LARGE} over its architecture by KD alone": "-0.4",
        f"OFA {LARGE} +3 over OFA": "0.4",
        f"OFA {LARGE} +6 over OFA": "0.6",
    }
    worse = table.loc[f"OFA {SMALL} +3 over OFA"]
    assert worse.significant == "yes" and worse["high difference"] < 0


@pytest.mark.slow
def test_classes_gain_and_lose_as_planted(inside):
    table = inside("classes").set_index("Class")
    assert table.index[-1] == "rising" and (table.significant == "yes").all()
    for name in ("low", "middle", "high", "rising"):
        ours, theirs = (measured(of, name) for of in (f"found/2-2-x-{SMALL}", "individual/kd-0.6x1"))
        row = table.loc[name]
        assert row["OFA - KD"] == pytest.approx((ours - theirs).mean(), abs=1e-3)
        assert row["sd OFA - KD"] == pytest.approx((ours - theirs).std(ddof=1), abs=1e-3)
        assert (row["OFA - KD"] > 20) == (name != "rising") and (row["OFA - KD"] < -20) == (name == "rising")
        assert row["low OFA - KD"] < row["OFA - KD"] < row["high OFA - KD"]


@pytest.mark.slow
def test_tau_is_that_of_the_planted_ranks_and_its_interval_of_unlike_seeds_holds_zero(inside):
    caption = Path("results/tables/ranking.md").read_text().splitlines()[0]
    tau, low, high = map(float, re.search(r"tau (\S+) \[(\S+), ([^;]+);", caption).groups())
    assert tau == pytest.approx((1 + 26 / 28 - 1) / 3, abs=0.005)  # of 28 pairs one is swapped in seed 1
    assert low < 0 < tau < high


@pytest.mark.slow
def test_what_the_paper_reports_stands_beside_ours_with_one_decimal(inside):
    table, columns = inside("table1", dtype=str), ["#Params (M)", "% params", "mAP", "% teacher"]
    quoted = table[[f"AudioSet: {column}" for column in columns]].to_numpy().tolist()
    assert quoted == [
        ["5.2", "100.0", "29.6", "100.0"],
        ["1.0", "19.2", "21.2", "71.6"],
        ["1.0", "19.2", "24.8", "83.7"],
        ["3.5", "67.3", "24.8", "83.8"],
        ["3.5", "67.3", "28.3", "95.6"],
        ["0.9", "17.3", "26.6", "89.9"],
        ["3.6", "69.2", "27.9", "94.3"],
    ]
    fine = inside("table2", dtype=str)
    assert fine[[c for c in fine if c.startswith("AudioSet: ")]].to_numpy().tolist() == [
        ["0.9", "26.6", "26.7", "26.7", "24.8"],
        ["3.6", "27.9", "28.3", "28.5", "28.3"],
    ]
    for name, rows in (("table1", quoted), ("table2", [["0.9", "26.6"], ["3.6", "27.9"]])):
        text = {end: Path(f"results/tables/{name}.{end}").read_text() for end in ("md", "tex")}
        for row in rows:
            assert re.search(r"\| +".join(f"{re.escape(x)} +" for x in row), text["md"])
            assert re.search(" +& ".join(map(re.escape, row)), text["tex"])


def test_the_papers_numbers_are_quoted_for_networks_of_about_its_sizes():
    sizes = {0.160: 0.9, 0.340: 1.8, 0.520: 2.7, 0.639: 3.6, 0.646: 3.6, 0.719: 3.6}  # as of the studies
    assert {share: paper.found_at(share) for share in sizes} == sizes
    halfway = [0.0865, 0.26, 0.433, 0.606, 0.779]
    assert [paper.found_at(share) for share in halfway] == [None] * 5
    assert (
        paper.found_over_individual("kd", "1.0x1") == 0.8
        and paper.found_over_individual("baseline", "1.0x1") == 4.6
    )
    assert paper.kd_over_baseline("1.0x1") == 3.8 and paper.kd_over_baseline("0.4x1") is None
    assert paper.individual("kd", "1.0x1") == (2.1, 40.3, 26.4, 89.2)
    assert paper.individual("baseline", "1.0x1") == (2.1, 40.3, 22.6, 76.4)
    assert paper.found(0.52) == (2.7, None, 27.7, None)  # table 2 alone has it
    assert paper.found(0.346) == (1.8, 34.6, 27.2, 91.9) and paper.found(0.26) is None
    assert [paper.found_over(0.346, n) for n in (paper.OFA, paper.SHORT, paper.LONG)] == [0, -0.4, -0.6]
    assert paper.found_over(0.52, paper.OFA, paper.LONG) == 0.7 and paper.found_over(0.52, paper.INIT) == -0.4
    assert paper.found_over_elastic_width(0.173) == 3.8 and paper.found_over_elastic_width(0.346) is None
