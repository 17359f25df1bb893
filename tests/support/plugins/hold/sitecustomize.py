"""Suspend a training at its third checkpoint, if its folder contains a file `hold`. Put this on PYTHONPATH.

The fault of a test then happens during the training, at any speed of the machine. The file is removed, so the
training is suspended only once. SIGCONT resumes it.
"""

import os
import signal
import sys
from pathlib import Path

if any(Path(word).name == "audionas" for word in sys.orig_argv) and Path("hold").exists():
    _left = [2]

    def _hook(event, arguments):
        # From the second checkpoint on, the previous one is renamed first.
        if event == "os.rename" and Path(arguments[0]).match("teacher-*.pt"):
            _left[0] -= 1
            if not _left[0]:
                Path("hold").unlink()
                os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(_hook)
