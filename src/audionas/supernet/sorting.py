"""A supernet's channels in the order of their importance, so that narrow sub-networks begin with the best."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor

from audionas.supernet.cnn10 import Cnn10Supernet

#: The elastic convolutions in the order in which the largest network runs them; each is read by the next.
_LAYERS = [f"block{block}.conv{layer}" for block in (2, 3, 4) for layer in (1, 2)]


def channel_orders(supernet: Cnn10Supernet) -> dict[str, Tensor]:
    """The outputs of every elastic convolution, most important first: int64 [channels] by the layer's name.

    A channel's importance is the L1 norm of the weights that read it, as in the code of Once-for-all (Cai et
    al., 2020); the norm of its own filter says nothing, since BatchNorm divides by it.
    """
    # One order for each convolution: the largest network, which alone has learnt by now, reads only conv2's
    # channels from the block before. What depth 1 puts in their place has not been learnt in any order.
    return {
        layer: _importance(supernet.get_submodule(reader).weight).argsort(descending=True, stable=True)
        for layer, reader in _readers()
    }


@torch.no_grad()
def sort_channels(supernet: Cnn10Supernet, companions: Iterable[tuple[str, Tensor]] = ()) -> None:
    """Sort the channels of blocks 2, 3 and 4 by importance, in place; the largest network computes the same.

    Args:
        companions: names of parameters, and tensors that belong to them element by element, such as an
            optimiser's moments.
    """
    axes: dict[str, list[tuple[int, Tensor]]] = {}
    orders = channel_orders(supernet)
    for layer, reader in _readers():
        norm = layer.replace("conv", "bn")
        for name in ("weight", "bias", "running_mean", "running_var"):
            axes[f"{norm}.{name}"] = [(0, orders[layer])]
        axes.setdefault(f"{layer}.weight", []).append((0, orders[layer]))
        axes.setdefault(f"{reader}.weight", []).append((1, orders[layer]))
    for name, values in chain(supernet.state_dict().items(), companions):
        for axis, order in axes.get(name, ()):
            values.copy_(values.index_select(axis, order))


def _readers() -> list[tuple[str, str]]:
    return list(zip(_LAYERS, [*_LAYERS[1:], "fc1"], strict=True))


def _importance(weight: Tensor) -> Tensor:
    """Weights [outputs, inputs, ...] to the L1 norm of each input's, [inputs]."""
    return weight.detach().abs().transpose(0, 1).flatten(1).sum(dim=1)
