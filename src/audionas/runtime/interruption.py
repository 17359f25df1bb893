"""Requests to stop: SIGTERM, as schedulers send before they kill, Ctrl-C, or a time limit."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from audionas.runtime.environment import time_limit, world_size

log = logging.getLogger(__name__)

#: Exit code of a stage that stopped on request and resumes in the next run (EX_TEMPFAIL of sysexits.h).
RESTART = 75
_STARTED = time.monotonic()  # approximate start of this process


class Interrupted(Exception):
    """Training stopped before its end, with a checkpoint; the message gives reason and position."""


class Interruption:
    """State of a request to stop.

    Attributes:
        limit: time limit of the process in seconds.
        signal: name of the received signal, or "".
    """

    def __init__(self, limit: float):
        self.limit, self.signal = limit, ""

    @property
    def reason(self) -> str:
        """Why training must stop, or "" if it may continue."""
        if not self.signal and time.monotonic() - _STARTED >= self.limit:
            return f"the time limit of {self.limit:g} s (AUDIONAS_TIME_LIMIT)"
        return self.signal


@contextmanager
def watch() -> Iterator[Interruption]:
    """Record SIGTERM and SIGINT instead of ending the process; apply AUDIONAS_TIME_LIMIT (seconds).

    A second Ctrl-C ends a single process at once, without a checkpoint. With several ranks it does not,
    because each receives a Ctrl-C from the terminal and from its launcher. An ignored SIGINT, as in a
    script's background job, stays ignored.

    Raises UserError if the limit is not a number of seconds.
    """
    interruption = Interruption(time_limit())
    alone = world_size() == 1

    def note(number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        if alone and name == interruption.signal == "SIGINT":
            raise KeyboardInterrupt
        if not interruption.signal:
            log.warning("%s: saving a checkpoint, then stopping", name)
        interruption.signal = name

    noted = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        noted.append(signal.SIGINT)
    before = {number: signal.signal(number, note) for number in noted}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
