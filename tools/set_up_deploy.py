"""Fill an environment of its own for an export target, from `deploy/requirements-NAME.txt`, and check it.

The script runs in the environment to fill (`.deploy/NAME`), and requires only pip. Versions and hashes come
from the file. PyTorch is not installed again: links lead to that of the project, with the packages that it
requires and the file does not list. `make deploy-NAME` calls the script.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import set_up

FOLDER = set_up.ROOT / "deploy"
#: Modules that prove an environment, by its name.
CHECKS = {
    "litert": "litert_torch, ai_edge_litert.interpreter, ai_edge_quantizer, ethosu.vela, tflite_micro",
    "executorch": "executorch.exir, executorch.backends.xnnpack, executorch.runtime",
    "sherpa": "sherpa_onnx",
}


def install(name: str) -> None:
    """Install the packages of a target, with progress. Exits if pip fails."""
    file = FOLDER / f"requirements-{name}.txt"
    packages = len(set_up.entries(file.read_text(encoding="utf-8")))
    command = [*set_up._PIP, "install", "--require-hashes", "--no-deps", "-r", str(file)]
    set_up._run(command, packages)


def link(start: str, source: Path, target: Path) -> list[str]:
    """Link a package of the folder `source`, and the packages that it requires, into the folder `target`.

    Packages that `target` already has, and those missing in `source`, are left out.

    Returns:
        The names of the linked packages.
    """
    present = {_normalized(one.metadata["Name"]) for one in metadata.distributions(path=[str(target)])}
    found = {_normalized(one.metadata["Name"]): one for one in metadata.distributions(path=[str(source)])}
    linked, left = [], [_normalized(start)]
    while left:
        name = left.pop()
        one = found.get(name)
        if one is None or name in present:
            continue
        present.add(name)
        linked.append(name)
        left += [
            _normalized(re.match(r"[\w.-]+", text)[0])
            for text in one.requires or []
            if "extra ==" not in text
        ]
        for top in sorted({file.parts[0] for file in one.files or []} - {"..", "__pycache__"}):
            if not (target / top).exists():
                (target / top).symlink_to(source / top)
    return linked


def check(name: str) -> None:
    """Import the modules of a target. Exits with the error if one fails."""
    command = [sys.executable, "-I", "-W", "ignore", "-c", f"import {CHECKS[name]}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}: the packages are installed, but do not work:\n{done.stderr.strip()[-2000:]}")


def _normalized(name: str) -> str:
    return set_up._normalized(name)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=CHECKS)
    parser.add_argument("--torch", type=Path, help="the folder site-packages with PyTorch to link")
    options = parser.parse_args()
    install(options.name)
    if options.torch:
        link("torch", options.torch, Path(sysconfig.get_path("purelib")))
    check(options.name)
    size = sum(
        file.lstat().st_size
        for folder, _, names in os.walk(sys.prefix)
        for file in map(Path(folder).joinpath, names)
    )
    (Path(sys.prefix) / "complete").touch()  # audionas.deploy.targets.environments looks for it
    print(f"{sys.prefix}: ready ({size / 1e9:.1f} GB)")


if __name__ == "__main__":
    main()
