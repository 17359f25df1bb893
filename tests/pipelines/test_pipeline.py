"""The training half of the DAG on a tiny experiment, stage by stage, to tables and figures."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import yaml
from matplotlib.image import imread
from once import made_once
from sklearn.metrics import average_precision_score

from audionas.cli import main
from audionas.data import paths as data_paths
from audionas.data.store import ClipStore
from audionas.evaluation.prediction import predict
from audionas.models.files import load_model, load_supernet
from audionas.reporting.table_files import write
from audionas.runtime.errors import UserError
from audionas.search.budget import near, within
from audionas.search.cnn10 import LARGEST, Cnn10Architecture, Cnn10Space, Cnn10Subnetwork
from audionas.settings.values import parse_constraint, parse_size
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import architecture_of, space_of
from audionas.systems.once_for_all.results import collect, compare, model_files
from audionas.systems.once_for_all.stages import (
    evaluate,
    evaluate_exported,
    export_budget,
    finetune,
    individual,
    ranked,
    release,
    report,
    score,
    search,
    supernet,
    tables,
    teacher,
)
from audionas.systems.registry import load_config


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A completed study with two seeds. The test split is readable only during evaluation."""
    return made_once(tmp_path_factory, "study", _complete)


def _complete(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = tiny.make(folder, study=tiny.PARAMS["study"] | {"seeds": [0, 1]})
        test = Path("data/logmel/test.h5")
        packed = test.read_bytes()
        test.write_bytes(b"nobody can read this")
        for seed in config.study.seeds:
            teacher.run(config, seed)
            for recipe in ("baseline", "kd"):
                for size in config.study.sizes:
                    individual.run(config, recipe, size, seed)
            for space in config.study.spaces:
                supernet.run(config, space, seed)
                score.run(config, space, seed)
                for constraint in config.study.constraints:
                    search.run(config, space, constraint, seed)
            for constraint in config.study.constraints:
                for iterations in config.study.finetune_iterations:
                    finetune.run(config, "2-2-x", constraint, iterations, seed)
                individual.run_init(config, "2-2-x", constraint, seed)
            for index in config.study.ranked:
                ranked.run(config, "2-2-x", index, seed)
        with pytest.raises(UserError, match=r"test\.h5"):  # only evaluation needs it
            evaluate.run(config, paths.teacher(0).as_posix())
        test.write_bytes(packed)
        for path in model_files(config.study):
            evaluate.run(config, path.as_posix())
        test.write_bytes(b"nobody can read this")
        tables.run(config)
        for constraint in config.study.constraints:
            export_budget.run(config, constraint)
        test.write_bytes(packed)
        for constraint in config.study.constraints:
            evaluate_exported.run(config, constraint)
        test.write_bytes(b"nobody can read this")
        for stage in (release, report):
            stage.run(config)
        with pytest.raises(UserError, match=r"test\.h5"):
            evaluate.run(config, paths.teacher(0).as_posix())


@pytest.fixture
def inside(study, monkeypatch):
    monkeypatch.chdir(study)
    return load_config()


@pytest.mark.slow
def test_the_found_network_is_the_best_scored_near_its_constraint(inside):
    space = Cnn10Space("2-2-x", Cnn10Architecture(4, 4, 16))
    table = pd.read_csv(paths.scores("2-2-x", 0))
    near = table[(table.params - 12_000).abs() <= 2_000]
    assert len(near) <= inside.search.population  # so all of them were scored
    network, about = load_model(paths.found("2-2-x", "12k", 0))
    assert about["valid_mAP"] == near.mAP.max()
    params = sum(p.numel() for p in network.parameters())
    assert params in {space.costs(s).params for s in space} and abs(params - 12_000) <= 2_000


@pytest.mark.slow
def test_a_network_specialized_from_the_release_is_the_one_that_search_cut(inside, tmp_path, monkeypatch):
    _, about = load_supernet(paths.released("supernet"))
    seed, frames = about["seed"], inside.frames
    x = torch.randn(2, frames, 16, generator=torch.Generator().manual_seed(0)) * 9 - 60
    searched = {text: load_model(paths.within("2-2-x", text, seed)) for text in inside.study.constraints}
    for suffix in (".pt", ".csv", ".npz"):  # nothing else is there, and no data
        shutil.copy(paths.released("supernet").with_suffix(suffix), tmp_path)
    monkeypatch.chdir(tmp_path)
    for text, (network, found) in searched.items():
        assert main(["specialize", "supernet.pt", "--params", text, "--output", f"{text}.pt"]) == 0
        cut, known = load_model(f"{text}.pt")
        assert cut.spec == network.spec and known["valid_mAP"] == found["valid_mAP"]
        with torch.no_grad():
            assert (cut(x) - network(x)).abs().max() < 1e-5
        for name, value in network.state_dict().items():
            torch.testing.assert_close(cut.state_dict()[name], value, atol=1e-4, rtol=1e-5)


@pytest.mark.slow
def test_fine_tuning_starts_from_the_found_network_and_init_from_fresh_weights(inside):
    found, tuned, init = (
        load_model(path)[0]
        for path in (paths.found("2-2-x", "5k", 0), paths.finetuned("5k", 3, 0), paths.init("5k", 0))
    )
    assert found.spec == tuned.spec == init.spec

    def distance(network):
        pairs = zip(found.parameters(), network.parameters(), strict=True)
        return sum((a - b).abs().sum().item() for a, b in pairs)

    assert 0 < distance(tuned) < 0.3 * distance(init)


@pytest.mark.slow
def test_evaluation_says_what_it_measured(inside):
    result = json.loads(paths.evaluation(paths.found("2-2-x", "5k", 1)).read_text())
    assert result["test_clips"] == 12 and result["train_clips"] == 24 and result["seed"] == 1
    assert result["mAP"] == pytest.approx(np.mean(list(result["AP"].values())))
    assert result["classes_left_out"] == 0 and set(result["AP"]) == set(tiny.CLASSES)


@pytest.mark.slow
def test_every_number_that_is_told_of_a_file_is_the_files_own(inside):
    """Metadata is computed from the network and the splits, and not copied from its source."""
    architecture, steps = architecture_of(inside), inside.supernet
    stores = {split: ClipStore(data_paths.logmel(split)) for split in ("train", "valid")}
    spaces = {name: space_of(inside, name) for name in inside.study.spaces}
    valid, scores = stores["valid"], {}
    ranked_files = [paths.ranked(index, seed) for index in inside.study.ranked for seed in inside.study.seeds]
    for path in [*model_files(inside.study), *ranked_files]:
        network, about = load_model(path)
        probabilities = predict(network, valid)
        scores[path] = average_precision_score(valid.labels, probabilities, average="macro")
        assert about["valid_mAP"] == pytest.approx(scores[path], abs=1e-6), path
        if about["kind"] not in ("found", "within"):
            assert (about["valid_clips"], about["valid_classes"]) == (12, 4)
        assert about["train_clips"] == len(stores["train"]) and about["seed"] == int(path.stem.split("-")[-1])
        if about["kind"] == "teacher":
            form = LARGEST
        else:
            form = Cnn10Subnetwork(tuple(about["ratios"]), tuple(about["depths"]))
        assert network.spec["widths"] == list(architecture.widths(form))
        assert network.spec["depths"] == [2, *form.depths]
        taken = {"teacher": 12, "finetuned": int(path.stem.split("-")[1]) if "finetuned" in path.parts else 0}
        taken |= {"individual": 6, "init": 6, "ranked": 6}
        in_all = steps.largest_iterations + steps.sampled_iterations
        assert about["iterations"] == taken.get(about["kind"], in_all)
        assert about.get("supernet_iterations", in_all) == in_all
        if about["kind"] in ("found", "within"):
            budget, space = parse_constraint(about["constraint"]), spaces[about["space"]]
            around = near(space, budget, parse_size(inside.search.tolerance))
            candidates = around if about["kind"] == "found" else within(space, budget)
            assert about["candidates"] == len(candidates) and form in candidates
        if path in ranked_files:
            told = json.loads(paths.ranking(about["index"], about["seed"]).read_text())
            assert told["valid_mAP"] == pytest.approx(scores[path], abs=1e-6)
            continue
        result = json.loads(paths.evaluation(path).read_text())
        assert result["params"] == sum(p.numel() for p in network.parameters())
        assert result["params"] == architecture.parameters(form)
        assert result["macs"] == architecture.multiply_adds(form, inside.frames)
        assert {name: result[name] for name in about.keys() - {"classes", "settings"}} == {
            name: value for name, value in about.items() if name not in ("classes", "settings")
        }
    assert any(
        scores[paths.finetuned(c, 6, seed)] != scores[paths.found("2-2-x", c, seed)]
        for c in inside.study.constraints
        for seed in inside.study.seeds
    )


@pytest.mark.slow
def test_what_is_released_keeps_its_budget_and_no_other_file_that_does_is_better(inside):
    everything = pd.read_csv("results/tables/models.csv")
    for constraint in inside.study.constraints:
        limit = parse_constraint(constraint).params
        network, about = load_model(paths.released(constraint))
        assert sum(p.numel() for p in network.parameters()) <= limit
        assert about["valid_mAP"] == everything[everything.params <= limit].valid_mAP.max()
        for space in inside.study.spaces:
            for seed in inside.study.seeds:
                scored = pd.read_csv(paths.scores(space, seed)).query(f"params <= {limit}").mAP
                assert about["valid_mAP"] >= scored.max()
                within, _ = load_model(paths.within(space, constraint, seed))
                assert sum(p.numel() for p in within.parameters()) <= limit


@pytest.mark.slow
def test_tables_have_a_row_for_each_model_with_its_provenance(inside):
    everything = pd.read_csv("results/tables/models.csv")
    # teacher, 2 x 2 each of individual, found, within and fine-tuned, 2 init, for two seeds; no ranked ones
    assert len(everything) == 2 * (1 + 4 + 4 + 4 + 4 + 2)
    one = pd.read_csv("results/tables/table1.csv")
    assert list(one.Model) == [
        "CNN10 (teacher)",
        "Baseline",
        "KD",
        "Baseline",
        "KD",
        "OFA 2-2-x",
        "OFA 2-2-x",
    ]
    teachers = everything[everything.kind == "teacher"].mAP
    assert one["mAP"][0] == pytest.approx(100 * teachers.mean(), abs=1e-3)
    assert one["sd mAP"][0] == pytest.approx(100 * teachers.std(ddof=1), abs=1e-3)
    assert one["% params"][0] == 100 and one["% teacher"][0] == 100
    assert (one["Train clips"] == 24).all() and (one["Seeds"] == "0 1").all()
    assert one["Corpus"].str.contains("stand-in").all()  # the soundfont states that it is rendered
    two = pd.read_csv("results/tables/table2.csv")
    assert list(two.Budget) == ["5k", "12k"] and {"OFA", "+3", "+6", "Init+6", "sd OFA"} <= set(two.columns)
    text = Path("results/tables/table1.md").read_text()
    assert "Made from corpus soundfont, a rendered stand-in (no recordings), 24 clips to train" in text
    assert "±" in text and "[" in text and text.count("\n|") == len(one) + 2
    metrics = json.loads(Path("results/metrics.json").read_text())
    assert metrics["teacher"] == pytest.approx(one["mAP"][0], abs=0.01) and "OFA 12k" in metrics


@pytest.mark.slow
def test_intervals_and_differences_are_those_of_the_predictions(inside):
    with np.load(paths.predictions(paths.found("2-2-x", "5k", 0))) as file:
        labels, probabilities = file["labels"], file["probabilities"]
    one = pd.read_csv("results/tables/table1.csv")
    found = one[(one.Model == "OFA 2-2-x") & (one.Budget == "5k")].iloc[0]
    assert found["low mAP"] <= found["mAP"] <= found["high mAP"]
    result = json.loads(paths.evaluation(paths.found("2-2-x", "5k", 0)).read_text())
    assert average_precision_score(labels, probabilities, average="macro") == pytest.approx(result["mAP"])
    everything = pd.read_csv("results/tables/models.csv")
    two = pd.read_csv("results/tables/table2.csv").set_index("Budget")
    tuned = everything[(everything.kind == "finetuned") & (everything.constraint == "5k")]
    tuned = tuned[tuned.iterations == 6].set_index("seed").mAP
    first = everything[(everything.kind == "found") & (everything.constraint == "5k")]
    first = first[first.space == "2-2-x"].set_index("seed").mAP
    assert two["+6"]["5k"] == pytest.approx(100 * tuned.mean(), abs=1e-3)
    pairs = pd.read_csv("results/tables/pairs.csv").set_index("Question")
    gained = pairs.loc["OFA 5k +6 over OFA"]
    assert gained.difference == pytest.approx(100 * (tuned - first).mean(), abs=1e-3)
    assert gained["sd difference"] == pytest.approx(100 * (tuned - first).std(), abs=1e-3)
    assert gained.significant == "no"  # of two seeds nothing is


@pytest.mark.slow
def test_the_front_and_the_windows_are_those_of_the_scores(inside):
    networks = pd.read_csv("results/tables/networks.csv")
    assert len(networks) == 128 + 512 and networks["valid mAP"].between(0, 100).all()
    front = networks[networks.front].sort_values("params")
    assert front["valid mAP"].is_monotonic_increasing
    for _, row in networks.sample(60, random_state=0).iterrows():
        better = front[(front.params <= row.params) & (front["valid mAP"] >= row["valid mAP"])]
        assert len(better)
    windows = pd.read_csv("results/tables/windows.csv")
    small = windows[windows.Candidates <= inside.search.population]
    assert (small["regret of 25"] == 0).all() and (windows["regret of 5"] >= windows["regret of 25"]).all()
    ranking = pd.read_csv("results/tables/ranking.csv")
    assert (
        len(ranking) == 3 * 2
        and "too few networks for Kendall's tau" in Path("results/tables/ranking.md").read_text()
    )
    assert set(pd.read_csv("results/tables/findings.csv").Verdict) == {"not significant"}


@pytest.mark.slow
def test_a_tolerance_that_leaves_no_network_is_refused_and_costs_nothing_that_was_there(inside, capsys):
    params = Path("params.yaml").read_text()
    before = {p: p.read_bytes() for top in ("models", "results") for p in Path(top).rglob("*") if p.is_file()}
    try:
        Path("params.yaml").write_text(params.replace("tolerance: 2k", "tolerance: '1'"))
        for command in ("search --space 2-2-x --constraint 12k --seed 0", "tables"):
            assert main(command.split()) == 1
            assert "has 5,000 +- 1 parameters" in capsys.readouterr().err
    finally:
        Path("params.yaml").write_text(params)
    assert main(["search", "--space", "2-2-x", "--constraint", "12k", "--seed", "0"]) == main(["tables"]) == 0
    assert before == {p: p.read_bytes() for p in before}


@pytest.mark.slow
def test_one_supernet_for_all_devices_costs_the_same_and_trainings_add_up(inside):
    costs = pd.read_csv("results/tables/costs.csv").set_index("What")["10^12 multiply-adds"]
    assert costs["1 device(s), OFA 2-2-x"] == costs["16 device(s), OFA 2-2-x"]
    assert costs["16 device(s), KD for each"] == pytest.approx(
        16 * costs["1 device(s), KD for each"], rel=1e-2
    )
    largest = Cnn10Architecture(4, 4, 16).multiply_adds(Cnn10Subnetwork((1.0,) * 3, (2,) * 3), 33)
    assert costs["teacher"] * 1e12 == pytest.approx(12 * 8 * 3 * largest, rel=1e-5)


@pytest.mark.slow
def test_predictions_of_other_clips_or_damaged_are_refused(inside):
    path = paths.predictions(paths.found("2-2-x", "5k", 1))
    content = path.read_bytes()
    try:
        with np.load(path) as file:
            labels, probabilities = file["labels"], file["probabilities"]
        flipped = [
            bytes([*content[:at], content[at] ^ 16, *content[at + 1 :]]) for at in range(9, len(content), 61)
        ]
        for damaged in (content[: len(content) // 2], b"", *flipped):
            path.write_bytes(damaged)
            try:
                compare(collect(inside.study), 2)
            except UserError as error:  # some bits have no effect
                assert "2-2-x-5k-1.npz: " in str(error)
        with path.open("wb") as file:
            ids = np.array([f"other{i}" for i in range(12)])
            np.savez(file, probabilities=probabilities, labels=labels, clips=ids, sources=ids)
        with pytest.raises(
            UserError, match=r"2-2-x-5k-1\.npz: the test clips differ from those of other models"
        ):
            compare(collect(inside.study), 5)
    finally:
        path.write_bytes(content)


@pytest.mark.slow
def test_latex_tables_are_escaped_and_balanced(inside, tmp_path):
    """Return problems that would prevent LaTeX from reading a table, without running LaTeX."""
    names = pd.DataFrame(
        {"R&D_1 #": ["R&B", r"50 % of #1_{x} \\ $y ~z^2 <w>"], "mAP": [1.0, 2.0], "sd mAP": 0.5}
    )
    write(names, tmp_path, "names", "Of 50 % & ±_#.")
    files = [*Path("results/tables").glob("*.tex"), tmp_path / "names.tex"]
    assert len(files) == 10
    for path in files:
        text = path.read_text().partition("\n")[2]  # the first line is a comment
        environments = []
        for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
            if what == "begin":
                environments.append(name)
            else:
                assert environments.pop() == name, path
        assert not environments, path
        columns = re.search(r"\\begin\{tabular\}\{(l+)\}", text)
        rows = [line for line in text[columns.end() :].splitlines() if "&" in line]
        assert len(rows) == len(pd.read_csv(path.with_suffix(".csv"))) + 1, path
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns[1]) - 1, row
            assert row.endswith(r"\\"), row
            assert row.lstrip()[0] not in "[*", row  # the row before would take it for an option of its end
        bare = re.sub(r"\$(\\pm|\\times|-)\$|\\[a-z]+|\\[^a-z]", "", text)
        assert not set(bare) & set("#$%_~^\\±×−"), path
        assert bare.count("{") == bare.count("}"), path
    assert r"$\pm$" in Path("results/tables/table1.tex").read_text()


@pytest.mark.slow
def test_figures_are_drawn_and_come_out_the_same_twice(inside):
    before = {p.name: p.read_bytes() for p in Path("results/figures").iterdir()}
    assert set(before) == {"figure3.png", "figure3.svg", "figure4.png", "figure4.svg"}
    picture = imread("results/figures/figure3.png")
    assert picture.shape[0] > 400 and picture[..., :3].std() > 0.05  # not blank
    assert main(["tables"]) == 0
    assert before == {p.name: p.read_bytes() for p in Path("results/figures").iterdir()}


@pytest.mark.slow
def test_a_missing_or_damaged_result_is_named(inside):
    path = paths.evaluation(paths.teacher(0))
    content = path.read_text()
    try:
        path.write_text("{")
        with pytest.raises(UserError, match=r"teacher/0\.json: damaged"):
            collect(inside.study)
        path.unlink()
        with pytest.raises(UserError, match=r"teacher/0\.json: no such file"):
            collect(inside.study)
    finally:
        path.write_text(content)


@pytest.mark.slow
def test_data_of_other_settings_or_classes_are_refused(inside, tmp_path, monkeypatch, capsys):
    params = yaml.safe_load(Path("params.yaml").read_text())
    (tmp_path / "data").symlink_to(Path("data").absolute())
    (tmp_path / "models").symlink_to(Path("models").absolute())
    monkeypatch.chdir(tmp_path)
    for section, change, message in (
        ("features", {"hop": 500}, "features.hop is 1000 in the file and 500 here"),
        ("network", {"num_classes": 5}, "set it to 4"),
    ):
        changed = params | {section: params[section] | change}
        changed["study"] = params["study"] | {"constraints": ["12k"]}
        Path("params.yaml").write_text(yaml.safe_dump(changed))
        assert main(["teacher", "--seed", "7"]) == 1
        assert message in capsys.readouterr().err
