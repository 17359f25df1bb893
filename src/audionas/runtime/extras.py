"""Optional packages: errors that name the extra of audionas with a missing package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from audionas.runtime.errors import UserError

#: Optional modules, by the first extra that installs them.
EXTRAS = {
    "ffmpeg": ("imageio_ffmpeg",),
    "microphone": ("sounddevice",),
    "download": ("httpx2", "huggingface_hub", "pyarrow", "yt_dlp"),
    "pipeline": ("dvc", "dvclive", "h5py", "pandas", "pretty_midi", "scipy", "snakemake"),
    "deploy": ("onnx", "onnxruntime", "onnxscript"),
    "report": ("jinja2", "matplotlib", "plotly", "tabulate"),
}


@contextmanager
def optional(where: str = "") -> Iterator[None]:
    """Raise UserError if the block imports a package of an extra that is not installed.

    Args:
        where: what needs the package; prefix of the message.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        extra = next((name for name, modules in EXTRAS.items() if module in modules), None)
        if extra is None:
            raise
        start = f"{where}: " if where else ""
        raise UserError(
            f"{start}the package {module} is not installed; run pip install 'audionas[{extra}]'"
        ) from None


def require(module: str, where: str = "") -> None:
    """Raise UserError unless a module of an extra is installed; it is not imported."""
    with optional(where):
        if find_spec(module) is None:
            raise ModuleNotFoundError(name=module)
