"""dvc.yaml against the code: a stage declares the rooms that it imports from and the parameters it reads."""

import ast
import runpy

import networkx
import projects
import pytest
import tiny
import yaml
from dag import (
    COMMANDS,
    MODULES,
    PACKAGE,
    PIPELINE,
    ROOT,
    SOURCE,
    code,
    covers,
    parameters,
    restarted,
    sections,
    sources,
    training_keys,
)

from audionas.runtime.state import declared_code
from audionas.systems.registry import SYSTEMS

TRAINED = {name for name, stage in COMMANDS.items() if name != "score" and stage.trains}
REPORTS = {"coverage", "tables", "export-budget", "release", "report", "listen"}
SUPERNET = {"supernet", "score", "search"}


def test_the_pipeline_fits_in_350_lines():
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize("name", PIPELINE)
def test_a_stage_declares_the_rooms_that_it_imports_from_and_no_other(name):
    assert len(set(PIPELINE[name]["deps"])) == len(PIPELINE[name]["deps"])
    declared, imported = code(name), sources(MODULES[name])
    assert all((ROOT / dep).exists() for dep in declared)
    others = set(PIPELINE[name]["deps"]) - declared
    assert all(
        dep.startswith(("data/", "models/", "results/", "${corpus.", "${deploy.")) for dep in others
    )  # no docs
    undeclared = {file for file in imported if not any(covers(dep, file) for dep in declared)}
    unused = {dep for dep in declared if not any(covers(dep, file) for file in imported)}
    twice = {dep for dep in declared if any(covers(room, dep) for room in declared - {dep})}
    assert (undeclared, unused, twice) == (set(), set(), set())


@pytest.mark.parametrize(
    "edited, stages",
    [
        ("data/sources/youtube.py", {"download", "coverage"}),
        ("data/corpora/esc50.py", {"segments", "download", "coverage"}),
        (
            "audio/logmel.py",
            {"segments", "logmel", "coverage", "export-budget", "evaluate-exported", "listen"},
        ),
        ("systems/once_for_all/tables.py", {"tables"}),
        ("systems/once_for_all/page.html", {"report"}),
        ("systems/once_for_all/cards.py", {"release"}),
        ("runtime/state.py", set()),
    ],
)
def test_an_edit_restarts_these_stages(edited, stages):
    assert (ROOT / PACKAGE / edited).exists()
    assert restarted(edited) == stages


@pytest.mark.parametrize(
    "room, most",
    [
        ("reporting", REPORTS),
        ("commands", set()),
        ("settings", set()),
        ("supernet", SUPERNET | {"tables"}),
        ("search", set(PIPELINE) - {"teacher", "segments", "download", "resample", "logmel"}),
        ("training", TRAINED | {"tables"}),
    ],
)
def test_an_edit_in_a_room_restarts_at_most_these_stages(room, most):
    """So tables, page and docs retrain nothing, and the supernet no teacher and no single network."""
    files = [path.relative_to(ROOT / PACKAGE).as_posix() for path in (ROOT / PACKAGE / room).rglob("*.*")]
    assert files and set().union(*map(restarted, files)) <= most


def test_of_search_a_single_network_declares_what_it_imports_alone():
    """So a strategy, a Pareto front or a table of a space restarts no training but that of the supernet."""
    single = TRAINED - {"supernet"}
    imported = set().union(*(sources(MODULES[name]) for name in single))
    found = (path for path in (ROOT / PACKAGE / "search").rglob("*.py") if path.name != "__init__.py")
    files = {path.relative_to(ROOT).as_posix() for path in found}
    spared = {file.removeprefix(PACKAGE) for file in files - imported}
    assert len(spared) > 2
    assert not set().union(*map(restarted, spared)) & single


def test_an_edit_of_the_loop_restarts_every_training():
    assert restarted("training/loop.py") >= TRAINED


def test_what_python_and_editors_leave_in_a_room_restarts_nothing():
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        ignored = repo.dvcignore.is_ignored_file
        room = ROOT / PACKAGE / "models"
        for name in ("__pycache__/cnn10.cpython-311.pyc", ".cnn10.py.swp", "cnn10.py~"):
            assert ignored(str(room / name)), name
        assert not ignored(str(room / "cnn10.py"))


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_a_trainings_state_is_bound_to_the_code_that_its_stage_declares(name, monkeypatch):
    """And to no other, or a better title would cost an unfinished training its hours."""
    monkeypatch.chdir(ROOT)
    bound = {path.relative_to(ROOT).as_posix() for path in declared_code(name)}
    modules = {path.relative_to(ROOT).as_posix() for path in SOURCE.rglob("*.py")}
    assert bound == {file for file in modules if any(covers(dep, file) for dep in code(name))}
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
    declared = {key.split(".")[0] for key in parameters(name)}
    assert declared - {"study"} == sections(MODULES[name]) - {"study"} - UNREAD.get(name, set())


@pytest.mark.parametrize("name", PIPELINE)
def test_training_keys_are_declared_one_by_one(name):
    declared = {key.partition(".")[2] for key in parameters(name) if key.startswith("training.")}
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
    ranked = {name for name, stage in PIPELINE.items() if "ranks" in stage["meta"]}
    assert ranked == {name for name, stage in COMMANDS.items() if stage.trains}


#: Rooms of the package, from what imports to what is imported; rooms of one line do not go in a circle.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"commands"},
    {"systems"},
    {"reporting", "deploy", "inference"},
    {"search", "supernet", "compression", "training"},
    {"models", "evaluation", "data", "audio", "tasks"},
    {"settings"},
    {"runtime"},
]


def imported(text: str) -> set[str]:
    """Modules that a source file names in its imports."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
        names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
    return names


def imports() -> dict[str, set[tuple[str, str]]]:
    """Rooms that each room imports from, with the two modules."""
    found: dict[str, set[tuple[str, str]]] = {}
    for path in (SOURCE / "audionas").rglob("*.py"):
        room = path.relative_to(SOURCE / "audionas").with_suffix("").parts[0]
        for name in imported(path.read_text(encoding="utf-8")):
            parts = name.split(".")
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
        assert not {"dvc", "snakemake"} & {name.partition(".")[0] for name in imported(text)}, path
        parts = path.relative_to(SOURCE / "audionas").parts
        if parts[0] == "systems" and len(parts) > 2:
            others = {name for name in SYSTEMS if name != parts[1]}
            assert not any(f"audionas.systems.{other}" in text for other in others), path


@pytest.mark.slow
def test_dvc_restarts_a_teacher_for_its_rooms_alone(tmp_path):
    house = projects.house(tmp_path)
    pipeline = {"stages": {"teacher": PIPELINE["teacher"]}}
    (house / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    (house / "dvc.lock").unlink()
    tiny.make(house, teacher={"iterations": 2})
    environment = {"PYTHONPATH": str(house / "src")}
    projects.run(house, "dvc", "repro", env=environment)

    def edit(file: str) -> str:
        with (house / PACKAGE / file).open("a") as opened:
            opened.write("# a comment\n")
        return projects.run(house, "dvc", "status")

    for file in (
        "data/sources/youtube.py",
        "reporting/captions.py",
        "supernet/layers.py",
        "search/cnn10.py",
        "systems/once_for_all/tables.py",
        "systems/once_for_all/page.py",
    ):
        assert "up to date" in edit(file), file
    assert "src/audionas/training" in edit("training/loop.py")


@pytest.mark.slow
def test_the_drawing_in_the_documentation_is_that_of_dvc(tmp_path):
    """With the parameters as they were committed, whatever is being tried here."""
    house = projects.house(tmp_path)
    (house / "params.yaml").write_text(projects.run(ROOT, "git", "show", "HEAD:params.yaml"))
    drawn = runpy.run_path(str(ROOT / "tools/update_docs.py"))["dag"](house)
    assert drawn in (ROOT / "docs" / "dag.md").read_text(encoding="utf-8")
