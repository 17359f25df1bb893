"""Networks on disk: weights, the form to build them in, and what they were made from."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from audionas.errors import UserError
from audionas.files import atomic_write
from audionas.models.cnn10 import Cnn10

FORMAT = 1


def save_model(path: str | Path, network: Cnn10, about: dict[str, Any]) -> None:
    """Write a network and what is known about it (plain values only), the same bytes for the same content."""
    content = {
        "format": FORMAT,
        "spec": network.spec,
        "architecture": asdict(network.architecture) if hasattr(network, "architecture") else None,
        "about": about,
        "state": {name: value.cpu() for name, value in network.state_dict().items()},
    }
    buffer = io.BytesIO()  # torch.save puts a file's name into the file, and the temporary one varies
    torch.save(content, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_model(path: str | Path) -> tuple[Cnn10, dict[str, Any]]:
    """A network in eval mode, and what is known about it.

    Raises:
        UserError: no such file, damaged, of another format, or a supernet.
    """
    content = read_model(path)
    if content["architecture"] is not None:
        raise UserError(f"{path}: a supernet; a network is cut out of it by `audionas search`")
    network = Cnn10(**content["spec"])
    network.load_state_dict(content["state"])
    return network.eval(), content["about"]


def read_model(path: str | Path) -> dict[str, Any]:
    """The content of a model file: spec, architecture (of a supernet), about, state.

    Raises:
        UserError: no such file, damaged, or of another format.
    """
    path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with `dvc repro`") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(
            f"{path}: damaged or not a model file ({type(error).__name__}); delete it and run `dvc repro`"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: not a model file of format {FORMAT}; delete it and run `dvc repro`")
    return content
