"""Ranks by fork, as `torchrun` starts them but without its seconds: for tests that stop them often.

Meant for a process of its own, before PyTorch has started threads there.
"""

import os
import socket
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


def end(children: list[int]) -> list[int]:
    """Wait for them; their exit codes, negative where a signal ended one."""
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
