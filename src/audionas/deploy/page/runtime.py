"""onnxruntime-web, which runs a network in a browser: where its files lie, and how they get there.

`python -m audionas.deploy.page.runtime` downloads the npm package, checks it, and keeps two of its files:
the JavaScript and the WebAssembly for one thread (SIMD, no GPU).
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import UnfitFileError, new_folder, read_bounded

VERSION = "1.30.0"
#: Integrity of the package, as npm states it, and SHA-256 of the files that are kept.
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
REMEDY = "run `make deploy-page`, or with Node.js: python -m audionas.deploy.page.runtime"
_LARGEST, _TIMEOUT = 1 << 28, 600  # bytes; seconds


def folder() -> Path:
    """Return the folder of the files: AUDIONAS_ONNXRUNTIME_WEB, or one in the environment of this Python."""
    if given := os.environ.get("AUDIONAS_ONNXRUNTIME_WEB"):
        return Path(given)
    return Path(sys.prefix) / "share" / "audionas" / "onnxruntime-web"


def read() -> tuple[bytes, bytes]:
    """Return the JavaScript and the WebAssembly.

    Raises:
        UserError: a file is missing or differs from the pinned version.
    """
    contents = []
    for name, digest in FILES.items():
        path = folder() / name
        try:
            content = read_bounded(path, _LARGEST)
        except FileNotFoundError:
            raise UserError(f"{path.parent}: onnxruntime-web {VERSION} is not installed; {REMEDY}") from None
        except UnfitFileError as error:
            raise UserError(f"{path}: {error}; {REMEDY}") from None
        except OSError as error:
            raise os_error(error, path) from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise UserError(f"{path}: damaged, or not of onnxruntime-web {VERSION}; {REMEDY}")
        contents.append(content)
    return contents[0], contents[1]


def fetch(npm: Sequence[str] = ("npm",)) -> None:
    """Download onnxruntime-web with npm, check it, and keep what a page needs. Complete files stay.

    Args:
        npm: the command that runs npm.

    Raises:
        UserError: npm is missing or fails, or the package differs from the pinned one.
    """
    try:
        read()
        return
    except UserError:
        pass
    with tempfile.TemporaryDirectory(prefix="audionas-npm-") as temporary:
        package = _packed(npm, Path(temporary))
        content = package.read_bytes()
        found = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
        if found != INTEGRITY:
            raise UserError(f"onnxruntime-web {VERSION}: npm gave {found}, not {INTEGRITY}; try again")
        folder().parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(package) as archive, new_folder(folder()) as kept:
            for name in FILES:
                with archive.extractfile(f"package/dist/{name}") as source, (kept / name).open("wb") as file:
                    shutil.copyfileobj(source, file)
    read()


def _packed(npm: Sequence[str], into: Path) -> Path:
    """Return the package file that `npm pack` downloads; npm's cache stays in the same temporary folder."""
    command = [*npm, "pack", f"onnxruntime-web@{VERSION}", "--silent", "--ignore-scripts"]
    command += ["--no-update-notifier", "--cache", str(into / "cache"), "--pack-destination", str(into)]
    try:
        done = subprocess.run(command, cwd=into, capture_output=True, text=True, timeout=_TIMEOUT)
    except FileNotFoundError:
        raise UserError(f"{npm[0]}: no such program; install Node.js, or run `make deploy-page`") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"npm pack took more than {_TIMEOUT} s; check the network, then run again") from None
    packages = list(into.glob("*.tgz"))
    if done.returncode or len(packages) != 1:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[
            -3:
        ]
        raise UserError(
            f"npm pack onnxruntime-web@{VERSION} failed: {' '.join(last)}; check the network, then run again"
        )
    return packages[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the files. Arguments: the command that runs npm (default: npm)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        fetch(given or ("npm",))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"onnxruntime-web {VERSION} is in {folder()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
