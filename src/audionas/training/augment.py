"""SpecAugment and mixup on batches of log-mel spectrograms, drawn on the device that computes."""

from __future__ import annotations

import torch
from torch import Tensor

from audionas.config import Augment


def spec_augment(
    batch: int, frames: int, mels: int, settings: Augment, device: torch.device | str = "cpu"
) -> Tensor:
    """SpecAugment (Park et al., 2019) as a mask [batch, frames, mels], 0 where the input is dropped.

    Every clip draws its own masks: a width up to the largest, then a place, uniformly, as PANNs do.
    The mask is applied after bn0, where 0 is the mean.
    """
    time = _masks(batch, frames, settings.time_masks, settings.time_mask_frames, device)
    mel = _masks(batch, mels, settings.mel_masks, settings.mel_mask_bins, device)
    return (time[:, :, None] & mel[:, None, :]).float()


def _masks(batch: int, length: int, count: int, widest: int, device: torch.device | str) -> Tensor:
    width = (torch.rand(batch, count, 1, device=device) * (widest + 1)).floor()
    start = (torch.rand(batch, count, 1, device=device) * (length - width + 1)).floor()
    place = torch.arange(length, device=device)
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
    concentration = torch.tensor(float(alpha), device=x.device)
    share = torch.distributions.Beta(concentration, concentration).sample((len(x),))
    partner = torch.randperm(len(x), device=x.device)

    def mix(values: Tensor) -> Tensor:
        weight = share.view(-1, *[1] * (values.ndim - 1))
        return weight * values + (1 - weight) * values[partner]

    return mix(x), mix(y)
