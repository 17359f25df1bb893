"""Clones of a repository that share results through a remote."""

from pathlib import Path

import projects
from projects import PARAMS, run

IDENTITY = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost")
COMMIT = (*IDENTITY, "commit", "-q", "-a", "-m")


class Shared:
    """A toy pipeline in the repository `origin`, with a remote that all clones use.

    Args:
        home: empty folder.
        url: URL of the remote.
        settings: further shared settings of the remote, for `dvc remote modify`.
        own: settings of each clone, for `dvc remote modify --local`.
    """

    def __init__(
        self, home: Path, url: str, settings: dict[str, str] | None = None, own: dict[str, str] | None = None
    ):
        self.home, self.own = home, own or {}
        self.remote = home / "remote"
        origin = projects.toy(home / "origin")
        run(origin, "dvc", "remote", "add", "--default", "shared", url)
        for key, value in {"verify": "true", **(settings or {})}.items():
            run(origin, "dvc", "remote", "modify", "shared", key, value)
        (origin / ".gitignore").write_text("/began/\n/logs/\n/.state/\n/.snakemake/\n__pycache__/\n")
        run(origin, "git", "add", "-A")
        run(origin, *COMMIT, "Add a pipeline")
        run(origin, "git", "config", "receive.denyCurrentBranch", "updateInstead")
        self.a = self.clone("a")

    def clone(self, name: str) -> Path:
        """Clone the repository, without data."""
        where = self.home / name
        run(self.home, "git", "clone", "-q", str(self.home / "origin"), str(where))
        for key, value in self.own.items():
            run(where, "dvc", "remote", "modify", "--local", "shared", key, value)
        return where

    def publish(self, where: Path, message: str) -> None:
        """Commit the results of a clone, and push them to git and the remote."""
        run(where, "dvc", "push", "--run-cache")
        run(where, "git", "add", "-A")
        run(where, *COMMIT, message)
        run(where, "git", "push", "-q")

    def a_computes(self) -> None:
        """Run the whole pipeline, and publish its results."""
        run(self.a, "dvc", "repro")
        self.publish(self.a, "Compute it")

    def remote_object(self, content: str) -> Path:
        """Return the file of a local remote for a hash."""
        return next(p for p in self.remote.glob("files/md5/*/*") if p.read_text() == content)

    def take_over(self) -> None:
        """Check a full exchange: A computes, B computes only its changes, and A pulls them."""
        self.a_computes()
        b = self.clone("b")
        run(b, "dvc", "pull", "--run-cache")
        assert "up to date" in run(b, "dvc", "repro")
        assert "nothing to be done" in run(b, "snakemake", "-c1").lower()
        assert not (b / "began").exists()

        seconds = {**PARAMS["seconds"], "quick": 0.1}
        projects.edit(b, seconds=seconds)
        run(b, "dvc", "repro")
        assert sorted(p.name for p in (b / "began").iterdir()) == ["quick"]  # the results are equal
        self.publish(b, "Change one parameter")

        before = set((self.a / "began").iterdir())
        for one in before:
            one.unlink()
        run(self.a, "git", "pull", "-q")
        run(self.a, "dvc", "pull")
        assert "up to date" in run(self.a, "dvc", "repro")
        assert not any((self.a / "began").iterdir())
        assert (self.a / "dvc.lock").read_bytes() == (b / "dvc.lock").read_bytes()

        # the run cache finds results by their inputs, even without a commit
        projects.edit(b, sign="*")
        run(b, "dvc", "repro")
        run(b, "dvc", "push", "--run-cache")
        run(self.a, "dvc", "fetch", "--run-cache")
        projects.edit(self.a, sign="*")
        run(self.a, "dvc", "repro", "--pull")
        assert not any((self.a / "began").iterdir())
        assert (self.a / "join").read_text() == "slow*quick"
