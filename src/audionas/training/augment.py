"""SpecAugment and mixup on batches of log-mel spectrograms, drawn on the device of the training."""

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
    """SpecAugment (Park et al., 2019) as a float32 mask [batch, frames, mels], 0 where the input is dropped.

    Each clip has its own masks. As in PANNs, the width is uniform up to the maximum, then the position is
    uniform. The network applies the mask after bn0, where 0 is the mean.

    Args:
        batch, frames, mels: shape of the input.
        settings: number and maximum width of the masks.
        device: device of the mask.
        part: clips whose masks are returned. Masks of the whole batch are drawn in any case, so that all
            ranks use the same random numbers.
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
    """Mixup (Zhang et al., 2018): weights [batch] from Beta(alpha, alpha), and partner indices [batch]."""
    concentration = torch.tensor(float(alpha), device=device)
    share = torch.distributions.Beta(concentration, concentration).sample((batch,))
    return share, torch.randperm(batch, device=device)


def mix(values: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """Return `share * values + (1 - share) * others`, with values [batch, ...] and share [batch]."""
    weight = share.view(-1, *[1] * (values.ndim - 1))
    return weight * values + (1 - weight) * others
