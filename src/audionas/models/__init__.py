"""Networks: CNN10, its elastic layers, the supernet and the extraction of sub-networks."""

from importlib import import_module

_HOMES = {
    "Cnn10": "cnn10",
    "Supernet": "supernet",
    "Subnetwork": "supernet",
    "extract": "supernet",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    # Loaded on use: a stage that trains CNN10 must not depend on the supernet's code.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
