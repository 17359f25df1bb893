"""dvc.yaml against the code: what a stage imports and reads is what it declares, no more and no less."""

import ast
import runpy

import projects
import pytest
import yaml
from dag import ROOT, SOURCE, closure, sections, sources, training_keys

from audionas.cli import _TRAINED, STAGES
from audionas.state import declared_code

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
MODULES = {name: "audionas.stages." + STAGES[name.split("-")[0]][0] for name in PIPELINE}


@pytest.mark.parametrize("name", PIPELINE)
def test_deps_are_the_imported_modules(name):
    deps = PIPELINE[name]["deps"]
    assert len(set(deps)) == len(deps)
    declared = {dep for dep in deps if dep.startswith("src/")}
    assert declared == sources(MODULES[name])


@pytest.mark.parametrize("name", [n for n in PIPELINE if n.split("-")[0] in _TRAINED - {"score"}])
def test_a_trainings_state_is_bound_to_the_modules_it_rests_on(name, monkeypatch):
    """And to no other, or a better title would cost an unfinished training its hours."""
    monkeypatch.chdir(ROOT)
    bound = {path.relative_to(ROOT).as_posix() for path in declared_code(name)}
    assert bound == sources(MODULES[name])
    stage = "individual-{recipe}" if name.startswith("individual") else name
    module = (
        "alone" if name.startswith(("individual", "init", "ranked")) else MODULES[name].rpartition(".")[2]
    )
    text = (SOURCE / "audionas" / "stages" / f"{module}.py").read_text()
    text += (SOURCE / "audionas" / "stages" / f"{MODULES[name].rpartition('.')[2]}.py").read_text()
    assert f'"{stage}"' in text  # it asks for its own


#: What a module reads for one of its stages, and another does without.
UNREAD = {"individual-baseline": {"distillation"}}


@pytest.mark.parametrize("name", PIPELINE)
def test_params_are_the_sections_that_are_read(name):
    declared = {param.split(".")[0] for param in PIPELINE[name]["params"]}
    assert declared - {"study"} == sections(MODULES[name]) - {"study"} - UNREAD.get(name, set())


@pytest.mark.parametrize("name", PIPELINE)
def test_training_keys_are_declared_one_by_one(name):
    declared = {param.partition(".")[2] for param in PIPELINE[name]["params"] if param.startswith("training")}
    assert declared == training_keys(MODULES[name])


def test_modules_are_imported_from_where_they_stand():
    """What a package's __init__ offers to users would hide from `closure` which module a stage rests on."""
    for path in (SOURCE / "audionas").rglob("*.py"):
        if path.name == "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom) and (SOURCE / module.replace(".", "/")).is_dir():
                for alias in node.names:
                    inside = SOURCE / module.replace(".", "/") / alias.name
                    assert inside.is_dir() or inside.with_suffix(".py").is_file(), (path, alias.name)


@pytest.mark.parametrize("name", [n for n in PIPELINE if not n.startswith(("evaluate", "coverage"))])
def test_only_evaluation_depends_on_the_test_split(name):
    reads = " ".join(PIPELINE[name]["deps"])
    assert "test" not in reads


def test_every_stage_says_what_it_needs():
    for name, stage in PIPELINE.items():
        assert {"threads", "mem_mb", "runtime"} <= set(stage["meta"]), name
        assert stage["desc"], name
    ranked = {name.partition("-")[0] for name, stage in PIPELINE.items() if "ranks" in stage["meta"]}
    assert ranked == _TRAINED


def test_editing_figures_retrains_nothing_and_editing_the_loss_does():
    assert "audionas.reporting.figures" not in closure("audionas.stages.supernet")
    assert "audionas.training.objectives" in closure("audionas.stages.supernet")
    assert "audionas.models.supernet" not in closure("audionas.stages.logmel")


def test_library_knows_nothing_of_the_engines_and_imports_run_one_way():
    order = ["stages", "reporting search training corpora sources", "models audio store evaluation", "config"]
    rank = {name: i for i, names in enumerate(order) for name in names.split()}
    for path in (ROOT / "src" / "audionas").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import dvc\n" not in text and "from dvc" not in text.replace("from dvclive", ""), path
        parts = path.relative_to(ROOT / "src" / "audionas").with_suffix("").parts
        own = rank.get(parts[0])
        if own is None:
            continue
        module = ".".join(("audionas", *parts))
        for imported in closure(module) - {module}:
            assert rank.get(imported.split(".")[1], 9) >= own, (module, imported)


@pytest.mark.slow
def test_the_drawing_in_the_readme_is_that_of_dvc(tmp_path):
    """With the parameters as they were committed, whatever is being tried here."""
    house = projects.house(tmp_path)
    (house / "params.yaml").write_text(projects.run(ROOT, "git", "show", "HEAD:params.yaml"))
    drawn = runpy.run_path(str(ROOT / "docs/update.py"))["dag"](house)
    assert drawn in (ROOT / "README.md").read_text(encoding="utf-8")
