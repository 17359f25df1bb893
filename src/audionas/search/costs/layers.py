"""Networks as lists of layers, and the memory that such a network needs on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

#: Bytes of a weight or an activation. Biases have four bytes in both.
DTYPES = {"float32": 4, "int8": 1}
_BIAS = 4


class Layer(NamedTuple):
    """A layer as a device runs it: batch normalisation and activation function are part of it.

    Attributes:
        name: its name; layers of one block share the part before the dot.
        inputs: input values of one clip.
        outputs: output values; 0 if the layer overwrites its input.
        weights: weights without biases.
        biases: biases, or other parameters that int8 networks keep in 32 bits.
        macs: multiply-adds of one clip.
        held: values of other tensors that are alive meanwhile, such as a shortcut.
    """

    name: str
    inputs: int
    outputs: int
    weights: int = 0
    biases: int = 0
    macs: int = 0
    held: int = 0

    @property
    def block(self) -> str:
        """The block that the layer is part of."""
        return self.name.partition(".")[0]


def peak_memory(layers: Sequence[Layer], dtype: str = "float32") -> int:
    """Return the bytes of all weights, and of the activations that are alive at once.

    Layers run one after the other. Input and output of a layer are alive while it runs. The sum excludes the
    front end, the code, the scales of int8 tensors, and work space of the runtime such as im2col buffers.

    Args:
        layers: the layers in the order of the forward pass.
        dtype: type of weights and activations, a key of `DTYPES`.
    """
    size = DTYPES[dtype]
    alive = max(layer.inputs + layer.outputs + layer.held for layer in layers)
    return size * (alive + sum(layer.weights for layer in layers)) + _BIAS * sum(
        layer.biases for layer in layers
    )
