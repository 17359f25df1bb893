"""On PYTHONPATH: has a training in a folder with a file `hold` stand still as it writes its third checkpoint.

So what is to befall it comes in the middle, however quick or slow the machine is. It happens once: the file
is removed. SIGCONT has it go on.
"""

import os
import signal
import sys
from pathlib import Path

if any(Path(word).name == "audionas" for word in sys.orig_argv) and Path("hold").exists():
    _left = [2]

    def _hook(event, arguments):
        # The second and every later checkpoint first has the one before it renamed.
        if event == "os.rename" and Path(arguments[0]).match("teacher-*.pt"):
            _left[0] -= 1
            if not _left[0]:
                Path("hold").unlink()
                os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(_hook)
