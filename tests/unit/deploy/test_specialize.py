"""`audionas specialize`: against brute force over all networks, its files, and what it refuses."""

import csv
import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from memory import traced_peak
from releases import FRAMES, NAMES, SETTINGS, release
from small import SMALL, small_supernet

from audionas.cli import main
from audionas.deploy.devices.device import open_device
from audionas.deploy.specialize import open_kept
from audionas.deploy.supernets import open_supernet
from audionas.models.cnn10 import Cnn10
from audionas.models.files import load_model, load_supernet, save_model
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import Cnn10Space, Cnn10Subnetwork
from audionas.supernet.scores import fingerprint
from audionas.supernet.statistics import read_statistics

NAMES_OF = {"--params": "params", "--macs": "macs", "--peak-memory": "peak_memory", "--latency": "latency_ms"}
UNITS = {"--params": "", "--macs": "", "--peak-memory": "B", "--latency": "ms"}
SPACE = Cnn10Space("2-2-x", SMALL, FRAMES)


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    return release(tmp_path_factory.mktemp("release"), "2-2-x")


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch) -> None:
    """An empty folder: there is no data."""
    monkeypatch.chdir(tmp_path)


def form_of(about: dict) -> Cnn10Subnetwork:
    choices = about["choices"]
    ratios, depths = (tuple(choices[f"{sign}{i}"] for i in (2, 3, 4)) for sign in "rd")
    return Cnn10Subnetwork(ratios, depths)


@pytest.fixture(scope="module")
def networks(released) -> list[dict]:
    """Score and costs of every network, from networks that are built, and from the rows of the file."""
    found, chance = [], np.random.default_rng(5)
    with released.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        form = form_of({"choices": {name: float(value) for name, value in row.items() if name[1:] in "234"}})
        widths = (int(round(r * w, 6)) for r, w in zip(form.ratios, (16, 32, 64), strict=True))
        depths = (2, *map(int, form.depths))
        network = Cnn10(5, 8, widths=(8, *widths), depths=depths, hidden=64, mels=32)
        each = {"score": float(row["mAP"]), "form": form, "--macs": int(row["macs"])}
        each["--params"] = sum(p.numel() for p in network.parameters())
        each["float32"], each["int8"] = (traced_peak(network, FRAMES, 32, size) for size in (4, 1))
        each["--latency"] = round(each["--macs"] / 1e6 * chance.uniform(0.7, 1.3), 6)
        found.append(each)
    return found


@pytest.fixture(scope="module")
def device(released, networks) -> Path:
    """A file with the latency of every network."""
    lines = ["architecture,device,runtime,clock,latency_ms,energy_uJ,repeats,meter"]
    for each in networks:
        lines.append(f"{SPACE.text(each['form'])},board,made,80 MHz,{each['--latency']},,5,scope")
    path = released.with_name("all.csv")
    path.write_text("\n".join(lines) + "\n")
    return path


def by_brute_force(networks: list[dict], limits: dict[str, float], dtype: str) -> dict | None:
    """Return the first network of highest score; of equal ones, that with the lowest limited costs."""
    best = None
    for network in networks:
        costs = [network[dtype if option == "--peak-memory" else option] for option in limits]
        if any(cost > limit for cost, limit in zip(costs, limits.values(), strict=True)):
            continue
        if best is None or network["score"] > best[0] or (network["score"] == best[0] and costs < best[1]):
            best = network["score"], costs, network
    return best and best[2]


@pytest.mark.slow
def test_fifty_random_budgets_give_what_brute_force_gives(released, networks, device, capsys):
    kept, measured = open_kept(released), open_device(str(device))
    all_candidates = {t: kept.candidates(dtype=t, device=measured) for t in ("float32", "int8")}
    chance, answers = np.random.default_rng(7), []
    for number in range(50):
        dtype, limits = str(chance.choice(["float32", "int8"])), {}
        chosen = set(chance.choice(list(UNITS), int(chance.integers(1, 5)), replace=False))
        for option in (option for option in UNITS if option in chosen):
            costs = sorted(network[dtype if option == "--peak-memory" else option] for network in networks)
            drawn = float(chance.choice(costs) * chance.uniform(0.9, 1.2))
            limits[option] = round(drawn, 3) if option == "--latency" else int(drawn)
        best, candidates = by_brute_force(networks, limits, dtype), all_candidates[dtype]
        answers.append(best is not None)
        most = {NAMES_OF[option]: limit for option, limit in limits.items()}
        if best is None:
            with pytest.raises(UserError, match="is within the budget"):
                candidates.choose(most)
        else:
            assert candidates.space[candidates.choose(most)] == best["form"], limits
        if number % 8:
            continue
        arguments = [part for option, limit in limits.items() for part in (option, f"{limit}{UNITS[option]}")]
        arguments += ["--dtype", dtype, "--device", str(device), "--output", "n.pt"]
        assert main(["specialize", str(released), *arguments]) == (best is None), capsys.readouterr().err
        if best is None:
            assert not list(Path().iterdir())
            continue
        network, about = load_model("n.pt")
        assert form_of(about) == best["form"] and about["valid_mAP"] == best["score"]
        assert sum(p.numel() for p in network.parameters()) == best["--params"] == about["costs"]["params"]
        assert about["costs"]["peak_memory"] == best[dtype]
        for name in ("n.pt", "n.md"):
            Path(name).unlink()
    assert 25 < sum(answers) < 50


def specialize(released: Path, *arguments: str) -> int:
    return main(["specialize", str(released), *arguments])


def test_the_front_and_one_step_up_and_down(released, networks, capsys):
    assert specialize(released, "--list") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    costs = [(n["--params"], -n["score"]) for n in networks]
    front = [
        n
        for n, (params, loss) in zip(networks, costs, strict=True)
        if not any(p <= params and s <= loss and (p, s) != (params, loss) for p, s in costs)
    ]
    expected = sorted({(n["score"], n["--params"]) for n in front})
    assert [(float(row["mAP"]), int(row["params"])) for row in rows] == expected and len(rows) > 8
    place = len(rows) // 2
    limit = str(int(rows[place]["params"]) + 1)
    assert specialize(released, "--params", limit, "--output", "n.pt") == 0
    said = capsys.readouterr().out
    assert re.search(rf">  {100 * float(rows[place]['mAP']):.2f} +{int(rows[place]['params']):,} ", said)
    for name, other in (("up", place + 1), ("down", place - 1)):
        score, params = 100 * float(rows[other]["mAP"]), int(rows[other]["params"])
        assert f"one step {name}: mAP {score:.2f} " in said and f"parameters {params:,} (" in said
        assert f"{params:,} | " in Path("n.md").read_text()
    assert specialize(released, "--params", "1M", "--output", "largest.pt") == 0
    assert "one step up: none" in capsys.readouterr().out
    assert specialize(released, "--params", rows[0]["params"], "--output", "smallest.pt") == 0
    assert "one step down: none" in capsys.readouterr().out
    before = Path("n.pt").read_bytes(), Path("n.md").read_bytes()
    assert specialize(released, "--params", "1M", "--output", "n.pt") == 1
    assert "n.pt: exists; give another --output" in capsys.readouterr().err
    assert (Path("n.pt").read_bytes(), Path("n.md").read_bytes()) == before


def test_a_network_that_was_trained_further_is_named_if_it_is_better(released, tmp_path, capsys):
    for path in released.parent.iterdir():
        shutil.copy(path, tmp_path)
    supernet = tmp_path / released.name
    _, about = load_supernet(supernet)
    space = Cnn10Space("2-2-x", SMALL, FRAMES)
    for name, score, size in (("good", 0.999, 0), ("bad", 0.0, 0), ("large", 0.999, -1)):
        one = sorted(space, key=lambda each: space.costs(each).params)[size]
        settings = {"ratios": list(one.ratios), "depths": list(one.depths), "valid_mAP": score}
        network = Cnn10(SMALL.num_classes, SMALL.base_channels, mels=SMALL.mels)
        save_model(tmp_path / f"{name}.pt", network, {**about, **settings})
    limit = str(space.costs(space.smallest).params)
    assert specialize(supernet, "--params", limit, "--output", "n.pt") == 0
    said = capsys.readouterr().out
    assert f"better within this budget: {tmp_path / 'good.pt'} (" in said and "validation mAP 99.90" in said
    assert "bad.pt" not in said and "large.pt" not in said


@torch.no_grad()
def test_the_network_is_that_of_the_supernet_and_its_files_say_what_it_is(released, capsys):
    before = {path: path.read_bytes() for path in released.parent.iterdir()}
    assert specialize(released, "--params", "30k", "--macs", "2M", "--output", "sub/n.pt") == 0
    network, about = load_model("sub/n.pt")
    form = form_of(about)
    x = torch.randn(2, FRAMES, 32, generator=torch.Generator().manual_seed(9)) * 9 - 30
    supernet, name = small_supernet(), fingerprint(released)
    statistics = read_statistics(released.with_suffix(".npz"), name)
    [(_, logits)] = supernet.outputs(x, [form], statistics=statistics)
    assert (network(x) - logits).abs().max() < 1e-5
    assert about["kind"] == "specialized" and about["supernet"] == name and about["names"] == NAMES
    assert about["settings"] == SETTINGS and about["budget"] == {"params": "30k", "macs": "2M"}
    assert about["architecture"] == SPACE.text(form)
    assert "thresholds" not in about and about["classes"] == [f"/m/{i}" for i in range(5)]
    card = Path("sub/n.md").read_text()
    assert hashlib.sha256(Path("sub/n.pt").read_bytes()).hexdigest() in card
    assert "# Network for at most 30k parameters and 2M multiply-adds\n" in card
    assert f"| validation mAP × 100 | {100 * about['valid_mAP']:.1f} |" in card
    assert {p.name for p in Path("sub").iterdir()} == {"n.pt", "n.md"}
    assert {path: path.read_bytes() for path in released.parent.iterdir()} == before
    assert specialize(released, "--params", "30k", "--macs", "2M", "--output", "again.pt") == 0
    assert Path("again.pt").read_bytes() == Path("sub/n.pt").read_bytes()


def test_what_the_card_says_to_do_works(released, capsys):
    assert specialize(released, "--params", "20k", "--output", "n.pt") == 0
    soundfile.write("recording.wav", np.random.default_rng(0).normal(0, 0.1, 32_000), 32_000)
    capsys.readouterr()
    exec(re.search(r"```python\n(.*?)```", Path("n.md").read_text(), re.DOTALL)[1])  # noqa: S102
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_a_longer_input_costs_more_and_keeps_the_scores(released, capsys):
    kept = open_kept(released)
    one, ten = kept.candidates(), kept.candidates(seconds=10.0)
    assert (ten.scores == one.scores).all() and (ten.costs["params"] == one.costs["params"]).all()
    assert (ten.costs["macs"] > 8 * one.costs["macs"]).all()
    assert (ten.costs["peak_memory"] > one.costs["peak_memory"]).all()
    small = kept.candidates(dtype="int8").costs["peak_memory"]
    assert (small < one.costs["peak_memory"] / 3).all()


REFUSED = {
    "below the smallest": (
        ["--params", "1k"],
        r"parameters at most 1,000, and the smallest has [\d,]+ \(raise --params",
    ),
    "both": (
        ["--params", "16k", "--macs", "1.1M"],
        "multiply-adds at most 1.1 M, and the smallest, of those within the other limits, has 1.3 M",
    ),
    "no budget": ([], "no budget; give at least one of --params"),
    "no device": (["--latency", "20ms"], "--latency needs a device; give --device FILE.csv"),
    "no device for energy": (["--energy", "5mJ"], "--energy needs a device"),
    "runtime without device": (["--params", "20k", "--runtime", "x"], "give --device too"),
    "missing device": (
        ["--latency", "20ms", "--device", "no.csv"],
        "no.csv: no such file, and not a bundled",
    ),
    "short input": (
        ["--params", "20k", "--seconds", "0.1"],
        r"5 frames, and the networks need 16; give 0\.4",
    ),
    "not a model name": (["--params", "20k", "--output", "n.md"], r"ends in \.pt"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_cannot_be_met_says_why_and_writes_nothing(case, released, capsys):
    arguments, said = REFUSED[case]
    assert main(["specialize", str(released), "--output", "n.pt", *arguments]) == 1
    assert re.search(said, capsys.readouterr().err)
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--latency", "20"],
        ["--peak-memory", "256kb"],
        ["--energy", "5mW"],
        ["--params", "1T"],
        ["--seconds", "-1"],
    ],
)
def test_an_unknown_unit_is_refused_with_the_known_ones(arguments, released, capsys):
    with pytest.raises(SystemExit) as ended:
        specialize(released, *arguments, "--output", "n.pt")
    assert ended.value.code == 2
    assert f"argument {arguments[0]}: {arguments[1]!r} is not a" in capsys.readouterr().err


def copied(released: Path, where: Path) -> Path:
    shutil.copytree(released.parent, where)
    return where / released.name


def test_a_supernet_without_scores_or_with_those_of_another_is_refused(released, tmp_path, capsys):
    path = copied(released, tmp_path / "copy")
    network = small_supernet()
    about = {
        "kind": "supernet",
        "space": "2-2-x",
        "classes": [f"/m/{i}" for i in range(5)],
        "settings": SETTINGS,
    }

    def refused() -> str:
        assert specialize(path, "--params", "20k", "--output", "n.pt") == 1
        assert not Path("n.pt").exists() and not Path("n.md").exists()
        return capsys.readouterr().err

    for suffix, what in ((".csv", "scores"), (".npz", "BatchNorm statistics")):
        other = path.with_suffix(suffix).rename(tmp_path / "away")
        assert f"supernet{suffix}: no such file, so the {what} of" in refused()
        other.rename(path.with_suffix(suffix))
    rows = path.with_suffix(".csv").read_text()
    path.with_suffix(".csv").write_text(rows[: len(rows) // 2])
    assert "supernet.csv: " in refused()
    path.with_suffix(".csv").write_text(rows)
    with torch.no_grad():
        network.fc2.bias += 1
    save_model(path, network, about)
    assert "supernet.csv: the scores do not belong to" in refused()
    path.with_suffix(".csv").write_text(rows.replace(fingerprint(released), fingerprint(path)))
    assert "supernet.npz: the statistics belong to another supernet" in refused()
    save_model(path, network, {key: value for key, value in about.items() if key != "space"})
    assert "the search space or the settings of the features are missing" in refused()
    save_model(path, network, about | {"space": "3-3-3"})
    assert "search space '3-3-3': not one of" in refused()
    for wrong, said in (("n.txt", "damaged or not a model file"), ("none.pt", "no such file")):
        Path("n.txt").write_text("x")
        assert specialize(Path(wrong), "--params", "20k", "--output", "n.pt") == 1
        assert said in capsys.readouterr().err


def test_the_frames_are_those_of_the_front_end(tmp_path):
    settings = {
        "audio": {"sample_rate": 16_000, "clip_seconds": 1.0, "min_seconds": 0.1},
        "features": {"n_fft": 512, "hop": 160, "mels": 32, "fmin": 0.0, "fmax": 8000.0, "front_end": "ced"},
    }
    about = {"space": "2-2-x", "classes": [f"/m/{i}" for i in range(5)], "settings": settings}
    save_model(tmp_path / "supernet.pt", small_supernet(), about)
    released = open_supernet(tmp_path / "supernet.pt")
    assert released.frames() == released.space().frames == 100 and released.frames(0.5) == 50


def test_the_supernet_is_not_overwritten(released, tmp_path, capsys):
    path = copied(released, tmp_path / "copy")
    assert specialize(path, "--params", "20k", "--output", str(path)) == 1
    assert "the supernet itself; give another --output" in capsys.readouterr().err
    assert path.read_bytes() == released.read_bytes()


def test_nothing_half_written_stays(released, monkeypatch, capsys):
    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("audionas.deploy.specialize.save_model", broken)
    assert specialize(released, "--params", "20k", "--output", "n.pt") == 1
    assert "No space left" in capsys.readouterr().err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("folder", [True, False])
def test_a_file_in_place_of_the_card_is_not_overwritten(released, tmp_path, capsys, folder):
    card = tmp_path / "README.md"
    if folder:
        card.mkdir()
    else:
        card.write_text("# My project\n")
    for _ in range(2):
        assert main(["specialize", str(released), "--params", "1M", "--output", "README.pt"]) == 1
        assert "README.md: " in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert folder or card.read_text() == "# My project\n"


def test_two_dashes_are_not_a_value(released, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["specialize", str(released), "--params=--", "--output", "a.pt"])
    assert "--params=--: -- is not a value" in capsys.readouterr().err
