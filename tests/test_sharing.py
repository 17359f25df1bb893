"""What one clone computed, another takes over through a remote; and what a broken remote costs."""

from pathlib import Path

import projects
import pytest
from projects import run
from remotes import Shared

pytestmark = pytest.mark.slow


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    """Clones A and B of one repository, and a folder that both push to."""
    return Shared(tmp_path, url=str(tmp_path / "remote"))


def test_what_one_clone_pushed_the_other_need_not_compute(shared: Shared) -> None:
    shared.take_over()


def test_a_clone_without_data_can_be_checked(shared: Shared) -> None:
    """Lock file, parameters and code agree, or they do not: no output is needed to tell."""
    shared.a_computes()
    b = shared.clone("b")
    assert "up to date" in run(b, "dvc", "repro", "--dry", "--allow-missing")
    projects.edit(b, sign="-")
    said = run(b, "dvc", "repro", "--dry", "--allow-missing", fails=True)
    assert "failed to reproduce 'join'" in said
    assert said.count("didn't change, skipping") == 3


def test_a_pull_from_a_damaged_remote_says_so_and_leaves_the_rest(shared: Shared) -> None:
    """DVC hashes what it fetches from a folder? It does not: `audionas verify-cache` does."""
    shared.a_computes()
    b = shared.clone("b")
    damaged = shared.remote_object("quick")
    damaged.chmod(0o644)
    damaged.write_text("quack")
    run(b, "dvc", "pull", "work@quick", "work@slow", fails=None)
    assert (b / "work-slow").read_text() == "slow"
    said = run(b, "audionas", "verify-cache", fails=None)
    print(said)
    assert not (b / "work-quick").exists() or "work@quick: work-quick" in said


def test_a_push_that_was_cut_short_is_completed_by_the_next(shared: Shared) -> None:
    shared.a_computes()
    lost = shared.remote_object("slow")
    lost.unlink()
    half = lost.with_name(lost.name + ".half.tmp")
    half.write_text("sl")
    b = shared.clone("b")
    assert "work-slow" in run(b, "dvc", "pull", fails=True)
    assert (b / "work-quick").read_text() == "quick"  # what was there came
    run(shared.a, "dvc", "push")
    run(b, "dvc", "pull")
    assert (b / "work-slow").read_text() == "slow"


def test_a_remote_that_can_not_be_written_loses_nothing(shared: Shared) -> None:
    """The remote's folder is a file: no rights are needed to refuse root as well."""
    run(shared.a, "dvc", "repro")
    shared.remote.write_text("no folder")
    said = run(shared.a, "dvc", "push", fails=True)
    assert "remote" in said
    assert (shared.a / "join").read_text() == "slow+quick"
    assert "up to date" in run(shared.a, "dvc", "status")
