"""Networks on disk: weights, the form to build them in, and what they were made from."""

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
_VALUES, _DEPTH = 1_000_000, 8  # of what is known about a network


class _Settings(Section):
    """What the features were made with that a network was trained on."""

    audio: Audio
    features: Features


class Network(Protocol):
    """What a model file holds: a network of `audionas.models.registry`."""

    name: str
    spec: dict[str, Any]

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and statistics."""


def save_model(path: str | Path, network: Network, about: dict[str, Any]) -> None:
    """Write a network and what is known about it (plain values only), the same bytes for the same content."""
    content = {
        "format": FORMAT,
        "model": network.name,
        "spec": network.spec,
        "about": about,
        "state": {name: value.cpu() for name, value in network.state_dict().items()},
    }
    buffer = io.BytesIO()  # torch.save puts a file's name into the file, and the temporary one varies
    torch.save(content, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_model(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """A network in eval mode, and what is known about it.

    Raises:
        UserError: no such file, damaged, of another format, or a supernet.
    """
    return _load(path, supernet=False)


def load_supernet(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """A supernet in eval mode, and what is known about it.

    Raises:
        UserError: no such file, damaged, or not a supernet.
    """
    return _load(path, supernet=True)


def _load(path: str | Path, supernet: bool) -> tuple[nn.Module, dict[str, Any]]:
    content = read_model(path)
    entry = MODELS[content["model"]]
    if entry.supernet and not supernet:
        raise UserError(f"{path}: a supernet; a network is cut out of it by `audionas search`")
    if supernet and not entry.supernet:
        raise UserError(f"{path}: a single network, not a supernet; give a file below models/supernet/")
    network = entry.build(content["spec"])
    network.load_state_dict(content["state"])
    return network.eval(), content["about"]


def read_model(path: str | Path) -> dict[str, Any]:
    """The content of a model file: model (its name in the registry), spec, about, state.

    Every part is checked, and the state against the network that `spec` calls for before that is built: what
    this returns can be loaded, and took no more memory than three times the file.

    Raises:
        UserError: no such file, damaged, or of another format.
    """
    path = Path(path)
    try:
        content = _renewed(load_archive(path, _LARGEST_FILE, _OPERATIONS))
        _check(content)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with `dvc repro`") from None
    except OSError as error:
        raise os_error(error, path) from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(f"{path}: damaged or not a model file ({_why(error)}); {remedy(path)}") from None
    return content


def _why(error: Exception) -> str:
    """What is wrong with the content, on one line."""
    text = str(error)
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        text = ".".join([error.title.lstrip("_").lower(), *map(str, problem["loc"])]) + f": {problem['msg']}"
    return line((text.strip() or type(error).__name__).splitlines()[0])


def _renewed(content: Any) -> Any:
    """The content of a file of format 1, which knew CNN10 alone, as of the format of today."""
    if not isinstance(content, dict) or content.get("format") != 1:
        return content
    if set(content) != {"format", "spec", "architecture", "about", "state"}:
        raise ValueError("parts are missing, or there are others")
    spec, largest = content["spec"], content["architecture"]
    renewed = {"format": FORMAT, "model": "cnn10", "spec": spec}
    if largest is not None:
        if not isinstance(spec, dict) or not isinstance(largest, dict):
            raise ValueError("spec or architecture is no dictionary")
        dropouts = {key: spec.get(key) for key in ("block_dropout", "head_dropout")}
        renewed |= {"model": "cnn10-supernet", "spec": {**largest, **dropouts}}
    return {**renewed, "about": content["about"], "state": content["state"]}


def _check(content: Any) -> None:
    """Raises ValueError for what `save_model` does not write."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"not of format {FORMAT}")
    if set(content) != {"format", "model", "spec", "about", "state"}:
        raise ValueError("parts are missing, or there are others")
    entry = MODELS.get(content["model"]) if isinstance(content["model"], str) else None
    if entry is None:
        raise ValueError(f"model is none of {', '.join(MODELS)}; a newer audionas may know it")
    spec = entry.check(content["spec"])
    with torch.device("meta"):  # shapes alone, whatever their size
        network = entry.build(spec)
    _check_state(content["state"], network.state_dict())
    _check_about(content["about"], spec)


def _check_state(state: Any, expected: dict[str, Tensor]) -> None:
    if not isinstance(state, dict) or list(state) != list(expected):
        raise ValueError("state does not have the names of this network")
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
            raise ValueError(f"state: {name} is no plain tensor")
        if (value.shape, value.dtype) != (expected[name].shape, expected[name].dtype):
            raise ValueError(f"state: {name} is {tuple(value.shape)} of {value.dtype}")
        if not value.is_contiguous() or value.untyped_storage().nbytes() != value.nbytes:
            raise ValueError(f"state: {name} shares its memory")
        if not torch.isfinite(value).all():
            raise ValueError(f"state: {name} holds values that are not finite")


def _check_about(about: Any, spec: dict[str, Any]) -> None:
    """Plain values; the classes and settings, where it has them, are those of `spec`."""
    if not isinstance(about, dict):
        raise ValueError("about is no dictionary")
    left, seen = [(about, 0)], 0
    while left:
        value, depth = left.pop()
        seen += 1
        if seen + len(left) > _VALUES or depth > _DEPTH:
            raise ValueError("about holds too much")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ValueError("about has a key that is no text")
            left += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list | tuple):
            left += [(inner, depth + 1) for inner in value]
        elif not isinstance(value, str | int | float | None):
            raise ValueError(f"about holds a {type(value).__name__}")
    if "classes" in about:
        classes = about["classes"]
        if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
            raise ValueError("about.classes is no list of names")
        if len(set(classes)) != len(classes) or len(classes) != spec["num_classes"]:
            raise ValueError(f"about.classes has {len(classes)} names for {spec['num_classes']} outputs")
    if "settings" in about:
        settings = _Settings.model_validate(about["settings"])
        for section in (settings.audio, settings.features):
            if section.model_fields_set != set(type(section).model_fields):
                raise ValueError("about.settings lacks a key")
        check_front_end(settings.audio, settings.features)
        if settings.features.mels != spec["mels"]:
            raise ValueError(
                f"about.settings: features.mels {settings.features.mels} for a network of {spec['mels']}"
            )
