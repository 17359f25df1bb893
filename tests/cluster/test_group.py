"""Two users of one group share a folder remote, as in docs/sharing.md."""

import os
import shutil
import subprocess
from pathlib import Path

import projects
import pytest
from projects import ENV, run
from remotes import IDENTITY

pytestmark = pytest.mark.cluster

PEOPLE = {"ann": 1, "bob": 2}  # users daemon and bin of any Linux, because DVC needs a user name
LAB = 20_000  # id of their group, which needs no name


def by(person: str, where: Path, *command: str, fails: bool = False) -> str:
    """Return the output of a user's command under the default umask. Access to Python is not restricted."""
    uid = str(PEOPLE[person])
    user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={LAB}"]
    rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    trusting = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    home = {"HOME": str(where), "DVC_SITE_CACHE_DIR": str(where / ".site"), **trusting}
    done = subprocess.run(
        [*user, *rights, *command],
        cwd=where,
        env={**ENV, **home},
        umask=0o022,
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A pipeline with a folder remote that is not yet configured for the group."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("other users need root and setpriv (util-linux)")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    remote = tmp_path / "remote"
    remote.mkdir()
    os.chown(remote, -1, LAB)
    remote.chmod(0o2775)  # chgrp lab; chmod g+ws
    where = projects.toy(tmp_path / "origin")
    run(where, "dvc", "remote", "add", "--default", "shared", str(remote))
    (where / ".gitignore").write_text("/began/\n/.site/\n__pycache__/\n")
    return where


def clone(person: str, origin: Path) -> Path:
    where = origin.parent / person
    run(origin.parent, "git", "clone", "-q", str(origin), str(where))
    shutil.chown(where, PEOPLE[person])
    for path in where.rglob("*"):
        os.chown(path, PEOPLE[person], PEOPLE[person], follow_symlinks=False)
    return where


@pytest.mark.parametrize("told", [True, False])
def test_the_second_person_can_push_where_the_remote_is_the_groups(origin: Path, told: bool) -> None:
    if told:
        run(origin, "dvc", "remote", "modify", "shared", "shared", "group")
    run(origin, "git", "add", "-A")
    run(origin, *IDENTITY, "commit", "-q", "-m", "Add a pipeline")
    ann, bob = (clone(person, origin) for person in PEOPLE)
    by("ann", ann, "dvc", "repro")
    by("ann", ann, "dvc", "push", "--run-cache")
    shutil.copy(ann / "dvc.lock", bob / "dvc.lock")
    os.chown(bob / "dvc.lock", PEOPLE["bob"], PEOPLE["bob"])
    by("bob", bob, "dvc", "pull", "--run-cache")
    assert "up to date" in by("bob", bob, "dvc", "repro")
    names = [
        *projects.PARAMS["names"],
        *(f"more{i}" for i in range(9)),
    ]  # adds files to each of Ann's folders
    projects.edit(bob, names=names, seconds=dict.fromkeys(names, 0), sign="-")
    by("bob", bob, "dvc", "repro")
    said = by("bob", bob, "dvc", "push", "--run-cache", fails=not told)
    assert told or "denied" in said.lower() or "not permitted" in said.lower()
