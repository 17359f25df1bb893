"""Ranks started by fork, which is faster than `torchrun`, for tests with many restarts.

Use it in a separate process, before PyTorch has started threads.
"""

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def start(function: Callable[[], int], ranks: int) -> list[int]:
    """Run `function` in several ranks, and return their process ids. Its result is the exit code."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if not child:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            try:
                os._exit(function())
            finally:
                os._exit(99)
        children.append(child)
    return children


def end(children: list[int], grace: float = 5.0) -> list[int]:
    """Wait for all ranks, and return their exit codes, which are negative after a signal.

    As in `torchrun`, the other ranks are killed `grace` seconds after one has failed. Otherwise they would
    wait for the dead rank for hours.
    """
    codes: dict[int, int] = {}
    deadline = None
    while len(codes) < len(children):
        for child in set(children) - set(codes):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                codes[child] = os.waitstatus_to_exitcode(status)
                if codes[child] and deadline is None:
                    deadline = time.monotonic() + grace
            elif deadline is not None and time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    return [codes[child] for child in children]


def stop_often(function: Callable[[], int], ranks: int) -> list[list[int]]:
    """Run a training that 30 SIGKILLs and 10 SIGTERMs interrupt in random order, until it completes.

    Every SIGTERM and half of the SIGKILLs arrive during a random step, in which the first rank waits for the
    signal. This does not depend on the speed of the machine. The other SIGKILLs arrive at any time. A signal
    goes to all ranks or to one of them; after a SIGKILL of one rank, the others are killed as by `torchrun`.
    A signal that arrives after the end of the training is repeated.
    """
    chance = random.Random(0)
    signals = [(signal.SIGKILL, False)] * 15 + [(signal.SIGKILL, True)] * 15 + [(signal.SIGTERM, True)] * 10
    chance.shuffle(signals)
    codes = []
    while True:
        number, within = signals[-1] if signals else (None, False)
        with _Step(chance.randint(1, 12) if within else 0) as step:
            children = start(lambda: step.held(function), ranks)
            if number and (step.reached() if within else _later(chance, 0.5)):
                for child in children if chance.random() < 0.5 else [chance.choice(children)]:
                    os.kill(child, number)
                if number == signal.SIGKILL and _later(chance, 0.1):
                    for child in children:
                        os.kill(child, number)
            step.release()
            ended = end(children)
        if number and not any(ended):
            continue
        codes.append(ended)
        if not number:
            return codes
        signals.pop()


def _later(chance: random.Random, longest: float) -> bool:
    time.sleep(chance.uniform(0.0, longest))
    return True


class _Step:
    """A training step in which the first rank waits until it is released; 0 disables it."""

    def __init__(self, number: int):
        self.number = number
        self._there, self._reached = os.pipe()
        self._released, self._go = os.pipe()

    def __enter__(self) -> "_Step":
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._there, self._reached, self._released, self._go):
            if end is not None:
                os.close(end)

    def held(self, function: Callable[[], int]) -> int:
        """Run `function` in a rank, and wait in the step."""
        from audionas.training.objectives.supervised import Supervised

        os.close(self._go)  # so that the end of the test releases the rank
        compute, count = Supervised.__call__, itertools.count(1)

        def call(objective, batch, iteration):
            if next(count) == self.number and os.environ["RANK"] == "0":
                os.write(self._reached, b"!")
                os.read(self._released, 1)
            return compute(objective, batch, iteration)

        Supervised.__call__ = call
        return function()

    def reached(self) -> bool:
        """Wait until the first rank waits; return False if the ranks ended before."""
        os.close(self._reached)
        self._reached = None
        return bool(os.read(self._there, 1))

    def release(self) -> None:
        """Let the first rank continue."""
        os.close(self._go)
        self._go = None


def python(script: str) -> str:
    """Run a script in a separate process that can import this module, and return its output."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


#: Script for `python` that imports PyTorch once for all starts; format it with the number of ranks.
OFTEN_STOPPED = """
import dvc.repo, dvclive, torch._dynamo, torch.distributed  # what a training imports
import together
from audionas.cli import main
from audionas.systems.once_for_all.stages import teacher

print(together.stop_often(lambda: main(["teacher", "--seed", "0"]), {ranks}))
"""
