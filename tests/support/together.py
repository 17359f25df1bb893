"""Ranks by fork, as `torchrun` starts them but without its seconds: for tests that stop them often.

Meant for a process of its own, before PyTorch has started threads there.
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
    """Begin `function` in so many ranks; their process ids. Its result is their exit code."""
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
    """Wait for them; their exit codes, negative where a signal ended one.

    As `torchrun` does, kill those that are still there some seconds after one has failed: what waits to meet
    a rank that died before it came would wait for hours.
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
    """Run `function`, a training, stopped by 30 SIGKILLs and 10 SIGTERMs in a drawn order, then to its end.

    Every SIGTERM and half of the SIGKILLs come in the middle of a drawn step, in which the first rank waits
    for them, however slow or quick the machine is; the other SIGKILLs come at any instant of the start or the
    training. A signal goes to all ranks or to one of them; where one is killed, the others are soon, as by
    `torchrun`. One that came too late, for the training had ended before, is sent once more.
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
    """A step of a forked training in which its first rank waits until it is released; 0 is none."""

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
        """In a rank: run `function`, and wait in the step."""
        from audionas.training.objectives.supervised import Supervised

        os.close(self._go)  # so that the end of the test releases what waits
        compute, count = Supervised.__call__, itertools.count(1)

        def call(objective, batch, iteration):
            if next(count) == self.number and os.environ["RANK"] == "0":
                os.write(self._reached, b"!")
                os.read(self._released, 1)
            return compute(objective, batch, iteration)

        Supervised.__call__ = call
        return function()

    def reached(self) -> bool:
        """Wait until the first rank waits; False where the ranks have ended before."""
        os.close(self._reached)
        self._reached = None
        return bool(os.read(self._there, 1))

    def release(self) -> None:
        """Let the first rank go on."""
        os.close(self._go)
        self._go = None


def python(script: str) -> str:
    """What a script prints that runs in a process of its own and may import this module."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


#: Forks, so that forty starts do not import PyTorch forty times. Needs the number of ranks.
OFTEN_STOPPED = """
import dvc.repo, dvclive, torch._dynamo, torch.distributed  # what a training imports
import together
from audionas.cli import main
from audionas.systems.once_for_all.stages import teacher

print(together.stop_often(lambda: main(["teacher", "--seed", "0"]), {ranks}))
"""
