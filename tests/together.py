"""Ranks by fork, as `torchrun` starts them but without its seconds: for tests that stop them often.

Meant for a process of its own, before PyTorch has started threads there.
"""

import os
import signal
import socket
import time
from collections.abc import Callable


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
