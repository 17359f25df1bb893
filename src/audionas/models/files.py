"""Model files: weights, architecture and metadata of a network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from audionas.models.archive import load_archive
from audionas.models.registry import MODELS
from audionas.runtime.artifacts import remedy
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import atomic_write
from audionas.runtime.text import line
from audionas.settings.audio import Audio, Features, check_front_end
from audionas.settings.values import Section

FORMAT = 2
_LARGEST_FILE, _OPERATIONS = 2 << 30, 1_000_000
_VALUES, _DEPTH = 1_000_000, 8  # limits for the metadata


class _Settings(Section):
    """Settings of the features that a network was trained on."""

    audio: Audio
    features: Features | None = None  # of log-mel; a network of waveforms has none


class Network(Protocol):
    """A network of `audionas.models.registry`, which a model file can hold."""

    name: str
    spec: dict[str, Any]

    def state_dict(self) -> dict[str, Tensor]:
        """Return weights and running statistics."""


def save_model(path: str | Path, network: Network, about: dict[str, Any]) -> None:
    """Write a model file. Equal content gives equal bytes.

    Args:
        path: the file.
        network: the network.
        about: metadata, plain values only.
    """
    content = {
        "format": FORMAT,
        "model": network.name,
        "spec": network.spec,
        "about": about,
        "state": {name: value.cpu() for name, value in network.state_dict().items()},
    }
    buffer = io.BytesIO()  # torch.save stores the file name, and temporary names vary
    torch.save(content, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_model(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load a network in eval mode and its metadata.

    Raises:
        UserError: the file is missing, damaged, of another format, or a supernet.
    """
    return _load(path, supernet=False)


def load_supernet(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load a supernet in eval mode and its metadata.

    Raises:
        UserError: the file is missing, damaged, of another format, or not a supernet.
    """
    return _load(path, supernet=True)


def _load(path: str | Path, supernet: bool) -> tuple[nn.Module, dict[str, Any]]:
    content = read_model(path)
    entry = MODELS[content["model"]]
    if entry.supernet and not supernet:
        raise UserError(f"{path}: a supernet; cut a network from it with `audionas specialize`")
    if supernet and not entry.supernet:
        raise UserError(f"{path}: a single network, not a supernet; give a file below models/supernet/")
    network = entry.build(content["spec"])
    network.load_state_dict(content["state"])
    return network.eval(), content["about"]


def read_model(path: str | Path) -> dict[str, Any]:
    """Read and check the content of a model file, without building the network.

    The state is checked against the network that `spec` describes, so the content can be loaded. Reading
    takes at most three times the size of the file in memory.

    Returns:
        A dictionary with model (its name in the registry), spec, about and state.

    Raises:
        UserError: the file is missing, damaged, or of another format.
    """
    path = Path(path)
    try:
        content = _renewed(load_archive(path, _LARGEST_FILE, _OPERATIONS))
        _check(content)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with `dvc repro`") from None
    except OSError as error:
        raise os_error(error, path) from None
    except Exception as error:  # torch raises many kinds of errors for damaged files
        raise UserError(f"{path}: damaged or not a model file ({_why(error)}); {remedy(path)}") from None
    return content


def _why(error: Exception) -> str:
    """Return what is wrong with the content, on one line."""
    text = str(error)
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        text = ".".join([error.title.lstrip("_").lower(), *map(str, problem["loc"])]) + f": {problem['msg']}"
    return line((text.strip() or type(error).__name__).splitlines()[0])


def _renewed(content: Any) -> Any:
    """Convert the content of format 1, which supports only CNN10, to the current format."""
    if not isinstance(content, dict) or content.get("format") != 1:
        return content
    if set(content) != {"format", "spec", "architecture", "about", "state"}:
        raise ValueError("parts are missing or unknown")
    spec, largest = content["spec"], content["architecture"]
    renewed = {"format": FORMAT, "model": "cnn10", "spec": spec}
    if largest is not None:
        if not isinstance(spec, dict) or not isinstance(largest, dict):
            raise ValueError("spec or architecture is not a dictionary")
        dropouts = {key: spec.get(key) for key in ("block_dropout", "head_dropout")}
        renewed |= {"model": "cnn10-supernet", "spec": {**largest, **dropouts}}
    return {**renewed, "about": content["about"], "state": content["state"]}


def _check(content: Any) -> None:
    """Raise ValueError for content that `save_model` does not write."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"not of format {FORMAT}")
    if set(content) != {"format", "model", "spec", "about", "state"}:
        raise ValueError("parts are missing or unknown")
    entry = MODELS.get(content["model"]) if isinstance(content["model"], str) else None
    if entry is None:
        raise ValueError(f"unknown model, not one of {', '.join(MODELS)}; a newer audionas may support it")
    spec = entry.check(content["spec"])
    with torch.device("meta"):  # shapes only, without memory
        network = entry.build(spec)
    _check_state(content["state"], network.state_dict())
    _check_about(content["about"], spec)


def _check_state(state: Any, expected: dict[str, Tensor]) -> None:
    if not isinstance(state, dict) or list(state) != list(expected):
        raise ValueError("state does not have the names of this network")
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
            raise ValueError(f"state: {name} is not a plain tensor")
        if (value.shape, value.dtype) != (expected[name].shape, expected[name].dtype):
            raise ValueError(f"state: {name} is {tuple(value.shape)} of {value.dtype}")
        if not value.is_contiguous() or value.untyped_storage().nbytes() != value.nbytes:
            raise ValueError(f"state: {name} shares memory")
        if not torch.isfinite(value).all():
            raise ValueError(f"state: {name} holds values that are not finite")


def _check_about(about: Any, spec: dict[str, Any]) -> None:
    """Raise ValueError unless `about` has plain values only, and its classes and settings match `spec`."""
    if not isinstance(about, dict):
        raise ValueError("about is not a dictionary")
    left, seen = [(about, 0)], 0
    while left:
        value, depth = left.pop()
        seen += 1
        if seen + len(left) > _VALUES or depth > _DEPTH:
            raise ValueError("about is too large or too deep")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ValueError("about has a key that is not a string")
            left += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list | tuple):
            left += [(inner, depth + 1) for inner in value]
        elif not isinstance(value, str | int | float | None):
            raise ValueError(f"about holds a {type(value).__name__}")
    if "classes" in about:
        classes = about["classes"]
        if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
            raise ValueError("about.classes is not a list of names")
        if len(set(classes)) != len(classes) or len(classes) != spec["num_classes"]:
            raise ValueError(f"about.classes has {len(classes)} names for {spec['num_classes']} outputs")
    if "settings" in about:
        settings = _Settings.model_validate(about["settings"])
        for section in filter(None, (settings.audio, settings.features)):
            if section.model_fields_set != set(type(section).model_fields):
                raise ValueError("about.settings lacks a key")
        mels = settings.features.mels if settings.features else None
        if mels != spec.get("mels"):
            raise ValueError(f"about.settings: features.mels is {mels}, and that of spec {spec.get('mels')}")
        if settings.features:
            check_front_end(settings.audio, settings.features)
