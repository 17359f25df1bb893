"""dvc.yaml against the code: what a stage imports and reads is what it declares, no more and no less."""

import ast
import runpy

import networkx
import projects
import pytest
import yaml
from dag import ROOT, SOURCE, closure, sections, sources, training_keys

from audionas.runtime.state import declared_code
from audionas.systems.once_for_all.commands import STAGES
from audionas.systems.registry import SYSTEMS

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
MODULES = {name: "audionas.systems." + STAGES[name.split("-")[0]].module for name in PIPELINE}
_TRAINED = {name for name, stage in STAGES.items() if stage.trains}


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
        "single_network"
        if name.startswith(("individual", "init", "ranked"))
        else MODULES[name].rpartition(".")[2]
    )
    text = (SOURCE / "audionas" / "systems" / "once_for_all" / "stages" / f"{module}.py").read_text()
    text += (
        SOURCE / "audionas" / "systems" / "once_for_all" / "stages" / f"{MODULES[name].rpartition('.')[2]}.py"
    ).read_text()
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
    assert "audionas.systems.once_for_all.figures" not in closure(
        "audionas.systems.once_for_all.stages.supernet"
    )
    assert "audionas.training.objectives" in closure("audionas.systems.once_for_all.stages.supernet")
    assert "audionas.supernet.cnn10" not in closure("audionas.systems.common.logmel")


#: Rooms of the package, from what imports to what is imported; rooms of one line do not go in a circle.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"commands"},
    {"systems"},
    {"reporting", "inference"},
    {"search", "supernet", "compression", "training"},
    {"models", "evaluation", "data", "audio", "tasks"},
    {"settings"},
    {"runtime"},
]


def imports() -> dict[str, set[tuple[str, str]]]:
    """Rooms that each room imports from, with the two modules."""
    found: dict[str, set[tuple[str, str]]] = {}
    for path in (SOURCE / "audionas").rglob("*.py"):
        room = path.relative_to(SOURCE / "audionas").with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                parts = (name or "").split(".")
                if parts[0] == "audionas" and len(parts) > 1 and parts[1] != room:
                    found.setdefault(room, set()).add((parts[1], f"{path.relative_to(SOURCE)}: {name}"))
    return found


def test_imports_run_one_way_and_in_no_circle():
    rank = {room: place for place, rooms in enumerate(LAYERS) for room in rooms}
    found = imports()
    upward = [where for room, others in found.items() for other, where in others if rank[other] < rank[room]]
    assert not upward
    graph = networkx.DiGraph((room, other) for room, others in found.items() for other, _ in others)
    assert networkx.is_directed_acyclic_graph(graph), networkx.find_cycle(graph)


def test_no_system_imports_another_and_no_room_knows_the_engines():
    for path in (SOURCE / "audionas").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import dvc\n" not in text and "from dvc" not in text.replace("from dvclive", ""), path
        parts = path.relative_to(SOURCE / "audionas").parts
        if parts[0] == "systems" and len(parts) > 2:
            others = {name for name in SYSTEMS if name != parts[1]}
            assert not any(f"audionas.systems.{other}" in text for other in others), path


@pytest.mark.slow
def test_the_drawing_in_the_readme_is_that_of_dvc(tmp_path):
    """With the parameters as they were committed, whatever is being tried here."""
    house = projects.house(tmp_path)
    (house / "params.yaml").write_text(projects.run(ROOT, "git", "show", "HEAD:params.yaml"))
    drawn = runpy.run_path(str(ROOT / "docs/update.py"))["dag"](house)
    assert drawn in (ROOT / "README.md").read_text(encoding="utf-8")
