"""Text of params.yaml cannot reach a shell or a path outside the folder of an output."""

import re
import shutil
from pathlib import Path

import projects
import pytest
import yaml
from dag import ROOT
from projects import run

from audionas.cli import main
from audionas.runtime.errors import UserError
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.commands import NAMED, STAGES, named
from audionas.systems.registry import load_config

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
LISTED = {name for name, stage in PIPELINE.items() if "study." in str(stage.get("matrix"))}
PATHS = {
    "score": paths.scores,
    "search": paths.found,
    "finetune": paths.finetuned,
    "evaluate": lambda model: paths.evaluation(Path(model)),
    "export-budget": paths.exported,
    "evaluate-exported": paths.exported_result,
    **{kind: getattr(paths, kind) for kind in ("teacher", "supernet", "individual", "init", "ranked")},
}


def test_no_command_holds_text_of_the_parameters():
    for name, stage in PIPELINE.items():
        if name in LISTED:
            assert stage["cmd"] == 'audionas stage "$DVC_STAGE"', name
        else:
            assert not re.search(r"\$\{(?!item\.split\})", stage["cmd"]), name


def test_a_name_that_leads_out_of_its_folder_is_no_pipeline():
    for name in LISTED:
        stage = PIPELINE[name]
        assert (stage["wdir"], stage["vars"]) == ("${key}/..", ["params.yaml"]), name
        for out in (next(iter(out)) for out in stage["outs"]):
            assert re.fullmatch(r"[a-z/]+/([a-z]+-)?\$\{key\}(\.[a-z]+)?", out), out


def test_stages_are_named_as_dvc_names_them(tmp_path):
    """The arguments create the output that DVC expects."""
    from dvc.repo import Repo

    house = projects.house(tmp_path)
    shutil.copy(house / "profiles/audioset.yaml", house / "params.yaml")
    config = load_config(house / "params.yaml")
    assert set(NAMED) == LISTED
    with Repo(str(house)) as repo:
        stages = [stage for stage in repo.index.stages if stage.name.partition("@")[0] in NAMED]
        assert len(stages) > 60
        for stage in stages:
            for name in (stage.name, f"../dvc.yaml:{stage.name}"):
                command, arguments = named(name, config)
                assert set(arguments) == set(STAGES[command].arguments)
            told = dict(arguments)
            if command in ("finetune", "init", "ranked"):
                assert told.pop("space") == config.study.chosen_space
            assert PATHS[command](**told).as_posix() in [out.def_path for out in stage.outs], stage.name


@pytest.mark.parametrize(
    "name",
    ["", "search", "search@", "search@2-2-x-27k-0", "tables", "evaluate@x", "search@2-2-x-26k-0\n", "@"],
)
def test_a_name_of_no_stage_is_refused(name, monkeypatch, capsys):
    with pytest.raises(UserError, match="defines no such stage; `dvc stage list`"):
        named(name, load_config(ROOT / "params.yaml"))
    monkeypatch.chdir(ROOT)
    assert main(["stage", name]) == 1
    assert capsys.readouterr().err.startswith("audionas stage: ")


TEXTS = [
    *(
        "/../../../../victim",
        "/../../../precious",
        "../../victim",
        "/etc/passwd",
        "a/b",
        "a/../b",
        "..",
        ".",
        "",
    ),
    *(
        "/",
        "//",
        "a/",
        "/..",
        "../..",
        "a/../../b",
        "a/../../../b",
        "~",
        "$HOME",
        "*",
        "a\\..\\b",
        "a\nb",
        "\n/..",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["constraints", "seeds"])
def test_every_output_lies_in_its_folder_or_dvc_refuses(tmp_path, key):
    """DVC alone, without checks of this project."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    house = projects.house(tmp_path / "house")
    params, refused = yaml.safe_load((ROOT / "params.yaml").read_text()), set()
    for text in TEXTS:
        params["study"][key] = [text]
        (house / "params.yaml").write_text(yaml.safe_dump(params))
        with Repo(str(house)) as repo:
            try:
                stages = [stage for stage in repo.index.stages if stage.name.partition("@")[0] in NAMED]
            except (DvcException, AssertionError):  # AssertionError for an empty name
                refused.add(text)
                continue
        for stage in stages:
            declared = PIPELINE[stage.name.partition("@")[0]]["outs"]
            for out, template in zip(stage.outs, map(next, map(iter, declared)), strict=True):
                assert Path(out.fs_path).is_relative_to(house / Path(template).parent), (text, out)
    assert {"/../../../../victim", "/../../../precious", "a/../../../b"} <= refused


# Each value alone would cause damage without checks; keys of a mapping enter a command unquoted.
SHELL = ["26k; touch pwned #", "'\"; touch pwned #\\'; touch pwned #\n; touch pwned\n", "$(touch pwned)"]
HOSTILE = {
    "shell": {"constraints": SHELL, "seeds": [0, {"0; touch pwned #": 1}]},
    "paths": {"constraints": ["26k", "/../../../../victim", "/../../../precious"]},
    "folders": {"seeds": ["../../../../victims"]},
}
OUTPUTS = [
    "data/logmel/train.h5",
    "data/logmel/valid.h5",
    "models/supernet/2-2-x-0.pt",
    "results/scores/2-2-x-0.csv",
]


def snapshot(where: Path) -> dict[str, tuple[int, bytes]]:
    left_out = {".git", ".dvc", ".snakemake", ".state", "logs", "__pycache__", "params.yaml", "dvc.lock"}
    return {
        p.relative_to(where).as_posix(): (p.stat().st_mode, p.read_bytes())
        for p in where.rglob("*")
        if p.is_file() and p.name != ".gitignore" and left_out.isdisjoint(p.relative_to(where).parts)
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_parameters_run_nothing_and_touch_nothing(tmp_path, case):
    """This holds for every DVC command; `-s` and `-i` would skip a separate checking stage."""
    house = projects.house(tmp_path / "house")
    run(house, "git", "add", "-A")
    run(house, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "All")
    for name in [*OUTPUTS, "precious-0.pt", "../victim-0.pt", "../victims/file"]:
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        (house / name).write_text("dear")
        (house / name).chmod(0o600)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["study"] |= HOSTILE[case]
    before = snapshot(tmp_path)
    commands = ["repro", "repro -i -s search", "repro -i -s teacher", "checkout", "exp run"]
    for command in ["snakemake -c1", *(f"dvc {command}" for command in commands)]:
        (house / "params.yaml").write_text(yaml.safe_dump(params))
        said = run(house, *command.split(), fails=True)
        after = snapshot(tmp_path)
        if command == "dvc exp run":  # this command always checks out the outputs of dvc.lock
            for name in OUTPUTS:
                after.setdefault(f"house/{name}", before[f"house/{name}"])
        assert {p for p in {*before, *after} if before.get(p) != after.get(p)} == set(), (command, said)
        if command == "snakemake -c1":
            assert "study." in said and "nothing was run" in said  # before DVC runs
