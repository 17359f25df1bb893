"""BatchNorm over the first channels of a layer, and over the clips of all ranks.

Each rank has a part of the batch. Statistics are those of the whole batch, so that training gives the same
result with any number of ranks. SyncBatchNorm of PyTorch supports only GPUs and whole layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audionas.runtime.ranks import current, total


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` for [batch, channels, time, mel] with at most the channels of the layer.

    The running statistics are those of the sub-networks that ran last. In training on several ranks, they
    cover the clips of all ranks, and each rank has the same number of clips. Without gradients, as in
    calibration, each rank has all clips.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        ranks = current()
        if self.training and ranks.size > 1 and torch.is_grad_enabled():
            return self._over_all(x, ranks.rank, ranks.size)
        c = x.shape[1]
        if c == self.num_features:
            return super().forward(x)
        return F.batch_norm(
            x,
            self.running_mean[:c],
            self.running_var[:c],
            self.weight[:c],
            self.bias[:c],
            self.training,
            self.momentum,
            self.eps,
        )

    def _over_all(self, x: Tensor, rank: int, size: int) -> Tensor:
        c, numbers = x.shape[1], x.numel() // x.shape[1] * size
        values = x if x.dtype == torch.float64 else x.float()  # sums in bfloat16 are inaccurate
        own = torch.stack(torch.var_mean(values, dim=(0, 2, 3), correction=0))
        # One slot per rank: the mean of squares minus the squared mean would lose precision.
        places = [own if place == rank else torch.zeros_like(own) for place in range(size)]
        variances, means = total(torch.stack(places)).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        with torch.no_grad():
            self.running_mean[:c].lerp_(mean, self.momentum)
            self.running_var[:c].lerp_(variance * (numbers / (numbers - 1)), self.momentum)
            self.num_batches_tracked += c == self.num_features
        scale = self.weight[:c] * (variance + self.eps).rsqrt()
        shift = self.bias[:c] - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)
