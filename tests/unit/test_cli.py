"""The command line offers the stages of the system that params.yaml names."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import tiny
import yaml

from audionas.cli import main, parser
from audionas.settings.experiment import Experiment
from audionas.settings.training import Training
from audionas.systems import registry
from audionas.systems.common.commands import ARGUMENTS, Stage
from audionas.systems.once_for_all.commands import STAGES


def offered() -> set[str]:
    """Return the commands in the help."""
    (commands,) = parser()._subparsers._group_actions
    return set(commands.choices)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", [None, "", "{", "- a\n", "system: none_such\n", "system: [once_for_all]\n"])
def test_the_main_systems_commands_are_offered_without_readable_parameters(folder, capsys, text):
    if text is not None:
        Path("params.yaml").write_text(text)
    general = {"check", "classify", "completion", "lists", "measure", "publish", "space", "specialize"}
    general |= {"export", "page", "stage", "verify-cache"}
    assert offered() == {*STAGES, *general}
    assert main(["teacher", "--seed", "0"]) == 1
    assert capsys.readouterr().err.startswith("audionas teacher: params.yaml")


def test_help_and_grammar_load_no_library_that_takes_seconds(folder):
    tiny.make(folder)
    code = (
        "import sys; from audionas.cli import parser; parser(); print({*sys.modules} & {'torch', 'pandas'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


class Other(Experiment):
    """Parameters of the test system."""

    training: Training


@pytest.fixture
def other(folder, monkeypatch):
    """A project of a second system, with one stage. Yields the arguments of the stage and of the check."""
    given = []
    modules = {
        "config": {"Config": Other},
        "study": {
            "check": lambda config, path: given.append(("check", str(path))),
            "summary": lambda config: "a summary of its own",
        },
        "commands": {
            "STAGES": {"logmel": STAGES["logmel"], "spot": Stage("other.spot", "spot words", ("split",))},
            "ARGUMENTS": ARGUMENTS,
            "add_commands": lambda commands: None,
            "named": lambda name, config: ("spot", {"split": name.partition("@")[2]}),
        },
        "spot": {"run": lambda config, split: given.append((config.system, split))},
    }
    for name, content in modules.items():
        module = ModuleType(f"audionas.systems.other.{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "audionas.systems.other", ModuleType("audionas.systems.other"))
    monkeypatch.setattr(registry, "SYSTEMS", (*registry.SYSTEMS, "other"))
    shared = {name: tiny.PARAMS[name] for name in ("corpus", "audio", "features", "training")}
    Path("params.yaml").write_text(yaml.safe_dump({"system": "other", **shared}))
    return given


def test_another_system_brings_its_own_stages_and_its_own_check(other, capsys):
    assert {"spot", "logmel", "classify"} < offered() and "teacher" not in offered()
    assert main(["spot", "--split", "valid"]) == 0
    assert main(["stage", "spot@test"]) == 0
    assert other == [
        ("check", "params.yaml"),
        ("other", "valid"),
        ("check", "params.yaml"),
        ("other", "test"),
    ]
    with pytest.raises(SystemExit):
        main(["teacher", "--seed", "0"])
    assert "invalid choice: 'teacher'" in capsys.readouterr().err


def test_check_asks_the_system_that_the_file_names(other, folder, capsys):
    assert main(["check"]) == 0 and other == [("check", "params.yaml")]
    assert capsys.readouterr().out == "params.yaml: valid: a summary of its own\n"
    (folder / "main").mkdir()
    tiny.make(folder / "main")
    assert main(["check", "main/params.yaml"]) == 0 and len(other) == 1
    assert "main/params.yaml: valid: corpus soundfont, 1 seed(s)" in capsys.readouterr().out
