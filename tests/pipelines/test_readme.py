"""Checks of README.md, CONTRIBUTING.md and docs/: commands parse or run, links and names exist."""

import contextlib
import importlib
import io
import os
import re
import runpy
import shlex
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
import torch
import yaml
from dvc.cli import DvcParserError
from dvc.cli import parse_args as parse_dvc
from projects import ROOT, house, run
from snakemake.cli import get_argument_parser
from torch.distributed.run import get_args_parser as torchrun_parser

from audionas.cli import main, parser
from audionas.systems.once_for_all.commands import STAGES
from audionas.systems.once_for_all.config import Config
from audionas.systems.registry import load_config

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SECTIONS = "|".join(Config.model_fields)
#: Fenced blocks without commands: their beginning and their content.
SHOWN = {
    "flowchart LR": "the drawing of the DAG, which tests/pipelines/test_dag.py compares with dvc.yaml",
    "file,labels,source": "a list of clips, which tests/pipelines/test_own_audio.py reads",
    "import sherpa_onnx": "Python, which tests/unit/deploy/test_installed_targets.py runs",
    "import json, numpy": "Python, which tests/pipelines/test_export.py runs",
    "corpus:": "parameters, which tests/pipelines/test_own_audio.py runs",
    "params.yaml ": "the repository map; test_the_repository_map",
    "Path ": "what DVC prints",
    "from audionas.inference": "Python; test_the_snippet_of_events",
}
#: Programs whose commands are only parsed by bash, with the reason.
NOT_RUN = {
    "git": "changes the repository, or needs another one",
    "mkdir": "the site's folder",
    "chgrp": "the site's folder",
    "chmod": "the site's folder",
    "ssh": "needs a server; tests/cluster/test_ssh.py has one",
    "scontrol": "needs Slurm; tests/cluster/test_slurm.py has it",
    "apt-get": "needs root; .ci/run does it",
    "pip": "installs; the Makefile does it, with hashes",
    "source": "changes the shell",
    "cd": "changes the shell",
    "tar": "unpacks clips that the demo made",
    "grep": "reads what another command prints",
    "arecord": "needs a microphone",
    "ruff": "runs in `make lint`",
}
#: Placeholders and their values in the tests.
PLACEHOLDERS = {"NAME…": "resample", "STAGE": "tables", "URL": ".", "HEAD": "HEAD", "…": "x"}


def fenced(path: Path) -> list[str]:
    """Return the contents of the fenced blocks of a document."""
    return re.findall(r"^```[a-z]*\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def inline(path: Path) -> list[str]:
    """Return the inline code of a document, without line breaks."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def commands(line: str) -> list[list[str]]:
    """Return the simple commands of a shell line as lists of words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(";&|"):
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


def told() -> list[tuple[str, str]]:
    """Return (document, command) of every command, without duplicates."""
    found = []
    for path in DOCUMENTS:
        for block in fenced(path):
            if not block.startswith(tuple(SHOWN)):
                joined = block.replace("\\\n", " ")
                found += [(path.name, line) for line in joined.splitlines() if line.split("#")[0].strip()]
        for code in inline(path):
            first = re.sub(r"^([A-Z_]+=\S+ )+", "", code).split(" ")[0]
            if first in CHECKS or (first in NOT_RUN and " " in code):
                found.append((path.name, code))
    return list(dict.fromkeys(found))


def check_audionas(words: list[str]) -> None:
    parser().parse_args(words)


def check_dvc(words: list[str]) -> None:
    parse_dvc(words)


def check_snakemake(words: list[str]) -> None:
    known, unknown = get_argument_parser().parse_known_args(words)
    assert not unknown, unknown
    for profile in np.atleast_1d(known.profile or []):
        assert (ROOT / profile / "config.yaml").is_file()


def check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [word for word in words if "=" not in word]
    assert set(named) <= targets, named


def check_python(words: list[str]) -> None:
    if words[:2] == ["-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words[2:] if "/" in word)
    elif words[0] == "-m":
        assert words[1] == "benchmarks"
        from benchmarks.__main__ import BENCHMARKS

        names = [word for word in words[2:] if re.fullmatch(r"[a-z_]+", word) and word not in ("cuda", "all")]
        assert set(names) <= set(BENCHMARKS), names
    else:
        assert (ROOT / words[0]).is_file(), words[0]
        helped = (ROOT / words[0]).read_text()
        for flag in (word for word in words[1:] if word.startswith("--") and word != "--help"):
            assert f'"{flag}"' in helped, f"{words[0]} has no {flag}"


def check_torchrun(words: list[str]) -> None:
    known = torchrun_parser().parse_args(words)
    assert known.module and known.training_script == "audionas"
    check_audionas(known.training_script_args)


def check_cp(words: list[str]) -> None:
    source, to = words
    assert (ROOT / source).is_file() and to == "params.yaml"


def check_eval(words: list[str]) -> None:
    (inner,) = words
    check_audionas(re.fullmatch(r"\$\(audionas (.*)\)", inner)[1].split())


CHECKS = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}


@pytest.mark.parametrize(("document", "command"), told(), ids=lambda text: text[:60])
def test_the_program_takes_the_command(document, command):
    subprocess.run(["bash", "-n", "-c", command.replace("…", "x")], check=True)
    plain = " ".join(PLACEHOLDERS.get(word, word) for word in command.split(" "))
    for words in commands(plain.replace("…", "x")):
        while re.fullmatch(r"[A-Z_]+=.*", words[0]):
            variable = words.pop(0).partition("=")[0]
            assert any(variable in path.read_text() for path in (ROOT / "src").rglob("*.py")), variable
        program, *rest = words
        assert program in CHECKS or program in NOT_RUN, f"{document}: {program}: how is it tried?"
        if program in CHECKS and (refusal := refused(program, rest)):
            # A command name without its required arguments.
            named = not any(word.startswith("-") for word in rest)
            assert named and not refused(program, [*rest, "--help"]), f"{document}: {refusal}"


def refused(program: str, words: list[str]) -> str:
    """Return why the program rejects these arguments, or ""."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            CHECKS[program](words)
    except SystemExit as end:
        return said.getvalue() if end.code else ""
    except DvcParserError:
        return said.getvalue() or "refused"
    return ""


def settings() -> list[tuple[str, str]]:
    found = [(path.name, code) for path in DOCUMENTS for code in inline(path)]
    found = [(name, code) for name, code in found if re.match(rf"({SECTIONS})\.[a-z_.]+(: |=|$)", code)]
    overrides = [
        (path.name, change.replace("=", ": ", 1))
        for path in DOCUMENTS
        for change in re.findall(r"-S '?([a-z_.]+=[^\s'`,]+)", path.read_text())
        if not change.startswith("key=")
    ]
    return list(dict.fromkeys(found + overrides))


@pytest.mark.parametrize(("document", "setting"), settings(), ids=lambda text: text[:60])
def test_a_parameter_that_is_named_is_there_and_takes_the_value(document, setting, tmp_path):
    key, _, value = setting.partition(": ")
    section, *names = key.split(".")
    audioset = yaml.safe_load((ROOT / "profiles/audioset.yaml").read_text())
    params = audioset if section == "corpus" else yaml.safe_load((ROOT / "params.yaml").read_text())
    holder = params[section]
    for name in names[:-1]:
        holder = holder[name]
    assert names[-1] in holder or section == "corpus", f"{document}: {key}"
    if key == "distillation.in_place" and value == "true":
        params["supernet"]["sampling"] = "sandwich"  # the only value that depends on another
    if value and "esc50" not in value:
        holder[names[-1]] = yaml.safe_load(
            re.sub(", ?…?$|, …", "", value) + "]" * (value.startswith("[") and not value.endswith("]"))
        )
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    load_config(tmp_path / "params.yaml")


def sources_of() -> list[Path]:
    return [
        path
        for folder in ("src", "tests", "tools", "benchmarks", "workflow")
        for path in ROOT.glob(f"{folder}/**/*.py")
    ]


def prose(path: Path) -> str:
    """Return a document without fenced blocks and inline code."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]+`", "", text)


def anchors(path: Path) -> set[str]:
    """Return GitHub's anchors of the headings of a document."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        repeated = sum(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other) is not None for other in found)
        found.append(f"{anchor}-{repeated}" if repeated else anchor)
    return set(found)


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert not missing


#: Folders that a clone does not contain, because only stages and users write to them.
WRITTEN = {"data", "models", "results", "logs", "corpora", ".state", ".snakemake", ".venv"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_folders_are_there(path):
    top = {one.name for one in ROOT.iterdir()} - WRITTEN
    named = [code for code in inline(path) if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", code)]
    paths = [code for code in named if "/" in code and code.split("/")[0] in top]
    paths += [code for code in named if re.fullmatch(r"[\w-]+\.(md|py|yaml|toml|lock|cff)", code)]
    assert not [one for one in paths if not (ROOT / one).exists() and not one.startswith(".dvc/tmp/")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_variable_of_the_environment_is_read_by_the_code(path):
    variables = set(re.findall(r"AUDIONAS_[A-Z]+(?:_[A-Z]+)*", path.read_text()))
    sources = "".join(one.read_text() for one in sources_of())
    assert not [name for name in variables if name not in sources]


def test_changelog_and_citation_name_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert citation["version"] == version and f"## [{version}] - {citation['date-released']}" in changelog
    assert "## [Unreleased]" in changelog and citation["license"] == "MIT" and citation["authors"]


def places(paths: list) -> set[str]:
    """Return the folders of deps or outs, two levels deep, without code. A parameter gives `corpus.lists`."""
    names = [path if isinstance(path, str) else next(iter(path)) for path in paths]
    names = [re.sub(r"^\$\{((?:corpus|deploy)\.\w+)\}$", r"\1", name) for name in names]
    return {"/".join(name.split("/")[:2]) for name in names if not name.startswith("src/")}


def test_the_table_of_stages_is_that_of_dvc():
    stages: dict[str, tuple[set, set]] = {}
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        command = name if name in STAGES else name.split("-")[0]
        reads, writes = stages.setdefault(command, (set(), set()))
        reads |= places(stage.get("deps", []))
        writes |= places([*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])])
    rows = re.findall(
        r"^\| `([\w-]+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", (ROOT / "docs/dag.md").read_text(), re.MULTILINE
    )
    shown = {name: tuple(set(re.findall(r"`([^`]+)`", cell)) for cell in cells) for name, *cells in rows}
    assert shown == stages


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {path.name for path in DOCUMENTS if path.parent.name == "docs"} - {"README.md"}
    assert not [name for name in pages if f"({name})" not in index]


def test_the_readmes_table_is_that_of_the_demo():
    update = runpy.run_path(str(ROOT / "tools" / "update_docs.py"))
    texts = {
        (name, marker): re.search(
            rf"<!-- demo:{marker} -->\n(.*?)\n<!-- /demo:{marker} -->", (ROOT / name).read_text(), re.DOTALL
        )[1]
        for name, marker in (("README.md", "summary"), ("docs/demo.md", "table1"))
    }
    shown = update["columns"](texts["docs/demo.md", "table1"], update["SHOWN"])
    assert texts["README.md", "summary"] == shown and "OFA 2-2-x" in shown


def test_the_readmes_list_of_clips_is_that_of_the_page():
    lists = [
        next(block for block in fenced(path) if block.startswith("file,labels,source"))
        for path in (ROOT / "README.md", ROOT / "docs" / "own-audio.md")
    ]
    assert lists[1].startswith(lists[0])


def test_the_repository_map():
    (block,) = (block for block in fenced(ROOT / "CONTRIBUTING.md") if block.startswith("params.yaml "))
    names = re.findall(r"(?:^|\s{2,})([\w./]+(?:, [\w./]+)*)(?=\s)", block, re.MULTILINE)
    files = [
        name for group in names for name in group.split(", ") if re.search(r"/$|\.(py|yaml|lock)$", name)
    ]
    package = ROOT / "src/audionas"
    assert len(files) > 20
    assert not [
        name
        for name in files
        if name.strip("/") not in WRITTEN and not (ROOT / name).exists() and not (package / name).exists()
    ]


@pytest.mark.parametrize(
    "name", [n for p in DOCUMENTS for n in inline(p) if re.fullmatch(r"audionas(\.\w+)+", n)]
)
def test_a_name_of_the_package_can_be_imported(name):
    module, _, last = name.rpartition(".")
    assert hasattr(importlib.import_module(module), last)


def test_the_snippet_of_the_classifier(tmp_path, monkeypatch):
    from audionas.models.cnn10 import Cnn10
    from audionas.models.files import save_model

    (snippet,) = {
        code for path in DOCUMENTS for code in inline(path) if code.startswith("audionas.inference.")
    }
    config = tiny.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    about = {"settings": config.feature_settings(), "classes": tiny.CLASSES}
    save_model("26k.pt", Cnn10(4, 4, mels=16), about)
    soundfile.write("recording.wav", np.random.default_rng(0).normal(0, 0.1, 32_000), 32_000)
    module = snippet.partition("(")[0].rpartition(".")[0]
    probabilities = eval(snippet, {"audionas": importlib.import_module(module) and __import__("audionas")})  # noqa: S307
    assert probabilities.shape == (4,) and ((probabilities > 0) & (probabilities < 1)).all()


def test_the_snippet_of_events(tmp_path, monkeypatch, capsys):
    from audionas.models.cnn10 import Cnn10
    from audionas.models.files import save_model

    (snippet,) = (block for path in DOCUMENTS for block in fenced(path) if "import Classifier" in block)
    settings = {
        "audio": {"sample_rate": 16_000, "clip_seconds": 2.0, "min_seconds": 0.1},
        "features": {"n_fft": 1024, "hop": 320, "mels": 16, "fmin": 50.0, "fmax": 8000.0},
    }
    monkeypatch.chdir(tmp_path)
    network = Cnn10(2, 4, mels=16)
    with torch.no_grad():
        network.fc2.weight.zero_()
        network.fc2.bias.copy_(torch.tensor([0.0, 0.0]))  # probabilities of 0.5
    save_model("26k.pt", network, {"settings": settings, "classes": ["Guitar", "Drum"]})
    soundfile.write("long.wav", np.random.default_rng(0).normal(0, 0.1, 16_000 * 5), 16_000)
    exec(snippet, {})  # noqa: S102
    assert capsys.readouterr().out == "0.0 5.0 Guitar 0.5\n"


def test_the_readmes_budgets_can_be_added(tmp_path, monkeypatch):
    (row,) = re.findall(r"^\| add a budget \|.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    budgets = [code for code in re.findall(r"`([^`]+)`", row) if re.fullmatch(r"[\dkMmacs_]+", code)]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["study"]["constraints"] += budgets
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(ROOT)
    assert len(budgets) == 3 and main(["check", str(tmp_path / "params.yaml")]) == 0


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone of the project, without data."""
    return house(tmp_path_factory.mktemp("clone"))


HERE = [
    *(
        "audionas check",
        "audionas --help",
        "audionas space 2-2-x --csv",
        'eval "$(audionas completion bash)"',
    ),
    "python tools/rehearsal.py --help",
    "snakemake --profile workflow/profiles/slurm -n",
]


@pytest.mark.slow
@pytest.mark.parametrize("command", HERE)
def test_what_needs_no_data_runs(project, command):
    assert any(command.split(" -")[0].split('"')[0] in path.read_text() for path in DOCUMENTS)
    run(project, "bash", "-ec", command, env={"PYTHONPATH": os.environ.get("PYTHONPATH", "")})
