"""BatchNorm statistics of many sub-networks at once."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

Key = tuple[int, ...]


class NormStatistics:
    """BatchNorm statistics by layer and by the sequence of choices before that layer.

    The input of a layer depends only on the previous choices. Sub-networks with a common prefix therefore
    have exactly equal statistics and share them. Widths of one layer share them too, because a narrower
    layer uses the first channels. Statistics are cumulative averages over the batches, as in
    `nn.BatchNorm2d(momentum=None)`.

    Attributes:
        values: running mean [channels], running variance [channels] and number of batches, by key. The
            supernet defines the keys.
        collecting: True to update the statistics in `normalise`, False to use them.
    """

    def __init__(self) -> None:
        self.values: dict[Key, tuple[Tensor, Tensor, int]] = {}
        self.collecting = True

    def normalise(self, bn: nn.BatchNorm2d, x: Tensor, key: Key) -> Tensor:
        """Normalise x [batch, channels, ...] by its batch while collecting, else by the statistics."""
        c = x.shape[1]
        weight, bias = bn.weight[:c], bn.bias[:c]
        if not self.collecting:
            mean, variance, _ = self.values[key]
            return F.batch_norm(x, mean[:c], variance[:c], weight, bias, False, 0.0, bn.eps)
        mean, variance, count = self.values.get(key, (x.new_zeros(c), x.new_ones(c), 0))
        y = F.batch_norm(x, mean, variance, weight, bias, True, 1.0 / (count + 1), bn.eps)
        self.values[key] = (mean, variance, count + 1)
        return y
