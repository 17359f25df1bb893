"""Optional packages: says which extra of audionas brings one that is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from audionas.runtime.errors import UserError

#: The modules that no core installation has, by the extra that brings them first.
EXTRAS = {
    "ffmpeg": ("imageio_ffmpeg",),
    "download": ("httpx2", "huggingface_hub", "pyarrow", "yt_dlp"),
    "pipeline": ("dvc", "dvclive", "h5py", "pandas", "pretty_midi", "scipy", "snakemake"),
    "report": ("jinja2", "matplotlib", "plotly", "tabulate"),
}


@contextmanager
def optional(where: str = "") -> Iterator[None]:
    """Raise UserError where the block imports a package of an extra that is not installed.

    Args:
        where: what needs it, which begins the message.
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
