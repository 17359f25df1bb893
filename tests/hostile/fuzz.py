"""Fuzz testing of readers with seeded damage, in processes with limited memory and time.

A finding is a damaged file that causes anything but a defined error. `python tests/hostile/fuzz.py KIND CASE`
repeats one case, prints the path of its file, and reads it without a subprocess.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = HERE.parents[1] / ".state" / "hostile"  # files of all findings
CPU, WALL = 20, 240  # limits of a case in seconds; the wall-clock limit allows for other load
MEMORY = 3 << 30  # bytes in addition to the imports
MOST = 20  # maximum number of findings of a kind
_FAILED = 70  # exit code for an error of the harness


def fuzz(kind: str, cases: int, seed: int, folder: Path) -> list[str]:
    """Return the findings among cases 0 to `cases` - 1 of a kind, each with the command to repeat it."""
    found, at = [], 0
    while at < cases and len(found) < MOST:
        command = [
            sys.executable,
            str(HERE / "fuzz.py"),
            kind,
            str(at),
            "--to",
            str(cases),
            "--seed",
            str(seed),
        ]
        done = subprocess.run(
            [*command, "--in", str(folder)],
            env=_environment(),
            capture_output=True,
            text=True,
            errors="replace",
        )
        told = folder / "findings"
        found += [tuple(json.loads(line)) for line in told.read_text().splitlines()] if told.exists() else []
        told.unlink(missing_ok=True)
        if done.returncode == 0:
            break
        if done.returncode > 0:
            raise RuntimeError(f"{kind}: the harness itself failed:\n{done.stderr[-4000:]}")
        case, name = int((folder / "case").read_text()), signal.Signals(-done.returncode).name
        found.append((case, "hang" if name in ("SIGPROF", "SIGALRM") else f"crash: {name}"))
        make = [
            *command[:3],
            str(case),
            "--seed",
            str(seed),
            "--make-only",
            "--in",
            str(_kept(kind, seed, case)),
        ]
        subprocess.run(make, env=_environment(), capture_output=True)
        at = case + 1
    again = f"python tests/hostile/fuzz.py {kind} {{}} --seed {seed}: {{}}"
    return [again.format(case, what) for case, what in found[:MOST]]


def _kept(kind: str, seed: int, case: int) -> Path:
    return KEPT / f"{kind}-{seed}-{case}"


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def _limit_memory() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("case", type=int)
    parser.add_argument("--to", type=int, help="the case after the last one; all are read quietly")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--in", dest="folder", type=Path)
    parser.add_argument("--make-only", action="store_true", help="make the case's files and read nothing")
    options = parser.parse_args()
    folder = (options.folder or _kept(options.kind, options.seed, options.case)).absolute()
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.chdir(work)
    sys.path.append(str(HERE.parent / "support"))
    from kinds import KINDS, Wrong

    kind = KINDS[options.kind](work)
    for _ in kind.whole():  # intact files must be accepted, or the test proves nothing
        said = kind.read() or kind.refused
        assert not said, f"{kind.file}: the original is not read: {said}"
    _limit_memory()
    quiet = options.to is not None
    for case in range(options.case, options.to if quiet else options.case + 1):
        (folder / "case").write_text(str(case))
        kind.make(random.Random(f"{options.seed} {options.kind} {case}"))
        if not quiet:
            print(f"{work}: {kind.made}")
        if options.make_only:
            return
        signal.setitimer(signal.ITIMER_PROF, CPU)  # ends the process, even inside a library
        signal.setitimer(signal.ITIMER_REAL, WALL)
        try:
            said = kind.read()
        except Wrong as wrong:
            said = str(wrong)
        except BaseException as error:
            if not quiet:
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error!s:.200} ({Path(last.filename).name}:{last.lineno})"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        if not quiet:
            print(said or "read or refused as it should be")
        elif said:
            with (folder / "findings").open("a") as file:
                file.write(json.dumps((case, f"{said} [{kind.made}]")) + "\n")
            kept = _kept(options.kind, options.seed, case)
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(kind.file, kept)


if __name__ == "__main__":
    try:
        _main()
    except Exception:
        traceback.print_exc()
        sys.exit(_FAILED)
