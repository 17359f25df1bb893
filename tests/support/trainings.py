"""For tests that disturb a training: the teacher's as Snakemake sends it, watched, held, and compared."""

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
    """Snakemake in the background, which sends the jobs."""

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
                # Not ignored, as it is in the background of a script.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self.started.append(self)

    @classmethod
    def kill_all(cls) -> None:
        """Those of a test that failed, and what they have started on this machine."""
        for driver in cls.started:
            driver.send_all(signal.SIGKILL)
            driver.process.wait()
        cls.started.clear()

    @property
    def said(self) -> str:
        return self.log.read_text()

    def end(self, seconds: float = 600) -> str:
        """Wait for its end, which must be a good one; what it printed."""
        assert self.process.wait(timeout=seconds) == 0, self.said
        return self.said

    def send_all(self, number: int) -> None:
        """A signal for it and all that it has started on this machine, as Ctrl-C in a terminal is."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """It alone: what it has started goes on."""
        self.process.kill()
        self.process.wait()


class Training:
    """The teacher, trained as a job of a driver."""

    def __init__(self, where: Path, *command: str, env: dict[str, str] | None = None):
        self.where, self.command, self.env = where, command, env
        self.log = where / "logs/teacher_0.log"
        self.iterations = yaml.safe_load((where / "params.yaml").read_text())["teacher"]["iterations"]
        self.driver = self.drive()

    def drive(self) -> Driver:
        return Driver(self.where, *self.command, env=self.env)

    def shown(self, pattern: str) -> list[str]:
        """What the stage's log has of a pattern."""
        return re.findall(pattern, self.log.read_text()) if self.log.exists() else []

    def began_at(self) -> list[int]:
        """The iteration that each attempt began at: the first that its progress bar shows."""
        return [int(shown) for shown in self.shown(rf"(\d+)/{self.iterations} \[00:00<\?")]

    def stopped_at(self) -> list[int]:
        """The iteration after which SIGTERM or Ctrl-C has stopped an attempt."""
        return [int(shown) for shown in self.shown(STOPPED)]

    def checkpoints(self) -> list[Path]:
        """The last one and the one before it, as far as there are any."""
        return sorted((self.where / ".state").glob("teacher-*.pt"))

    @property
    def trainer(self) -> psutil.Process:
        """The stage's process."""
        (one,) = (
            process
            for process in psutil.process_iter(["cmdline", "cwd"])
            if process.info["cwd"] == str(self.where) and process.info["cmdline"][2:4] == ["stage", TEACHER]
        )
        return one

    @contextmanager
    def held(self) -> Iterator[psutil.Process]:
        """Have it stand still, for it may be quicker than what befalls it. Signals reach it afterwards."""
        trainer = self.trainer
        trainer.suspend()
        try:
            yield trainer
        finally:
            with suppress(psutil.NoSuchProcess):  # SIGKILL does not wait
                trainer.resume()

    def ends_well(self, undisturbed: dict) -> None:
        self.driver.end()
        assert locked(self.where) == undisturbed

    def goes_on_where_sigterm_stopped_it(self, undisturbed: dict) -> None:
        self.ends_well(undisturbed)
        stopped = {int(said) for said in re.findall(STOPPED, self.driver.said)}  # ranks say it each
        assert len(stopped) == 1
        assert self.began_at() == list(stopped)  # Snakemake removes the log of the attempt before


def locked(where: Path) -> dict:
    """What dvc.lock holds of the teacher: its model and curves by their content."""
    return yaml.safe_load((where / "dvc.lock").read_text())["stages"][TEACHER]


def left_alone(features: Path, where: Path) -> dict:
    """The same of a copy in which `dvc repro` trains it and nothing happens."""
    shutil.copytree(features, where, symlinks=True)
    run(where, "dvc", "repro", TEACHER)
    return locked(where)
