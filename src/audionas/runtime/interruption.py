"""Asked to stop: by SIGTERM, as schedulers do before they kill, by Ctrl-C, or by a time limit."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from audionas.runtime.environment import time_limit, world_size

log = logging.getLogger(__name__)

#: Exit code of a stage that stopped on purpose and goes on when run again (EX_TEMPFAIL of sysexits.h).
RESTART = 75
_STARTED = time.monotonic()  # of this process, near enough


class Interrupted(Exception):
    """Training stopped before its end, with a checkpoint; the message says why and where."""


class Interruption:
    """Why training is to stop, or "" while it may go on."""

    def __init__(self, limit: float):
        self.limit, self.signal = limit, ""

    @property
    def reason(self) -> str:
        """For people."""
        if not self.signal and time.monotonic() - _STARTED >= self.limit:
            return f"the time limit of {self.limit:g} s (AUDIONAS_TIME_LIMIT)"
        return self.signal


@contextmanager
def watch() -> Iterator[Interruption]:
    """Note SIGTERM and SIGINT rather than die of them, and AUDIONAS_TIME_LIMIT (seconds of this process).

    A second Ctrl-C ends the training at once, without a checkpoint; but no rank of several, which hear of one
    from the terminal and from their launcher. Where SIGINT is ignored, as in the background of a script, it
    stays so.

    Raises UserError: the limit is no number of seconds.
    """
    interruption = Interruption(time_limit())
    alone = world_size() == 1

    def note(number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        if alone and name == interruption.signal == "SIGINT":
            raise KeyboardInterrupt
        if not interruption.signal:
            log.warning("%s: saving, then ending", name)
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
