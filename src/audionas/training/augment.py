"""SpecAugment and mixup on batches of log-mel spectrograms."""

from __future__ import annotations

import torch
from torch import Tensor

from audionas.config import Augment


def spec_augment(batch: int, frames: int, mels: int, settings: Augment) -> Tensor:
    """SpecAugment (Park et al., 2019) as a mask [batch, frames, mels], 0 where the input is dropped.

    Every clip draws its own masks: a width up to the largest, then a place, uniformly, as PANNs do.
    The mask is applied after bn0, where 0 is the mean.
    """
    time = _masks(batch, frames, settings.time_masks, settings.time_mask_frames)
    mel = _masks(batch, mels, settings.mel_masks, settings.mel_mask_bins)
    return (time[:, :, None] & mel[:, None, :]).float()


def _masks(batch: int, length: int, count: int, widest: int) -> Tensor:
    width = (torch.rand(batch, count, 1) * (widest + 1)).floor()
    start = (torch.rand(batch, count, 1) * (length - width + 1)).floor()
    place = torch.arange(length)
    return ~((place >= start) & (place < start + width)).any(dim=1)


def mixup(x: Tensor, y: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al., 2018): every clip with another of the batch, in the log-mel domain.

    Args:
        x: log-mel [batch, frames, mels].
        y: labels [batch, classes].
        alpha: of Beta(alpha, alpha); 0 for none.
    """
    if alpha == 0:
        return x, y
    share = torch.distributions.Beta(alpha, alpha).sample((len(x),))
    partner = torch.randperm(len(x))

    def mix(values: Tensor) -> Tensor:
        weight = share.view(-1, *[1] * (values.ndim - 1))
        return weight * values + (1 - weight) * values[partner]

    return mix(x), mix(y)
