"""Teacher trainings under Snakemake that tests can observe, suspend and compare."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import psutil
import yaml
from projects import ENV, run

TEACHER = "teacher@0"
STOPPED = r"stopped by SIG(?:TERM|INT) after iteration (\d+)"


class Driver:
    """Snakemake in the background."""

    started: ClassVar[list["Driver"]] = []

    def __init__(self, where: Path, *command: str, env: dict[str, str] | None = None):
        self.where, self.log = where, where / "driver.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=where,
                env={**ENV, **(env or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Not ignored, unlike in background processes of a script.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self.started.append(self)

    @classmethod
    def kill_all(cls) -> None:
        """Kill the drivers of a failed test, and their child processes on this machine."""
        for driver in cls.started:
            driver.send_all(signal.SIGKILL)
            driver.process.wait()
        cls.started.clear()

    @property
    def said(self) -> str:
        return self.log.read_text()

    def end(self, seconds: float = 600) -> str:
        """Wait for a successful end, and return the output."""
        assert self.process.wait(timeout=seconds) == 0, self.said
        return self.said

    def send_all(self, number: int) -> None:
        """Send a signal to the process and its children, as Ctrl-C in a terminal does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kill only this process; its children continue."""
        self.process.kill()
        self.process.wait()


class Training:
    """The teacher training of a driver."""

    def __init__(self, where: Path, *command: str, env: dict[str, str] | None = None):
        self.where, self.command, self.env = where, command, env
        self.log = where / "logs/teacher_0.log"
        self.iterations = yaml.safe_load((where / "params.yaml").read_text())["teacher"]["iterations"]
        self.driver = self.drive()

    def drive(self) -> Driver:
        return Driver(self.where, *self.command, env=self.env)

    def shown(self, pattern: str) -> list[str]:
        """Return the matches of a pattern in the log of the stage."""
        return re.findall(pattern, self.log.read_text()) if self.log.exists() else []

    def began_at(self) -> list[int]:
        """Return the first iteration of each attempt, from its progress bar."""
        return [int(shown) for shown in self.shown(rf"(\d+)/{self.iterations} \[00:00<\?")]

    def stopped_at(self) -> list[int]:
        """Return the iterations at which SIGTERM or Ctrl-C stopped an attempt."""
        return [int(shown) for shown in self.shown(STOPPED)]

    def checkpoints(self) -> list[Path]:
        """Return the existing checkpoints: the latest and the previous one."""
        return sorted((self.where / ".state").glob("teacher-*.pt"))

    @property
    def trainer(self) -> psutil.Process:
        """Return the process of the stage."""
        (one,) = (
            process
            for process in psutil.process_iter(["cmdline", "cwd"])
            if process.info["cwd"] == str(self.where) and process.info["cmdline"][2:4] == ["stage", TEACHER]
        )
        return one

    @contextmanager
    def held(self) -> Iterator[psutil.Process]:
        """Suspend the training, so that it does not end before the fault. It receives signals afterwards."""
        trainer = self.trainer
        trainer.suspend()
        try:
            yield trainer
        finally:
            with suppress(psutil.NoSuchProcess):  # after SIGKILL the process is gone
                trainer.resume()

    def ends_well(self, undisturbed: dict) -> None:
        self.driver.end()
        assert locked(self.where) == undisturbed

    def goes_on_where_sigterm_stopped_it(self, undisturbed: dict) -> None:
        self.ends_well(undisturbed)
        stopped = {int(said) for said in re.findall(STOPPED, self.driver.said)}  # each rank prints it
        assert len(stopped) == 1
        assert self.began_at() == list(stopped)  # Snakemake removes the log of the previous attempt


def locked(where: Path) -> dict:
    """Return the hashes of the teacher's model and curves in dvc.lock."""
    return yaml.safe_load((where / "dvc.lock").read_text())["stages"][TEACHER]


def left_alone(features: Path, where: Path) -> dict:
    """Return the hashes of an undisturbed training by `dvc repro` in a copy."""
    shutil.copytree(features, where, symlinks=True)
    run(where, "dvc", "repro", TEACHER)
    return locked(where)
