"""Ranks by fork, as `torchrun` starts them but without its seconds: for tests that stop them often.

Meant for a process of its own, before PyTorch has started threads there.
"""

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
    """Run `function` stopped by 30 SIGKILLs and 10 SIGTERMs in a drawn order, then to its end.

    A signal goes to all ranks or to one of them; where one is killed, the others are soon, as by `torchrun`.
    One that came too late, for a quick machine had run it to its end, is sent once more.
    """
    chance = random.Random(0)
    signals = [signal.SIGKILL] * 30 + [signal.SIGTERM] * 10
    chance.shuffle(signals)
    codes = []
    while True:
        number = signals[-1] if signals else None
        children = start(function, ranks)
        if number:
            time.sleep(chance.uniform(0.0, 0.5))
            for child in children if chance.random() < 0.5 else [chance.choice(children)]:
                os.kill(child, number)
            if number == signal.SIGKILL:
                time.sleep(chance.uniform(0.0, 0.1))
                for child in children:
                    os.kill(child, number)
        ended = end(children)
        if number and not any(ended):
            continue
        codes.append(ended)
        if not number:
            return codes
        signals.pop()


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
from audionas.stages import teacher

print(together.stop_often(lambda: main(["teacher", "--seed", "0"]), {ranks}))
"""
