"""State of stages: keys, locks, and files left by kills."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import yaml
from hypothesis import given
from hypothesis import strategies as st

import audionas
from audionas.cli import main
from audionas.runtime import files, state
from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write, remove_abandoned
from audionas.runtime.state import basis_of, declared_code, differences, only_one, open_folder, state_key
from audionas.systems.once_for_all.stages import individual, teacher
from audionas.training import loop
from audionas.training.checkpoint import Checkpoint

ROOT = Path(__file__).parents[3]
PACKAGE = Path(audionas.__file__).parent


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    return tiny.make(tmp_path)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An editable copy of the package's files; imported modules do not change."""
    copied = tmp_path / "copy" / "audionas"
    shutil.copytree(PACKAGE, copied)
    monkeypatch.setattr(state, "_PACKAGE", copied)
    return copied


def stopped(project, monkeypatch, **changes) -> Path:
    """Interrupt a teacher training after its first iteration, and return its checkpoint."""
    monkeypatch.setenv("AUDIONAS_TIME_LIMIT", "0")
    tiny.make(Path(), **changes)
    assert main(["teacher", "--seed", "0"]) == 75
    monkeypatch.delenv("AUDIONAS_TIME_LIMIT")
    return max(Path(".state").glob("teacher-0-*.pt"), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize(
    "module",
    [
        "data/sources/youtube.py",
        "data/corpora/esc50.py",
        "systems/once_for_all/tables.py",
        "search/strategies.py",
    ],
)
def test_a_comment_elsewhere_restarts_no_training(project, package, monkeypatch, caplog, module):
    first = stopped(project, monkeypatch)
    with (package / module).open("a") as file:
        file.write("# a comment\n")
    assert stopped(project, monkeypatch) == first and "not used" not in caplog.text
    with (package / "training" / "loop.py").open("a") as file:
        file.write("# a comment\n")
    assert stopped(project, monkeypatch) != first
    assert f"{first}: not used; what differs: audionas/training/loop.py changed." in caplog.text


def test_a_rejected_checkpoint_is_named_with_what_differs_and_only_the_last_stays(
    project, monkeypatch, caplog
):
    first = stopped(project, monkeypatch)
    second = stopped(project, monkeypatch, teacher={"iterations": 13})
    assert (
        f"{first}: not used; what differs: run.iterations: 12 → 13; teacher.iterations: 12 → 13"
        in caplog.text
    )
    third = stopped(project, monkeypatch, teacher={"iterations": 14})
    assert sorted(Path(".state").glob("*.pt")) == sorted({second, third})
    caplog.clear()
    assert stopped(project, monkeypatch, teacher={"iterations": 13}) == second  # the edit was reverted
    tiny.make(Path(), teacher={"iterations": 13})
    teacher.run(tiny.make(Path(), teacher={"iterations": 13}), seed=0)
    assert not list(Path(".state").iterdir())


def test_a_damaged_checkpoint_of_another_key_is_told_of(tmp_path, caplog):
    (tmp_path / "run-one.pt").write_bytes(b"damaged")
    (tmp_path / "run-x-one.pt").write_bytes(b"of another run")
    mine = Checkpoint("run", "two", tmp_path, {"a": "1"})
    mine.report_unused()
    assert "run-one.pt: not used; what differs: unknown" in caplog.text and "run-x" not in caplog.text
    mine.save({"iteration": 1})
    mine.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["run-x-one.pt"]


def test_stages_of_data_restart_for_their_own_modules_alone(package, monkeypatch):
    monkeypatch.chdir(ROOT)
    options = {
        "download": {"without": ("data/sources",)},
        "resample": {"without": ("data/corpora", "data/sources", "data/coverage.py", "data/duplicates.py")},
        "logmel": {},
    }
    before = {stage: basis_of({}, declared_code(stage, **more)) for stage, more in options.items()}
    for module in ("data/sources/youtube.py", "data/coverage.py", "audio/logmel.py"):
        with (package / module).open("a") as file:
            file.write("# a comment\n")
    after = {stage: basis_of({}, declared_code(stage, **more)) for stage, more in options.items()}
    assert [stage for stage in options if before[stage] != after[stage]] == ["logmel"]


@pytest.mark.parametrize("root", ["", "../../"])
def test_a_folder_among_the_deps_stands_for_all_modules_below_it(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    deps = ["data/logmel/train.h5", f"{root}src/audionas/audio", f"{root}src/audionas/data/store.py"]
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": {"deps": deps}}}))
    below = sorted((PACKAGE / "audio").glob("**/*.py"))
    assert len(below) > 3
    assert declared_code("train") == [*below, PACKAGE / "data/store.py"]
    assert declared_code("train", without=("audio",)) == [PACKAGE / "data/store.py"]
    assert PACKAGE / "audio/decode.py" not in declared_code("train", without=("audio/decode.py",))


@pytest.mark.parametrize(
    "text", [None, "", "{", "stages: []", "stages: {other: {deps: [src/audionas/data/store.py]}}"]
)
def test_without_a_stage_in_dvc_yaml_all_modules_bind(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("dvc.yaml").write_text(text)
    bound = {path.relative_to(PACKAGE).as_posix() for path in declared_code("teacher")}
    assert "data/sources/youtube.py" in bound and not any(name.startswith("reporting/") for name in bound)


def test_another_folder_of_state_is_removed_with_a_word(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    old = open_folder("resample", "train", {"audio.sample_rate": "32000"})
    other = open_folder("resample", "test", {"audio.sample_rate": "32000"})
    new = open_folder("resample", "train", {"audio.sample_rate": "16000"})
    assert new.exists() and other.exists() and not old.exists()
    assert f"{old}: removed and not used; differences: audio.sample_rate: 32000 → 16000" in caplog.text
    assert open_folder("resample", "train", {"audio.sample_rate": "16000"}) == new


settings = st.dictionaries(st.sampled_from("ab"), st.integers(0, 2) | st.sampled_from(["0", "x"]) | st.none())


@given(settings, settings)
def test_keys_are_the_same_for_the_same_settings_alone(one, other):
    first, second = basis_of({"section": one}), basis_of({"section": other})
    assert (state_key(first) == state_key(second)) == (one == other)
    assert (differences(first, second) == "nothing that was recorded") == (one == other)


HOLDING = """
import sys
from audionas.runtime.state import only_one
with only_one(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(project):
    """Start a process that locks a state until the end of the test."""
    started = []

    def hold(name):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDING, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        )
        assert process.stdout.readline() == "held\n"
        started.append(process)
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "name, command",
    [
        ("teacher-0", ["teacher", "--seed", "0"]),
        (
            "individual-baseline-0.6x1-0",
            ["individual", "--recipe", "baseline", "--size", "0.6x1", "--seed", "0"],
        ),
        ("download-train", ["download", "--split", "train"]),
        ("resample-train", ["resample", "--split", "train"]),
        ("logmel-train", ["logmel", "--split", "train"]),
    ],
)
def test_a_second_process_is_told_who_is_at_it(holder, capsys, name, command):
    rows = "clip_id,source,origin,labels,start,end\na,a,a.wav,low,,\n"
    Path("data/segments/train.csv").write_text(rows)
    process = holder(name)
    assert main(command) == 1
    said = capsys.readouterr().err
    assert (
        f".state/{name}.lock: process {process.pid} on " in said
        and "wait for it to finish, or stop it" in said
    )
    assert not Path("models").exists() and not Path("data/raw").exists()
    if name == "teacher-0":
        process.kill()  # the lock is released with its process
        process.wait()
        assert main(command) == 0 and not list(Path(".state").iterdir())


def test_other_runs_go_on_beside_one_that_is_held(holder):
    holder("teacher-1")
    assert main(["teacher", "--seed", "0"]) == 0


def test_a_lock_that_its_holder_removes_meanwhile_is_not_taken(tmp_path, monkeypatch):
    """Before the file is locked, one process may remove it and another may create it again."""
    monkeypatch.chdir(tmp_path)
    lockf, opened = state.fcntl.lockf, []

    def removing(handle, how):
        opened.append(handle)
        if len(opened) == 1:
            Path(".state/run.lock").unlink()
        lockf(handle, how)

    monkeypatch.setattr(state.fcntl, "lockf", removing)
    with only_one("run"):
        assert len(opened) == 2 and Path(".state/run.lock").exists()
    assert not list(Path(".state").iterdir())


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(state.fcntl, "lockf", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    with only_one("run"):
        pass
    assert "no lock (not supported)" in caplog.text


def test_a_baseline_depends_on_neither_teacher_nor_distillation(project):
    """Its bytes are equal, and it resumes its interrupted state."""
    output = Path("models/individual/baseline-0.6x1-0.pt")
    individual.run(project, "baseline", "0.6x1", 0)
    whole = output.read_bytes()
    individual.run(tiny.make(Path(), distillation={"hard_label_weight": 0.5}), "baseline", "0.6x1", 0)
    assert output.read_bytes() == whole
    with pytest.raises(UserError, match=r"models/teacher/0\.pt"):
        individual.run(project, "kd", "0.6x1", 0)


@pytest.mark.parametrize("umask, mode", [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_a_file_has_the_rights_that_the_umask_gives(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file") as temporary:
            temporary.write_text("new")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


KILLED = """
import os, sys
from audionas.runtime.files import atomic_write
with atomic_write("out/file") as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_kill_left_is_removed_by_the_next_writer_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED], check=False, env=environment)
        (left,) = Path("out").iterdir()  # the previous folder is removed
    assert left.name.startswith(".file.")
    elsewhere = left.with_name(left.name.replace(files._HOST, "0" * 8))
    elsewhere.touch()
    mine = Path("out/.mine.tmp")
    mine.touch()
    with atomic_write("out/file") as outer, atomic_write("out/file") as inner:
        inner.write_text("whole")
        assert outer.exists() and not left.exists()  # the folder of a live writer is kept
        outer.write_text("whole")
    assert sorted(Path("out").iterdir()) == sorted([Path("out/file"), elsewhere, mine])
    remove_abandoned(Path("out"))
    assert mine.exists()


def test_out_of_memory_in_validation_says_what_to_lower(project, monkeypatch, capsys):
    sizes = []
    whole = loop._State.add_point

    def failing(self, validate):
        forward = self.network.forward

        def short(x, *more):
            sizes.append(len(x))
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

        self.network.forward = short
        try:
            return whole(self, validate)
        finally:
            self.network.forward = forward

    monkeypatch.setattr(loop._State, "add_point", failing)
    assert main(["teacher", "--seed", "0"]) == 1
    said = capsys.readouterr().err
    assert "out of memory; lower training.batch_size" in said and "valid.h5 in batches of 8" in said
    assert sizes == [project.training.batch_size]
