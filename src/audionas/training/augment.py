"""SpecAugment and mixup on batches of log-mel spectrograms, drawn on the device that computes."""

from __future__ import annotations

import torch
from torch import Tensor

from audionas.settings.audio import Augment

ALL = slice(None)


def spec_augment(
    batch: int,
    frames: int,
    mels: int,
    settings: Augment,
    device: torch.device | str = "cpu",
    part: slice = ALL,
) -> Tensor:
    """SpecAugment (Park et al., 2019) as a mask [batch, frames, mels], 0 where the input is dropped.

    Every clip draws its own masks: a width up to the largest, then a place, uniformly, as PANNs do.
    The mask is applied after bn0, where 0 is the mean.

    Args:
        part: of the batch whose masks are wanted; all are drawn.
    """
    time = _masks(batch, frames, settings.time_masks, settings.time_mask_frames, device, part)
    mel = _masks(batch, mels, settings.mel_masks, settings.mel_mask_bins, device, part)
    return (time[:, :, None] & mel[:, None, :]).float()


def _masks(
    batch: int, length: int, count: int, widest: int, device: torch.device | str, part: slice
) -> Tensor:
    width = (torch.rand(batch, count, 1, device=device) * (widest + 1)).floor()
    start = (torch.rand(batch, count, 1, device=device) * (length - width + 1)).floor()
    width, start = width[part], start[part]
    place = torch.arange(length, device=device)
    return ~((place >= start) & (place < start + width)).any(dim=1)


def draw_mixup(batch: int, alpha: float, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al., 2018): shares [batch] of Beta(alpha, alpha), and each clip's partner [batch]."""
    concentration = torch.tensor(float(alpha), device=device)
    share = torch.distributions.Beta(concentration, concentration).sample((batch,))
    return share, torch.randperm(batch, device=device)


def mix(values: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """`share` [batch] of each of `values` [batch, ...] and the rest of its partner in `others`."""
    weight = share.view(-1, *[1] * (values.ndim - 1))
    return weight * values + (1 - weight) * others
