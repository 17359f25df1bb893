"""A manual `dvc` with the patches of `make install`: it survives kills, and its cache is private."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import projects
import pytest
from projects import ENV, ROOT, edit, run, until

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return projects.environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    where = projects.toy(tmp_path_factory.mktemp("made"))
    edit(where, seconds={"slow": 0, "quick": 0})
    run(where, "dvc", "repro", env=environment)
    return where


@pytest.fixture
def done(made: Path, tmp_path: Path) -> Path:
    """A toy pipeline after `dvc repro` and a change of a parameter."""
    where = shutil.copytree(made, tmp_path / "done", symlinks=True)
    edit(where, sign="-")
    return where


def python(where: Path, environment: dict[str, str], code: str, *arguments: str, **options) -> str:
    """Run a script with the Python of the environment, and return its output."""
    return run(where, "python", "-c", code, *arguments, env=environment, **options)


DAMAGED = [
    "",
    "{",
    "[]",
    "null",
    '{"write": {"a": 1}}',
    "\0" * 99,
    "[" * 100_000,
    '{"read": {"a": [{"pid": 1}]}}',
]


@pytest.mark.parametrize("command", [("dvc", "repro"), ("snakemake", "-c1")])
def test_no_damage_to_rwlock_stops_the_next_run(done: Path, environment: dict[str, str], command) -> None:
    notes = done / ".dvc/tmp/rwlock"
    for i, content in enumerate(DAMAGED):
        notes.write_text(content)
        edit(done, sign=str(i))
        assert "Traceback" not in run(done, *command, env=environment)
        if command[0] == "snakemake":
            break  # later kills need more time
    assert (done / "join").read_text() == f"slow{i}quick" and isinstance(json.loads(notes.read_text()), dict)
    notes.write_bytes(b"\xff")
    assert "rwlock' is damaged" in run(done, "dvc", "status", env=environment)


def test_only_a_process_that_is_alive_keeps_others_out(done: Path, environment: dict[str, str]) -> None:
    """The process id of a dead process may be reused, for example after a reboot."""
    living = subprocess.Popen([sys.executable, "-c", "input()", "repro", "join"], stdin=subprocess.PIPE)
    notes = done / ".dvc/tmp/rwlock"

    def note(command: str) -> None:
        one = {"pid": living.pid, "cmd": command}
        notes.write_text(json.dumps({"write": {str(done / "join"): one}, "read": {}}))

    try:
        note("/bin/dvc repro apart")
        run(done, "dvc", "repro", env=environment)
        assert (done / "join").read_text() == "slow-quick"
        edit(done, sign="*")
        note("/bin/dvc repro join")
        assert f"PID {living.pid}" in run(done, "dvc", "repro", env=environment, fails=True)
        living.kill()
        until(lambda: Path(f"/proc/{living.pid}/stat").read_text().split()[2] == "Z", "a zombie")
        run(done, "dvc", "repro", env=environment)
        assert (done / "join").read_text() == "slow*quick"
    finally:
        living.kill()
        living.communicate()


DUMP = """
import os, signal, sys
from dvc.utils.serialize import _yaml

def dying(data, stream, dump=_yaml._dump):
    dump(data, stream)
    if sys.argv[2] in stream.name:
        stream.truncate(stream.tell() // 2)
        stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)

_yaml._dump = dying
from dvc.cli import main
sys.argv = ["dvc", *sys.argv[1:]]
main(["repro"])
"""


def test_a_kill_in_the_middle_of_writing_dvc_lock_leaves_the_old_one(
    done: Path, environment: dict[str, str]
) -> None:
    before = (done / "dvc.lock").read_bytes()
    process = subprocess.run(
        ["python", "-c", DUMP, "repro", "dvc.lock"], cwd=done, env=environment, check=False
    )
    assert process.returncode == -signal.SIGKILL
    assert (done / "dvc.lock").read_bytes() == before
    run(done, "dvc", "repro", env=environment)
    assert (done / "join").read_text() == "slow-quick"
    assert not list(done.glob(".*.tmp"))


def test_a_file_that_a_kill_left_in_the_run_cache_is_no_entry_of_it(
    done: Path, environment: dict[str, str]
) -> None:
    run(done, "dvc", "repro", env=environment)
    for entry in [path for path in (done / ".dvc/cache/runs").rglob("*") if path.is_file()]:
        left = entry.with_name("..QBLZQwvabh3LTpzo9w51zA.tmp.tmp")
        left.write_text("cmd: python")
        os.utime(left, (2**32, 2**32))  # the newest file of its folder
    (done / "dvc.lock").unlink()
    (done / "join").unlink()
    said = run(done, "dvc", "repro", env=environment)
    assert "'join' is cached" in said and "corrupted" not in said


SHARED = "/var/tmp/dvc"  # noqa: S108 - the default of DVC
WATCHED = f"""
import sys
def watch(event, arguments):
    if arguments and str(arguments[0]).startswith({SHARED!r}):
        print("touched", event, arguments)
sys.addaudithook(watch)
from dvc.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("folder", ["", "workflow"])
def test_nothing_is_kept_where_others_can_write(done: Path, environment: dict[str, str], folder: str) -> None:
    shutil.rmtree(done / ".dvc/tmp")
    assert "touched" in run(
        done, sys.executable, "-S", "-c", SITE + WATCHED, "status"
    )  # behaviour of DVC without the patch
    shutil.rmtree(done / ".dvc/tmp")
    for command in (["status"], ["repro"]):
        where = done / (folder if command == ["status"] else "")
        assert "touched" not in python(where, environment, WATCHED, *command)
    private = done / f".dvc/tmp/site-{os.getuid()}"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700 and list(private.glob("repo/*/"))
    assert not run(done, "git", "status", "--porcelain", "--ignored=no", "-uall", "--", ".dvc/tmp")


#: Python with the packages of its environment, but without its startup code.
SITE = f"import sys; sys.path += {[path for path in sys.path if path]!r}\n"


def test_snakemake_and_its_jobs_are_changed_without_an_installation(done: Path) -> None:
    shutil.rmtree(done / ".dvc/tmp")
    run(done, "snakemake", "-c1")
    assert (done / f".dvc/tmp/site-{os.getuid()}/repo").is_dir()


def test_a_site_cache_that_others_can_write_to_is_refused(done: Path, environment: dict[str, str]) -> None:
    private = done / f".dvc/tmp/site-{os.getuid()}"
    private.chmod(0o777)
    said = run(done, "dvc", "status", env=environment, fails=True)
    assert str(private) in said and "Delete this folder" in said
    shutil.rmtree(private)
    (done / "elsewhere").mkdir()
    private.symlink_to(done / "elsewhere")
    assert "Delete this folder" in run(done, "dvc", "status", env=environment, fails=True)
    private.unlink()
    run(done, "dvc", "status", env=environment)


@pytest.mark.parametrize("by", ["config", "environment"])
def test_another_site_cache_is_taken_where_one_is_named(
    done: Path, environment: dict[str, str], tmp_path: Path, by: str
) -> None:
    named = tmp_path / "named"
    if by == "config":
        run(done, "dvc", "config", "--local", "core.site_cache_dir", str(named), env=environment)
    run(
        done,
        "dvc",
        "status",
        env=environment | ({"DVC_SITE_CACHE_DIR": str(named)} if by != "config" else {}),
    )
    assert (named / "repo").is_dir()


def test_models_are_got_from_elsewhere_without_a_trace(
    done: Path, environment: dict[str, str], tmp_path: Path
):
    run(done, "dvc", "repro", env=environment)
    run(done, "git", "add", "-A")
    run(done, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "All")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    said = python(elsewhere, environment | {"HOME": str(tmp_path)}, WATCHED, "get", str(done), "join")
    assert "touched" not in said and [path.name for path in elsewhere.iterdir()] == ["join"]


FOLDER = """
stages:
  count:
    cmd: ls recordings > count
    deps: [recordings]
    outs: [count]
"""


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_named_and_not_waited_for(
    environment: dict[str, str], tmp_path: Path, kind: str
) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "a.wav").write_text("sound")
    (tmp_path / "dvc.yaml").write_text(FOLDER)
    run(tmp_path, "dvc", "init", "--no-scm", "--quiet", env=environment)
    run(tmp_path, "dvc", "repro", env=environment)
    odd = tmp_path / "recordings" / "odd.wav"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to("/dev/zero")
    for command in ("status", "repro"):
        said = run(tmp_path, "timeout", "60", "dvc", command, env=environment, fails=True)
        assert f"{odd}: not a regular file" in said and "Traceback" not in said
    odd.unlink()
    assert "up to date" in run(tmp_path, "dvc", "repro", env=environment)


ANOTHER = """
import sys
sys.path.insert(0, "workflow")
import plan, safe_dvc
safe_dvc.TESTED = "3.1"
plan.make() if sys.argv[1] == "make" else plan.run("apart", "log")
"""


ACTIVATED = """
import safe_dvc
safe_dvc.TESTED = "3.1"
safe_dvc.activate()
import dvc.rwlock
print(dvc.rwlock._edit_rwlock.__module__, dvc.rwlock._edit_rwlock.__name__)
"""


def test_another_dvc_is_named_and_left_as_it_is(done: Path) -> None:
    run(done, "snakemake", "-n")
    for what in ("make", "run"):
        said = run(done, sys.executable, "-c", ANOTHER, what, fails=True)
        said += (done / "log").read_text() if what == "run" else ""
        assert "workflow/plan.py requires DVC 3.1; run `make install`" in said
    assert "dvc.rwlock _edit_rwlock" in run(done / "workflow", sys.executable, "-S", "-c", SITE + ACTIVATED)


def test_the_version_is_the_one_that_is_installed_and_locked() -> None:
    tested = projects.safe_dvc().TESTED
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    major, minor = map(int, tested.split("."))
    assert f"dvc>={tested},<{major}.{minor + 1}" in project["optional-dependencies"]["pipeline"]
    assert f"\ndvc=={tested}." in (ROOT / "requirements.lock").read_text()
    assert projects.safe_dvc().supported()


def test_startup_imports_nothing_of_dvc(environment: dict[str, str], tmp_path: Path) -> None:
    code = "import sys; print(sorted(sys.modules))"
    loaded = python(tmp_path, environment, code)
    assert "audionas_safe_dvc" in loaded and "'dvc'" not in loaded and "'psutil'" not in loaded
    assert ENV["PATH"] != environment["PATH"]
