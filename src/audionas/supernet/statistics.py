"""BatchNorm statistics of many sub-networks at once."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

Key = tuple[int, ...]


class NormStatistics:
    """BatchNorm statistics for each layer and the path of choices that leads to it.

    The input of a layer depends only on the choices before it. Sub-networks that begin alike therefore share
    their statistics, exactly. Widths of one layer share them too: each channel has its own statistics, and a
    narrower layer has the first ones. Statistics are cumulative averages over the batches seen, as
    `nn.BatchNorm2d(momentum=None)` makes them.

    Attributes:
        values: running mean [channels], running variance [channels] and the number of batches, by key. The
            supernet chooses the keys.
        collecting: whether `normalise` updates the statistics, or uses them.
    """

    def __init__(self) -> None:
        self.values: dict[Key, tuple[Tensor, Tensor, int]] = {}
        self.collecting = True

    def normalise(self, bn: nn.BatchNorm2d, x: Tensor, key: Key) -> Tensor:
        """x [batch, channels, ...] normalised by its batch while collecting, by the statistics afterwards."""
        c = x.shape[1]
        weight, bias = bn.weight[:c], bn.bias[:c]
        if not self.collecting:
            mean, variance, _ = self.values[key]
            return F.batch_norm(x, mean[:c], variance[:c], weight, bias, False, 0.0, bn.eps)
        mean, variance, count = self.values.get(key, (x.new_zeros(c), x.new_ones(c), 0))
        y = F.batch_norm(x, mean, variance, weight, bias, True, 1.0 / (count + 1), bn.eps)
        self.values[key] = (mean, variance, count + 1)
        return y
