"""The table of effects on the advantage of OFA, on synthetic studies."""

import sys
from contextlib import chdir
from pathlib import Path

import made
import pytest

ROOT = Path(__file__).parents[2]
STUDY = {"seeds": [0, 1, 2], "constraints": ["3.4k"], "sizes": ["0.6x1"], "ranked": []}


@pytest.fixture
def trials(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    yield pytest.importorskip("trials")
    for name in ("trials", "options", "update_docs"):
        sys.modules.pop(name, None)


def study(folder: Path, trials, **planted):
    folder.mkdir()
    with chdir(folder):
        made.make(folder, planted, **STUDY)
    return trials.read(folder)


def test_a_change_that_raises_ofa_alone_moves_its_lead(tmp_path, trials):
    names = {"found": "found/2-2-x-3.4k", "kd": "individual/kd-0.6x1", "init": "init/3.4k"}
    low, high = dict.fromkeys(names.values(), 0.5), dict.fromkeys(names.values(), 0.5)
    high[names["found"]] = 6.0
    none, changed = study(tmp_path / "a", trials, **low), study(tmp_path / "b", trials, **high)
    every, shown = trials.tables({"none": none, "sorted channels": changed})
    moved = every[every.Change == "sorted channels"].set_index("What")
    assert moved.loc["OFA moved", "mean"] > 20 and moved.loc["OFA - KD moved", "significant"] == "yes"
    assert moved.loc["OFA moved", "mean"] == pytest.approx(
        moved.loc["OFA", "mean"] - every.set_index(["Change", "What"]).loc[("none", "OFA"), "mean"]
    )
    assert "moved" not in " ".join(every[every.Change == "none"].What)
    row = shown.set_index("change").loc["sorted channels: `supernet.sort_channels: true`"]
    assert row["OFA - KD"].startswith("**+") and row["teacher"].count("±") == 1


def test_what_a_change_leaves_as_it_is_reads_so(tmp_path, trials):
    none = study(tmp_path / "a", trials)
    _, shown = trials.tables({"none": none, "sorted channels": none, "twice as long": none})
    assert shown["KD moved"].tolist() == ["", "", ""]  # the baseline trial itself
    other = study(tmp_path / "b", trials)
    _, shown = trials.tables({"none": none, "sorted channels": other})
    assert shown["KD moved"].tolist() == ["", "the same"]


def test_every_trial_changes_keys_that_the_profile_has(trials):
    profile = trials.yaml.safe_load((ROOT / "profiles" / "urbansound8k.yaml").read_text())
    for changes in [{"study": trials.STUDY}, *trials.TRIALS.values()]:
        for section, values in changes.items():
            assert set(values) <= set(profile[section])
