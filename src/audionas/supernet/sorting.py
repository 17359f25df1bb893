"""Channel sorting by importance, so that narrow sub-networks use the most important channels."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor

from audionas.supernet.base import Supernet


def channel_orders(supernet: Supernet) -> dict[str, Tensor]:
    """Return the channel order of every sortable convolution, most important first.

    The importance of a channel is the L1 norm of the weights that read it, as in the code of Once-for-all
    (Cai et al., 2020). The norm of the channel's own filter is irrelevant, because BatchNorm divides by it.

    Returns:
        Output channel indices, int64 [channels], by layer name.
    """
    return {
        each.layer: _importance(supernet.get_submodule(each.reader).weight).argsort(
            descending=True, stable=True
        )
        for each in supernet.sortable
    }


@torch.no_grad()
def sort_channels(supernet: Supernet, companions: Iterable[tuple[str, Tensor]] = ()) -> None:
    """Sort the channels of all sortable layers in place. The largest sub-network's output does not change.

    Args:
        supernet: supernet to sort.
        companions: parameter names with tensors of the same shape, such as optimiser moments. They are
            permuted like their parameters.
    """
    axes: dict[str, list[tuple[int, Tensor]]] = {}
    orders = channel_orders(supernet)
    for layer, norm, reader in supernet.sortable:
        for name in ("weight", "bias", "running_mean", "running_var"):
            axes[f"{norm}.{name}"] = [(0, orders[layer])]
        axes.setdefault(f"{layer}.weight", []).append((0, orders[layer]))
        axes.setdefault(f"{reader}.weight", []).append((1, orders[layer]))
    for name, values in chain(supernet.state_dict().items(), companions):
        for axis, order in axes.get(name, ()):
            values.copy_(values.index_select(axis, order))


def _importance(weight: Tensor) -> Tensor:
    """L1 norm [inputs] of the weights [outputs, inputs, ...] that read each input channel."""
    return weight.detach().abs().transpose(0, 1).flatten(1).sum(dim=1)
