"""Registry of network classes by their name in model files.

To add a network, define `name`, `spec` and `from_spec` in its class, add a `Section` that validates `spec`,
and add an entry to `MODELS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from torch import nn

from audionas.settings.values import Section


class Entry(NamedTuple):
    """Module and names of a network class and of the section that validates its spec; imported on use."""

    module: str
    network: str
    spec: str
    supernet: bool = False  # whether networks are extracted from it

    def check(self, spec: Any) -> dict[str, Any]:
        """Validate a spec for `from_spec`.

        Raises:
            ValueError: the spec is invalid (pydantic's ValidationError).
        """
        form: type[Section] = getattr(import_module(self.module), self.spec)
        return form.model_validate(spec).model_dump()

    def build(self, spec: dict[str, Any]) -> nn.Module:
        """Build the network with initial weights."""
        return getattr(import_module(self.module), self.network).from_spec(spec)


MODELS = {
    "cnn10": Entry("audionas.models.cnn10", "Cnn10", "Cnn10Spec"),
    "cnn10-supernet": Entry("audionas.supernet.cnn10", "Cnn10Supernet", "Cnn10SupernetSpec", supernet=True),
}
