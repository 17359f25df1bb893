"""Networks by the name that a model file has for them.

To add a network, give its class `name`, `spec` and `from_spec`, a `Section` that checks `spec`, and a line here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from torch import nn

from audionas.settings.values import Section


class Entry(NamedTuple):
    """Where a network's class stands, and what checks its spec; both are imported on use."""

    module: str
    network: str
    spec: str
    supernet: bool = False  # whether networks are cut out of it

    def check(self, spec: Any) -> dict[str, Any]:
        """The spec as `from_spec` takes it. Raises ValueError (pydantic's) where it is none."""
        form: type[Section] = getattr(import_module(self.module), self.spec)
        return form.model_validate(spec).model_dump()

    def build(self, spec: dict[str, Any]) -> nn.Module:
        """The network with fresh weights."""
        return getattr(import_module(self.module), self.network).from_spec(spec)


MODELS = {
    "cnn10": Entry("audionas.models.cnn10", "Cnn10", "Cnn10Spec"),
    "cnn10-supernet": Entry("audionas.supernet.cnn10", "Cnn10Supernet", "Cnn10SupernetSpec", supernet=True),
}
